"""What a policy may be shown."""

import math

import pytest

from schedulers import Allocation, Budget, Direction, NodeId, Port, Snapshot, TransferId

OUT = Port(NodeId("a"), Direction.EGRESS)
ONE, TWO = TransferId("one"), TransferId("two")


@pytest.mark.parametrize("capacity", [0.0, -1.0, math.nan, math.inf])
def test_a_capacity_that_is_none_is_refused_by_value(capacity: float) -> None:
    with pytest.raises(ValueError, match=f"capacities: .* got {capacity}"):
        Snapshot({OUT: capacity}, {})


def test_a_transfer_twice_on_a_port_is_refused() -> None:
    with pytest.raises(ValueError, match="names a transfer twice"):
        Snapshot({OUT: 1.0}, {OUT: (ONE, ONE)})


def test_a_port_without_a_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="no entry in capacities"):
        Snapshot({}, {OUT: (ONE,)})


def test_a_budget_is_looked_up_by_transfer_node_and_direction() -> None:
    allocation = Allocation({Budget(ONE, OUT): 5.0})
    assert allocation.budget(ONE, NodeId("a"), Direction.EGRESS) == 5.0
    with pytest.raises(KeyError):
        allocation.budget(TWO, NodeId("a"), Direction.EGRESS)
    with pytest.raises(KeyError):
        allocation.budget(ONE, NodeId("a"), Direction.INGRESS)
