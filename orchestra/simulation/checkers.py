"""Checkers that watch a simulated cluster: what must hold in every run, whatever goes wrong in it.

Owns what is right. They look and complain (`World.complain`), and never decide or change anything. Must not
know how faults are carried out. What they hold:

- *identical bytes*: whatever a store calls held, or an outcome complete, is the source's, byte for byte;
- *no unrequested block*, and nothing but the source's bytes on the wire (`orchestra.simulation.wiretap`);
- *port capacity never exceeded*, *rates obeyed* (`orchestra.simulation.ports`);
- *every wait limited*: see `outcome_limit_s` and `settle_limit_s`;
- *outcomes are true*: whoever is neither excused by a fault nor named as failed holds the object, and a
  transfer fails as a whole only where its source is excused, or cancelled it;
- *nothing left allocated after release*, on nodes and in the controller.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import trio

from orchestra.controller.broadcast import BroadcastController
from orchestra.controller.transfer import GONE, TransferState
from orchestra.messages import Outcome
from orchestra.node.link import MAX_RETRY_PAUSE_S, RECONNECT_LIMIT_S
from orchestra.node.member import REQUEST_TIMEOUT_S
from orchestra.node.node import Node
from orchestra.node.statistics import ObjectsStatistics
from orchestra.simulation.cluster import SimulatedCluster
from orchestra.simulation.fluid import Fluid
from orchestra.simulation.ports import LinkWatch, RateWatch, Side
from orchestra.simulation.streams import Way
from orchestra.simulation.wiretap import Content, Wiretap
from orchestra.simulation.world import equal_bytes
from transfers.ids import TransferName
from transfers.manifest import ObjectKey
from transfers.net.pool import CONNECT_TIMEOUT_S
from transfers.store import StoredObject

MAX_COMPLAINTS = 20
"""Of one run; what has gone wrong goes wrong again and again (a guess)."""
BURST_S = 0.1
"""Of a budget, that may move at once: twice the burst of `transfers.net.limits`: saved up, and a part."""
SENDERS = 4
"""Connections that may each take in one part at once under one ingress budget: the limit on senders."""
SMALL_BYTES = 16 << 10
"""Beside all shares: least parts and what is read ahead with headers, on a few connections at once."""
ALLOWED_RUNS = 4.0
"""How much longer than the sum of everyone's receiving at the slowest rate a transfer may take (a guess:
re-sent blocks, control delays; generous, since what is looked for is a wait without a limit)."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A broadcast as the checkers are told of it.

    Attributes:
        name: of the transfer.
        source: the node that offers it.
        data: its bytes.
        block_size_bytes: the cut.
        to: receivers, or None for all agents.
        cancelled: whether the source cancels it.
    """

    name: str
    source: str
    data: memoryview
    block_size_bytes: int
    to: tuple[str, ...] | None = None
    cancelled: bool = False


def watch(cluster: SimulatedCluster, port_rate_bytes_per_s: float | None = None) -> "Checkers":
    """Begin to watch a cluster, before anything is sent in it."""
    return Checkers(cluster, port_rate_bytes_per_s)


def outcome_limit_s(
    size_bytes: int, receivers: int, rate_bytes_per_s: float, timeout_s: float, heartbeat_timeout_s: float
) -> float:
    """Seconds from asking for a broadcast, or from the end of the last fault, to its outcome, at most.

    The sum of the product's limits, each met once: the wait for receivers (``timeout_s``) and for the answer
    (`orchestra.node.member.REQUEST_TIMEOUT_S`), twice, for plan and offer; the silence after which a node is
    lost; the connecting anew of a node that was cut off (`orchestra.node.link.RECONNECT_LIMIT_S`); standing
    still (``timeout_s`` again); and `ALLOWED_RUNS` times all the bytes one after another.
    """
    moving_s = ALLOWED_RUNS * size_bytes * max(1, receivers) / rate_bytes_per_s
    waits_s = 2 * REQUEST_TIMEOUT_S + heartbeat_timeout_s + RECONNECT_LIMIT_S + 2 * timeout_s
    return waits_s + moving_s


def settle_limit_s(heartbeat_timeout_s: float) -> float:
    """Seconds after all outcomes and faults in which everyone who lives comes to hold what is done.

    Whoever was cut off comes back within a connecting and a pause (`CONNECT_TIMEOUT_S`, `MAX_RETRY_PAUSE_S`)
    once one side has noticed (the heartbeat timeout), and fetches: four times over, since a source that is
    asked may itself just be coming back.
    """
    return 4 * (heartbeat_timeout_s + CONNECT_TIMEOUT_S + MAX_RETRY_PAUSE_S)


class Checkers:
    """Watches one cluster; made by `watch`."""

    def __init__(self, cluster: SimulatedCluster, port_rate_bytes_per_s: float | None) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._told = 0
        self._rates = (
            None if port_rate_bytes_per_s is None else RateWatch(port_rate_bytes_per_s, self.complain)
        )
        self._port_rate = port_rate_bytes_per_s or 0.0
        self._expected: dict[str, Expected] = {}
        self.links = LinkWatch(self._world.fabric, self.complain)
        self.wiretap = Wiretap(self.complain, self._block_bytes_written)
        self._world.on_write = self.wiretap.heard
        self._world.on_read = self._read
        self._world.on_settled = self._settled

    def complain(self, what: str) -> None:
        """Something is as it must not be."""
        self._told += 1
        if self._told <= MAX_COMPLAINTS:
            self._world.complain(what)

    # -- while it runs -----------------------------------------------------------------------------

    def expect(self, expected: Expected) -> None:
        """A broadcast is about to be sent."""
        self._expected[expected.name] = expected
        self.expect_object(ObjectKey(TransferName(expected.name)), expected.data, expected.block_size_bytes)

    def expect_object(self, key: ObjectKey, data: memoryview, block_size_bytes: int) -> None:
        """An object of a transfer is about to be sent: compare what is sent and stored of it."""
        self.wiretap.contents[key.transfer, key.part] = Content(data, block_size_bytes)
        if self._rates is not None:
            # Shares change when a transfer begins and ends: what may move at once may do so once for each.
            once = self._port_rate * BURST_S * (1 + 2 * len(self.wiretap.contents))
            self._rates.burst_bytes = {
                Side.SENT: once + SMALL_BYTES,
                Side.RECEIVED: once * SENDERS + SMALL_BYTES,
            }

    def _settled(self, fluid: Fluid) -> None:
        self.links.settled(fluid)

    def _block_bytes_written(self, way: Way, count_bytes: int) -> None:
        if self._rates is not None and way.torn is None:
            self._rates.moved(way.sender, Side.SENT, count_bytes, trio.current_time())

    def _read(self, way: Way, count_bytes: int) -> None:
        if self._rates is not None and self.wiretap.carries_blocks(way):
            self._rates.moved(way.receiver, Side.RECEIVED, count_bytes, trio.current_time())

    # -- outcomes ----------------------------------------------------------------------------------

    def check_stores(self) -> None:
        """Every block that a living node calls held is the source's."""
        for name, node in self._cluster.nodes.items():
            for stored in node.objects.store.objects():
                self._check_stored(name, stored)

    def _check_stored(self, name: str, stored: StoredObject) -> None:
        key, layout = stored.manifest.key, stored.manifest.layout
        content = self.wiretap.contents.get((key.transfer, key.part))
        if content is None:
            return
        if layout.size_bytes != len(content.data) or layout.block_size_bytes != content.block_size_bytes:
            self.complain(f"{name} holds {key} as {layout}, the source's has {len(content.data)} bytes")
            return
        for block in stored.holds:
            if not equal_bytes(stored.readable(block), content.block(block)):
                self.complain(f"{name} holds other bytes as block {block} of {key} than the source")

    def check_outcome(
        self,
        name: str,
        transfer: BroadcastController,
        heard: Outcome | None,
        receivers: Iterable[str],
        excused: Mapping[str, str],
    ) -> None:
        """The outcome of a broadcast is true.

        Args:
            name: of the broadcast; one that was expected.
            transfer: its controller.
            heard: what its source was told, if it lived to hear it.
            receivers: nodes that were there when it was asked for.
            excused: nodes that may fail, and why.
        """
        expected, tally = self._expected[name], transfer.tally
        if not transfer.over:
            self.complain(f"{name} has no outcome: {transfer.state.value}")
            return
        if heard is not None and transfer.state not in (TransferState.RELEASED, TransferState.CANCELLED):
            told = tally.outcome(transfer.name)
            # A source that came back after the end of a failed transfer is told that, and no names.
            less = heard.reason and transfer.state is TransferState.FAILED and expected.source in excused
            same = (heard.node_completion_s, heard.failed) == (told.node_completion_s, told.failed)
            if not same and not less:
                self.complain(f"{name}: the source was told {heard}, the controller knows {told}")
        self._check_ending(expected, transfer, excused)
        for node, reason in tally.failed.items():
            if not reason:
                self.complain(f"{name}: {node} failed without a reason")
            if node in tally.node_completion_s:
                self.complain(f"{name}: {node} is told as complete and as failed ({reason})")
            if transfer.state is TransferState.PARTIAL and node not in excused:
                self.complain(f"{name}: {node} failed, whom no fault excuses: {reason}")
        if transfer.state in (TransferState.DONE, TransferState.PARTIAL):
            wanted = receivers if expected.to is None else expected.to
            for node in wanted:
                named = node in tally.node_completion_s or node in tally.failed
                if not named and node not in excused:
                    self.complain(f"{name}: {node} is neither complete nor failed")
            for node in tally.node_completion_s:
                self._check_complete(expected, node)

    def _check_ending(
        self, expected: Expected, transfer: BroadcastController, excused: Mapping[str, str]
    ) -> None:
        name, state, reason = expected.name, transfer.state, transfer.tally.reason
        if state in GONE and not reason:
            self.complain(f"{name} {state.value} without a reason")
        if state is TransferState.FAILED and expected.source not in excused:
            self.complain(f"{name} failed, and its source {expected.source} was never touched: {reason}")
        if state is TransferState.CANCELLED and not expected.cancelled and expected.source not in excused:
            self.complain(f"{name} was cancelled by nobody: {reason}")

    def _check_complete(self, expected: Expected, name: str) -> None:
        """A node that is told as complete holds everything, if its process still is that one."""
        node = self._cluster.nodes.get(name)
        held = None if node is None else node.objects.store.get(ObjectKey(TransferName(expected.name)))
        if held is not None and held.complete:
            self._check_stored(name, held)
        elif held is not None and not self._restarted(name):
            self.complain(f"{expected.name}: {name} is told as complete and lacks {held.holds.missing()}")

    def _restarted(self, name: str) -> bool:
        return self._cluster.starts[name] > 1

    def who_lacks(self, name: str) -> list[str]:
        """Living agents that should hold a broadcast which is done, and do not (yet)."""
        expected = self._expected[name]
        transfer = self._cluster.server.core.table.get(TransferName(name))
        if (
            not isinstance(transfer, BroadcastController)
            or transfer.state not in (TransferState.DONE, TransferState.PARTIAL)
            or not self._held_somewhere(name)
        ):
            return []
        agents = [node.name for node in self._cluster.server.core.members.agents()]
        if expected.to is not None:  # a new process under an old name is sent what is for all, not this
            through = transfer.tally.node_completion_s
            agents = [agent for agent in agents if agent in through and not self._restarted(agent)]
        return [
            agent
            for agent in agents
            if agent in self._cluster.nodes
            and agent not in transfer.tally.failed
            and not self._holds(self._cluster.nodes[agent], name)
        ]

    def _held_somewhere(self, name: str) -> bool:
        return any(self._holds(node, name) for node in self._cluster.nodes.values())

    def _holds(self, node: Node, name: str) -> bool:
        held = node.objects.store.get(ObjectKey(TransferName(name)))
        return held is not None and held.complete

    # -- the end -----------------------------------------------------------------------------------

    def check_released(self) -> None:
        """Everything has been released a while ago: nothing is kept by anyone."""
        self.wiretap.finish()
        core = self._cluster.server.core.statistics()
        for what in ("transfers", "proposals", "wanted", "budgets"):
            left = getattr(core, what)
            if left:
                self.complain(f"the controller keeps {what} after everything was released: {left}")
        dead = [name for name in core.nodes if name not in self._cluster.nodes]
        if dead:
            self.complain(f"the controller takes the dead for living: {', '.join(dead)}")
        absent = [name for name in self._cluster.nodes if name not in core.nodes]
        if absent:
            self.complain(f"nodes that live have not come back to the controller: {', '.join(absent)}")
        for name, node in self._cluster.nodes.items():
            for kept in _kept(node.objects.statistics()):
                self.complain(f"{name} keeps {kept} after everything was released")


def _kept(now: ObjectsStatistics) -> Iterable[str]:
    """What a node keeps that it should not."""
    for what in ("arrivals", "settled", "under_way", "engaged", "unsent", "budgets"):
        if getattr(now, what):
            yield f"{what}={getattr(now, what)}"
    for part, but in ((now.fetching, ()), (now.serving, ("connections",))):
        for each in fields(part):
            if each.name not in but and getattr(part, each.name):
                yield f"{each.name}={getattr(part, each.name)}"
    store = now.store
    for what in ("reserved_bytes", "lingering_bytes", "adopted_bytes", "objects", "leases"):
        if getattr(store, what):
            yield f"{what}={getattr(store, what)}"
