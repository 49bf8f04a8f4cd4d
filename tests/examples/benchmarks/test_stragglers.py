"""Slow and dying hosts: who is, when, and what the others' time is held against."""

import json
from pathlib import Path

import pytest

from examples.benchmarks import stragglers
from examples.benchmarks.figures import Series
from examples.benchmarks.stragglers import UNDISTURBED, Scenario, Trouble, scenarios, table, yardstick_s
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_needs_hosts, check_refused


def test_slow_receivers_are_the_first_a_middle_one_and_the_last() -> None:
    slow = [each.hosts for each in scenarios(16) if each.trouble is Trouble.SLOW_RECEIVER]
    assert slow == [(1,), (8,), (16,)]


@pytest.mark.parametrize("receivers", [3, 4, 16])
def test_two_receivers_are_killed_and_others_are_left(receivers: int) -> None:
    chosen = scenarios(receivers)
    assert chosen[0] is UNDISTURBED
    victims = chosen[-1].apart
    assert len(victims) == 2
    assert victims <= {f"h{number}" for number in range(1, receivers + 1)}
    assert len({each.name for each in chosen}) == len(chosen)


def test_the_source_is_never_left_out_of_the_figure() -> None:
    assert Scenario(Trouble.SLOW_SOURCE, (0,), 0.5).apart == set()


def test_undisturbed_is_held_against_the_link_and_is_what_all_but_a_slow_source_are_held_against() -> None:
    results = {UNDISTURBED: Series((6.0,))}
    assert yardstick_s(UNDISTURBED, results, 5.0) == 5.0
    assert yardstick_s(Scenario(Trouble.SLOW_SOURCE, (0,), 0.5), results, 5.0) == 10.0
    assert yardstick_s(Scenario(Trouble.SLOW_RECEIVER, (1,), 0.2), results, 5.0) == 6.0


def test_the_table_gives_each_ratio_beside_its_aim() -> None:
    results = {
        UNDISTURBED: Series((5.5,), 0.6),
        Scenario(Trouble.SLOW_RECEIVER, (1,), 0.2, 1.10): Series((5.775,), 0.6),
        Scenario(Trouble.SLOW_SOURCE, (0,), 0.5, 1.15): Series((11.0,), 0.6),
    }
    lines = table(results, 5.0).splitlines()
    assert lines[3].split()[-3:] == ["5.50-5.50", "1.100", "S/W"]
    assert "h1 at 20% of its rate" in lines[4]
    assert lines[4].split()[-3:] == ["1.050", "1.10", "undisturbed"]
    assert lines[5].endswith(" 1.100   1.15  S/(0.5 W)")


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--receivers", "2"], ["--size", "0"], ["--repeats", "0"], ["--block-size", "0"]):
        check_refused(stragglers.main, wrong, capsys)


def test_a_machine_without_namespaces_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_needs_hosts(stragglers.main, monkeypatch, capsys)


@NEEDS_HOSTS
def test_every_scenario_runs_and_a_slow_source_takes_its_time(tmp_path: Path) -> None:
    small = ["--receivers", "4", "--size", "1MB", "--rate", "16Mbit", "--repeats", "1"]
    figures = tmp_path / "s.json"
    assert stragglers.main([*small, "--block-size", "64KiB", "--json", str(figures)]) == 0
    told = json.loads(figures.read_text())["scenarios"]
    assert list(told) == [each.name for each in scenarios(4)]
    source = told["h0 at 50% of its rate"]["median"]
    assert source * 1e6 + 72_000 > 1_000_000
