"""The replay of traces as a script: what it reads, what it prints, and how it refuses what is no trace."""

import json
from pathlib import Path

import numpy as np
import pytest

from examples.benchmarks import coflow_trace
from examples.benchmarks.coflow_file import BYTES_A_MEGABYTE, BadTrace, read_trace
from schedulers import POLICIES

SMALL = """3 3
1 0 2 0 1 1 2:256.0
2 1000 1 0 2 1:64.0 2:64
3 500 1 2 1 2:128.0
"""
"""Three racks. Alone: 2 s into rack 2 (256 MB, 128 from each mapper); 1 s out of rack 0; 1 s inside rack
2."""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.txt"
    path.write_text(SMALL)
    return path


def test_reducers_take_equal_parts_from_all_mappers_and_ports_have_two_sides(trace: Path) -> None:
    found = read_trace(trace)
    assert found.ports == 3
    first, second, inside = found.coflows
    assert (first.name, first.arrival_s, second.arrival_s) == ("1", 0.0, 1.0)
    np.testing.assert_array_equal(first.egress, [0, 1])
    np.testing.assert_array_equal(first.ingress, [5])
    np.testing.assert_array_equal(first.size_bytes, np.full((2, 1), 128 * BYTES_A_MEGABYTE))
    np.testing.assert_array_equal(second.size_bytes, np.full((1, 2), 64 * BYTES_A_MEGABYTE))
    assert (inside.egress[0], inside.ingress[0]) == (2, 5), "a flow inside a rack uses its ports too"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ":1: expected the numbers"),
        ("3\n", ":1: expected the numbers"),
        ("0 1\n", ":1: there must be at least one port"),
        ("3 0\n", ":1: there must be at least one port"),
        ("3 1\n1 nan 1 0 1 2:1\n", ":2: arrival must be finite"),
        ("3 1\n1 0 1 0 1 2:inf\n", ":2: reducers must take something"),
        ("3 2\n1 0 1 0 1 2:1\n1 0 1 0 1 2:1\n", ":3: coflow 1 comes twice"),
        ("3 2\n1 0 1 0 1 2:1\n", "2 coflows announced, got 1"),
        ("3 1\n1 0 2 0\n", ":2: the line ends too early"),
        ("3 1\n1 0 1 3 1 2:1\n", ":2: port must be 0 to 2, got 3"),
        ("3 1\n1 0 1 0 1 2\n", ":2: could not convert"),
        ("3 1\n1 0 0 1 2:1\n", ":2: there must be at least one"),
        ("3 1\n1 0 1 0 1 2:0\n", ":2: reducers must take something"),
        ("3 1\n1 0 2 0 0 1 2:1\n", ":2: a mapper's port comes twice"),
        ("3 1\n1 0 1 0 1 2:1 7\n", ":2: 1 words too many"),
    ],
)
def test_what_is_no_trace_is_refused_by_line(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(BadTrace, match=named):
        read_trace(path)


def test_a_table_a_picture_and_every_time(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, picture = tmp_path / "out.json", tmp_path / "out.png"
    arguments = ["--trace", str(trace), "--policy", "fair", "fifo", "dclas", "--merge", "0"]
    assert coflow_trace.main([*arguments, "--json", str(told), "--plot", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert picture.stat().st_size > 0
    kept = json.loads(told.read_text())
    assert kept["alone_s"] == pytest.approx([2.0, 1.0, 1.0])
    # The first has rack 2 to itself until 2 s, then the third, which came before the second.
    assert kept["policies"]["fifo"]["completions_s"] == pytest.approx([2.0, 2.5, 2.5])
    fair = kept["policies"]["fair"]
    assert fair["mean_s"] == pytest.approx(np.mean(fair["completions_s"]))
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    assert rows["fifo"][1] == "2.33"
    assert f"{fair['mean_s'] / kept['policies']['fifo']['mean_s']:.2f}" == rows["fifo"][4]
    assert "of those that look at no size, " in printed


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadTrace, match=":1: expected the numbers"):
        read_trace(path)


def test_all_policies_side_by_side_give_what_they_give_one_by_one(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for workers in ("1", "2"):
        told = tmp_path / f"{workers}.json"
        assert coflow_trace.main(["--trace", str(trace), "--workers", workers, "--json", str(told)]) == 0
        policies = json.loads(told.read_text())["policies"]
        found.append({name: policy["completions_s"] for name, policy in policies.items()})
    assert found[0] == found[1]
    assert list(found[0]) == list(POLICIES)
    with pytest.raises(SystemExit):
        coflow_trace.main(["--trace", str(trace), "--workers", "0"])
    assert "--workers: must be at least 1" in capsys.readouterr().err


def test_a_file_that_is_not_there_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert coflow_trace.main(["--trace", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err
