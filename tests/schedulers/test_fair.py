"""Fair sharing: equal parts, and all of a port."""

import pytest
from hypothesis import given

from schedulers import POLICIES, Direction, Fair, NodeId, Port, Snapshot, TransferId, fair_port_budgets
from tests.schedulers.strategies import snapshots

A, B = NodeId("a"), NodeId("b")
ONE, TWO, THREE = TransferId("one"), TransferId("two"), TransferId("three")


def test_each_port_is_shared_by_itself() -> None:
    out, into = Port(A, Direction.EGRESS), Port(B, Direction.INGRESS)
    shares = fair_port_budgets(Snapshot({out: 90.0, into: 30.0}, {out: (ONE, TWO, THREE), into: (ONE,)}))
    assert shares.budget(ONE, A, Direction.EGRESS) == 30.0
    assert shares.budget(THREE, A, Direction.EGRESS) == 30.0
    assert shares.budget(ONE, B, Direction.INGRESS) == 30.0
    assert len(shares.budgets) == 4


def test_a_port_without_a_limit_limits_nobody() -> None:
    out = Port(A, Direction.EGRESS)
    assert (
        fair_port_budgets(Snapshot({out: None}, {out: (ONE, TWO)})).budget(ONE, A, Direction.EGRESS) is None
    )


def test_nothing_active_needs_no_budget() -> None:
    out = Port(A, Direction.EGRESS)
    assert fair_port_budgets(Snapshot({}, {})).budgets == {}
    assert fair_port_budgets(Snapshot({out: 1.0}, {out: ()})).budgets == {}


@given(snapshots())
def test_shares_of_a_port_are_equal_and_use_it_up(snapshot: Snapshot) -> None:
    allocation = fair_port_budgets(snapshot)
    for port, active in snapshot.active.items():
        shares = [allocation.budget(transfer, port.node, port.direction) for transfer in active]
        capacity = snapshot.capacities[port]
        assert len(set(shares)) <= 1
        if shares and capacity is not None:
            assert sum(share or 0.0 for share in shares) == pytest.approx(capacity)


def test_the_policy_called_fair_is_this_one() -> None:
    assert isinstance(POLICIES["fair"], Fair)
