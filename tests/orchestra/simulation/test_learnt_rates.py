"""Rates that nobody told: what a whole simulated cluster comes to believe of its links."""

from random import Random

import trio

from orchestra.simulation.cluster import SimulatedCluster, simulated_cluster
from orchestra.simulation.fabric import Fabric
from orchestra.simulation.pages import SharedPages, random_bytes
from orchestra.simulation.running import simulate
from orchestra.simulation.world import World

RATE = 6.25e6
PARTITION_BYTES = 4_000_000
MAPPERS, REDUCERS = ("h1", "h2", "h3"), ("h4", "h5", "h6", "h7")
LEAST_S = len(REDUCERS) * PARTITION_BYTES / RATE
"""What a mapper's port needs."""


async def shuffled_s(cluster: SimulatedCluster, name: str) -> float:
    """A weighted shuffle; what it took."""
    began_s = trio.current_time()

    async def take_part(node: str) -> None:
        async with cluster.nodes[node].shuffle(name, mappers=MAPPERS, reducers=REDUCERS) as shuffle:
            if node in MAPPERS:
                for reducer in REDUCERS:
                    await shuffle.put({reducer: random_bytes(PARTITION_BYTES, 1)})
            else:
                async for _ in shuffle.partitions():
                    pass

    async with trio.open_nursery() as nursery:
        for node in MAPPERS + REDUCERS:
            nursery.start_soon(take_part, node)
    return trio.current_time() - began_s


def shuffles_s(count: int, *, slow_until_s: float) -> list[float]:
    """One after another, over links that have a sixth of their rate until some time has passed."""
    took_s: list[float] = []

    async def main() -> None:
        hosts = 1 + len(MAPPERS + REDUCERS)
        world = World(Fabric([RATE] * hosts), Random(1), keeps_references=True)

        def set_all(share: float) -> None:
            for host in range(hosts):
                world.fabric.slow(host, share)
            world.fluid.unsettle()

        async def recover() -> None:
            await trio.sleep(slow_until_s)
            set_all(1.0)

        async with simulated_cluster(world, seed=1, pages=SharedPages()) as cluster:
            for host in range(1, hosts):
                await cluster.start(f"h{host}", host)
            async with trio.open_nursery() as nursery:
                if slow_until_s:
                    set_all(1 / 6)
                    nursery.start_soon(recover)
                for number in range(count):
                    took_s.append(await shuffled_s(cluster, f"shuffle-{number}"))
        assert world.complaints == []

    simulate(main, seed=1, limit_s=10_000.0)
    return took_s


def test_shuffles_are_about_as_fast_as_links_allow() -> None:
    assert max(shuffles_s(3, slow_until_s=0.0)) < 1.2 * LEAST_S


def test_a_slow_beginning_does_not_hold_back_what_comes_after() -> None:
    took_s = shuffles_s(3, slow_until_s=2.0)
    assert took_s[0] < 5 * LEAST_S
    assert took_s[-1] < 1.2 * LEAST_S
