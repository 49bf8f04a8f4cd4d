"""What every policy keeps, whatever its rule: one suite over all that are registered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers import POLICIES, Budget, NodeId, Policy, Port, Snapshot, TransferId
from tests.schedulers.strategies import snapshots

every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())


@every_policy
@given(snapshot=snapshots())
def test_budgets_go_to_those_active_at_a_port_and_to_no_one_else(policy: Policy, snapshot: Snapshot) -> None:
    expected = {Budget(transfer, port) for port, active in snapshot.active.items() for transfer in active}
    assert set(policy.allocate(snapshot).budgets) == expected


@every_policy
@given(snapshot=snapshots())
def test_no_port_carries_more_than_it_can(policy: Policy, snapshot: Snapshot) -> None:
    budgets = policy.allocate(snapshot).budgets
    for port, active in snapshot.active.items():
        capacity = snapshot.capacities[port]
        if capacity is not None:
            given_out = [budgets[Budget(transfer, port)] for transfer in active]
            shares = [share for share in given_out if share is not None]
            assert len(shares) == len(given_out), "a port with a limit gives none a share without one"
            assert all(share >= 0 for share in shares)
            assert sum(shares) <= capacity * (1 + 1e-9)


@every_policy
@given(snapshot=snapshots())
def test_names_and_order_do_not_matter(policy: Policy, snapshot: Snapshot) -> None:
    """Rename every node and transfer and turn the order of ports: budgets are renamed, and else equal."""

    def port_as(port: Port) -> Port:
        return Port(NodeId(f"renamed {port.node}"), port.direction)

    def transfer_as(transfer: TransferId) -> TransferId:
        return TransferId(f"{9 - int(transfer[1:])} renamed")

    turned = Snapshot(
        {port_as(port): capacity for port, capacity in reversed(list(snapshot.capacities.items()))},
        {
            port_as(port): tuple(transfer_as(transfer) for transfer in active)
            for port, active in reversed(list(snapshot.active.items()))
        },
    )
    expected = {
        Budget(transfer_as(budget.transfer), port_as(budget.port)): share
        for budget, share in policy.allocate(snapshot).budgets.items()
    }
    assert policy.allocate(turned).budgets == pytest.approx(expected)


@every_policy
@given(snapshot=snapshots(), factor=st.floats(1e-3, 1e3))
def test_capacities_times_a_factor_give_budgets_times_that_factor(
    policy: Policy, snapshot: Snapshot, factor: float
) -> None:
    scaled = Snapshot(
        {
            port: None if capacity is None else capacity * factor
            for port, capacity in snapshot.capacities.items()
        },
        snapshot.active,
    )
    expected = {
        budget: None if share is None else share * factor
        for budget, share in policy.allocate(snapshot).budgets.items()
    }
    assert policy.allocate(scaled).budgets == pytest.approx(expected)


@every_policy
@given(snapshot=snapshots())
def test_the_same_snapshot_gives_the_same_answer(policy: Policy, snapshot: Snapshot) -> None:
    assert policy.allocate(snapshot) == policy.allocate(snapshot)
