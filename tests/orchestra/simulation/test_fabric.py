"""Hosts, racks in a line, links, and what can be wrong with them."""

import math

import numpy as np
import pytest

from orchestra.simulation.fabric import Fabric, Wiring, rack_of_each_host


def capacities_on(fabric: Fabric, sender: int, receiver: int) -> list[float]:
    """What limits a flow, in the order of its path, without the endless links."""
    limits = [float(fabric.capacities[link]) for link in fabric.path(sender, receiver)]
    return [limit for limit in limits if math.isfinite(limit)]


def test_a_flow_crosses_the_senders_egress_and_the_receivers_ingress() -> None:
    fabric = Fabric([10.0, 20.0, 30.0])
    assert capacities_on(fabric, 0, 2) == [10.0, 30.0]
    assert capacities_on(fabric, 2, 0) == [30.0, 10.0]
    assert set(fabric.path(0, 2)).isdisjoint(fabric.path(2, 0))


def test_two_flows_out_of_one_host_share_its_egress_and_nothing_else() -> None:
    fabric = Fabric([10.0] * 3)
    shared = set(fabric.path(0, 1)) & set(fabric.path(0, 2))
    assert [link for link in shared if math.isfinite(fabric.capacities[link])] == [fabric.path(0, 1)[0]]


def test_a_flow_within_a_host_uses_no_network() -> None:
    assert capacities_on(Fabric([10.0, 10.0], racks=[0, 1], uplink_bytes_per_s=1.0), 1, 1) == []


def test_flows_between_racks_cross_every_uplink_between_them_in_their_own_direction() -> None:
    fabric = Fabric([10.0] * 4, racks=[0, 1, 2, 2], uplink_bytes_per_s=5.0)
    assert capacities_on(fabric, 0, 2) == [10.0, 10.0, 5.0, 5.0]
    assert capacities_on(fabric, 2, 0) == [10.0, 10.0, 5.0, 5.0]
    assert capacities_on(fabric, 1, 2) == [10.0, 10.0, 5.0]
    assert capacities_on(fabric, 2, 3) == [10.0, 10.0]
    there, back = set(fabric.path(0, 2)), set(fabric.path(2, 0))
    assert not [link for link in there & back if math.isfinite(fabric.capacities[link])]
    nearer = [link for link in fabric.path(1, 2)[2:] if math.isfinite(fabric.capacities[link])]
    assert nearer == [fabric.path(0, 2)[3]], "the uplink that both cross is one and the same"


def test_flows_between_racks_at_one_switch_cross_the_uplink_of_one_and_the_downlink_of_the_other() -> None:
    fabric = Fabric([10.0] * 4, racks=[0, 1, 2, 2], uplink_bytes_per_s=5.0, wiring=Wiring.CORE)
    assert capacities_on(fabric, 0, 2) == [10.0, 10.0, 5.0, 5.0]
    assert capacities_on(fabric, 2, 3) == [10.0, 10.0]
    ways = {
        (sender, receiver): set(fabric.path(sender, receiver)[2:])
        for sender, receiver in [(0, 1), (0, 2), (1, 2), (2, 0)]
    }
    endless = set(fabric.path(2, 3)[2:])
    assert len((ways[0, 1] & ways[0, 2]) - endless) == 1, "out of rack 0"
    assert len((ways[0, 2] & ways[1, 2]) - endless) == 1, "into rack 2"
    assert not (ways[0, 2] & ways[2, 0]) - endless


@pytest.mark.parametrize(("wiring", "hops"), [(Wiring.LINE, 5), (Wiring.CORE, 4)])
def test_paths_are_all_of_one_length(wiring: Wiring, hops: int) -> None:
    fabric = Fabric([10.0] * 4, racks=[0, 1, 2, 3], uplink_bytes_per_s=5.0, wiring=wiring)
    lengths = {len(fabric.path(sender, receiver)) for sender in range(4) for receiver in range(4)}
    assert lengths == {fabric.hops} == {hops}


@pytest.mark.parametrize("uplink_bytes_per_s", [None, math.inf])
def test_uplinks_are_endless_unless_told(uplink_bytes_per_s: float | None) -> None:
    fabric = Fabric([10.0, 10.0], racks=[0, 3], uplink_bytes_per_s=uplink_bytes_per_s)
    assert capacities_on(fabric, 0, 1) == [10.0, 10.0]


def test_a_slow_host_is_slow_both_ways_and_can_be_mended() -> None:
    fabric = Fabric([10.0, 10.0])
    fabric.slow(0, 0.5)
    assert capacities_on(fabric, 0, 1) == capacities_on(fabric, 1, 0)[::-1] == [5.0, 10.0]
    assert fabric.egress(0) == 5.0
    fabric.slow(0, 0.1)
    assert fabric.egress(0) == pytest.approx(1.0), "a share of what it is made for, not of what it was"
    fabric.slow(0, 1.0)
    np.testing.assert_array_equal(fabric.capacities, fabric.nominal)


def test_a_cut_is_one_way() -> None:
    fabric = Fabric([10.0, 10.0])
    fabric.cut(0, 1)
    assert (fabric.obstructed, fabric.passes(0, 1), fabric.passes(1, 0)) == (True, False, True)
    fabric.mend(0, 1)
    assert (fabric.obstructed, fabric.passes(0, 1), fabric.passes(1, 0)) == (False, True, True)


def test_nothing_gets_into_or_out_of_a_clogged_host() -> None:
    fabric = Fabric([10.0] * 3)
    fabric.clog(1)
    assert not fabric.passes(0, 1)
    assert not fabric.passes(1, 0)
    assert not fabric.passes(1, 1)
    assert fabric.passes(0, 2)
    fabric.unclog(1)
    assert fabric.passes(0, 1)


def test_mending_what_is_whole_changes_nothing() -> None:
    fabric = Fabric([10.0, 10.0])
    fabric.mend(0, 1)
    fabric.unclog(0)
    assert not fabric.obstructed


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_is_none_is_named(rate: float) -> None:
    with pytest.raises(ValueError, match=f"rates .* got {rate}"):
        Fabric([10.0, rate])


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan])
def test_an_uplink_that_is_none_is_named(rate: float) -> None:
    with pytest.raises(ValueError, match=f"uplink_bytes_per_s .* got {rate}"):
        Fabric([10.0], uplink_bytes_per_s=rate)


@pytest.mark.parametrize("latency_s", [-1e-3, math.inf, math.nan])
def test_a_latency_that_is_none_is_named(latency_s: float) -> None:
    with pytest.raises(ValueError, match=f"latency_s .* got {latency_s}"):
        Fabric([10.0], latency_s=latency_s)


@pytest.mark.parametrize("racks", [[0], [0, 0, 0], [0, -1]])
def test_racks_that_do_not_fit_the_hosts_are_named(racks: list[int]) -> None:
    with pytest.raises(ValueError, match="racks"):
        Fabric([10.0, 10.0], racks=racks)


def test_hosts_stand_rack_by_rack_behind_the_source() -> None:
    assert rack_of_each_host([2, 1, 3], source_rack=1) == [1, 0, 0, 1, 2, 2, 2]
