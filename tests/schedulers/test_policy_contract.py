"""What every policy keeps, whatever its rule: one suite over all that are registered."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedulers import (
    POLICIES,
    Allocation,
    Broadcast,
    Demand,
    Policy,
    Share,
    Shuffle,
    Snapshot,
    Standing,
    TransferId,
)
from schedulers.filling import Floats, Indices
from tests.schedulers.strategies import snapshots

every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
few_of_each = settings(max_examples=40)
"""Of each policy: together they are hundreds."""
CLOSE = 1e-6
"""Relative: what steps of giving may add up to."""


def loads(snapshot: Snapshot, allocation: Allocation) -> Floats:
    """Bytes/s at every port."""
    carried = np.zeros(len(snapshot.capacities))
    for demand, share in zip(snapshot.demands, allocation.shares, strict=True):
        carried[demand.ports] += share.port_rates
    return carried


def full(snapshot: Snapshot, allocation: Allocation) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which ports have no room left."""
    return loads(snapshot, allocation) >= snapshot.capacities * (1 - CLOSE)


def rates_of(allocation: Allocation) -> dict[TransferId, tuple[Floats, Floats | None]]:
    return {
        share.demand.standing.transfer: (share.port_rates, share.flow_rates) for share in allocation.shares
    }


def check_equal(found: Allocation, expected: dict[TransferId, tuple[Floats, Floats | None]]) -> None:
    for transfer, (ports, flows) in rates_of(found).items():
        np.testing.assert_allclose(ports, expected[transfer][0], rtol=CLOSE, atol=CLOSE)
        wanted = expected[transfer][1]
        assert (flows is None) == (wanted is None)
        if flows is not None and wanted is not None:
            np.testing.assert_allclose(flows, wanted, rtol=CLOSE, atol=CLOSE)


# -- what may be given -----------------------------------------------------------------------------


@every_policy
@few_of_each
@given(snapshot=snapshots())
def test_no_port_carries_more_than_it_can(policy: Policy, snapshot: Snapshot) -> None:
    allocation = policy.allocate(snapshot)
    assert (loads(snapshot, allocation) <= snapshot.capacities * (1 + CLOSE)).all()
    assert all((share.port_rates >= 0).all() for share in allocation.shares)


@every_policy
@few_of_each
@given(snapshot=snapshots())
def test_what_ports_carry_is_what_flows_carry_and_only_those_with_something_left(
    policy: Policy, snapshot: Snapshot
) -> None:
    for demand, share in zip(snapshot.demands, policy.allocate(snapshot).shares, strict=True):
        assert share.demand is demand
        rates = share.flow_rates
        if isinstance(demand, Shuffle) and rates is not None:
            assert (rates >= 0).all()
            assert not rates[demand.left_bytes == 0].any()
            sums = np.concatenate([rates.sum(axis=1), rates.sum(axis=0)])
            np.testing.assert_allclose(share.port_rates, sums, rtol=CLOSE)
        else:
            assert isinstance(demand, Broadcast) or not share.port_rates.any()


@every_policy
@few_of_each
@given(snapshot=snapshots())
def test_nothing_stands_still_or_is_slower_than_it_could_be_without_need(
    policy: Policy, snapshot: Snapshot
) -> None:
    """Of whatever moves, or would, some port is full; or nothing limits it at all."""
    allocation = policy.allocate(snapshot)
    no_room = full(snapshot, allocation)
    for demand, share in zip(snapshot.demands, allocation.shares, strict=True):
        if isinstance(demand, Broadcast):
            used = demand.port_bytes > 0
            assert (
                not used.any() or no_room[demand.ports[used]].any() or np.isinf(share.port_rates[used]).all()
            )
            continue
        held = no_room[demand.egress][:, None] | no_room[demand.ingress][None, :]
        rates = np.zeros(demand.left_bytes.shape) if share.flow_rates is None else share.flow_rates
        assert (held | np.isinf(rates))[demand.live].all()


@every_policy
@few_of_each
@given(snapshot=snapshots())
def test_who_has_nothing_left_gets_nothing(policy: Policy, snapshot: Snapshot) -> None:
    for demand, share in zip(snapshot.demands, policy.allocate(snapshot).shares, strict=True):
        assert demand.port_bytes.any() or not (share.moves or share.port_rates.any())


@every_policy
@few_of_each
@given(snapshot=snapshots())
def test_a_broadcasts_ports_move_in_proportion(policy: Policy, snapshot: Snapshot) -> None:
    for demand, share in zip(snapshot.demands, policy.allocate(snapshot).shares, strict=True):
        if isinstance(demand, Broadcast) and not np.isinf(share.port_rates).any():
            paces = share.port_rates[demand.port_bytes > 0] / demand.port_bytes[demand.port_bytes > 0]
            assert not paces.size or paces.max() <= paces.min() * (1 + CLOSE)


# -- what must not matter --------------------------------------------------------------------------


def relabelled(snapshot: Snapshot, ports: Indices, transfers: Indices) -> Snapshot:
    """Port p becomes ``ports[p]``, and demand k stands where ``transfers`` has k; all names are new."""
    capacities = np.empty(len(ports))
    capacities[ports] = snapshot.capacities

    def renamed(demand: Demand) -> Demand:
        standing = replace(demand.standing, transfer=TransferId(f"renamed {demand.standing.transfer}"))
        if isinstance(demand, Broadcast):
            turned = np.arange(len(demand.ports))[::-1]
            return Broadcast(standing, ports[demand.ports[turned]], demand.port_bytes[turned])
        return replace(demand, standing=standing, egress=ports[demand.egress], ingress=ports[demand.ingress])

    return Snapshot(capacities, [renamed(snapshot.demands[k]) for k in transfers])


@every_policy
@few_of_each
@given(snapshot=snapshots(), data=st.data())
def test_names_and_the_order_of_ports_and_demands_change_nothing(
    policy: Policy, snapshot: Snapshot, data: st.DataObject
) -> None:
    ports = np.array(data.draw(st.permutations(range(len(snapshot.capacities)))), dtype=np.intp)
    transfers = np.array(data.draw(st.permutations(range(len(snapshot.demands)))), dtype=np.intp)
    expected = {}
    for share in policy.allocate(snapshot).shares:
        rates = share.port_rates[::-1] if isinstance(share.demand, Broadcast) else share.port_rates
        expected[TransferId(f"renamed {share.demand.standing.transfer}")] = (rates, share.flow_rates)
    check_equal(policy.allocate(relabelled(snapshot, ports, transfers)), expected)


@every_policy
@few_of_each
@given(snapshot=snapshots(), factor=st.floats(1e-3, 1e9))
def test_capacities_times_a_factor_give_rates_times_that_factor(
    policy: Policy, snapshot: Snapshot, factor: float
) -> None:
    found = policy.allocate(Snapshot(snapshot.capacities * factor, snapshot.demands))

    def scaled(share: Share) -> tuple[Floats, Floats | None]:
        return share.port_rates / factor, None if share.flow_rates is None else share.flow_rates / factor

    back = {share.demand.standing.transfer: scaled(share) for share in found.shares}
    check_equal(policy.allocate(snapshot), back)


@every_policy
@few_of_each
@given(snapshot=snapshots(), factor=st.floats(1e-3, 1e9))
def test_sizes_times_a_factor_change_no_rate(policy: Policy, snapshot: Snapshot, factor: float) -> None:
    def scaled(demand: Demand) -> Demand:
        if isinstance(demand, Broadcast):
            return replace(demand, port_bytes=demand.port_bytes * factor)
        left_bytes = demand.left_bytes * factor
        return Shuffle.of(demand.standing, demand.egress, demand.ingress, left_bytes, demand.weighted)

    found = policy.allocate(Snapshot(snapshot.capacities, [scaled(demand) for demand in snapshot.demands]))
    check_equal(found, rates_of(policy.allocate(snapshot)))


@every_policy
@few_of_each
@given(snapshot=snapshots())
def test_the_same_snapshot_gives_the_same_answer(policy: Policy, snapshot: Snapshot) -> None:
    first, second = policy.allocate(snapshot), policy.allocate(snapshot)
    assert first.holds_s == second.holds_s > 0
    for one, other in zip(first.shares, second.shares, strict=True):
        np.testing.assert_array_equal(one.port_rates, other.port_rates)


# -- nobody is passed by for ever ------------------------------------------------------------------


SENT_MUCH = 1e20
"""More than any queue holds: whoever sinks has sunk."""
LEAST_PART = 0.009
"""Of its pace alone, for the oldest: a hundredth, or three of them, less rounding."""


@every_policy
@pytest.mark.parametrize("fresh", [2, 50])
def test_whoever_is_oldest_gets_on_beside_any_number_that_seem_to_matter_more(
    policy: Policy, fresh: int
) -> None:
    """So it ends, however many come later; and then another is the oldest. (Fair shares fall with their
    number.)"""
    egress, ingress = np.array([0]), np.array([1])
    old = Shuffle.of(
        Standing(TransferId("old"), 0.0, 0, 1.0, SENT_MUCH), egress, ingress, np.full((1, 1), 1e6)
    )
    others = [
        Shuffle.of(Standing(TransferId(f"{at}"), 1.0 + at, 1, 2.0), egress, ingress, np.ones((1, 1)))
        for at in range(fresh)
    ]
    through = Shuffle.of(Standing(TransferId("through"), -1.0, -1), egress, ingress, np.zeros((1, 1)))
    shown = Snapshot(np.full(2, 10.0), [through, *others, old])
    rate = float(policy.allocate(shown).shares[-1].port_rates[0])
    assert rate >= 10.0 * min(LEAST_PART, 1 / (1 + 2 * fresh))


@every_policy
def test_nothing_to_do_is_an_empty_answer(policy: Policy) -> None:
    assert list(policy.allocate(Snapshot(np.ones(3), [])).shares) == []
