"""Senders of a modelled broadcast: asks that wait, slots, and blocks on their way.

Owns what the block server does (`transfers.net.server`), on the fluid. Must not know what receivers make of
it. Pure: time is the agenda's, delays are drawn from a generator that is passed in.

Theory of operation. A sender has `SLOTS` slots; a block takes one when it begins to be sent and frees it
when no more than the kernel's send buffer is left of it, so that the next block of the link follows without
a gap, and both are one flow of the fluid. Blocks of one link are sent one after the other. An ask for a
block that is not there waits without a slot until it is, or until the first part of it has come
(`transfers.net.incoming`). From then on its flow is that of any block: it may be through before all of the
block has come to the sender itself, but what it has brought counts only a part's time later. So a link that
is faster than the one before it carries some bytes too early; over a broadcast that evens out.
"""

from collections.abc import Callable, Iterable
from random import Random

from orchestra.simulation.agenda import Agenda
from orchestra.simulation.fluid import Fluid
from orchestra.simulation.links import Delays, Link, ModelNode
from transfers.blocks import BlockLayout
from transfers.ids import BlockIndex
from transfers.planners.events import forward_bytes

SEND_BUFFER_BYTES = 1 << 18
"""Of a connection: the simulated network's own (`orchestra.simulation.streams`), which is not pure; a test
holds them equal."""
_CLOSE_BYTES = 2e-3
"""Bytes short of a mark that count as there: twice what the fluid rounds by."""

PASSED_ON_LIMIT_S = 0.5
"""What is passed on stands still for so long before it is given up: `transfers.net.server`'s, which is not
pure; a test holds them equal."""

Arrival = Callable[[Link, BlockIndex, float], None]
"""Called with the link, the block, and when its header came, as its last byte comes."""


class Senders:
    """The sending sides of all links of one broadcast.

    Args:
        layout: the object's blocks.
        fluid: carries them.
        agenda: says when.
        delays: of messages.
        rng: of their jitter.
        arrival: hears of blocks.
        stuck: hears of links on which a block that is passed on comes no farther.
    """

    def __init__(
        self,
        layout: BlockLayout,
        fluid: Fluid,
        agenda: Agenda,
        delays: Delays,
        rng: Random,
        arrival: Arrival,
        stuck: Callable[[Link], None],
    ) -> None:
        self._layout = layout
        self._fluid = fluid
        self._agenda = agenda
        self._delays = delays
        self._rng = rng
        self._arrival = arrival
        self._stuck = stuck
        self._flows: dict[int, Link] = {}

    # -- asks ----------------------------------------------------------------------------------

    def take_ask(self, link: Link, blocks: Iterable[BlockIndex]) -> None:
        """An ask has come."""
        sender = link.sender
        if link.closed or not sender.alive:
            return
        for block in blocks:
            if sender.holds >> block & 1 or block in sender.passable:
                link.ready[block] = None
            else:
                link.waiting.add(block)
                sender.waiters.setdefault(block, []).append(link)
        self._queue(link)

    def take_withdrawal(self, link: Link, blocks: Iterable[BlockIndex]) -> None:
        """Asks are withdrawn; a block that is being sent goes on."""
        for block in blocks:
            link.waiting.discard(block)
            link.ready.pop(block, None)

    def block_stored(self, node: ModelNode, block: BlockIndex) -> None:
        """A node has a block now: answer everyone who waits for it."""
        node.passable.discard(block)
        self._answer(node, block)
        for link, seconds in node.ahead.pop(block, ()):
            if not link.closed:
                part_s = seconds * forward_bytes(self._layout.length(block)) / self._layout.length(block)
                self._arrive_at(link, block, self._agenda.now_s + part_s, seconds)

    def _answer(self, node: ModelNode, block: BlockIndex) -> None:
        for link in node.waiters.pop(block, ()):
            if block in link.waiting:
                link.waiting.discard(block)
                link.ready[block] = None
                self._queue(link)

    def _passable(self, node: ModelNode, link: Link, block: BlockIndex) -> None:
        """The first part of a block has come to a node."""
        if not link.closed and not node.holds >> block & 1:
            node.passable.add(block)
            self._answer(node, block)

    def hang_up(self, link: Link) -> None:
        """A link is closed: whatever is on its way there is lost."""
        for block, _ in link.under_way:
            link.receiver.passable.discard(block)
        self.stop(link)
        link.waiting.clear()
        link.ready.clear()
        if link.has_slot:
            link.has_slot = False
            link.sender.free_slots += 1
            self._give_slots(link.sender)

    # -- slots ---------------------------------------------------------------------------------

    def _queue(self, link: Link) -> None:
        """Let a link wait for a slot if it has something to send and none yet."""
        if link.ready and not link.queued and not link.has_slot:
            link.queued = True
            link.sender.queue.append(link)
            self._give_slots(link.sender)

    def _give_slots(self, sender: ModelNode) -> None:
        """First come, first served; a block that the send buffer takes at once frees its slot at once."""
        while sender.free_slots and sender.queue:
            link = sender.queue.popleft()
            link.queued = False
            if not link.ready:
                continue
            self._send(link)
            if link.has_slot:
                sender.free_slots -= 1
            elif link.ready:
                link.queued = True
                sender.queue.append(link)

    # -- bytes ---------------------------------------------------------------------------------

    def _send(self, link: Link) -> None:
        """Begin to send the next ready block."""
        block = next(iter(link.ready))
        del link.ready[block]
        size = self._layout.length(block)
        if link.flow < 0:
            now_s = self._agenda.now_s
            link.header_s = max(link.header_s, now_s + self._delays.message_s(link.sender, self._rng))
            link.flow = self._fluid.start(link.sender.host, link.receiver.host, size)
            link.written_bytes = size
            link.sender.sending += 1
            self._flows[link.flow] = link
            moved = 0.0
        else:
            link.written_bytes += size
            self._fluid.extend(link.flow, link.written_bytes)
            moved = self._fluid.moved(link.flow)
        link.under_way.append((block, link.written_bytes))
        if (part_bytes := forward_bytes(size)) < size:
            link.passing.append((block, link.written_bytes - size + part_bytes))
        link.has_slot = link.written_bytes - moved > SEND_BUFFER_BYTES
        self._watch(link)

    def _watch(self, link: Link) -> None:
        """The flow's next event: its slot is free, or a block is through, or a part that others wait for."""
        mark = link.under_way[0][1]
        if link.passing:
            mark = min(mark, link.passing[0][1])
        if link.has_slot:
            mark = min(mark, link.written_bytes - SEND_BUFFER_BYTES)
        self._fluid.watch(link.flow, mark)

    def reached(self, flow: int) -> None:
        """A flow is at its mark."""
        link = self._flows.get(flow)
        if link is None:
            return  # stopped by what happened to another just now
        moved = self._fluid.moved(flow) + _CLOSE_BYTES
        under_way, sender = link.under_way, link.sender
        while link.passing and moved >= link.passing[0][1]:
            block, _ = link.passing.popleft()
            at_s = max(self._agenda.now_s + self._delays.latency_s, link.header_s)
            self._agenda.at(at_s, self._passable, link.receiver, link, block)
        while under_way and moved >= under_way[0][1]:
            block, _ = under_way.popleft()
            began_s = link.header_s
            link.header_s = max(self._agenda.now_s + self._delays.latency_s, began_s)
            if sender.holds >> block & 1:
                self._agenda.at(link.header_s, self._arrival, link, block, began_s)
            else:
                sender.ahead.setdefault(block, []).append((link, link.header_s - began_s))
                self._agenda.at(self._agenda.now_s + PASSED_ON_LIMIT_S, self._look_after, link, block)
        if link.has_slot and link.written_bytes - moved <= SEND_BUFFER_BYTES:
            link.has_slot = False
            sender.free_slots += 1
            if link.ready:
                link.queued = True
                sender.queue.append(link)
            self._give_slots(sender)
        if under_way:
            self._watch(link)
        else:
            self.stop(link)

    def _look_after(self, link: Link, block: BlockIndex) -> None:
        """Give up what is passed on and will not come: nodes that pass a block on to each other, in a
        circle."""
        if link.closed or not any(at is link for at, _ in link.sender.ahead.get(block, ())):
            return
        if self._comes(link, block):
            self._agenda.at(self._agenda.now_s + PASSED_ON_LIMIT_S, self._look_after, link, block)
        else:
            self._stuck(link)

    def _comes(self, link: Link, block: BlockIndex) -> bool:
        """Whether what a link waits for in the middle of a block comes from anywhere."""
        node, seen = link.sender, {link.receiver.host}
        while node.host not in seen:
            seen.add(node.host)
            if node.holds >> block & 1:
                return True
            asks = [each for each in node.links.values() if block in each.open]
            passed_on = [
                each for each in asks if any(at is each for at, _ in each.sender.ahead.get(block, ()))
            ]
            if len(passed_on) < len(asks):
                return True  # it flows, or waits for its turn
            if not asks:
                return False
            node = passed_on[0].sender
        return False

    def _arrive_at(self, link: Link, block: BlockIndex, at_s: float, seconds: float) -> None:
        """A block that was sent before the sender had all of it is through now."""
        link.header_s = max(at_s + self._delays.latency_s, link.header_s)
        self._agenda.at(link.header_s, self._arrival, link, block, link.header_s - seconds)

    def stop(self, link: Link) -> None:
        """Nothing of a link flows any more."""
        if link.flow >= 0:
            link.sender.sending -= 1
            link.sender.sent_bytes += self._fluid.moved(link.flow)
            del self._flows[link.flow]
            self._fluid.stop(link.flow)
            link.flow = -1
            link.under_way.clear()
            link.passing.clear()
