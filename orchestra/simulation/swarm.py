"""Receivers of a modelled broadcast: what the fetch engine does with commands and blocks, without bytes.

Owns what each node holds and asks for, and when it reports. Must not know who plans, or why; the other side
of its links is `orchestra.simulation.slots`. Pure: time is the agenda's, delays are drawn from a generator
that is passed in.

Theory of operation. A *link* is a connection between a receiver and a sender: asks open, withdrawn,
answered, as `transfers.net.fetch` has it. A new link costs the messages of a handshake; an idle one is kept
as `transfers.net.pool` keeps connections. Reports gather as `orchestra.node.reports` gathers them: longer
where receivers are many, but for blocks of a `Fetch`. A message takes the latency, and a control delay
besides where its host is busy sending, as on the simulated network (`orchestra.simulation.world`).

What it leaves out: bytes and their checksums, limits on standing still (nothing here stands still for
long), budgets, asking in step (streams share a modelled port evenly, and none gets ahead), and the moment
between the closing of a connection and its other end's hearing of it.
"""

import math
import struct
from collections.abc import Callable, Iterable
from hashlib import blake2b
from random import Random
from typing import Protocol, assert_never

from orchestra.simulation.agenda import Agenda
from orchestra.simulation.fluid import Fluid
from orchestra.simulation.links import Delays, Link, ModelNode
from orchestra.simulation.slots import Senders
from transfers.blocks import BlockLayout, stripe_bits
from transfers.ids import BlockIndex, NodeName
from transfers.planners.events import (
    LOOK_AHEAD,
    REPORT_INTERVAL_S,
    Cancel,
    Fetch,
    FetchFailure,
    Follow,
    Stored,
    report_interval_s,
)

# These three are the product's own, whose modules are not pure; a test holds them equal.
REPORT_BLOCKS = 8
MAX_IDLE_LINKS = 256
MAX_IDLE_S = 30.0

HANDSHAKE_MESSAGES = 4
"""Between the opening of a connection and the first ask: `transfers.handshake`."""


class SwarmReports(Protocol):
    """Who hears of what nodes report; at once, since delays are its business."""

    def blocks_stored(self, node: "ModelNode", records: tuple[Stored, ...]) -> None:
        """Blocks have been stored; the last are among them where the node lacks nothing now."""
        ...

    def fetch_failed(
        self, node: "ModelNode", source: NodeName, blocks: tuple[BlockIndex, ...], failure: FetchFailure
    ) -> None:
        """Asks came to nothing."""
        ...


class Swarm:
    """All nodes of one broadcast; host 0 is the source and holds everything.

    Args:
        names: of the nodes, by host.
        layout: the object's blocks.
        fluid: carries them.
        agenda: says when.
        delays: of messages.
        rng: of their jitter.
        reports: who hears of results.

    Attributes:
        deliveries: blocks that have been stored.
        wasted_bytes: blocks that arrived where nobody wanted them any more.
    """

    def __init__(
        self,
        names: Iterable[NodeName],
        layout: BlockLayout,
        fluid: Fluid,
        agenda: Agenda,
        delays: Delays,
        rng: Random,
        reports: SwarmReports,
    ) -> None:
        self._all = (1 << layout.count) - 1
        self.nodes = [ModelNode(host, name, 0, layout.count) for host, name in enumerate(names)]
        self.by_name = {node.name: node for node in self.nodes}
        self.nodes[0].holds, self.nodes[0].missing = self._all, 0
        self.deliveries = 0
        self.wasted_bytes = 0
        self._layout = layout
        self._agenda = agenda
        self._delays = delays
        self._rng = rng
        self._reports = reports
        self._senders = Senders(layout, fluid, agenda, delays, rng, self._arrive, self._break)
        self.reached = self._senders.reached
        self._report_interval_s = report_interval_s(len(self.nodes) - 1)
        self._digest = blake2b(digest_size=16)

    @property
    def trace_digest(self) -> str:
        """Of every block that has arrived: when, from whom, to whom."""
        return self._digest.hexdigest()

    # -- commands ------------------------------------------------------------------------------

    def obey(self, node: ModelNode, command: Follow | Fetch | Cancel) -> None:
        """A command has come to a node."""
        if not node.alive:
            return
        match command:
            case Follow(source=name, stripe=stripe, stripes=stripes):
                node.stripes = stripes
                self._follow(node, None if name is None else self.by_name[name], stripe)
            case Fetch(source=name, blocks=blocks):
                self._fetch(node, self.by_name[name], blocks)
            case Cancel(blocks=blocks):
                self._withdraw(node, blocks)
                self._refill(node)
            case _:
                assert_never(command)

    def _follow(self, node: ModelNode, source: ModelNode | None, stripe: int) -> None:
        if node.follows.get(stripe) is not source:
            node.follows.pop(stripe, None)
            window = node.windows.pop(stripe, set())
            writing = [block for block in window if self._is_arriving(node, block)]
            self._withdraw(node, sorted(window.difference(writing)))
        if source is not None:
            node.follows[stripe] = source
            node.barred = {pair for pair in node.barred if pair[1] != source.host}
            node.windows[stripe] = {
                block
                for block, asked_of in node.asked.items()
                if asked_of is source and block % node.stripes == stripe
            }
            self._refill(node)

    def _fetch(self, node: ModelNode, source: ModelNode, blocks: Iterable[BlockIndex]) -> None:
        asks: list[BlockIndex] = []
        node.fetched.update(blocks)
        for block in blocks:
            node.barred.discard((block, source.host))
            if node.holds >> block & 1:
                self._report(node, Stored(block, source.name, 0.0))
            elif node.asked.get(block) is not source:
                if block in node.asked:
                    self._withdraw(node, (block,))
                node.asked[block] = source
                asks.append(block)
        if asks:
            self._ask(node, source, asks)
        self._refill(node)

    def _refill(self, node: ModelNode) -> None:
        """Keep `LOOK_AHEAD` asks open at the followed source of each stripe."""
        for stripe, source in node.follows.items():
            window = node.windows.setdefault(stripe, set())
            if len(window) >= LOOK_AHEAD:
                continue
            asks: list[BlockIndex] = []
            lacks = stripe_bits(self._layout.count, stripe, node.stripes) & ~node.holds
            while lacks and len(window) < LOOK_AHEAD:
                low = lacks & -lacks
                lacks ^= low
                block = BlockIndex(low.bit_length() - 1)
                if block not in node.asked and (block, source.host) not in node.barred:
                    node.asked[block] = source
                    window.add(block)
                    asks.append(block)
            if asks:
                self._ask(node, source, asks)

    # -- asks ----------------------------------------------------------------------------------

    def _ask(self, node: ModelNode, source: ModelNode, blocks: list[BlockIndex]) -> None:
        link = node.links.get(source.host)
        idle_since_s = node.idle_since_s.pop(source.host, None)
        if link is not None and idle_since_s is not None and self._agenda.now_s - idle_since_s > MAX_IDLE_S:
            self._close(link)
            link = None
        if link is None:
            link = self._connect(node, source)
        link.open.update(dict.fromkeys(blocks))
        if source.alive:
            self._say(link, self._senders.take_ask, blocks)

    def _connect(self, node: ModelNode, source: ModelNode) -> Link:
        link = node.links[source.host] = source.clients[node.host] = Link(node, source)
        link.ready_s = self._agenda.now_s + 2 * self._delays.latency_s
        if source.alive:
            for at in range(HANDSHAKE_MESSAGES):
                link.ready_s += self._delays.message_s(source if at % 2 else node, self._rng)
        else:
            self._agenda.at(link.ready_s, self._break, link)
        return link

    def _say(
        self, link: Link, what: Callable[[Link, Iterable[BlockIndex]], None], blocks: Iterable[BlockIndex]
    ) -> None:
        """Have the sender hear of blocks, after what it was told before."""
        arrives_s = max(self._agenda.now_s, link.ready_s) + self._delays.message_s(link.receiver, self._rng)
        link.last_said_s = max(link.last_said_s, arrives_s)
        self._agenda.at(link.last_said_s, what, link, blocks)

    def _withdraw(self, node: ModelNode, blocks: Iterable[BlockIndex]) -> None:
        said: dict[int, list[BlockIndex]] = {}
        for block in blocks:
            source = node.unask(block)
            if source is not None:
                said.setdefault(source.host, []).append(block)
        for host, withdrawn in said.items():
            link = node.links.get(host)
            if link is None:
                continue
            mine = [block for block in withdrawn if block in link.open and not self._is_reading(link, block)]
            for block in mine:
                del link.open[block]
            if mine:
                link.withdrawn = True
                self._say(link, self._senders.take_withdrawal, mine)
                if not link.open:
                    self._close(link)

    def _is_reading(self, link: Link, block: BlockIndex) -> bool:
        """Whether the receiver has the header of a block on a link already, or all that its sender has of
        it."""
        under_way = link.under_way
        if under_way and under_way[0][0] == block:
            return link.header_s <= self._agenda.now_s
        return any(at is link for at, _ in link.sender.ahead.get(block, ()))

    def _is_arriving(self, node: ModelNode, block: BlockIndex) -> bool:
        return any(self._is_reading(link, block) for link in node.links.values())

    # -- the receiver's side ---------------------------------------------------------------------

    def _arrive(self, link: Link, block: BlockIndex, began_s: float) -> None:
        """The last byte of a block has come."""
        node, source = link.receiver, link.sender
        if link.closed:
            return
        if block not in link.open or node.holds >> block & 1:
            self.wasted_bytes += self._layout.length(block)
            link.open.pop(block, None)
            self._rest(link)
            return
        now_s = self._agenda.now_s
        self._digest.update(struct.pack("<dIII", now_s, source.host, node.host, block))
        self.deliveries += 1
        del link.open[block]
        node.holds |= 1 << block
        node.missing -= 1
        asked_of = node.asked.get(block)
        if asked_of is source:
            node.unask(block)
        elif asked_of is not None:
            self._withdraw(node, (block,))
        self._senders.block_stored(node, block)
        self._report(node, Stored(block, source.name, now_s - began_s))
        self._refill(node)
        self._rest(link)

    def _rest(self, link: Link) -> None:
        """A link on which nothing is open is kept for later, or closed if what comes on it is not wanted."""
        if link.open or link.closed:
            return
        if link.withdrawn:
            self._close(link)
            return
        node = link.receiver
        node.idle_since_s[link.sender.host] = self._agenda.now_s
        if len(node.idle_since_s) > MAX_IDLE_LINKS:
            self._close(node.links[next(iter(node.idle_since_s))])

    def _close(self, link: Link) -> None:
        """The receiver closes a link; whatever is on its way there is lost."""
        if link.closed:
            return
        sender, receiver = link.sender, link.receiver
        link.closed = True
        if receiver.links.get(sender.host) is link:
            del receiver.links[sender.host]
        receiver.idle_since_s.pop(sender.host, None)
        if sender.clients.get(receiver.host) is link:
            del sender.clients[receiver.host]
        self._senders.hang_up(link)

    def _break(self, link: Link) -> None:
        """The receiver finds a link broken: what is open on it has failed, and so has the following."""
        if link.closed:
            return
        node, source = link.receiver, link.sender
        blocks = list(link.open)
        self._close(link)
        followed = [stripe for stripe, at in node.follows.items() if at is source] if blocks else []
        for stripe in followed:
            del node.follows[stripe]
        told: dict[NodeName, list[BlockIndex]] = {}
        for block in blocks:
            latest = node.asked.get(block)
            if node.holds >> block & 1 or latest is None:
                continue
            other = node.links.get(latest.host)
            if other is not None and block in other.open:
                continue
            node.unask(block)
            node.barred.add((block, source.host))
            told.setdefault(latest.name, []).append(block)
        if followed and source.name not in told:
            told[source.name] = []
        for name, failed in told.items():
            self._reports.fetch_failed(node, name, tuple(failed), FetchFailure.UNREACHABLE)

    # -- reports -------------------------------------------------------------------------------

    def _report(self, node: ModelNode, record: Stored) -> None:
        node.reports.append(record)
        interval_s = self._report_interval_s
        if record.block in node.fetched:
            node.fetched.discard(record.block)
            interval_s = REPORT_INTERVAL_S
        if not node.missing or (len(node.reports) >= REPORT_BLOCKS and interval_s <= REPORT_INTERVAL_S):
            self._flush(node)  # what was due is due still: simpler than in the product, and as good
            return
        at_s = self._agenda.now_s + interval_s
        if at_s < node.report_at_s:
            node.report_at_s = at_s
            self._agenda.at(at_s, self._report_due, node, at_s)

    def _report_due(self, node: ModelNode, at_s: float) -> None:
        if at_s != node.report_at_s:
            return  # something was due sooner
        node.report_at_s = math.inf
        if node.alive and node.reports:
            self._flush(node)

    def _flush(self, node: ModelNode) -> None:
        records, node.reports = tuple(node.reports), []
        self._reports.blocks_stored(node, records)

    # -- faults --------------------------------------------------------------------------------

    def kill(self, node: ModelNode) -> None:
        """A node ends without a word; those who take from it find their links broken."""
        if not node.alive:
            return
        node.alive = False
        node.reports.clear()
        for link in list(node.links.values()):
            self._close(link)
        for link in list(node.clients.values()):
            self._senders.stop(link)
            self._agenda.at(self._agenda.now_s + self._delays.latency_s, self._break, link)
        node.queue.clear()
