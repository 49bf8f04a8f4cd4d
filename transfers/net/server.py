"""The block server: answers for a block when its node holds it, or while it arrives there.

Owns the asks that wait and the order of answers. Knows nothing of plans: whoever asks is answered. An ask for
a block that is not there yet occupies no slot and no time on the connection; when the block is stored it
joins the queue of ready answers of its connection. Answers of a broadcast take one of its `SLOTS` slots from
their first byte to their last, so that a few receivers are served fast rather than all of them slowly; no
broadcast waits for the slots of another. A block that is arriving is passed on in parts
(`transfers.net.incoming`), unless one that is all here is due on the same connection. A receiver that takes
no byte for `STALL_LIMIT_S` loses its slot, not its answer, so that it holds up nobody else. Partitions of a
shuffle take no slot.
"""

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from transfers.errors import OrchestraError, RemoteProtocolError, StreamBroken
from transfers.ids import BlockIndex, TransferName
from transfers.manifest import ObjectKey
from transfers.net.connection import (
    MAX_DATA_FRAME_BYTES,
    Connection,
    accept_connection,
    framed,
)
from transfers.net.in_step import Asked
from transfers.net.incoming import Fate, IncomingBlock, IncomingBlocks
from transfers.net.limits import STALL_LIMIT_S, EgressBudget, FlowBudget, PortLimits
from transfers.net.messages import (
    CODEC,
    IDLE_BYTES,
    Ask,
    BlockArriving,
    BlockHeader,
    Push,
    Unavailable,
    Withdraw,
)
from transfers.net.network import Listener, Stream
from transfers.net.push import Pusher
from transfers.store import Store, StoredObject

SLOTS = 4
"""Blocks of one broadcast sent at the same time: the paper's prototype used 4."""
UNKNOWN_OBJECT_LIMIT_S = 5.0
"""How long an ask waits for an object that this node has not heard of: word of it comes from the
controller on another connection and may be later than the ask."""
MAX_CONNECTIONS = 4096
"""Data connections taken in at one time (a guess: four senders each for a thousand receivers)."""
MAX_WAITING_ASKS = 1 << 16
"""Asks that one connection may have open (a guess: a whole object of that many blocks)."""
PASSING_LIMIT_S = 0.5
"""A block is not passed on any more when nothing of it has come for so long (a guess: a quarter of
`STALL_LIMIT_S`, so that one that stands still is noticed by its own receiver, and by nobody below)."""
TAKING_S = 0.5
"""For so long after its last byte a receiver counts as taking what is here (a guess: many times what a block
takes). It is looked at as often as the limits below."""
ASKED_LAST = 32
"""Asks of a connection that are remembered (a guess: several times `LOOK_AHEAD`)."""
_MOST_IDLE_US = (1 << 8 * IDLE_BYTES) - 1
"""What can be said of idle time."""
_WATCH_INTERVAL_S = 0.25
"""How often the limits on standing still, on unknown objects and on taking nothing are looked at (a guess:
half of the shortest one, which is so kept to within that much)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """What a server has to do.

    Attributes:
        connections: of receivers, idle ones included.
        waiting_asks: asks for blocks that are not here yet.
        ready_answers: blocks that are here and wait to be sent.
        slots_taken: of `SLOTS` for each broadcast.
    """

    connections: int
    waiting_asks: int
    ready_answers: int
    slots_taken: int


@dataclass(slots=True, eq=False)
class _Client:
    """One connection that asks."""

    connection: Connection
    waiting: dict[tuple[ObjectKey, BlockIndex], float] = field(default_factory=dict)
    ready: dict[tuple[ObjectKey, BlockIndex], None] = field(default_factory=dict)
    refused: deque[Unavailable] = field(default_factory=deque)
    wake: trio.Event = field(default_factory=trio.Event)
    sending: ObjectKey | None = None
    slot: "_Slot | None" = None
    moved_at_s: float = -math.inf
    asked_last: deque[tuple[ObjectKey, BlockIndex]] = field(default_factory=lambda: deque(maxlen=ASKED_LAST))
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class BlockServer:
    """Serves a node's store to whoever proves the secret.

    Args:
        store: where the blocks lie.
        secret: shared by the cluster, empty for none.
        limits: this node's budgets.
        incoming: what is arriving here.
        pusher: takes in what is pushed; None refuses it.

    Attributes:
        on_asked: called when `furthest_asked` may have changed.
        sent_bytes: of blocks, so far.
    """

    def __init__(
        self,
        store: Store,
        secret: bytes,
        limits: PortLimits,
        incoming: IncomingBlocks,
        pusher: Pusher | None = None,
    ) -> None:
        self._store = store
        self._incoming = incoming
        incoming.on_begun = self._block_arriving
        self._pusher = pusher
        self._secret = secret
        self._limits = limits
        self._clients: dict[_Client, None] = {}
        self._slots: dict[TransferName, _Slots] = {}
        self._handshakes = 0
        self.on_asked: Callable[[], None] | None = None
        self.sent_bytes = 0

    def statistics(self) -> ServerStatistics:
        """What there is to do now."""
        return ServerStatistics(
            connections=len(self._clients),
            waiting_asks=sum(len(client.waiting) for client in self._clients),
            ready_answers=sum(len(client.ready) for client in self._clients),
            slots_taken=sum(slots.taken for slots in self._slots.values()),
        )

    def furthest_asked(self, key: ObjectKey, stripe: int, stripes: int) -> Asked | None:
        """Of whoever has asked for the last block of a stripe, and takes what is here; None if nobody.

        Whoever waits for a block that is not here counts as well; whoever has taken nothing for `TAKING_S`
        does not. What was asked last is looked at, whether or not it was sent: sent blocks lie in the kernel
        for a while.
        """
        taken_since_s = trio.current_time() - TAKING_S
        furthest: Asked | None = None
        for client in self._clients:
            asked = client.asked_last if client.moved_at_s >= taken_since_s else client.waiting
            last = max((at for of, at in asked if of == key and at % stripes == stripe), default=None)
            if last is not None and (furthest is None or last > furthest.last):
                waits = (at for of, at in client.waiting if of == key and at % stripes == stripe)
                furthest = Asked(last, min(waits, default=None))
        return furthest

    # -- what the node tells it ----------------------------------------------------------------

    def block_stored(self, key: ObjectKey, block: BlockIndex) -> None:
        """A block is here now: answer everyone who waits for it."""
        self._ready_for_waiting(key, block)

    def _block_arriving(self, key: ObjectKey, block: BlockIndex, incoming: IncomingBlock) -> None:
        """A block begins to arrive: pass it on to everyone who waits for it."""
        incoming.wanted = self._ready_for_waiting(key, block)

    def _ready_for_waiting(self, key: ObjectKey, block: BlockIndex) -> bool:
        """Something of a block can be sent to everyone who waits for it; whether anybody does."""
        waiting = [client for client in self._clients if (key, block) in client.waiting]
        for client in waiting:
            del client.waiting[key, block]
            client.ready[key, block] = None
            client.wake.set()
        return bool(waiting)

    def object_known(self, key: ObjectKey) -> None:
        """An object has come to be: answer for what is held of it already."""
        held = self._store.get(key)
        if held is None:
            return
        for block in held.holds:
            self.block_stored(key, block)
        for client in self._clients:
            beyond = [at for of, at in client.waiting if of == key and at >= held.manifest.layout.count]
            if beyond:
                self._refuse(client, key, beyond)

    def forget(self, key: ObjectKey) -> None:
        """An object is going away: stop sending it, refuse whoever waits for it.

        A send that has begun can only be broken off by closing its connection.
        """
        for client in list(self._clients):
            if client.sending == key:
                client.scope.cancel()
                client.connection.stream.abort()
            blocks = [block for held, block in client.waiting if held == key]
            blocks += [block for held, block in client.ready if held == key]
            if blocks:
                self._refuse(client, key, blocks)
            for asked in [asked for asked in client.asked_last if asked[0] == key]:
                client.asked_last.remove(asked)

    # -- service -------------------------------------------------------------------------------

    async def serve(self, listener: Listener) -> None:
        """Take in connections until cancelled; no client's fault ends the service."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            while True:
                stream = await listener.accept()
                if len(self._clients) + self._handshakes >= MAX_CONNECTIONS:
                    log.warning("data port: %s dropped: %d connections already", stream.peer, MAX_CONNECTIONS)
                    stream.abort()
                else:
                    nursery.start_soon(self._serve_client, stream)

    async def _serve_client(self, stream: Stream) -> None:
        self._handshakes += 1
        try:
            connection = await accept_connection(stream, self._secret)
        except OrchestraError as refused:
            log.warning("data port: %s dropped: %s", stream.peer, refused)
            return
        finally:
            self._handshakes -= 1
        client = _Client(connection)
        self._clients[client] = None
        try:
            with client.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._answer, client)
                    await self._hear(client)
                    nursery.cancel_scope.cancel()
        finally:
            del self._clients[client]
            connection.stream.abort()
            self._tell_asked()

    async def _hear(self, client: _Client) -> None:
        """Take in asks until the client goes away."""
        try:
            while (body := await client.connection.receive_frame(MAX_DATA_FRAME_BYTES)) is not None:
                match CODEC.decode(body):
                    case Ask(key=key, blocks=blocks):
                        self._take_ask(client, key, blocks)
                    case Withdraw(key=key, blocks=blocks):
                        for block in blocks:
                            client.waiting.pop((key, block), None)
                            client.ready.pop((key, block), None)
                    case Push() as push if self._pusher is not None:
                        await self._pusher.take(client.connection, push)
                    case other:
                        raise RemoteProtocolError(f"{type(other).__name__} sent to a server")
        except RemoteProtocolError as bad:
            log.warning("data port: %s dropped: %s", client.connection.peer, bad)
        except StreamBroken as broken:
            log.debug("data port: %s", broken)

    def _take_ask(self, client: _Client, key: ObjectKey, blocks: tuple[BlockIndex, ...]) -> None:
        if len(client.waiting) + len(client.ready) + len(blocks) > MAX_WAITING_ASKS:
            raise RemoteProtocolError(f"more than {MAX_WAITING_ASKS} asks open")
        held = self._store.get(key)
        if held is not None and any(not 0 <= block < held.manifest.layout.count for block in blocks):
            raise RemoteProtocolError(f"ask beyond the {held.manifest.layout.count} blocks of {key}")
        for block in blocks:
            client.asked_last.append((key, block))
            if held is not None and block in held.holds:
                client.ready[key, block] = None
            elif (incoming := self._passable(key, block)) is not None:
                client.ready[key, block] = None
                incoming.wanted = True
            else:
                client.waiting[key, block] = trio.current_time()
        client.wake.set()
        self._tell_asked()

    def _passable(self, key: ObjectKey, block: BlockIndex) -> IncomingBlock | None:
        """A block that is arriving, and may be passed on meanwhile."""
        incoming = self._incoming.get(key, block)
        return incoming if incoming is not None and incoming.fate is Fate.ARRIVING else None

    def _tell_asked(self) -> None:
        if self.on_asked is not None:
            self.on_asked()

    def _refuse(self, client: _Client, key: ObjectKey, blocks: list[BlockIndex]) -> None:
        for block in blocks:
            client.waiting.pop((key, block), None)
            client.ready.pop((key, block), None)
        client.refused.append(Unavailable(key, tuple(blocks)))
        client.wake.set()

    async def _watch(self) -> None:
        """Take slots back from receivers that have stalled; refuse asks for objects that never came."""
        while True:
            due_s = trio.current_time() + _WATCH_INTERVAL_S
            await trio.sleep_until(due_s)
            now = trio.current_time()
            stood_still = now >= due_s + _WATCH_INTERVAL_S  # this process did, and bytes may be here
            if not stood_still:
                self._incoming.give_up(partial(self._passed_on_since_s, now))
            for client in list(self._clients):
                if client.slot is not None and client.moved_at_s < now - STALL_LIMIT_S:
                    client.slot.give_back()
                late: dict[ObjectKey, list[BlockIndex]] = {}
                for (key, block), since in client.waiting.items():
                    if since < now - UNKNOWN_OBJECT_LIMIT_S and self._store.get(key) is None:
                        late.setdefault(key, []).append(block)
                for key, blocks in late.items():
                    self._refuse(client, key, blocks)
            self._tell_asked()

    def _passed_on_since_s(self, now: float, key: ObjectKey) -> float:
        """Since when something of a block must have come for it to be waited for; less while it is slowed."""
        budget = self._limits.ingress(key.transfer)
        since_s = now - budget.stall_limit_s(PASSING_LIMIT_S)
        return since_s if budget.changed_at_s < since_s else -math.inf

    # -- answers -------------------------------------------------------------------------------

    async def _answer(self, client: _Client) -> None:
        """Send what is ready, one block at a time."""
        try:
            while True:
                while client.refused:
                    await client.connection.send_frame(CODEC.encode(client.refused.popleft()))
                if not client.ready:
                    client.wake = trio.Event()
                    await client.wake.wait()
                    continue
                key, _ = self._next(client)
                await self._send_next(client, _Slot(self._slots, None if key.part else key.transfer))
        except StreamBroken as broken:
            log.debug("data port: %s", broken)
            client.scope.cancel()

    async def _send_next(self, client: _Client, slot: "_Slot") -> None:
        await slot.take()
        try:
            if not client.ready:  # withdrawn or refused while waiting for the slot
                return
            key, block = self._next(client)
            del client.ready[key, block]
            held = self._store.get(key)
            if held is None:
                client.refused.append(Unavailable(key, (block,)))
                return
            client.sending, client.slot = key, slot
            if block in held.holds:
                await self._send_block(client, key, block, held.readable(block))
            elif (incoming := self._passable(key, block)) is not None:
                await self._send_parts(client, key, block, held, incoming)
            else:  # it has been lost on its way here
                client.waiting[key, block] = trio.current_time()
        finally:
            client.sending = client.slot = None
            slot.give_back()

    def _next(self, client: _Client) -> tuple[ObjectKey, BlockIndex]:
        """What to send next: the first block that is all here, else the first that is arriving."""
        for key, block in client.ready:
            held = self._store.get(key)
            if held is None or block in held.holds:
                return key, block
        return next(iter(client.ready))

    async def _send_block(self, client: _Client, key: ObjectKey, block: BlockIndex, data: memoryview) -> None:
        stream = client.connection.stream
        budget = self._limits.sending(key)
        head = framed(CODEC.encode(BlockHeader(key, block, len(data))))
        client.moved_at_s = trio.current_time()
        with budget.sending(stream):
            at = 0
            while at < len(data):
                await budget.wait_turn()
                part = data[at : at + budget.part_size(len(data) - at)]
                await self._send_bytes(client, budget, part, head)
                at, head = at + len(part), b""

    async def _send_parts(
        self,
        client: _Client,
        key: ObjectKey,
        block: BlockIndex,
        held: StoredObject,
        incoming: IncomingBlock,
    ) -> None:
        """Pass a block on while it arrives; if it comes no farther, close the connection."""
        stream = client.connection.stream
        budget = self._limits.sending(key)
        data = held.arriving(block)
        head = framed(CODEC.encode(BlockArriving(key, block, len(data))))
        client.moved_at_s = trio.current_time()
        idle = _IdleTime(stream)
        at = 0
        with budget.sending(stream):
            while at < len(data):
                await incoming.wait_beyond(at)
                if incoming.ready_bytes <= at == 0:  # nothing has been said of it yet
                    client.waiting[key, block] = trio.current_time()
                    return
                if incoming.ready_bytes <= at:
                    raise StreamBroken(f"connection to {stream.peer}: block {block} of {key} came no farther")
                await budget.wait_turn()
                part = data[at : at + budget.part_size(incoming.ready_bytes - at)]
                at += len(part)
                tail = idle.said() if at == len(data) else b""
                await self._send_bytes(client, budget, part, head, tail)
                head = b""

    async def _send_bytes(
        self,
        client: _Client,
        budget: EgressBudget | FlowBudget,
        part: memoryview,
        head: bytes,
        tail: bytes = b"",
    ) -> None:
        def taken(count: int) -> None:
            client.moved_at_s = trio.current_time()
            self.sent_bytes += count

        client.moved_at_s = trio.current_time()
        budget.spend(len(part))
        await client.connection.stream.send_all(part, taken, head, tail)


class _IdleTime:
    """For how long a stream had nothing to send, since this was made."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._began_s = trio.current_time()
        self._busy_from_s = stream.busy_s()

    def said(self) -> bytes:
        """As it follows a block; 0 where it cannot be told."""
        busy_s = self._stream.busy_s()
        if busy_s is None or self._busy_from_s is None:
            return bytes(IDLE_BYTES)
        idle_s = trio.current_time() - self._began_s - (busy_s - self._busy_from_s)
        return min(_MOST_IDLE_US, max(0, int(idle_s * 1e6))).to_bytes(IDLE_BYTES, "big")


@dataclass(slots=True, eq=False)
class _Slots:
    """Those of one broadcast, for as long as somebody has one or waits for one."""

    free: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(SLOTS))
    users: int = 0

    @property
    def taken(self) -> int:
        return SLOTS - self.free.value


class _Slot:
    """One taking of a slot of a broadcast, given back once; of nothing where there is none."""

    def __init__(self, slots: dict[TransferName, _Slots], transfer: TransferName | None) -> None:
        self._all = slots
        self._transfer = transfer
        self._held: _Slots | None = None

    async def take(self) -> None:
        if self._transfer is None:
            return
        slots = self._all.setdefault(self._transfer, _Slots())
        slots.users += 1
        try:
            await slots.free.acquire()
        except BaseException:
            self._leave(slots)
            raise
        self._held = slots

    def give_back(self) -> None:
        if self._held is not None:
            slots, self._held = self._held, None
            slots.free.release()
            self._leave(slots)

    def _leave(self, slots: _Slots) -> None:
        slots.users -= 1
        if not slots.users and self._transfer is not None and self._all.get(self._transfer) is slots:
            del self._all[self._transfer]
