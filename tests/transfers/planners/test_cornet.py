"""Who asks whom for what in `transfers.planners.cornet`, and how long that takes."""

from collections import Counter
from collections.abc import Callable
from random import Random
from string import ascii_lowercase

import pytest

from orchestra.simulation.planner_loop import PlannerRun, Slowness, run_planner
from tests.transfers.planners.told import SOURCE, fail, fetches, join, lose, store, tick
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners import Mechanism
from transfers.planners.cornet import ASKS_A_PAIR, LATE_AFTER_S, MAX_SOURCES, SLOTS, CornetPlanner
from transfers.planners.events import (
    BlocksStored,
    Command,
    Event,
    FetchFailure,
    NodeJoined,
    NodeSuspected,
)

CORNET = Mechanism.CORNET


BLOCK_BYTES, BLOCK_S = 1 << 18, 0.04


def simulated(
    receivers: int,
    blocks: int,
    *,
    control_delay_s: float = 0.02,
    seed: int = 0,
    slow: tuple[Slowness, ...] = (),
    explores: bool = False,
    observe: Callable[[float, Event | Command], None] | None = None,
) -> PlannerRun:
    """A broadcast of blocks that take 40 ms each at the full rate of a port."""
    return run_planner(
        CORNET,
        receivers,
        blocks * BLOCK_BYTES,
        BLOCK_BYTES,
        BLOCK_BYTES / BLOCK_S,
        seed=seed,
        control_delay_s=control_delay_s,
        faults=slow,
        explores=explores,
        observe=observe,
    )


def swarming(blocks: int, joined: str = "", seed: int = 0) -> CornetPlanner:
    """A planner without stripes, to which receivers have joined, one a letter."""
    planner = CornetPlanner(blocks, SOURCE, Random(seed), explores=True)
    for name in joined:
        join(planner, name)
    return planner


def test_the_source_serves_as_many_receivers_as_it_has_slots_two_blocks_each() -> None:
    planner = swarming(100, ascii_lowercase)
    assert planner.asks_open_at(SOURCE) == SLOTS * ASKS_A_PAIR
    assert sum(bool(member.asked) for member in planner.living()) == SLOTS


def test_the_first_asks_are_all_for_different_blocks() -> None:
    planner = swarming(100, ascii_lowercase)
    asked = [block for member in planner.living() for block in member.asked]
    assert len(asked) == len(set(asked))


def test_the_source_sends_every_block_once_before_any_twice() -> None:
    planner = swarming(40, "ab")
    sent: list[BlockIndex] = []
    for turn in range(60):
        member = planner.members[NodeName("ab"[turn % 2])]
        asked = [block for block, at in member.asked.items() if at == SOURCE]
        for block in asked[:1]:
            sent.append(block)
            store(planner, member.name, block)
    assert sorted(sent[:40]) == list(range(40))


def test_the_source_sends_every_block_once() -> None:
    assert simulated(16, 128).sent_bytes[0] <= 1.05 * 128 * BLOCK_BYTES


def test_a_block_that_others_hold_is_not_asked_of_the_source() -> None:
    planner = swarming(1, "a")
    store(planner, "a", 0)
    assert fetches(join(planner, "b")) == [("b", "a", (0,))]


def test_the_rarest_block_is_asked_for_first() -> None:
    planner = swarming(3)
    for name, held in [("p", (0, 1)), ("q", (0, 1, 2)), ("r", (0,))]:
        blocks = BlockSet(3, [BlockIndex(block) for block in held])
        planner.handle(NodeJoined(NodeName(name), blocks, wants=False), 0.0)
    join(planner, "a")
    assert list(planner.members[NodeName("a")].asked) == [2, 1, 0]


def test_the_holder_with_fewest_asks_is_preferred() -> None:
    planner = swarming(8)
    for name in "pqr":
        planner.handle(NodeJoined(NodeName(name), BlockSet.full(8), wants=False), 0.0)
    join(planner, "a")
    assert Counter(planner.members[NodeName("a")].asked.values()) == {"p": 2, "q": 2, "r": 2, SOURCE: 2}


def test_a_receiver_has_no_more_sources_than_allowed() -> None:
    planner = swarming(100)
    for name in ascii_lowercase[:8]:
        planner.handle(NodeJoined(NodeName(name), BlockSet.full(100), wants=False), 0.0)
    join(planner, "z")
    asked = Counter(planner.members[NodeName("z")].asked.values())
    assert len(asked) == MAX_SOURCES
    assert set(asked.values()) == {ASKS_A_PAIR}


def test_receivers_that_explore_meet_most_others_and_it_costs_few_little_time() -> None:
    for receivers, least, most in ((20, 13, 1.4), (3, 3, 1.1)):
        met: dict[NodeName, set[NodeName]] = {}

        def heard(now: float, event: Event | Command, met: dict[NodeName, set[NodeName]] = met) -> None:
            if isinstance(event, BlocksStored):
                met.setdefault(event.node, set()).update(record.source for record in event.records)

        usual = simulated(receivers, 128)
        exploring = simulated(receivers, 128, explores=True, observe=heard)
        assert sorted(map(len, met.values()))[receivers // 2] >= least
        assert exploring.completion_s <= most * usual.completion_s


def test_asks_at_a_lost_node_go_to_other_holders() -> None:
    planner = swarming(1, "a")
    store(planner, "a", 0)
    join(planner, "b")
    assert fetches(lose(planner, "a")) == [("b", SOURCE, (0,))]


def test_asks_at_a_suspected_node_go_to_other_holders() -> None:
    planner = swarming(1, "a")
    store(planner, "a", 0)
    join(planner, "b")
    assert fetches(planner.handle(NodeSuspected(NodeName("a")), 0.0)) == [("b", SOURCE, (0,))]


def test_a_corrupt_block_is_asked_of_another_holder() -> None:
    planner = swarming(1, "a")
    store(planner, "a", 0)
    join(planner, "b")
    assert fetches(fail(planner, "b", "a", FetchFailure.CORRUPT, 0)) == [("b", SOURCE, (0,))]


def test_a_block_that_takes_too_long_is_asked_of_another_holder_in_the_end() -> None:
    planner = swarming(1, "a")
    store(planner, "a", 0, now=0.05)
    planner.handle(NodeJoined(NodeName("b"), BlockSet(1)), 0.1)
    assert tick(planner, 0.1 + LATE_AFTER_S / 2) == []
    assert fetches(tick(planner, 0.2 + LATE_AFTER_S)) == [("b", SOURCE, (0,))]


@pytest.mark.parametrize("seed", range(3))
def test_sixteen_receivers_take_at_most_109_percent_of_the_objects_own_time(seed: int) -> None:
    assert simulated(16, 128, seed=seed).completion_s <= 1.09 * 128 * BLOCK_S


def test_receivers_finish_nearly_together() -> None:
    run = simulated(16, 128)
    # Chowdhury et al. 2011, section 7: under 10 % stray
    assert min(run.node_completion_s.values()) >= 0.9 * run.completion_s


def test_control_delay_of_80_ms_costs_little() -> None:
    """Streams need no commands, and have asks open for longer than that: what is left is the start."""
    assert simulated(16, 128, control_delay_s=0.08).completion_s <= 1.2 * 128 * BLOCK_S


def test_one_slow_host_does_not_hold_up_the_others() -> None:
    run = simulated(8, 64, slow=(Slowness(0.0, 3, 0.1),))
    others = [at_s for name, at_s in run.node_completion_s.items() if name != "n3"]
    assert max(others) <= 1.5 * 64 * BLOCK_S
