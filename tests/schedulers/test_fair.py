"""Per-flow max-min: against a linear program, and by the definition where broadcasts share ports."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers import POLICIES, Broadcast, Fair, Shuffle, Snapshot, Standing, TransferId
from schedulers.filling import Floats
from tests.schedulers.strategies import snapshots
from tests.schedulers.test_filling import max_min_by_program

CLOSE = 1e-4
"""Relative; the program raises levels by a little more than its own tolerance (see `test_filling`)."""


def flow_rates(snapshot: Snapshot) -> Floats:
    """Of every flow with something left, one shuffle's after the other's."""
    found = []
    for share in Fair().allocate(snapshot).shares:
        demand = share.demand
        assert isinstance(demand, Shuffle)
        if share.flow_rates is None:
            assert not demand.live.any()
        else:
            found.append(share.flow_rates[demand.live])
    return np.concatenate([np.empty(0), *found])


@given(snapshots(with_broadcasts=False, weighted=False))
def test_flows_of_all_shuffles_get_what_the_linear_program_gives(snapshot: Snapshot) -> None:
    pairs = [
        (int(demand.egress[mapper]), int(demand.ingress[reducer]))
        for demand in snapshot.demands
        if isinstance(demand, Shuffle)
        for mapper, reducer in zip(*np.nonzero(demand.live), strict=True)
    ]
    paths = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    expected = max_min_by_program(paths, snapshot.capacities, None)
    np.testing.assert_allclose(flow_rates(snapshot), expected, rtol=CLOSE, atol=CLOSE)


def test_a_broadcast_counts_as_one_flow_at_its_busiest_port() -> None:
    """Beside two flows out of one port it gets a third there, and in proportion elsewhere."""
    shuffle = Shuffle.of(Standing(TransferId("s"), 0.0), np.array([0]), np.array([2, 3]), np.ones((1, 2)))
    spread = Broadcast(Standing(TransferId("b"), 1.0), np.array([0, 4, 1]), np.array([8.0, 8.0, 4.0]))
    shares = Fair().allocate(Snapshot(np.array([9.0, 9.0, 9.0, 9.0, 9.0]), [shuffle, spread])).shares
    assert shares[0].flow_rates == pytest.approx(np.array([[3.0, 3.0]]))
    assert shares[1].port_rates == pytest.approx(np.array([3.0, 3.0, 1.5]))


def test_a_transfer_of_many_flows_gets_more_than_one_of_few() -> None:
    many = Shuffle.of(Standing(TransferId("many"), 0.0), np.array([0, 1, 2]), np.array([4]), np.ones((3, 1)))
    few = Shuffle.of(Standing(TransferId("few"), 1.0), np.array([3]), np.array([4]), np.full((1, 1), 99.0))
    shares = Fair().allocate(Snapshot(np.ones(5), [many, few])).shares
    assert [share.port_rates[-1] for share in shares] == pytest.approx([0.75, 0.25])


def test_flows_of_a_weighted_shuffle_share_by_what_they_have_left_and_count_once_on_average() -> None:
    """Beside two equal flows on the same port: three quarters and a quarter of what two flows get."""
    egress = np.array([0, 1])
    uneven = Shuffle.of(
        Standing(TransferId("uneven"), 0.0), egress, np.array([4]), np.array([[30.0], [10.0]]), weighted=True
    )
    even = Shuffle.of(
        Standing(TransferId("even"), 0.0), egress + 2, np.array([4]), np.array([[9.0], [1.0]]), weighted=False
    )
    shares = Fair().allocate(Snapshot(np.array([9.0, 9.0, 9.0, 9.0, 4.0]), [uneven, even])).shares
    assert shares[0].flow_rates == pytest.approx(np.array([[1.5], [0.5]]))
    assert shares[1].flow_rates == pytest.approx(np.array([[1.0], [1.0]]))


@given(
    left=st.lists(st.integers(0, 4), min_size=4, max_size=4),
    capacities=st.lists(st.sampled_from([1.0, 2.0, 5.0]), min_size=4, max_size=4),
)
def test_a_flow_of_weight_w_gets_what_w_equal_flows_would(left: list[int], capacities: list[float]) -> None:
    """So many copies of each flow, for the linear program, which knows no weights."""
    ends = [(mapper, 2 + reducer) for mapper in range(2) for reducer in range(2)]
    copies = [end for end, count in zip(ends, left, strict=True) for _ in range(count)]
    expected = max_min_by_program(np.array(copies, dtype=np.intp).reshape(-1, 2), np.array(capacities), None)
    matrix = np.array(left, dtype=np.float64).reshape(2, 2)
    egress, ingress = np.array([0, 1]), np.array([2, 3])
    shuffle = Shuffle.of(Standing(TransferId("s"), 0.0), egress, ingress, matrix, weighted=True)
    rates = Fair().allocate(Snapshot(np.array(capacities), [shuffle])).shares[0].flow_rates
    together = np.zeros(4)
    np.add.at(together, np.repeat(np.arange(4), left), expected)
    found = np.zeros((2, 2)) if rates is None else rates
    np.testing.assert_allclose(found.ravel(), together, rtol=CLOSE, atol=CLOSE)


def test_the_policy_called_fair_is_this_one() -> None:
    assert isinstance(POLICIES["fair"], Fair)
