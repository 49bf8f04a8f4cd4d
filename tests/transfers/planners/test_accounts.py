"""What Cornet's swarm keeps account of."""

from random import Random

import pytest

from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners.accounts import Copies, Peer
from transfers.planners.base import Member

ZERO, ONE, TWO = (BlockIndex(at) for at in range(3))


def peer(name: str) -> Peer:
    return Peer(Member(NodeName(name), BlockSet(3), wants=True), swarmed=0b111)


def test_asks_are_counted_at_both_ends_until_the_last_is_over() -> None:
    one, other = peer("one"), peer("other")
    one.note_ask(ZERO, other, carried=False, now=1.0)
    one.note_ask(TWO, other, carried=False, now=2.0)
    assert (one.asks_in, other.asks_out) == ({"other": 2}, {"one": 2})
    assert (one.open, one.lacks) == (0b101, 0b010)
    assert not one.note_unask(ZERO, other, now=3.0)
    assert (one.asks_in, other.asks_out) == ({"other": 1}, {"one": 1})
    assert one.note_unask(TWO, other, now=3.0)
    assert (one.asks_in, other.asks_out, one.open, one.asked_at_s) == ({}, {}, 0, {})


def test_what_is_carried_takes_no_room_at_the_other() -> None:
    one, other = peer("one"), peer("other")
    one.note_ask(ONE, other, carried=True, now=1.0)
    assert (one.open, one.carried, one.asks_in, other.asks_out) == (0b010, 0b010, {}, {})
    assert not one.note_unask(ONE, other, now=2.0)
    assert (one.open, one.carried) == (0, 0)


def test_a_block_has_taken_as_long_as_its_ask_was_open_and_others_say_nothing() -> None:
    one, other = peer("one"), peer("other")
    assert one.took_s(ONE, 1.0) is None
    one.note_ask(ONE, other, carried=False, now=1.0)
    one.note_unask(ONE, other, now=3.5)
    assert one.took_s(ONE, 3.5) == pytest.approx(2.5)
    assert one.took_s(TWO, 3.5) is None
    assert one.took_s(ONE, 4.0) is None, "an ask that has ended before, without a block"


def test_who_asks_for_all_it_lacks_hungers_still_and_who_holds_it_does_not() -> None:
    one, other = peer("one"), peer("other")
    for block in (ZERO, ONE, TWO):
        one.note_ask(block, other, carried=False, now=1.0)
    assert one.hungers
    assert not one.lacks
    one.holds = 0b111
    assert not one.hungers


def test_the_rarest_is_one_with_fewest_copies_of_those_asked_about() -> None:
    copies = Copies(3)
    assert copies.single == 0b111
    copies.change(ZERO, 1)
    copies.change(ONE, 1)
    copies.change(ONE, 1)
    assert copies.single == 0b100
    assert copies.rarest(0b011, Random(0)) == 0
    assert copies.rarest(0b111, Random(0)) == 2
    copies.change(ZERO, -1)
    copies.change(ZERO, -1)
    assert copies.rarest(0b111, Random(0)) == 0


def test_ties_are_drawn_by_lot() -> None:
    copies, rng = Copies(3), Random(0)
    assert {copies.rarest(0b111, rng) for _ in range(50)} == {0, 1, 2}
