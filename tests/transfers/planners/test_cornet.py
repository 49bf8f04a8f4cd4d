"""Who asks whom for what in `transfers.planners.cornet`, and how long that takes."""

from collections import Counter
from random import Random
from string import ascii_lowercase

import pytest

from tests.transfers.planners.fluid import Fluid
from tests.transfers.planners.told import SOURCE, fail, fetches, join, lose, planned, store, tick
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners import Mechanism, make_planner
from transfers.planners.cornet import ASKS_A_PAIR, LATE_AFTER_S, MAX_SOURCES, SLOTS
from transfers.planners.events import FetchFailure, NodeJoined, NodeSuspected

CORNET = Mechanism.CORNET


def fluid(receivers: int, blocks: int, control_delay_s: float = 0.02, seed: int = 0) -> Fluid:
    planner = make_planner(CORNET, blocks, NodeName("s"), Random(seed))
    return Fluid(planner, receivers, block_s=0.04, control_delay_s=control_delay_s, rng=Random(seed + 100))


def test_the_source_serves_as_many_receivers_as_it_has_slots_two_blocks_each() -> None:
    planner = planned(CORNET, 100, ascii_lowercase)
    assert planner.asks_open_at(SOURCE) == SLOTS * ASKS_A_PAIR
    assert sum(bool(member.asked) for member in planner.living()) == SLOTS


def test_the_first_asks_are_all_for_different_blocks() -> None:
    planner = planned(CORNET, 100, ascii_lowercase)
    asked = [block for member in planner.living() for block in member.asked]
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("seed", range(3))
def test_the_source_sends_every_block_once_before_any_twice(seed: int) -> None:
    run = fluid(8, 40, seed=seed)
    run.run()
    assert sorted(run.asked_of_source[:40]) == list(range(40))


def test_the_source_sends_little_more_than_every_block_once() -> None:
    run = fluid(16, 128)
    run.run()
    assert len(run.asked_of_source) <= 1.25 * 128


def test_a_block_that_others_hold_is_not_asked_of_the_source() -> None:
    planner = planned(CORNET, 1, "a")
    store(planner, "a", 0)
    assert fetches(join(planner, "b")) == [("b", "a", (0,))]


def test_the_rarest_block_is_asked_for_first() -> None:
    planner = planned(CORNET, 3)
    for name, held in [("p", (0, 1)), ("q", (0, 1, 2)), ("r", (0,))]:
        blocks = BlockSet(3, [BlockIndex(block) for block in held])
        planner.handle(NodeJoined(NodeName(name), blocks, wants=False), 0.0)
    join(planner, "a")
    assert list(planner.members[NodeName("a")].asked) == [2, 1, 0]


def test_the_holder_with_fewest_asks_is_preferred() -> None:
    planner = planned(CORNET, 8)
    for name in "pqr":
        planner.handle(NodeJoined(NodeName(name), BlockSet.full(8), wants=False), 0.0)
    join(planner, "a")
    assert Counter(planner.members[NodeName("a")].asked.values()) == {"p": 2, "q": 2, "r": 2, SOURCE: 2}


def test_a_receiver_has_no_more_sources_than_allowed() -> None:
    planner = planned(CORNET, 100)
    for name in ascii_lowercase[:8]:
        planner.handle(NodeJoined(NodeName(name), BlockSet.full(100), wants=False), 0.0)
    join(planner, "z")
    asked = Counter(planner.members[NodeName("z")].asked.values())
    assert len(asked) == MAX_SOURCES
    assert set(asked.values()) == {ASKS_A_PAIR}


def test_asks_at_a_lost_node_go_to_other_holders() -> None:
    planner = planned(CORNET, 1, "a")
    store(planner, "a", 0)
    join(planner, "b")
    assert fetches(lose(planner, "a")) == [("b", SOURCE, (0,))]


def test_asks_at_a_suspected_node_go_to_other_holders() -> None:
    planner = planned(CORNET, 1, "a")
    store(planner, "a", 0)
    join(planner, "b")
    assert fetches(planner.handle(NodeSuspected(NodeName("a")), 0.0)) == [("b", SOURCE, (0,))]


def test_a_corrupt_block_is_asked_of_another_holder() -> None:
    planner = planned(CORNET, 1, "a")
    store(planner, "a", 0)
    join(planner, "b")
    assert fetches(fail(planner, "b", "a", FetchFailure.CORRUPT, 0)) == [("b", SOURCE, (0,))]


def test_a_block_that_takes_too_long_is_asked_of_another_holder_in_the_end() -> None:
    planner = planned(CORNET, 1, "a")
    store(planner, "a", 0, now=0.05)
    planner.handle(NodeJoined(NodeName("b"), BlockSet(1)), 0.1)
    assert tick(planner, 0.1 + LATE_AFTER_S / 2) == []
    assert fetches(tick(planner, 0.2 + LATE_AFTER_S)) == [("b", SOURCE, (0,))]


@pytest.mark.parametrize("seed", range(3))
def test_sixteen_receivers_take_at_most_115_percent_of_the_objects_own_time(seed: int) -> None:
    assert fluid(16, 128, seed=seed).run() <= 1.15 * 128 * 0.04


def test_receivers_finish_nearly_together() -> None:
    run = fluid(16, 128)
    last = run.run()
    assert min(run.done_s.values()) >= 0.9 * last  # Chowdhury et al. 2011, section 7: under 10 % stray


def test_control_delay_of_80_ms_costs_less_than_a_third() -> None:
    assert fluid(16, 128, control_delay_s=0.08).run() <= 1.33 * 128 * 0.04


def test_one_slow_sender_does_not_hold_up_the_others() -> None:
    run = fluid(8, 64)
    run.slow[NodeName("r3")] = 0.1
    assert run.run() <= 2.0 * 64 * 0.04
