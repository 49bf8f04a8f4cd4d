"""Whole broadcasts by the planner alone: times that can be worked out, faults, and repeatability."""

import os
import subprocess
import sys
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.bounds import passed_on_s
from orchestra.simulation import planner_loop, world
from orchestra.simulation.agenda import Agenda
from orchestra.simulation.broadcast import BroadcastSetup, simulate_whole
from orchestra.simulation.fabric import Fabric, rack_of_each_host
from orchestra.simulation.fluid import Fluid
from orchestra.simulation.links import Delays
from orchestra.simulation.planner_loop import (
    Loss,
    PlannerLoop,
    PlannerRun,
    PlannerStuck,
    Slowness,
    run_planner,
)
from transfers.blocks import BlockLayout
from transfers.ids import BlockIndex, NodeName
from transfers.planners import BroadcastPlanner, Mechanism, make_planner
from transfers.planners.events import (
    TICK_INTERVAL_S,
    Command,
    Event,
    Fetch,
    FetchFailed,
    Finished,
    NodeJoined,
    NodeLost,
    Tick,
    forward_bytes,
)

BLOCK_BYTES = 1 << 18
BLOCK_S = 0.04
RATE = BLOCK_BYTES / BLOCK_S

every_mechanism = pytest.mark.parametrize("mechanism", Mechanism)

START_S = 0.15
"""Commands, handshakes, asks and reports of a first and a last block: at most six control delays."""


def broadcast(
    mechanism: Mechanism,
    receivers: int,
    blocks: int,
    *,
    seed: int = 0,
    faults: tuple[Loss | Slowness, ...] = (),
    degree: int = 2,
    control_delay_s: float = planner_loop.CONTROL_DELAY_S,
) -> PlannerRun:
    return run_planner(
        mechanism,
        receivers,
        blocks * BLOCK_BYTES,
        BLOCK_BYTES,
        RATE,
        seed=seed,
        faults=faults,
        degree=degree,
        control_delay_s=control_delay_s,
        check_waits=True,
    )


# -- without faults --------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", [Mechanism.CHAIN, Mechanism.TREE, Mechanism.HDFS])
def test_one_receiver_takes_the_objects_own_time(mechanism: Mechanism) -> None:
    run = broadcast(mechanism, 1, 50)
    start_s = START_S + (TICK_INTERVAL_S if mechanism is Mechanism.HDFS else 0.0)
    assert 50 * BLOCK_S <= run.completion_s <= 50 * BLOCK_S + start_s


def test_one_receiver_by_cornet_waits_for_the_controller_between_blocks() -> None:
    """Two asks open hide two blocks, and a report, a command and an ask take longer than one of these."""
    assert 50 * BLOCK_S <= broadcast(Mechanism.CORNET, 1, 50).completion_s <= 1.5 * 50 * BLOCK_S


@every_mechanism
@pytest.mark.parametrize("receivers", [3, 16])
def test_every_receiver_gets_every_block_once_and_none_beats_the_bound(
    mechanism: Mechanism, receivers: int
) -> None:
    run = broadcast(mechanism, receivers, 40)
    assert run.failed == {}
    assert set(run.node_completion_s) == {f"n{host}" for host in range(1, receivers + 1)}
    assert max(run.node_completion_s.values()) == run.completion_s
    assert run.deliveries == 40 * receivers
    assert run.wasted_bytes == 0
    assert sum(run.sent_bytes) == pytest.approx(40 * receivers * BLOCK_BYTES)
    assert run.completion_s >= passed_on_s(40 * BLOCK_BYTES, receivers, BLOCK_BYTES, RATE)


def test_a_chain_takes_its_blocks_and_a_part_for_each_further_link() -> None:
    run = broadcast(Mechanism.CHAIN, 8, 32)
    least_s = (32 + (8 - 1) * forward_bytes(BLOCK_BYTES) / BLOCK_BYTES) * BLOCK_S
    assert least_s <= run.completion_s <= least_s + START_S + 8 * planner_loop.RESOLUTION_S


@pytest.mark.parametrize("degree", [2, 3])
def test_a_tree_sends_as_often_as_it_has_children(degree: int) -> None:
    """Each inner node shares its port among them, so a block takes ``degree`` block times a level."""
    run = broadcast(Mechanism.TREE, degree + degree**2, 32, degree=degree)
    least_s = (32 + 1) * degree * BLOCK_S
    assert least_s <= run.completion_s <= least_s + START_S + 2 * BLOCK_S
    assert run.sent_bytes[0] == pytest.approx(32 * degree * BLOCK_BYTES)


def test_cornet_to_a_hundred_receivers_costs_little_more_than_one_link() -> None:
    """At the paper's link, block size and object."""
    run = run_planner(Mechanism.CORNET, 100, 1 << 30, 1 << 22, 0.75e9 / 8)
    assert run.completion_s <= 1.08 * (1 << 30) / (0.75e9 / 8)
    assert run.sent_bytes[0] <= 1.05 * (1 << 30), "every block once, but for the last few"


def test_an_object_of_no_bytes_is_there_at_once() -> None:
    run = run_planner(Mechanism.CORNET, 3, 0, BLOCK_BYTES, RATE)
    assert run.completion_s == 0.0
    assert len(run.node_completion_s) == 3


def test_a_last_block_that_is_short_takes_less() -> None:
    run = run_planner(Mechanism.CHAIN, 1, 10 * BLOCK_BYTES + 1, BLOCK_BYTES, RATE)
    assert run.sent_bytes[0] == 10 * BLOCK_BYTES + 1
    assert run.completion_s <= 10 * BLOCK_S + START_S


@every_mechanism
def test_uplinks_between_racks_hold_up_who_is_behind_them(mechanism: Mechanism) -> None:
    size = 20 * BLOCK_BYTES
    run = run_planner(
        mechanism, 6, size, BLOCK_BYTES, RATE, places=rack_of_each_host([3, 3]), uplink_bytes_per_s=RATE / 4
    )
    assert run.completion_s >= size / (RATE / 4)
    assert all(run.node_completion_s[f"n{host}"] >= size / (RATE / 4) for host in (4, 5, 6))


def test_a_host_may_have_a_rate_of_its_own() -> None:
    run = run_planner(Mechanism.CHAIN, 2, 20 * BLOCK_BYTES, BLOCK_BYTES, RATE, host_rates={2: 0.5})
    assert run.node_completion_s["n1"] <= 20 * BLOCK_S + START_S
    assert run.node_completion_s["n2"] >= 2 * 20 * BLOCK_S


def test_longer_control_delay_takes_longer() -> None:
    times = [
        broadcast(Mechanism.CORNET, 16, 64, control_delay_s=delay_s).completion_s for delay_s in (0.0, 0.08)
    ]
    assert times[0] < times[1]


# -- against the whole system ----------------------------------------------------------------------


@every_mechanism
def test_the_whole_system_takes_as_long(mechanism: Mechanism) -> None:
    """Controller, nodes, engine and block server unmodified, on the simulated network."""
    whole = simulate_whole(
        BroadcastSetup(8, 32 * BLOCK_BYTES, RATE, mechanism=mechanism.value, block_size_bytes=BLOCK_BYTES)
    )
    assert broadcast(mechanism, 8, 32).completion_s == pytest.approx(whole.completion_s, rel=0.1)


def test_what_is_copied_from_the_simulated_network_is_its_own() -> None:
    assert planner_loop.CONTROL_DELAY_S == world.CONTROL_DELAY_S
    assert planner_loop.CONTROL_JITTER == world.CONTROL_JITTER


# -- faults ----------------------------------------------------------------------------------------


@every_mechanism
@pytest.mark.parametrize("at_s", [0.01, 0.5, 1.0])
def test_a_lost_receiver_is_named_and_the_others_are_served(mechanism: Mechanism, at_s: float) -> None:
    run = broadcast(mechanism, 8, 40, faults=(Loss(at_s, 1), Loss(at_s, 5)))
    assert set(run.failed) == {"n1", "n5"}
    assert "lost" in run.failed["n1"]
    assert set(run.node_completion_s) == {f"n{host}" for host in (2, 3, 4, 6, 7, 8)}


@every_mechanism
def test_a_source_that_is_lost_at_once_fails_everyone_and_says_so(mechanism: Mechanism) -> None:
    run = broadcast(mechanism, 4, 40, faults=(Loss(0.2, 0),))
    assert set(run.failed) == {"n1", "n2", "n3", "n4"}
    assert "held by no living node" in run.failed["n1"]
    assert run.node_completion_s == {}


@pytest.mark.parametrize("mechanism", [Mechanism.CHAIN, Mechanism.TREE, Mechanism.CORNET])
def test_a_source_that_has_sent_everything_is_not_missed(mechanism: Mechanism) -> None:
    first_s = min(broadcast(mechanism, 8, 40).node_completion_s.values())
    run = broadcast(mechanism, 8, 40, faults=(Loss(first_s, 0),))
    assert run.failed == {}
    assert len(run.node_completion_s) == 8


def test_a_straggler_delays_all_below_it_in_a_chain_and_nobody_else_in_cornet() -> None:
    """Chowdhury et al. 2011, figure 10."""
    faults = (Slowness(0.0, 3, 0.2),)
    chain = broadcast(Mechanism.CHAIN, 12, 60, faults=faults).node_completion_s
    cornet = broadcast(Mechanism.CORNET, 12, 60, faults=faults).node_completion_s
    least_s = 60 * BLOCK_S
    assert all((chain[f"n{host}"] > 4 * least_s) == (host >= 3) for host in range(1, 13))
    assert [name for name, at_s in cornet.items() if at_s > 2 * least_s] == ["n3"]


def test_a_slow_host_may_recover() -> None:
    slow = broadcast(Mechanism.CHAIN, 3, 40, faults=(Slowness(0.0, 2, 0.1),))
    mended = broadcast(Mechanism.CHAIN, 3, 40, faults=(Slowness(0.0, 2, 0.1), Slowness(1.0, 2, 1.0)))
    assert mended.completion_s < slow.completion_s / 2


@settings(max_examples=30)
@given(data=st.data(), mechanism=st.sampled_from(Mechanism), seed=st.integers(0, 2**32))
def test_whoever_lives_is_served_whatever_goes_wrong(
    data: st.DataObject, mechanism: Mechanism, seed: int
) -> None:
    receivers = data.draw(st.integers(1, 7))
    host, at_s = st.integers(1, receivers), st.floats(0.0, 2.0)
    losses = data.draw(st.lists(st.builds(Loss, at_s, host), max_size=3))
    slow = data.draw(st.lists(st.builds(Slowness, at_s, host, st.sampled_from([0.2, 0.5, 1.0])), max_size=3))
    run = broadcast(mechanism, receivers, data.draw(st.integers(1, 30)), seed=seed, faults=(*losses, *slow))
    lost = {f"n{loss.host}" for loss in losses}
    assert set(run.failed) <= lost
    assert set(run.failed) | set(run.node_completion_s) == {f"n{host}" for host in range(1, receivers + 1)}


class _Deaf:
    """A planner that is not told of something: it is planted, to see whether that is found."""

    def __init__(self, planner: BroadcastPlanner, *deaf_to: type) -> None:
        self.block_count = planner.block_count
        self._planner = planner
        self._deaf_to = deaf_to

    def handle(self, event: Event, now: float) -> list[Command]:
        return [] if isinstance(event, self._deaf_to) else self._planner.handle(event, now)


def loop(planner: BroadcastPlanner, receivers: int) -> PlannerLoop:
    fabric = Fabric([RATE] * (receivers + 1))
    layout = BlockLayout(planner.block_count * BLOCK_BYTES, BLOCK_BYTES)
    delays = Delays(1e-4, 0.02, 0.5)
    return PlannerLoop(planner, layout, Fluid(fabric), Agenda(0.001), delays, Random(0), check_waits=True)


@every_mechanism
def test_a_planner_that_does_not_hear_of_losses_is_found_out(mechanism: Mechanism) -> None:
    deaf_to = [NodeLost, FetchFailed]
    if mechanism is Mechanism.CORNET:
        deaf_to.append(Tick)  # else it moves asks that are late, and so gets through
    planner = _Deaf(make_planner(mechanism, 20, NodeName("source"), Random(0)), *deaf_to)
    planted = loop(planner, 4)  # type: ignore[arg-type]
    for host in (1, 2):
        planted.expect(Loss(0.3, host))
    with pytest.raises(PlannerStuck, match="not done after 50 virtual seconds: n"):
        planted.run(50.0)


class _Circular:
    """A planner that has two nodes wait for each other."""

    block_count = 1

    def handle(self, event: Event, now: float) -> list[Command]:
        if not isinstance(event, NodeJoined) or event.node != "n2":
            return []
        one, other, blocks = NodeName("n1"), NodeName("n2"), (BlockIndex(0),)
        return [Fetch(one, other, blocks), Fetch(other, one, blocks)]


def test_waits_that_go_in_a_circle_are_found_out() -> None:
    with pytest.raises(PlannerStuck, match="circle for block 0"):
        loop(_Circular(), 2).run(10.0)  # type: ignore[arg-type]


# -- the same again --------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    one, same, other = (broadcast(Mechanism.CORNET, 6, 20, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.trace_digest != other.trace_digest


_DIGEST = f"""
from orchestra.simulation.planner_loop import Loss, run_planner
from transfers.planners import Mechanism
for mechanism in Mechanism:
    run = run_planner(mechanism, 6, 20 * {BLOCK_BYTES}, {BLOCK_BYTES}, {RATE}, faults=[Loss(0.4, 2)])
    print(run.trace_digest, run.completion_s)
"""


def test_hash_seeds_do_not_matter() -> None:
    told = [
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(told[0].splitlines()) == len(Mechanism)


def test_whoever_observes_hears_every_event_and_command() -> None:
    seen: list[tuple[float, Event | Command]] = []
    run = run_planner(
        Mechanism.CORNET,
        3,
        10 * BLOCK_BYTES,
        BLOCK_BYTES,
        RATE,
        observe=lambda now_s, what: seen.append((now_s, what)),
    )
    assert len(seen) == run.events + run.commands
    assert isinstance(seen[-1][1], Finished)
    assert seen == sorted(seen, key=lambda at: at[0])


def test_planning_is_timed_by_the_clock_that_is_passed_in() -> None:
    ticks = count()
    run = run_planner(
        Mechanism.CHAIN, 2, 4 * BLOCK_BYTES, BLOCK_BYTES, RATE, cpu_clock=lambda: float(next(ticks))
    )
    assert run.planning_cpu_s == run.events


# -- bad arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("receivers", [0, -1])
def test_too_few_receivers_are_named(receivers: int) -> None:
    with pytest.raises(ValueError, match=f"receivers .* got {receivers}"):
        run_planner(Mechanism.CHAIN, receivers, 1, 1, 1.0)


@pytest.mark.parametrize("places", [[0], [0, 1, 1], [0, 0, -1, 1], []])
def test_places_that_do_not_fit_the_hosts_are_named(places: list[int]) -> None:
    with pytest.raises(ValueError, match=r"racks .* 4 hosts"):
        run_planner(Mechanism.CHAIN, 3, 1, 1, 1.0, places=places)


@pytest.mark.parametrize("fault", [Loss(1.0, 3), Loss(1.0, -1), Slowness(1.0, 3, 0.5)])
def test_faults_of_hosts_that_are_not_there_are_named(fault: Loss | Slowness) -> None:
    with pytest.raises(ValueError, match=f"host must be from 0 to 2, got {fault.host}"):
        run_planner(Mechanism.CHAIN, 2, 1, 1, 1.0, faults=[fault])


@pytest.mark.parametrize("share", [0.0, -1.0, float("nan"), float("inf")])
def test_a_share_that_stops_a_host_is_named(share: float) -> None:
    with pytest.raises(ValueError, match=f"share .* got {share}"):
        run_planner(Mechanism.CHAIN, 2, 1, 1, 1.0, faults=[Slowness(1.0, 1, share)])
