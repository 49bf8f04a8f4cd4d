"""Equal shares of ports: who is active where, equal parts, and all of a port."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers import TransferId
from schedulers.equal_shares import ActivePorts, Budget, Budgets, Direction, NodeId, Port, equal_shares

A, B = NodeId("a"), NodeId("b")
ONE, TWO, THREE = TransferId("one"), TransferId("two"), TransferId("three")
OUT, INTO = Port(A, Direction.EGRESS), Port(B, Direction.INGRESS)


@st.composite
def active_ports(draw: st.DrawFn) -> ActivePorts:
    """Up to ten ports, some without a limit, some idle, with up to six transfers on each."""
    ports = st.builds(Port, st.sampled_from([NodeId(f"n{i}") for i in range(5)]), st.sampled_from(Direction))
    transfers = st.sampled_from([TransferId(f"t{i}") for i in range(6)])
    capacities = draw(st.dictionaries(ports, st.none() | st.floats(1.0, 1e11), max_size=10))
    active = {
        port: tuple(draw(st.lists(transfers, unique=True, max_size=6)))
        for port in capacities
        if draw(st.booleans())
    }
    return ActivePorts(capacities, active)


def test_each_port_is_shared_by_itself() -> None:
    shares = equal_shares(ActivePorts({OUT: 90.0, INTO: 30.0}, {OUT: (ONE, TWO, THREE), INTO: (ONE,)}))
    assert shares.budget(ONE, A, Direction.EGRESS) == 30.0
    assert shares.budget(THREE, A, Direction.EGRESS) == 30.0
    assert shares.budget(ONE, B, Direction.INGRESS) == 30.0
    assert len(shares.budgets) == 4


def test_a_port_without_a_limit_limits_nobody() -> None:
    assert equal_shares(ActivePorts({OUT: None}, {OUT: (ONE, TWO)})).budget(ONE, A, Direction.EGRESS) is None


def test_nothing_active_needs_no_budget() -> None:
    assert equal_shares(ActivePorts({}, {})).budgets == {}
    assert equal_shares(ActivePorts({OUT: 1.0}, {OUT: ()})).budgets == {}


@given(active_ports())
def test_budgets_go_to_those_active_in_equal_shares_that_use_a_port_up(ports: ActivePorts) -> None:
    found = equal_shares(ports)
    assert set(found.budgets) == {
        Budget(who, port) for port, active in ports.active.items() for who in active
    }
    for port, active in ports.active.items():
        shares = [found.budget(transfer, port.node, port.direction) for transfer in active]
        capacity = ports.capacities[port]
        assert len(set(shares)) <= 1
        if shares and capacity is not None:
            assert sum(share or 0.0 for share in shares) == pytest.approx(capacity)


@pytest.mark.parametrize("capacity", [0.0, -1.0, math.nan, math.inf])
def test_a_capacity_that_is_none_is_refused_by_value(capacity: float) -> None:
    with pytest.raises(ValueError, match=f"capacities: .* got {capacity}"):
        ActivePorts({OUT: capacity}, {})


def test_a_transfer_twice_on_a_port_is_refused() -> None:
    with pytest.raises(ValueError, match="names a transfer twice"):
        ActivePorts({OUT: 1.0}, {OUT: (ONE, ONE)})


def test_a_port_without_a_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="no entry in capacities"):
        ActivePorts({}, {OUT: (ONE,)})


def test_a_budget_is_looked_up_by_transfer_node_and_direction() -> None:
    found = Budgets({Budget(ONE, OUT): 5.0})
    assert found.budget(ONE, A, Direction.EGRESS) == 5.0
    with pytest.raises(KeyError):
        found.budget(TWO, A, Direction.EGRESS)
    with pytest.raises(KeyError):
        found.budget(ONE, A, Direction.INGRESS)
