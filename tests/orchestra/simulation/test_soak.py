"""Runs drawn from seeds, with faults, without a complaint; and what they have found before."""

import pytest

from orchestra.simulation import soak
from orchestra.simulation.faults import Clog, Corrupt, Cut, Kill, Leave, Slow, SwizzleClog
from orchestra.simulation.scenario import MECHANISMS, draw_scenario
from orchestra.simulation.soak import run_scenario, run_seed
from schedulers import POLICIES
from tests.orchestra.simulation import found
from tests.orchestra.simulation.scenarios import broadcast, scenario

SEEDS = 200
TRIED_HERE, GROUP = 20, 10
"""`make test` runs all of them beside the tests: under a tracer of branches they take three times as long."""


@pytest.mark.parametrize("first", range(0, TRIED_HERE, GROUP))
def test_seeds_with_faults_give_no_complaint(first: int) -> None:
    reports = [run_seed(seed) for seed in range(first, first + GROUP)]
    complaints = [f"seed {report.seed}: {each}" for report in reports for each in report.complaints]
    assert not complaints, "\n".join(complaints)


def test_what_is_drawn_is_various() -> None:
    drawn = [draw_scenario(seed) for seed in range(SEEDS)]
    plans = [plan for each in drawn for plan in each.broadcasts]
    faults = [fault for each in drawn for fault in each.faults]
    assert {plan.mechanism for plan in plans} == set(MECHANISMS)
    assert {type(fault) for fault in faults} == {Kill, Leave, Cut, Clog, SwizzleClog, Slow, Corrupt}
    assert {len(each.receivers) for each in drawn} == set(range(3, 10))
    assert {len(each.faults) for each in drawn} == set(range(5))
    assert {each.turns.policy for each in drawn} == set(POLICIES)
    for what in (
        [each.racks for each in drawn],
        [each.port_rate_bytes_per_s for each in drawn],
        [each.late for each in drawn],
        [each.shuffle for each in drawn],
        [each.turns.changes for each in drawn],
        [each.turns.pauses for each in drawn],
        [each.turns.replaceable for each in drawn],
        [len(each.broadcasts) > 1 for each in drawn],
        [plan.to for plan in plans],
        [plan.cancel_after_s is not None for plan in plans],
        [isinstance(fault, Kill) and fault.node == "source" for fault in faults],
        [isinstance(fault, Kill) and fault.restart_after_s is not None for fault in faults],
    ):
        with_it = sum(bool(each) for each in what)
        assert 0 < with_it < len(what)


def test_a_run_without_faults_delivers_everything() -> None:
    report = run_scenario(scenario())
    assert report.complaints == ()
    assert report.outcomes == {"first": "done, 0 failed"}


@pytest.mark.parametrize("mechanism", ["chain", "tree", "hdfs", "cornet"])
def test_who_dies_is_named_and_nobody_else(mechanism: str) -> None:
    report = run_scenario(scenario(broadcast(mechanism), faults=(Kill(0.1, "n2", 2),)))
    assert report.complaints == ()
    assert report.outcomes == {"first": "partial, 1 failed"}


@pytest.mark.parametrize("mechanism", ["chain", "tree", "hdfs", "cornet"])
def test_who_comes_back_is_served_again(mechanism: str) -> None:
    report = run_scenario(scenario(broadcast(mechanism, blocks=60), faults=(Kill(0.2, "n2", 2, 0.1),)))
    assert report.complaints == ()
    assert report.outcomes == {"first": "done, 0 failed"}


def test_the_death_of_the_source_fails_what_only_it_held() -> None:
    report = run_scenario(scenario(faults=(Kill(0.15, "source", 0),)))
    assert report.complaints == ()
    assert report.outcomes == {"first": "failed, 4 failed"}


# -- found by earlier seeds ------------------------------------------------------------------------


def test_a_node_that_is_killed_while_a_block_arrives_ends_alone() -> None:
    # Cancelled and its connection broken in one moment, the engine let the error out through everything.
    for at_ms in range(100, 200, 5):
        faults = (Kill(at_ms / 1000, "n1", 1), Kill(at_ms / 1000, "n2", 2))
        report = run_scenario(scenario(broadcast(blocks=12), faults=faults))
        assert report.complaints == (), f"killed after {at_ms} ms"


def test_memory_of_a_block_that_broke_off_does_not_wait_for_the_collector() -> None:
    # The error that ended a conversation was its own context's member, and knew views of the store.
    for at_ms in range(100, 200, 10):
        report = run_scenario(scenario(broadcast(blocks=12), faults=(Leave(at_ms / 1000, "n1"),)))
        assert report.complaints == (), f"left after {at_ms} ms"


@pytest.mark.parametrize(
    "what",
    [
        "DRAINED_AFTER_RELEASE",
        "EMPTY_SHUFFLE",
        "CANCELLED_WHEN_DONE",
        "RELEASED_MEANWHILE",
        "WAITING_FOR_A_HOLDER",
    ],
)
def test_what_seeds_have_found_stays_mended(what: str) -> None:
    assert run_scenario(getattr(found, what)).complaints == ()


# -- the command -----------------------------------------------------------------------------------


def test_the_command_says_what_it_ran(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--seeds", "2", "--first", "3"]) == 0
    assert capsys.readouterr().out.startswith("2 seeds, 0 with complaints")


def test_the_command_names_the_seed_of_a_complaint(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(seed: int, *, most_faults: int) -> soak.SeedReport:
        return soak.SeedReport(seed, "", ("everything",), {}, 1.0)

    monkeypatch.setattr(soak, "run_seed", wrong)
    assert soak.main(["--seeds", "1", "--first", "17", "--verbose"]) == 1
    assert "seed 17: everything" in capsys.readouterr().out
