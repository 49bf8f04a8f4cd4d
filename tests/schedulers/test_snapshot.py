"""What a policy may be shown."""

import math

import numpy as np
import pytest

from schedulers import Broadcast, Shuffle, Snapshot, Standing, TransferId, broadcast

ONE = Standing(TransferId("one"), 0.0)


def shuffle(
    left: list[list[float]], egress: tuple[int, ...] = (0, 1), ingress: tuple[int, ...] = (2, 3)
) -> Shuffle:
    return Shuffle.of(ONE, np.array(egress), np.array(ingress), np.array(left))


def test_a_shuffle_knows_its_totals_a_port() -> None:
    found = shuffle([[1.0, 0.0], [3.0, 4.0]])
    np.testing.assert_array_equal(found.ports, [0, 1, 2, 3])
    np.testing.assert_array_equal(found.port_bytes, [1, 7, 4, 4])
    np.testing.assert_array_equal(found.port_flows, [1, 2, 2, 1])


@pytest.mark.parametrize(
    ("left", "named"),
    [
        ([[1.0]], "must have shape"),
        ([[-1.0, 0.0], [0.0, 0.0]], "not below 0"),
        ([[math.nan, 0.0], [0.0, 0.0]], "finite"),
        ([[math.inf, 0.0], [0.0, 0.0]], "finite"),
    ],
)
def test_bytes_that_cannot_be_are_refused_by_name(left: list[list[float]], named: str) -> None:
    with pytest.raises(ValueError, match=f"bytes left of one.*{named}"):
        shuffle(left)


@pytest.mark.parametrize(("egress", "port"), [((0, 0), 0), ((0, 2), 2)])
def test_a_port_that_comes_twice_is_refused(egress: tuple[int, ...], port: int) -> None:
    with pytest.raises(ValueError, match=f"one at port {port}: a port comes twice"):
        Snapshot(np.ones(4), [shuffle([[1.0, 1.0], [1.0, 1.0]], egress)])


@pytest.mark.parametrize("left", [-1.0, math.nan, math.inf])
def test_totals_that_cannot_be_are_refused(left: float) -> None:
    with pytest.raises(ValueError, match="one at port 1: port_bytes must be finite and not below 0"):
        Snapshot(np.ones(4), [Broadcast(ONE, np.array([0, 1]), np.array([1.0, left]))])
    with pytest.raises(ValueError, match=r"port_bytes of one must have shape \(2,\), got \(1,\)"):
        Broadcast(ONE, np.array([0, 1]), np.array([1.0]))


def test_a_demand_without_ports_is_refused() -> None:
    with pytest.raises(ValueError, match="one must have ports"):
        Broadcast(ONE, np.empty(0, dtype=np.intp), np.empty(0))
    with pytest.raises(ValueError, match="one must have egress and ingress ports"):
        shuffle([[], []], ingress=())


def test_a_broadcast_costs_its_source_and_each_receiver_its_size_and_receivers_the_rest() -> None:
    found = broadcast(ONE, source=0, ingress=(4, 5, 6), egress=(1, 2, 3), size_bytes=30.0)
    np.testing.assert_array_equal(found.ports, [0, 4, 5, 6, 1, 2, 3])
    np.testing.assert_array_equal(found.port_bytes, [30, 30, 30, 30, 20, 20, 20])
    sent, received = found.port_bytes[[0, 4, 5, 6]].sum(), found.port_bytes[1:4].sum()
    assert sent == received, "what leaves ports arrives at others"


@pytest.mark.parametrize(("ingress", "egress"), [((), ()), ((4, 5), (1,))])
def test_a_broadcast_without_receivers_is_refused(ingress: tuple[int, ...], egress: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="each receiver's"):
        broadcast(ONE, 0, ingress, egress, 1.0)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of one"):
        Standing(TransferId("one"), 0.0, weight=weight)


def test_standings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="arrival of one"):
        Standing(TransferId("one"), math.nan)
    with pytest.raises(ValueError, match="sent_bytes of one"):
        Standing(TransferId("one"), 0.0, sent_bytes=-1.0)


@pytest.mark.parametrize("capacity", [0.0, -1.0, math.nan])
def test_a_capacity_that_is_none_is_refused(capacity: float) -> None:
    with pytest.raises(ValueError, match=r"capacities must be above 0, got .* at port 1"):
        Snapshot(np.array([1.0, capacity]), [])


def test_a_transfer_named_twice_and_a_port_without_a_capacity_are_refused() -> None:
    demand = shuffle([[1.0, 1.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match="named twice"):
        Snapshot(np.ones(4), [demand, demand])
    with pytest.raises(ValueError, match="ports must be 0 to 2, got 0 to 3"):
        Snapshot(np.ones(3), [demand])


def test_a_port_that_shuffles_use_both_ways_is_refused() -> None:
    one = Shuffle.of(ONE, np.array([0]), np.array([1]), np.ones((1, 1)))
    two = Shuffle.of(Standing(TransferId("two"), 0.0), np.array([1]), np.array([2]), np.ones((1, 1)))
    with pytest.raises(
        ValueError, match="one at port 1: a port is egress of one shuffle and ingress of another"
    ):
        Snapshot(np.ones(3), [one, two])


def test_the_effective_bottleneck_is_that_of_the_busiest_port() -> None:
    """T* = max over ports of bytes / capacity (the design, section 9)."""
    demand = shuffle([[1.0, 0.0], [3.0, 4.0]])
    assert Snapshot(np.array([1.0, 10.0, 1.0, 2.0]), [demand]).bottlenecks_s == pytest.approx([4.0])
