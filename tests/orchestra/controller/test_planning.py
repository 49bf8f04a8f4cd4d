"""What moves the bytes, by itself: a head start, a planner, or nothing."""

from random import Random

import pytest

from orchestra.controller.head_start import HeadStart
from orchestra.controller.planning import Planning
from tests.orchestra.controller.clusters import manifest_of
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners import Mechanism
from transfers.planners.base import BroadcastPlanner
from transfers.planners.events import BlocksStored, Command, Event, Fetch, Follow, NodeJoined, Stored, Tick

SRC, A, B = (NodeName(name) for name in ("src", "a", "b"))
MANIFEST = manifest_of("t")


def test_without_a_planner_nothing_is_known_and_nothing_commanded() -> None:
    planning = Planning(Random(1))
    assert planning.handle(Tick(), 0.0) == ([], None)
    assert planning.idle
    assert not planning.has_begun
    assert not planning.knows(SRC)
    assert planning.holds_of(SRC) is None
    assert planning.blocks_held_count == 0


def test_a_planner_answers_until_it_is_stopped() -> None:
    planning = Planning(Random(1))
    planning.plan(Mechanism.CHAIN, MANIFEST, SRC)
    assert planning.idle
    commands, circle = planning.handle(NodeJoined(A, BlockSet(4)), 0.0)
    assert circle is None
    assert [command for command in commands if isinstance(command, Follow)]
    planning.handle(BlocksStored(A, (Stored(BlockIndex(1), SRC, 0.1),)), 0.1)
    held = planning.holds_of(A)
    assert held is not None
    assert list(held) == [1]
    assert planning.blocks_held_count == 1
    assert (planning.has_plan, planning.idle, planning.knows(A)) == (True, False, True)
    planning.stop()
    assert (planning.has_plan, planning.idle, planning.knows(A)) == (False, True, False)


def test_a_head_start_answers_before_there_is_a_planner() -> None:
    planning = Planning(Random(1))
    planning.head_start = HeadStart(MANIFEST, SRC, b"", [(A, "a:1")], 0.0)
    assert planning.has_begun
    assert not planning.has_plan
    assert planning.knows(SRC)
    assert planning.knows(A)
    assert not planning.knows(B)
    planning.head_start.note(A, [Stored(BlockIndex(0), SRC, 0.1)], 0.1)
    assert planning.blocks_held_count == 1


def test_a_circle_of_waits_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(self: BroadcastPlanner, event: Event, now: float) -> list[Command]:
        return [Fetch(A, B, (BlockIndex(0),)), Fetch(B, A, (BlockIndex(0),))]

    planning = Planning(Random(1))
    planning.plan(Mechanism.CHAIN, MANIFEST, SRC)
    planning.handle(NodeJoined(A, BlockSet(4)), 0.0)
    planning.handle(NodeJoined(B, BlockSet(4)), 0.0)
    monkeypatch.setattr(BroadcastPlanner, "handle", mistaken)
    commands, circle = planning.handle(Tick(), 0.1)
    assert len(commands) == 2
    assert circle is not None
    assert set(circle.path) == {A, B}
