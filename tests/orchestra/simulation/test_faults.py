"""Faults: drawn within bounds, carried out to the letter, and what they excuse."""

import math
from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.simulation.cluster import SimulatedCluster, simulated_cluster
from orchestra.simulation.fabric import Fabric
from orchestra.simulation.faults import (
    Clog,
    Corrupt,
    Cut,
    Fault,
    Kill,
    Leave,
    Slow,
    SwizzleClog,
    draw_faults,
    draw_swizzle,
    excused,
    inject,
    over_after_s,
)
from orchestra.simulation.running import simulate
from orchestra.simulation.world import World

HOSTS = {"source": 0, "n1": 1, "n2": 2, "n3": 3}
RECEIVERS = {name: host for name, host in HOSTS.items() if host}


# -- drawing ---------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), most=st.integers(0, 8), span_s=st.floats(0.0, 100.0))
def test_what_is_drawn_is_within_bounds_and_repeats(seed: int, most: int, span_s: float) -> None:
    drawn = draw_faults(Random(seed), RECEIVERS, span_s, most=most)
    assert drawn == draw_faults(Random(seed), RECEIVERS, span_s, most=most)
    assert len(drawn) <= most
    assert [fault.at_s for fault in drawn] == sorted(fault.at_s for fault in drawn)
    assert all(0 <= fault.at_s <= span_s for fault in drawn)
    assert over_after_s(drawn) < math.inf


def test_a_source_that_may_not_die_is_never_killed() -> None:
    for seed in range(200):
        drawn = draw_faults(Random(seed), RECEIVERS, 1.0, most=8, source_may_die=False)
        assert not any(isinstance(fault, Kill) and fault.node == "source" for fault in drawn)


@given(seed=st.integers(0, 2**32))
def test_a_swizzle_unclogs_whom_it_has_clogged_and_only_after_that(seed: int) -> None:
    drawn = draw_swizzle(Random(seed), HOSTS.values(), 1.0, 4.0)
    clogs, unclogs = dict(drawn.clogs), dict(drawn.unclogs)
    assert clogs.keys() == unclogs.keys()
    assert clogs
    assert all(clogs[host] <= unclogs[host] <= 4.0 for host in clogs)


# -- what follows ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "over_s"),
    [
        (Kill(2.0, "n1", 1), 2.0),
        (Kill(2.0, "n1", 1, 1.5), 3.5),
        (Leave(1.0, "n1"), 1.0),
        (Corrupt(1.0, 0, 1, 3), 1.0),
        (Cut(1.0, 0, 1, True, 4.0), 5.0),
        (Clog(1.0, 1, math.inf), math.inf),
        (Slow(1.0, 1, 0.1, 2.0), 3.0),
        (SwizzleClog(1.0, ((1, 0.1), (2, 0.2)), ((2, 1.0), (1, 2.5))), 3.5),
    ],
)
def test_when_a_fault_is_over(fault: Fault, over_s: float) -> None:
    assert over_after_s([fault]) == over_s


@pytest.mark.parametrize(
    ("faults", "who"),
    [
        ([Kill(0.0, "n1", 1)], {"n1"}),
        ([Kill(0.0, "source", 0)], {"source"}),
        ([Leave(0.0, "n2")], {"n2"}),
        ([Slow(0.0, 1, 0.01, math.inf), Corrupt(0.0, 0, 1, 1)], set()),
        ([Cut(0.0, 1, 2, True, math.inf)], set()),
        ([Cut(0.0, 0, 1, False, 5.0)], set()),
        ([Cut(0.0, 0, 1, False, 20.0)], {"n1"}),
        ([Cut(0.0, 1, 0, False, 20.0)], {"n1"}),
        ([Clog(0.0, 2, 20.0)], {"n2"}),
        ([Clog(0.0, 0, 20.0)], set(HOSTS)),
        ([Clog(0.0, 2, 6.0), Clog(6.5, 2, 6.0)], {"n2"}),
        ([Clog(0.0, 2, 6.0), Clog(9.0, 2, 6.0)], set()),
        ([Clog(0.0, 0, 6.0), Clog(5.0, 2, 8.0)], {"n2"}),
        ([SwizzleClog(0.0, ((1, 0.0), (2, 1.0)), ((1, 2.0), (2, 19.0)))], {"n2"}),
    ],
)
def test_whom_faults_excuse(faults: list[Fault], who: set[str]) -> None:
    assert set(excused(faults, HOSTS, heartbeat_timeout_s=15.0)) == who


# -- carrying out ------------------------------------------------------------------------------------


def in_cluster(do: Callable[[SimulatedCluster], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(Fabric([1e6] * 4), Random(1))
        async with simulated_cluster(world, seed=1) as cluster:
            for name, host in HOSTS.items():
                await cluster.start(name, host, receives=host != 0)
            await do(cluster)

    simulate(main, seed=1, limit_s=200)


async def at(when_s: float, began_s: float) -> None:
    await trio.sleep_until(began_s + when_s)


def test_a_way_that_two_faults_cut_is_open_when_both_are_over() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        fabric, began_s = cluster.world.fabric, trio.current_time()
        async with trio.open_nursery() as nursery:
            faults = [Cut(1.0, 1, 2, False, 2.0), Cut(2.0, 2, 1, True, 2.0)]
            nursery.start_soon(inject, cluster, faults)
            for when_s, there, back in [
                (0.5, True, True),
                (1.5, False, True),
                (2.5, False, False),
                (3.5, False, False),
                (4.5, True, True),
            ]:
                await at(when_s, began_s)
                assert (fabric.passes(1, 2), fabric.passes(2, 1)) == (there, back), when_s

    in_cluster(body)


def test_a_host_is_as_slow_as_the_worst_of_its_faults() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inject, cluster, [Slow(1.0, 1, 0.5, 2.0), Slow(2.0, 1, 0.1, 2.0)])
            for when_s, rate in [(0.5, 1e6), (1.5, 5e5), (2.5, 1e5), (3.5, 1e5), (4.5, 1e6)]:
                await at(when_s, began_s)
                assert cluster.world.fabric.egress(1) == pytest.approx(rate), when_s

    in_cluster(body)


def test_a_swizzle_holds_each_host_for_its_time() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        fabric, began_s = cluster.world.fabric, trio.current_time()
        async with trio.open_nursery() as nursery:
            fault = SwizzleClog(1.0, ((1, 0.0), (3, 1.0)), ((1, 2.0), (3, 3.0)))
            nursery.start_soon(inject, cluster, [fault])
            for when_s, clogged in [(0.5, ()), (1.5, (1,)), (2.5, (1, 3)), (3.5, (3,)), (4.5, ())]:
                await at(when_s, began_s)
                assert tuple(host for host in range(4) if not fabric.passes(host, host)) == clogged, when_s

    in_cluster(body)


def test_who_is_killed_is_gone_and_comes_back_when_it_is_to() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            faults: list[Fault] = [
                Kill(1.0, "n1", 1, 2.0),
                Kill(1.5, "n1", 1),
                Kill(1.0, "n2", 2),
                Leave(2.0, "n3"),
            ]
            nursery.start_soon(inject, cluster, faults)
            await at(2.5, began_s)
            assert set(cluster.nodes) == {"source"}
            assert cluster.server.core.statistics().nodes == ("source",)
        assert set(cluster.nodes) == {"source", "n1"}
        assert trio.current_time() == pytest.approx(began_s + 3.0, abs=0.5)

    in_cluster(body)


def test_who_is_not_yet_known_as_dead_comes_back_in_the_end() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        # Its death is not heard of while its host is clogged; the new process is refused until then.
        await inject(cluster, [Clog(0.0, 1, 6.0), Kill(1.0, "n1", 1, 0.5)])
        assert set(cluster.nodes) == set(HOSTS)

    in_cluster(body)


def test_a_read_is_marked_for_corruption() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        await inject(cluster, [Corrupt(0.5, 0, 2, 7)])
        assert cluster.world.corrupting == {(0, 2): 7}

    in_cluster(body)
