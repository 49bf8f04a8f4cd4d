"""The benchmark of the controller at scale, small: what it counts, checks and says."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from examples.benchmarks import many_agents
from examples.benchmarks.many_agents import Result, medians, parser, report, run
from examples.benchmarks.process_usage import cpu_s, raise_descriptor_limit, resident_bytes
from tests.examples.benchmarks.scripts import check_refused


@pytest.fixture(scope="module")
def result() -> Result:
    """Six agents in two processes, five blocks of which the last is shorter."""
    return run(6, 5, 5 * 4096 - 3, "cornet", 2)


def test_every_agent_holds_the_bytes_and_the_controller_has_counted_every_block(result: Result) -> None:
    assert result.verified == 6
    assert result.blocks_held == 6 * 5
    assert result.block_events >= 6 * 5
    assert result.complete


def test_the_controllers_account_adds_up(result: Result) -> None:
    assert (result.agents, result.blocks, result.block_size_bytes) == (6, 5, 4096)
    assert 0 < result.reports <= result.block_events
    assert (
        result.messages_in >= result.reports + result.heartbeats + 6
    )  # and each agent says that it is through
    assert result.messages_out > 6
    assert result.transfer_s >= result.completion_s > 0
    assert result.memory_joined_bytes > 10 << 20


def test_it_does_not_count_as_complete_when_a_copy_or_an_event_is_missing(result: Result) -> None:
    assert not replace(result, verified=5).complete
    assert not replace(result, blocks_held=29).complete
    assert not replace(result, block_events=29).complete
    assert replace(result, block_events=31).complete  # a block that was fetched twice


def test_the_report_names_cost_and_account(result: Result) -> None:
    told = report(
        replace(result, transfer_cpu_s=0.003, block_events=30, reports=10, cpu_us_a_block_event=100.0)
    )
    assert "30 in 10 reports (3.0 each): 100 µs of CPU a block event" in told
    assert "30 blocks due: 30 held, 30 block events; 6 copies verified" in told


def test_runs_are_summed_up_by_medians_with_least_and_most(result: Result) -> None:
    figures = [(90.0, 0.5), (110.0, 0.25), (200.4, 0.3)]
    runs = [replace(result, cpu_us_a_block_event=cost, cpu_share=share) for cost, share in figures]
    told = medians(runs)
    assert told.startswith("medians of 3 (least-most)")
    assert "110 µs (90-200) of CPU a block event, 30.0% (25.0-50.0) of a core" in told


def test_every_run_is_reported_and_written(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = iter([result, replace(result, transfer_cpu_s=7.25, verified=5)])
    monkeypatch.setattr(many_agents, "run", lambda *_: next(runs))
    assert many_agents.main(["--repeats", "2", "--json", str(tmp_path / "m.json")]) == 1
    said = capsys.readouterr().out
    assert said.count("copies verified") == 2
    assert "CPU 7.25 s" in said
    assert "medians of 2" in said
    assert [each["verified"] for each in json.loads((tmp_path / "m.json").read_text())["runs"]] == [6, 5]


def test_no_repeats_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(many_agents.main, ["--repeats", "0"], capsys)


@pytest.mark.parametrize(
    ("agents", "blocks", "size_bytes", "processes", "told"),
    [
        (0, 1, 1, 1, "agents must be at least 1, got 0"),
        (1, 0, 1, 1, "blocks must be at least 1, got 0"),
        (1, 8, 7, 1, "size_bytes must be at least 8"),
        (1, 1, 1, 0, "processes must be at least 1, got 0"),
    ],
)
def test_numbers_that_make_no_run_are_refused(
    agents: int, blocks: int, size_bytes: int, processes: int, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        run(agents, blocks, size_bytes, "cornet", processes)


def test_the_command_line_has_the_run_of_a_thousand_as_its_default() -> None:
    asked = parser().parse_args([])
    assert (asked.agents, asked.blocks, asked.mechanism, asked.processes) == (1000, 64, "cornet", 8)
    assert asked.repeats == 5
    assert parser().parse_args(["--json", "x"]).json == Path("x")


def test_a_processs_usage_is_what_linux_says_of_it() -> None:
    before_s = cpu_s(os.getpid())
    while cpu_s(os.getpid()) < before_s + 0.02:
        sum(range(10_000))
    assert resident_bytes("self") == pytest.approx(resident_bytes(os.getpid()), rel=0.5)
    assert raise_descriptor_limit() > 0
