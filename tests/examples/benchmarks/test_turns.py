"""Broadcasts and K-Means beside a bulk shuffle: ratios, the table, and one small run."""

import argparse
import json
from pathlib import Path

import pytest

from examples.benchmarks import turns
from examples.benchmarks.figures import Series
from examples.benchmarks.turns import BROADCAST, KMEANS, SETTINGS, Beside, bulk, table
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_needs_hosts, check_refused


def test_ratios_are_of_medians() -> None:
    its = Beside(Series((1.0, 1.1, 1.2), 0.5), Series((2.0, 2.2, 9.0), 0.4))
    assert its.ratio == pytest.approx(2.0)
    options = argparse.Namespace(
        agents=6, rate=6.25e6, bulk=250_000_000, broadcast=10_000_000, prototypes=2000, dimensions=256
    )
    line = table({(BROADCAST, SETTINGS["told"]): its}, options).splitlines()[-1]
    assert line.split()[-8:] == ["1.10", "1.00-1.20", "3", "2.20", "2.00-9.00", "3", "2.00", "40%"]


def test_the_bulk_has_the_least_priority_and_the_settings_scheduling() -> None:
    job = bulk(SETTINGS["tcp"], ["h1", "h2"], 10)
    assert (job.priority, job.scheduling) == (0, "fair")
    assert job.matrix == {"h1": {"h1": 5, "h2": 5}, "h2": {"h1": 5, "h2": 5}}


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (
        ["--agents", "0"],
        ["--bulk", "x"],
        ["--repeats", "0"],
        ["--prototypes", "5000"],
        ["--settings", "x"],
    ):
        check_refused(turns.main, wrong, capsys)


def test_a_machine_without_namespaces_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_needs_hosts(turns.main, monkeypatch, capsys)


@NEEDS_HOSTS
def test_both_are_measured_alone_and_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(turns, "FIRST_S", 0.5)
    monkeypatch.setattr(turns, "BETWEEN_S", 0.2)
    small = [
        "--settings",
        "told",
        "--agents",
        "3",
        "--rate",
        "16Mbit",
        "--bulk",
        "24MB",
        "--broadcast",
        "100kB",
        "--repeats",
        "2",
    ]
    model = ["--prototypes", "50", "--dimensions", "16", "--points", "300"]
    told = tmp_path / "turns.json"
    plot = tmp_path / "turns.png"
    assert turns.main([*small, *model, "--json", str(told), "--plot", str(plot)]) == 0
    assert KMEANS in capsys.readouterr().out
    figures = json.loads(told.read_text())["figures"]
    assert [each["what"] for each in figures] == [BROADCAST, KMEANS]
    assert all(each["beside"]["median"] > 0 for each in figures)
    assert plot.read_bytes().startswith(b"\x89PNG")
