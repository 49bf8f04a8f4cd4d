"""Blocks that another stripe's tree brings: when, which, from whom, and when not any more."""

from random import Random

import pytest

from orchestra.simulation.planner_loop import Loss, run_planner
from tests.transfers.planners.test_stripes import BLOCK_BYTES, BLOCK_S, parents, striped
from tests.transfers.planners.told import SOURCE, fail, fetches, lose, store, tick
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners import CornetPlanner, Mechanism
from transfers.planners.carrying import LEAST_DIFFERENCE, UNDER_WAY
from transfers.planners.events import (
    BlocksStored,
    Cancel,
    Command,
    Event,
    FetchFailed,
    FetchFailure,
    NodeJoined,
    NodeLost,
    NodeRecovered,
    NodeSuspected,
    Stored,
    Tick,
)
from transfers.planners.waits import WaitCheck, WaitFaultKind

BLOCKS = 80


def uneven(first: int, second: int, receivers: int = 9) -> CornetPlanner:
    """Everyone lacks the last ``first`` blocks of stripe 0 and the last ``second`` of stripe 1."""
    planner = striped(receivers, BLOCKS)
    lacks = {*range(BLOCKS)[0::2][BLOCKS // 2 - first :], *range(BLOCKS)[1::2][BLOCKS // 2 - second :]}
    for member in list(planner.receivers()):
        store(planner, member.name, *(block for block in range(BLOCKS) if block not in lacks))
    return planner


def cancelled(commands: list[Command]) -> set[tuple[str, int]]:
    return {(order.node, block) for order in commands if isinstance(order, Cancel) for block in order.blocks}


def test_half_of_what_a_stripe_has_more_is_asked_of_everyones_parent_in_the_other_tree() -> None:
    planner = uneven(20, 4)
    above = parents(planner, 1)
    asked = fetches(tick(planner, 2.0))
    assert {node for node, _, _ in asked} == {member.name for member in planner.receivers()}
    for node, source, blocks in asked:
        assert source == above[node]
        assert blocks == tuple(range(BLOCKS - 2 * 8, BLOCKS, 2)), "the last of stripe 0"


def test_it_is_decided_once() -> None:
    planner = uneven(20, 4)
    assert fetches(tick(planner, 2.0))
    assert fetches(tick(planner, 2.1)) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [(20, 20), (20, 20 - LEAST_DIFFERENCE + 1), (35, 12), (UNDER_WAY, 0)],
    ids=["even", "nearly even", "too early", "too late"],
)
def test_otherwise_every_block_comes_by_its_own_stripe(first: int, second: int) -> None:
    planner = uneven(first, second)
    assert not planner._stripes.carrying.carried
    tick(planner, 2.0)
    assert not planner._stripes.carrying.carried


class Checked:
    """A planner of nine receivers that has begun, whose answers may not make nodes wait in a circle."""

    def __init__(self) -> None:
        self.planner = CornetPlanner(BLOCKS, SOURCE, Random(0))
        self.names = [NodeName(f"n{at}") for at in range(1, 10)]
        self._waits = WaitCheck(BLOCKS, SOURCE)
        for name in self.names:
            self.tell(NodeJoined(name, BlockSet(BLOCKS)), 0.0)
        self.tell(Tick(), 0.0)

    def tell(self, event: Event, now: float) -> None:
        self._waits.note_event(event)
        for command in self.planner.handle(event, now):
            self._waits.note_command(command)
        assert [fault for fault in self._waits.faults() if fault.kind is WaitFaultKind.CIRCLE] == []

    def store(self, name: NodeName, late: int, more: int) -> None:
        """All of stripe 0 but ``late`` blocks; of stripe 1 so many ``more``."""
        have = [*range(BLOCKS)[0::2][:-late], *range(BLOCKS)[1::2][: BLOCKS // 2 - late + more]]
        self.tell(BlocksStored(name, tuple(Stored(BlockIndex(block), SOURCE, 0.1) for block in have)), 1.0)

    def lose(self, name: NodeName, now: float) -> None:
        self.names.remove(name)
        self.tell(NodeLost(name, "test"), now)

    @property
    def carries(self) -> bool:
        return bool(self.planner._stripes.carrying.carried)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_waits_in_a_circle_whoever_has_what_and_whatever_goes_wrong(seed: int) -> None:
    rng, checked, carried = Random(seed), Checked(), False
    for name in checked.names:
        checked.store(name, rng.randrange(18, 22), 15)
    for turn in range(12):
        now = 2.0 + turn / 10
        checked.tell(Tick(), now)
        carried = carried or checked.carries
        member = checked.planner.members[rng.choice(checked.names)]
        if turn in (4, 8):
            checked.lose(member.name, now)
        elif member.asked:
            block, source = rng.choice(list(member.asked.items()))
            if turn % 3 == 2:
                checked.tell(FetchFailed(member.name, source, (block,), rng.choice(list(FetchFailure))), now)
            else:
                checked.tell(BlocksStored(member.name, (Stored(block, source, 0.1),)), now)
    assert carried


def test_nothing_waits_in_a_circle_where_some_have_all_of_a_stripe_and_others_are_hung_anew() -> None:
    carried = 0
    for seed in range(30):
        rng, checked = Random(seed), Checked()
        for name in checked.names:
            late = rng.randrange(18, 22)
            checked.store(name, late, rng.choice([10, 15, late]))
        for turn in range(14):
            name, now = rng.choice(checked.names), 2.0 + turn / 10
            if turn % 4 == 3:
                checked.lose(name, now)
            else:
                checked.tell(NodeSuspected(name) if rng.random() < 0.5 else NodeRecovered(name), now)
            checked.tell(Tick(), now)
            carried += checked.carries
    assert carried > 30


def test_when_a_tree_is_mended_what_was_carried_is_withdrawn_and_decided_anew() -> None:
    planner = uneven(20, 4)
    asked = {(node, block) for node, _, blocks in fetches(tick(planner, 2.0)) for block in blocks}
    commands = lose(planner, "n9")
    assert cancelled(commands) == {(node, block) for node, block in asked if node != "n9"}
    assert not any(member.asked for member in planner.receivers())
    assert fetches(tick(planner, 2.1))


def test_one_block_that_fails_ends_it_for_all() -> None:
    planner = uneven(20, 4)
    node, source, blocks = fetches(tick(planner, 2.0))[0]
    fail(planner, node, source, FetchFailure.CORRUPT, blocks[0], now=2.05)
    assert not planner._stripes.carrying.carried
    assert not any(member.asked for member in planner.receivers() if member.name != node)


def test_a_silent_parent_ends_it_at_the_next_tick() -> None:
    planner = uneven(20, 4)
    tick(planner, 2.0)
    silent = NodeName(next(parent for parent in parents(planner, 1).values() if parent != SOURCE))
    planner.handle(NodeSuspected(silent), 2.05)
    tick(planner, 2.1)
    assert not any(silent in member.asked.values() for member in planner.receivers())


def test_asks_that_are_carried_are_not_late_however_long_they_take() -> None:
    planner = uneven(20, 4)
    tick(planner, 2.0)
    asked = {member.name: dict(member.asked) for member in planner.receivers()}
    for at in range(21, 41):
        assert fetches(tick(planner, at / 10)) == []
    assert {member.name: dict(member.asked) for member in planner.receivers()} == asked


def test_what_is_carried_takes_nobodys_room_to_ask() -> None:
    planner = uneven(20, 4)
    tick(planner, 2.0)
    assert not any(peer.asks_in or peer.asks_out for peer in planner._peers.values())
    member = next(iter(planner.receivers()))
    for block in list(member.asked):
        store(planner, member.name, block, source=member.asked[block])
    assert not planner._peers[member.name].carried
    assert BlockIndex(BLOCKS - 2) in member.holds


@pytest.mark.parametrize("dead", [1, 2])
def test_a_root_that_dies_costs_less_than_its_stripe_is_late(dead: int) -> None:
    size, rate = 256 * BLOCK_BYTES, BLOCK_BYTES / BLOCK_S
    faults = (Loss(1.5, dead),)
    run = run_planner(Mechanism.CORNET, 16, size, BLOCK_BYTES, rate, faults=faults, check_waits=True)
    assert run.completion_s <= 1.09 * 256 * BLOCK_S
