"""Wrong arguments are named before anything is made."""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence

import pytest

from examples.benchmarks.emulation import EmulatedCluster, availability


@pytest.mark.parametrize("hosts", [0, 251])
def test_hosts_are_limited(hosts: int) -> None:
    with pytest.raises(ValueError, match=f"hosts must be from 1 to 250, got {hosts}"):
        EmulatedCluster(hosts=hosts, rate_bytes_per_s=1e6)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 1e12])
def test_rates_are_limited(rate: float) -> None:
    with pytest.raises(ValueError, match="rate_bytes_per_s must be"):
        EmulatedCluster(hosts=2, rate_bytes_per_s=rate)
    with pytest.raises(ValueError, match=r"host_rates\[1\] must be"):
        EmulatedCluster(hosts=2, rate_bytes_per_s=1e6, host_rates={1: rate})
    with pytest.raises(ValueError, match="uplink_bytes_per_s must be"):
        EmulatedCluster(hosts=2, rate_bytes_per_s=1e6, racks=[1, 1], uplink_bytes_per_s=rate)


@pytest.mark.parametrize("racks", [[], [3], [2, 0], [1, 2]])
def test_racks_hold_all_hosts(racks: Sequence[int]) -> None:
    with pytest.raises(ValueError, match="racks must be sizes above 0 that add up to 2 hosts"):
        EmulatedCluster(hosts=2, rate_bytes_per_s=1e6, racks=racks, uplink_bytes_per_s=1e6)


@pytest.mark.parametrize(("racks", "uplink"), [([1, 1], None), ([2], 1e6), (None, 1e6)])
def test_uplinks_are_for_several_racks(racks: Sequence[int] | None, uplink: float | None) -> None:
    with pytest.raises(ValueError, match="uplink_bytes_per_s"):
        EmulatedCluster(hosts=2, rate_bytes_per_s=1e6, racks=racks, uplink_bytes_per_s=uplink)


@pytest.mark.parametrize(("host", "rack"), [(2, 0), (-1, 0), (0, 2), (0, -1)])
def test_a_host_that_is_there_moves_to_a_rack_that_is_there(host: int, rack: int) -> None:
    cluster = EmulatedCluster(hosts=2, rate_bytes_per_s=1e6, racks=[1, 1], uplink_bytes_per_s=1e6)
    with pytest.raises(ValueError, match="there are hosts 0 to 1 and racks 0 to 1"):
        cluster.move(host, rack)


@pytest.mark.parametrize("rates", [{2: 1e6}, {-1: 1e6}])
def test_own_rates_are_of_hosts_that_are_there(rates: Mapping[int, float]) -> None:
    with pytest.raises(ValueError, match="host_rates must name hosts 0 to 1"):
        EmulatedCluster(hosts=2, rate_bytes_per_s=1e6, host_rates=rates)


def test_a_bucket_holds_at_least_one_frame() -> None:
    with pytest.raises(ValueError, match="burst_bytes must be at least 10000, got 9000"):
        EmulatedCluster(hosts=2, rate_bytes_per_s=1e6, burst_bytes=9000)


def test_why_not_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = availability.why_not.__wrapped__
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert ask() in (
        "network namespaces need root",
        "pyroute2 is not installed",
        "network namespaces are Linux's",
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert ask() in ("pyroute2 is not installed", "network namespaces are Linux's")
    monkeypatch.setattr(sys, "platform", "plan9")
    assert ask() == "network namespaces are Linux's"
