"""The table of equality, on the larger data set with one number of workers."""

import pytest

from examples import kmeans_equality


def test_a_hundred_thousand_points_equal_scikit_learn(capsys: pytest.CaptureFixture[str]) -> None:
    assert kmeans_equality.main(["--data", "uniform", "--workers", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:6] == ["uniform", "100000", "50", "100", "4", "10"]
    assert lines[1].endswith("equal")


def test_a_difference_is_called_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kmeans_equality, "LIMIT", -1.0)
    assert kmeans_equality.main(["--data", "digits", "--workers", "1"]) == 1
    assert capsys.readouterr().out.rstrip().endswith("DIFFERENT")
