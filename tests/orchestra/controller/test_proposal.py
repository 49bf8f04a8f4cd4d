"""A proposal, by itself."""

import pytest

from orchestra.controller.members import Members, SessionId
from orchestra.controller.proposal import OFFER_LIMIT_S, Proposal
from orchestra.messages import Join, Propose
from transfers.ids import NodeName, TransferName

SRC, A, B = NodeName("src"), NodeName("a"), NodeName("b")


def members_of(*names: NodeName) -> Members:
    """These are there, and receive."""
    members = Members()
    for number, name in enumerate(names):
        members.add(SessionId(number), Join(name, "", f"{name}:1", "host", "", True, False, ()), 0.0)
    return members


def proposal(to: tuple[NodeName, ...] | None, wait_for: int = 1, content: bytes = b"") -> Proposal:
    asked = Propose(1, TransferName("t"), 40, to, wait_for, 60.0, None, None, None, content)
    return Proposal(SRC, asked, 100.0)


def test_named_receivers_are_all_waited_for() -> None:
    named = proposal((A, B))
    assert named.receivers_now(members_of(SRC, A)) == ([A], [B])
    assert not named.ready(members_of(SRC, A), 100.0)
    assert named.ready(members_of(SRC, A, B), 100.0)


@pytest.mark.parametrize("wait_for", [1, 2])
def test_of_everyone_as_many_as_it_asks_for_and_never_its_owner(wait_for: int) -> None:
    everyone = proposal(None, wait_for)
    assert everyone.receivers_now(members_of(SRC, A)) == ([A], [])
    assert everyone.ready(members_of(SRC, A), 100.0) == (wait_for == 1)
    assert everyone.ready(members_of(SRC, A, B), 100.0)


def test_after_its_timeout_it_waits_no_more() -> None:
    named = proposal((A, B))
    assert not named.ready(members_of(SRC), 159.9)
    assert named.ready(members_of(SRC), 160.0)


def test_an_offer_is_overdue_a_while_after_the_plan() -> None:
    planned = proposal((A,))
    assert not planned.overdue(1e9)
    planned.planned_at_s = 100.0
    assert not planned.overdue(99.9 + OFFER_LIMIT_S)
    assert planned.overdue(100.0 + OFFER_LIMIT_S)


def test_who_is_not_named_is_meant_where_nobody_is() -> None:
    node = next(iter(members_of(A)))
    assert proposal(None).for_everyone_like(node)
    assert not proposal((A,)).for_everyone_like(node)


def test_content_is_handed_over_once() -> None:
    brought = proposal((A,), content=b"few")
    assert brought.take_content() == b"few"
    assert brought.take_content() == b""
