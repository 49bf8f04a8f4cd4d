"""Racks inferred by a whole simulated cluster, and what it does when a node moves or dies."""

from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio

from orchestra.simulation.cluster import SimulatedCluster, simulated_cluster
from orchestra.simulation.fabric import Fabric
from orchestra.simulation.pages import SharedPages, random_bytes
from orchestra.simulation.running import simulate
from orchestra.simulation.world import World

RATE = 6.25e6
SIZE = 8_000_000
HOSTS = [1] + [rack for rack in range(3) for _ in range(5)]
"""Rack of each host, the source's first."""
MOST_TRAINING = 10


def in_racks(
    body: Callable[[SimulatedCluster], Awaitable[None]], *, uplink: float = RATE, seed: int = 1
) -> None:
    """Run something in a cluster of three racks in a line that infers them."""

    async def main() -> None:
        world = World(Fabric([RATE] * len(HOSTS), HOSTS, uplink), Random(seed), keeps_references=True)
        async with simulated_cluster(world, seed=seed, topology="inferred", pages=SharedPages()) as cluster:
            await cluster.start("source", 0, receives=False)
            for host in range(1, len(HOSTS)):
                await cluster.start(f"n{host}", host)
            await body(cluster)
        assert world.complaints == []

    simulate(main, seed=seed, limit_s=10_000.0)


async def broadcast(cluster: SimulatedCluster, number: int) -> float:
    """One, of fresh bytes; what it took."""
    source = cluster.nodes["source"]
    transfer = await source.broadcast(random_bytes(SIZE, number), f"object-{number}", mechanism="cornet")
    outcome = await transfer.wait()
    await source.release(transfer.name)
    await trio.sleep(0.5)  # what is to be inferred is
    return outcome.completion_s


def slowest_link(cluster: SimulatedCluster) -> object:
    """Bytes/s that it is believed to carry."""
    return cluster.server.core.measured.described()["slowest_bytes_per_s"]


def is_exact(cluster: SimulatedCluster) -> bool:
    """Whether what is believed is how hosts stand."""
    core = cluster.server.core
    racks = core.topology.described(node.name for node in core.members.agents())["racks"]
    assert isinstance(racks, list)
    fabric = cluster.world.fabric
    found = sorted(sorted(names) for names in racks)
    true: dict[int, list[str]] = {}
    for host in range(1, len(HOSTS)):
        true.setdefault(fabric.racks[host], []).append(f"n{host}")
    return found == sorted(sorted(names) for names in true.values())


def test_racks_are_learnt_and_then_cost_little() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        times = [await broadcast(cluster, 0)]
        while not is_exact(cluster):
            times.append(await broadcast(cluster, len(times)))
            assert len(times) <= MOST_TRAINING
        for _ in range(3):
            took_s = await broadcast(cluster, len(times))
            assert took_s < 1.15 * SIZE / RATE
            assert took_s < 0.5 * times[0]
            assert slowest_link(cluster) == pytest.approx(RATE, rel=0.1), "nothing is held up any more"
        assert is_exact(cluster)

    in_racks(body)


def test_a_node_that_moves_is_found_within_three_broadcasts() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        number = 0
        while not is_exact(cluster):
            await broadcast(cluster, number)
            number += 1
            assert number <= MOST_TRAINING
        cluster.world.fabric.move(2, 2)
        cluster.world.fluid.unsettle()
        assert not is_exact(cluster)
        for _ in range(3):
            await broadcast(cluster, number)
            number += 1
        assert is_exact(cluster)
        await broadcast(cluster, number)
        assert slowest_link(cluster) == pytest.approx(RATE, rel=0.1), "whatever was held up by it, and then"

    in_racks(body)


def test_without_a_neck_between_racks_there_is_one_and_nothing_is_slower() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        times = [await broadcast(cluster, number) for number in range(4)]
        described = cluster.server.core.topology.described(
            node.name for node in cluster.server.core.members.agents()
        )
        assert isinstance(described["racks"], list)
        assert len(described["racks"]) == 1
        assert max(times) < 1.2 * SIZE / RATE

    in_racks(body, uplink=100 * RATE)
