"""The account of receivers, by itself."""

import pytest

from orchestra.controller.account import Account
from orchestra.controller.transfer import PROGRESS_INTERVAL_S, Tally
from transfers.blocks import BlockLayout, BlockSet
from transfers.ids import BlockIndex, NodeName, TransferName

A, B, LATE = NodeName("a"), NodeName("b"), NodeName("late")
LAYOUT = BlockLayout(35, 10)


@pytest.fixture
def tally() -> Tally:
    return Tally(accepted_at_s=100.0)


@pytest.fixture
def account(tally: Tally) -> Account:
    """Of two receivers."""
    account = Account(TransferName("t"), tally)
    account.count([A, B], [], 60.0)
    return account


def test_it_is_settled_when_every_counted_receiver_is_through_or_failed(
    account: Account, tally: Tally
) -> None:
    account.take_in(LATE)
    assert not account.all_settled()
    account.note_settled(A, 101.0)
    assert account.unsettled() == [B]
    account.fail(B, "disk full")
    assert account.all_settled()
    account.close(105.0)
    assert (tally.completion_s, tally.node_completion_s) == (1.0, {"a": 1.0})
    assert tally.failed == {"b": "disk full"}


def test_who_is_absent_has_failed_and_may_come_after_all(tally: Tally) -> None:
    account = Account(TransferName("t"), tally)
    account.count([A], [B], 60.0)
    assert tally.failed == {"b": "not joined within 60 s"}
    assert account.take_back(B)
    assert not tally.failed
    assert account.unsettled() == [A, B]


def test_once_it_is_closed_nothing_changes_the_tally(account: Account, tally: Tally) -> None:
    account.note_settled(A, 101.0)
    account.lose(B, "connection closed")
    account.close(102.0)
    account.note_settled(B, 103.0)
    account.lose(A, "connection closed")
    assert not account.take_back(B)
    assert tally.node_completion_s == {"a": 1.0}
    assert tally.failed == {"b": "lost: connection closed"}


def test_the_first_reason_of_a_failure_outlives_the_loss_of_its_node(account: Account, tally: Tally) -> None:
    account.fail(A, "disk full")
    account.lose(A, "connection closed")
    assert tally.failed == {"a": "disk full"}


def test_who_was_complete_and_is_lost_before_it_is_through_is_told_as_failed_only(
    account: Account, tally: Tally
) -> None:
    account.note_complete(A, 101.0)
    account.lose(A, "connection closed")
    assert tally.node_completion_s == {}
    assert list(tally.failed) == ["a"]


def test_who_is_through_cannot_fail(account: Account, tally: Tally) -> None:
    account.note_settled(A, 101.0)
    account.fail(A, "disk full")
    assert not tally.failed


def test_late_joiners_do_not_count_and_are_let_off_unless_they_are_through(account: Account) -> None:
    other = NodeName("other")
    for name in (LATE, other, A):
        account.take_in(name)
    account.note_settled(other, 101.0)
    assert account.involves(LATE)
    assert not account.counts(LATE)
    assert account.put_off() == [LATE]
    assert list(account.uncounted) == [other]
    assert account.involves(A)


def test_of_a_late_joiner_that_is_gone_nothing_is_kept(account: Account) -> None:
    account.take_in(LATE)
    for name in (LATE, A, B):
        account.note_settled(name, 101.0)
    account.close(101.0)
    account.take_in(A)
    for name in (LATE, A):
        account.lose(name, "connection closed")
    assert not account.uncounted
    assert list(account.settled) == [A, B], "who was counted stays through"


def test_a_receiver_that_comes_again_after_the_end_is_a_late_joiner(account: Account) -> None:
    account.close(101.0)
    account.take_in(A)
    assert account.put_off() == [A]


def test_an_ending_fails_those_who_are_not_through(account: Account, tally: Tally) -> None:
    account.note_settled(A, 101.0)
    account.close_failed("cancelled by src")
    assert tally.failed == {"b": "cancelled by src"}
    assert account.closed


def test_news_come_when_there_are_any_and_not_too_often(account: Account) -> None:
    held = BlockSet(LAYOUT.count)
    holds = {A: held}
    first = account.news(LAYOUT, holds.get, 100.0)
    assert first is not None
    assert (first.transfer, first.done_bytes, first.total_bytes) == ("t", 0, 70)
    held.add(BlockIndex(3))  # the short one: counted as a whole, but never more than the object
    assert account.news(LAYOUT, holds.get, 100.0 + PROGRESS_INTERVAL_S / 2) is None
    second = account.news(LAYOUT, holds.get, 100.0 + PROGRESS_INTERVAL_S * 1.5)
    assert second is not None
    assert second.done_bytes == 10
    assert account.news(LAYOUT, holds.get, 200.0, at_once=True) is None
    account.note_settled(A, 200.0)
    account.fail(B, "disk full")
    third = account.news(LAYOUT, holds.get, 200.0, at_once=True)
    assert third is not None
    assert (third.done_bytes, third.total_bytes) == (35, 35)
    assert account.settled_share == 0.5
