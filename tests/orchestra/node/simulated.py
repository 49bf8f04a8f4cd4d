"""A controller and nodes on a simulated network, each node on a host of its own, under virtual time."""

import json
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

import trio

from orchestra.node.node import Node
from orchestra.node.shuffle import Shuffle
from orchestra.simulation.cluster import SimulatedCluster, simulated_cluster
from orchestra.simulation.fabric import Fabric
from orchestra.simulation.running import simulate
from orchestra.simulation.world import World

ResultT = TypeVar("ResultT")

RATE = 1e6
"""Bytes/s of every host, each way."""


def in_cluster(
    names: str,
    do: Callable[[SimulatedCluster], Awaitable[ResultT]],
    *,
    limit_s: float = 500.0,
    **options: Any,
) -> ResultT:
    """Run something in a cluster with a node of each letter, on hosts 1 and on."""

    async def main() -> ResultT:
        world = World(Fabric([RATE] * (len(names) + 1)), Random(1))
        async with simulated_cluster(world, seed=1, **options) as cluster:
            for host, name in enumerate(names, 1):
                await cluster.start(name, host)
            result = await do(cluster)
        assert not world.complaints
        return result

    return simulate(main, seed=1, limit_s=limit_s)


async def state_of(node: Node, transfer: str) -> dict[str, Any]:
    """What the controller says of a transfer."""
    found: dict[str, Any] = json.loads(await node.status())["transfers"][transfer]
    return found


def content(mapper: str, reducer: str, size: int) -> bytes:
    """Bytes of a partition, by which it differs from all others."""
    return (f"{mapper} to {reducer}, ".encode() * (size // 5 + 1))[:size]


class Part:
    """One node's user, who takes part in a shuffle and may end with its node.

    Args:
        cluster: whose node it is.
        name: of the node.
        terms: arguments of `Node.shuffle`.

    Attributes:
        got: by mapper, every partition that came, in order.
        shuffle: once it takes part.
    """

    def __init__(self, cluster: SimulatedCluster, name: str, **terms: Any) -> None:
        self.name = name
        self.got: dict[str, list[bytes]] = {}
        self.entered = trio.Event()
        self.shuffle: Shuffle
        self._cluster = cluster
        self._node = cluster.nodes[name]
        self._terms = terms
        self._life = trio.CancelScope()

    async def run(self, size: int, *, waits: Callable[[Shuffle], Awaitable[None]] | None = None) -> None:
        """Put so many bytes for each reducer that is due, and take what comes."""
        with self._life:
            async with self._node.shuffle("s", **self._terms) as self.shuffle:
                self.entered.set()
                place = self.shuffle.place
                if waits is not None:
                    await waits(self.shuffle)
                async with trio.open_nursery() as nursery:
                    if place in self.shuffle.mappers:
                        nursery.start_soon(self._give, size)
                    if place in self.shuffle.reducers:
                        nursery.start_soon(self._take)

    async def _give(self, size: int) -> None:
        place = self.shuffle.place
        for to in self.shuffle.due:
            await self.shuffle.put({to: content(place, to, size)})

    async def _take(self) -> None:
        async for mapper, view in self.shuffle.partitions():
            self.got.setdefault(mapper, []).append(bytes(view.buffer))

    async def die(self) -> None:
        """Its process is killed."""
        await self._cluster.kill(self.name)
        self._life.cancel()
