"""A whole cluster under virtual time: the real controller and real nodes on a simulated network.

Owns starting, killing and restarting them. Host 0 is the source's and, as where it is embedded, the
controller's; receivers stand on hosts of their own.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import trio

from orchestra.choice import LinkEstimate
from orchestra.controller.core import ControllerConfig
from orchestra.controller.itc import Enforcement
from orchestra.controller.racks import FLAT
from orchestra.controller.server import ControllerServer, serve
from orchestra.node.joining import join
from orchestra.node.node import Node
from orchestra.racks_file import GivenRacks
from orchestra.simulation.pages import SharedPages, SharingStore
from orchestra.simulation.world import SimulatedProcess, World, host_name
from transfers.net.address import format_address
from transfers.store import Store

CONTROLLER_PORT = 7000
STORE_BYTES = 64 << 20
"""Limit of a store that has pages of its own (a guess: for tests; larger runs share pages)."""


class SimulatedCluster:
    """Controller and nodes on a world. Made by `simulated_cluster`.

    Attributes:
        world: the network.
        server: the controller's, to be looked into by checkers.
        nodes: those that run, by name.
        starts: how often a process of each name has been started.
    """

    def __init__(
        self, world: World, server: ControllerServer, nursery: trio.Nursery, pages: SharedPages | None
    ) -> None:
        self.world = world
        self.server = server
        self.nodes: dict[str, Node] = {}
        self.starts: Counter[str] = Counter()
        self._nursery = nursery
        self._pages = pages
        self._processes: dict[str, tuple[SimulatedProcess, trio.CancelScope, trio.Event]] = {}

    async def start(self, name: str, host: int, *, receives: bool = True) -> Node:
        """Start a node's process on a host; returns when it has joined."""
        process = self.world.process(host)
        scope, gone = trio.CancelScope(), trio.Event()

        async def live(task_status: trio.TaskStatus[Node]) -> None:
            try:
                with scope:
                    async with join(
                        self.server.address,
                        name=name,
                        insecure=True,
                        share=False,
                        listen=format_address(host_name(host), 0),
                        receives=receives,
                        network=process,
                        store=Store(STORE_BYTES) if self._pages is None else SharingStore(self._pages),
                    ) as node:
                        self.nodes[name] = node
                        self.starts[name] += 1
                        self._processes[name] = (process, scope, gone)
                        task_status.started(node)
                        await trio.sleep_forever()
            finally:
                gone.set()

        node: Node = await self._nursery.start(live)
        return node

    def gone(self, name: str) -> trio.Event:
        """Set when the process that runs a node now has ended."""
        return self._processes[name][2]

    async def kill(self, name: str) -> None:
        """End a node's process without a word."""
        process, scope, gone = self._processes.pop(name)
        self.nodes.pop(name)
        process.kill()
        scope.cancel()
        await gone.wait()

    async def leave(self, name: str) -> None:
        """End a node's process as its user would."""
        _, scope, gone = self._processes.pop(name)
        self.nodes.pop(name)
        scope.cancel()
        await gone.wait()


@asynccontextmanager
async def simulated_cluster(
    world: World,
    *,
    seed: int,
    link: LinkEstimate | None = None,
    port_rate_bytes_per_s: float | None = None,
    heartbeat_timeout_s: float = 15.0,
    policy: str = "fair",
    enforcement: str = "auto",
    topology: str | GivenRacks = FLAT,
    pages: SharedPages | None = None,
) -> AsyncIterator[SimulatedCluster]:
    """Run a controller on host 0 of a world while the block runs; nodes are started in it.

    Args:
        world: the network; its `World.run` runs here too.
        seed: of the controller's choices.
        link: what the controller believes of links until it has measured some; None is what it assumes.
        port_rate_bytes_per_s: cap on each node's two directions that the controller gives out.
        heartbeat_timeout_s: silence after which a node is lost.
        policy, enforcement, topology: as `orchestra.controller.serving.serve_controller` has them.
        pages: memory that all stores share; None gives each its own.
    """
    config = ControllerConfig(
        port_rate_bytes_per_s=port_rate_bytes_per_s,
        heartbeat_timeout_s=heartbeat_timeout_s,
        link=link,
        policy=policy,
        enforcement=Enforcement(enforcement),
        topology=topology,
    )
    address = format_address(host_name(0), CONTROLLER_PORT)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.run)
        async with (
            serve(world.process(0), address, b"", config, Random(seed), threads=False) as server,
            trio.open_nursery() as running,
        ):
            cluster = SimulatedCluster(world, server, running, pages)
            yield cluster
            for name in list(cluster.nodes):
                await cluster.leave(name)
            running.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
