"""The script of figure 14: what it counts as active and as moving, and one small run of each kind."""

from pathlib import Path

import pytest

from examples.benchmarks.jobs import Sample
from examples.paper import figure14
from examples.paper.figure14 import (
    ALONE,
    HIGH,
    LOW,
    TOGETHER,
    WITH,
    WITHOUT,
    active_flows,
    as_table,
    moving_bytes,
    shuffles,
)
from examples.paper.side_by_side import EMULATED, Runs
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_refused
from tests.examples.paper.made_up import done


def test_the_high_ones_follow_one_another_after_the_first() -> None:
    parts = shuffles(3, 30, 240, 7.5)
    assert [job.name for job in parts[ALONE]] == [ALONE]
    low, *high = parts[TOGETHER]
    assert (low.priority, [job.priority for job in high]) == (0, [1, 1, 1])
    assert (high[0].at_s, high[0].after) == (7.5, None)
    assert [job.after for job in high[1:]] == list(HIGH[:2])


def test_a_flow_is_active_from_its_shuffles_acceptance_to_its_end() -> None:
    its = done("x", 4.0, asked_s=1.0, flows_s={"h1": {"h2": 4.0, "h3": 2.0}})
    assert active_flows({"x": its}, [0.5, 1.0, 2.9, 3.0, 4.9, 5.0]) == {"x": [0, 2, 2, 1, 1, 0]}


def test_what_moves_is_told_by_progress_up_to_its_end() -> None:
    samples = [Sample(0.0, {}), Sample(1.0, {"x": 0.25}), Sample(3.0, {"x": 0.75}), Sample(4.0, {})]
    times_s, rates = moving_bytes(samples, {"x": 100, "never": 5})
    assert times_s == [0.5, 2.0, 3.5]
    assert rates == {"x": [25.0, 25.0, 25.0], "never": [0.0, 0.0, 0.0]}


def made(alone: float, high: float, low: float) -> Runs:
    """One run."""
    together = {LOW: done(LOW, low), **{name: done(name, high) for name in HIGH}}
    return Runs([{ALONE: {ALONE: done(ALONE, alone)}, TOGETHER: together}])


def test_the_table_tells_how_much_longer_than_alone_each_took() -> None:
    found = {(EMULATED, WITHOUT): made(5.0, 10.0, 40.0), (EMULATED, WITH): made(5.0, 5.4, 42.0)}
    table = as_table(found, [], {EMULATED: 4.9})
    row = next(line for line in table.splitlines() if line.startswith(f"| {WITH.label}"))
    assert row.count("+8%") == 3
    assert "+5.0% later with turns" in table


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--high", "0"], ["--times", "0"], ["--agents", "-2"]):
        check_refused(figure14.main, wrong, capsys)


def test_priority_is_kept_in_simulation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--only", "simulated", "--simulated-agents", "4", "--simulated-high", "30000000", "--times", "4"]
    assert figure14.main([*small, "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    without, with_ = (
        [float(cell.split()[0]) for cell in line.split("|")[3:6]]
        for line in out.splitlines()
        if line.startswith(("| without", "| with turns"))
    )
    assert sum(with_) < sum(without)
    assert (tmp_path / "figure14.png").read_bytes().startswith(b"\x89PNG")


@NEEDS_HOSTS
def test_it_runs_on_links(tmp_path: Path) -> None:
    small = ["--only", "emulated", "--agents", "3", "--high", "500000", "--rate", "16Mbit", "--repeats", "1"]
    assert figure14.main([*small, "--output", str(tmp_path)]) == 0
    assert "## Emulated" in (tmp_path / "figure14.md").read_text()
