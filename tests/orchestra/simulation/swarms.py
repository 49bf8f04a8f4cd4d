"""A few modelled nodes without a planner: the test gives the commands and sees the reports."""

from random import Random

from orchestra.simulation.agenda import Agenda
from orchestra.simulation.fabric import Fabric
from orchestra.simulation.fluid import Fluid
from orchestra.simulation.links import Delays, ModelNode
from orchestra.simulation.swarm import Swarm
from transfers.blocks import BlockLayout
from transfers.ids import BlockIndex, NodeName
from transfers.planners.events import Cancel, Fetch, FetchFailure, Follow, Stored

BLOCK_BYTES = 1_000_000
BLOCK_S = 1.0
"""Of a block at the full rate of a port: far above all delays, so that those can be told from waiting."""


class Nodes:
    """A swarm whose messages take no time unless told; host 0 holds everything."""

    def __init__(
        self, receivers: int, blocks: int = 8, latency_s: float = 0.0, block_bytes: int = BLOCK_BYTES
    ) -> None:
        self.fluid = Fluid(Fabric([block_bytes / BLOCK_S] * (receivers + 1), latency_s=latency_s))
        self.agenda = Agenda(0.001)
        self.stored: list[tuple[float, str, int, str]] = []
        self.reports: list[tuple[float, str, tuple[int, ...]]] = []
        self.failures: list[tuple[str, str, tuple[int, ...]]] = []
        names = [NodeName(f"n{host}") for host in range(receivers + 1)]
        layout = BlockLayout(blocks * block_bytes, block_bytes)
        self.swarm = Swarm(
            names, layout, self.fluid, self.agenda, Delays(latency_s, 0.0, 0.0), Random(0), self
        )

    def blocks_stored(self, node: ModelNode, records: tuple[Stored, ...]) -> None:
        """Note a report."""
        self.reports.append((self.agenda.now_s, node.name, tuple(record.block for record in records)))
        self.stored += [(self.agenda.now_s, node.name, record.block, record.source) for record in records]

    def fetch_failed(
        self, node: ModelNode, source: NodeName, blocks: tuple[BlockIndex, ...], failure: FetchFailure
    ) -> None:
        """Note a failure."""
        assert failure is FetchFailure.UNREACHABLE
        self.failures.append((node.name, source, tuple(blocks)))

    def fetch(self, node: int, source: int, *blocks: int) -> None:
        """``node`` takes blocks from ``source``."""
        command = Fetch(self._name(node), self._name(source), tuple(map(BlockIndex, blocks)))
        self.swarm.obey(self.swarm.nodes[node], command)

    def follow(self, node: int, source: int | None) -> None:
        """``node`` takes everything from ``source``."""
        command = Follow(self._name(node), None if source is None else self._name(source))
        self.swarm.obey(self.swarm.nodes[node], command)

    def cancel(self, node: int, *blocks: int) -> None:
        """``node`` withdraws asks."""
        self.swarm.obey(self.swarm.nodes[node], Cancel(self._name(node), tuple(map(BlockIndex, blocks))))

    def kill(self, node: int) -> None:
        """A node is gone."""
        self.swarm.kill(self.swarm.nodes[node])

    def run(self, until_s: float = 1000.0) -> None:
        """Let things happen until a time."""
        self.agenda.at(until_s, int)
        while (now_s := self.agenda.go_on(self.fluid.next_event_s())) <= until_s:
            while True:
                for flow in self.fluid.advance(now_s):
                    self.swarm.reached(flow)
                self.agenda.happen()
                if self.fluid.next_event_s() > now_s:
                    break
            if now_s == until_s:
                return

    def held(self, node: int) -> list[int]:
        """Blocks that a node holds."""
        holds = self.swarm.nodes[node].holds
        return [block for block in range(holds.bit_length()) if holds >> block & 1]

    def flowing(self) -> set[tuple[int, int]]:
        """Pairs of sender and receiver between whom bytes flow."""
        return {(sender, receiver) for _, sender, receiver in self.fluid.flows()}

    def _name(self, node: int) -> NodeName:
        return self.swarm.nodes[node].name
