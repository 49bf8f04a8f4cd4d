"""Pushes: a block that is sent down a tree of nodes without being asked for, passed on while it arrives.

Owns what is being passed on. Decides nothing: the tree comes with the block, as the addresses of all nodes
below in heap order, the receiver first; the children of the node at ``i`` stand at ``2i + 1`` and ``2i + 2``.

Theory of operation. The header goes down first, so that connections are made while bytes are still coming;
then each node sends on what it has. Bytes are taken in beside the store and copied into it when all of them
are there and match the checksum: no more than `MOST_PUSHED_BYTES`, and a push never writes over what the
fetch engine is receiving. What is not known here yet waits for word of it, which comes from the controller on
another connection. A push that fails is told and not tried again; who lacks the block asks for it like any
other.
"""

import logging
from dataclasses import dataclass, field
from typing import Protocol

import trio

from transfers.errors import RemoteProtocolError, StreamBroken
from transfers.ids import BlockIndex, NodeName
from transfers.manifest import ObjectKey, block_checksum
from transfers.net.connection import Connection
from transfers.net.limits import EgressBudget, IngressBudget, PortLimits
from transfers.net.messages import CODEC, Push
from transfers.net.pool import LINK_ERRORS, ConnectionPool
from transfers.planners.events import PUSH_DEGREE, PUSH_STEP_BYTES
from transfers.store import Store

MOST_PUSHED_BYTES = 256 << 10
"""Largest block that may be pushed here (a guess: twice what is pushed at all)."""

MOST_TAKEN_BYTES = 32 << 20
"""Of pushes that a node has taken in and not yet stored and passed on, which lie outside of its store (a
guess: two of the largest from each of 64 nodes); more are refused, and asked for by those who lack them."""

PUSH_LIMIT_S = 10.0
"""Longest time in which nothing of a push gets on, and in which no word of its object comes (a guess: what a
busy host is late by, several times)."""

MOST_TAKEN = 1024
"""The same in number (a guess: all halves that eight sources may have under way)."""

log = logging.getLogger(__name__)


class PushOwner(Protocol):
    """Who hears of pushed blocks; called from the tasks here, must not block."""

    def block_pushed(
        self, key: ObjectKey, block: BlockIndex, data: memoryview, sender: NodeName, seconds: float
    ) -> None:
        """A block of a known object is here and checked; ``seconds`` from its header to its last byte."""
        ...

    def push_failed(self, key: ObjectKey, block: BlockIndex, reason: str) -> None:
        """A block could not be taken in or passed on."""
        ...


def branches(route: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The trees below the first node of a tree, each in heap order like the whole."""
    found = []
    for child in range(1, min(len(route), 1 + PUSH_DEGREE)):
        level, branch = range(child, child + 1), list[str]()
        while level.start < len(route):
            branch += route[level.start : level.stop]
            level = range(PUSH_DEGREE * level.start + 1, PUSH_DEGREE * level.stop + 1)
        found.append(tuple(branch))
    return found


@dataclass(slots=True, eq=False)
class _Relay:
    """The bytes of a block that is passed on while it arrives; ``uses`` counts who takes in, keeps or passes
    on what lies outside of the store."""

    data: memoryview
    got: int = 0
    uses: int = 0
    broken: str = ""
    news: trio.Event = field(default_factory=trio.Event)

    def advance(self, count_bytes: int) -> None:
        """More have come."""
        self.got += count_bytes
        self._tell()

    def fail(self, reason: str) -> None:
        """No more will come."""
        self.broken = reason
        self._tell()

    def _tell(self) -> None:
        self.news.set()
        self.news = trio.Event()

    async def wait_beyond(self, at: int) -> None:
        """Wait for more than the first ``at`` bytes; StreamBroken when they will not come."""
        while self.got <= at:
            if self.broken:
                raise StreamBroken(self.broken)
            await self.news.wait()


class Pusher:
    """One node's part in pushes.

    Args:
        name: of this node.
        store: where objects are.
        pool: connections to others.
        limits: this node's budgets.
        owner: who hears of what has come.
    """

    def __init__(
        self, name: NodeName, store: Store, pool: ConnectionPool, limits: PortLimits, owner: PushOwner
    ) -> None:
        self._name = name
        self._store = store
        self._pool = pool
        self._limits = limits
        self._owner = owner
        self._known: dict[ObjectKey, trio.Event] = {}
        self._used: dict[_Relay, None] = {}
        self._taking: dict[_Relay, None] = {}
        self._waiting: dict[_Relay, None] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Pass on until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    @property
    def taking(self) -> tuple["_Relay", ...]:
        """Blocks that are arriving."""
        return tuple(self._taking)

    @property
    def waiting(self) -> int:
        """Blocks that have come and wait for word of their object."""
        return len(self._waiting)

    def object_known(self, key: ObjectKey) -> None:
        """There is word of an object: pushed blocks that wait for it can be stored."""
        known = self._known.pop(key, None)
        if known is not None:
            known.set()

    def push(self, key: ObjectKey, block: BlockIndex, route: tuple[str, ...]) -> None:
        """Send a block that this node holds down a tree; nothing happens if it is not here (any more)."""
        held = self._store.get(key)
        if held is None or block not in held.holds or not route:
            return
        data = held.readable(block)
        message = Push(key, block, len(data), self._name, route)
        if self._nursery is not None:
            self._nursery.start_soon(self._pass_on, _Relay(data, len(data)), message, route)

    # -- taking in -----------------------------------------------------------------------------

    async def take(self, connection: Connection, push: Push) -> None:
        """Take in the block whose header has just come, passing it on.

        Raises:
            RemoteProtocolError: for a block that is too large, or one too many.
            StreamBroken: when it does not come.
        """
        if not 0 < push.length_bytes <= MOST_PUSHED_BYTES:
            raise RemoteProtocolError(f"push of {push.length_bytes} bytes, limit {MOST_PUSHED_BYTES}")
        if len(self._used) >= MOST_TAKEN:
            raise RemoteProtocolError(f"more than {MOST_TAKEN} blocks pushed at a time")
        taken_bytes = sum(len(relay.data) for relay in self._used)
        if taken_bytes + push.length_bytes > MOST_TAKEN_BYTES:
            raise RemoteProtocolError(f"more than {MOST_TAKEN_BYTES} bytes pushed at a time")
        relay = _Relay(memoryview(bytearray(push.length_bytes)))
        self._use(relay)
        try:
            await self._take_in(connection, push, relay)
        finally:
            self._leave(relay)

    async def _take_in(self, connection: Connection, push: Push, relay: _Relay) -> None:
        for branch in branches(push.route):
            if self._nursery is not None:
                self._use(relay)  # here: the task runs later
                self._nursery.start_soon(self._relay, relay, push, branch)
        started_s = trio.current_time()
        self._taking[relay] = None
        try:
            with trio.fail_after(PUSH_LIMIT_S) as patience:
                await self._receive(connection, push.key, relay, patience)
        except trio.TooSlowError:
            raise self._broken(push, relay, f"nothing from {push.sender} for {PUSH_LIMIT_S:g} s") from None
        except StreamBroken as broken:
            raise self._broken(push, relay, str(broken)) from None
        except BaseException:
            relay.fail("this node is going")
            raise
        finally:
            del self._taking[relay]
        seconds = trio.current_time() - started_s
        if self._store.get(push.key) is not None:
            self.keep(push.key, push.block, relay.data, push.sender, seconds)
        elif self._nursery is not None:
            known = self._known.setdefault(push.key, trio.Event())  # here: word may come before the task runs
            self._waiting[relay] = None
            self._use(relay)
            self._nursery.start_soon(self._keep_when_known, push, relay, seconds, known)

    def _use(self, relay: _Relay) -> None:
        self._used[relay] = None
        relay.uses += 1

    def _leave(self, relay: _Relay) -> None:
        relay.uses -= 1
        if not relay.uses:
            del self._used[relay]

    async def _receive(
        self, connection: Connection, key: ObjectKey, relay: _Relay, patience: trio.CancelScope
    ) -> None:
        while relay.got < len(relay.data):
            budget = self._ingress(key)
            await budget.wait_turn()
            part = relay.data[relay.got :][: min(PUSH_STEP_BYTES, budget.part_size(PUSH_STEP_BYTES))]
            await connection.receive_into(part)
            budget.spend(len(part))
            relay.advance(len(part))
            patience.deadline = trio.current_time() + PUSH_LIMIT_S

    def _broken(self, push: Push, relay: _Relay, reason: str) -> StreamBroken:
        relay.fail(reason)
        self._owner.push_failed(push.key, push.block, reason)
        return StreamBroken(reason)

    async def _keep_when_known(self, push: Push, relay: _Relay, seconds: float, known: trio.Event) -> None:
        """Keep a block of an object of which there is no word yet; it may also have come and gone."""
        try:
            with trio.move_on_after(PUSH_LIMIT_S):
                await known.wait()
                self.keep(push.key, push.block, relay.data, push.sender, seconds)
        finally:
            del self._waiting[relay]
            self._leave(relay)
            if self._known.get(push.key) is known:
                del self._known[push.key]

    def keep(
        self, key: ObjectKey, block: BlockIndex, data: memoryview, sender: NodeName, seconds: float
    ) -> None:
        """Store a block of a known object, if it is what the manifest says and is not here yet."""
        held = self._store.get(key)
        if held is None or block in held.holds:
            return
        layout = held.manifest.layout
        if not 0 <= block < layout.count or layout.length(block) != len(data):
            self._owner.push_failed(key, block, f"{sender} pushed a block of {len(data)} bytes")
        elif block_checksum(data) != held.manifest.checksums[block]:
            self._owner.push_failed(key, block, f"what {sender} pushed is corrupt")
        else:
            self._owner.block_pushed(key, block, data, sender, seconds)

    # -- passing on ----------------------------------------------------------------------------

    async def _relay(self, relay: _Relay, push: Push, route: tuple[str, ...]) -> None:
        try:
            await self._pass_on(relay, push, route)
        finally:
            self._leave(relay)

    async def _pass_on(self, relay: _Relay, push: Push, route: tuple[str, ...]) -> None:
        """Send a block to the first node of a tree as it arrives here."""
        address = route[0]
        message = Push(push.key, push.block, push.length_bytes, self._name, route)
        reason = f"nothing taken for {PUSH_LIMIT_S:g} s"
        with trio.move_on_after(PUSH_LIMIT_S) as patience:
            try:
                idle = self._pool.take_idle(address)
                if idle is not None:
                    try:
                        await self._send(idle, address, message, relay, patience)
                        return
                    except StreamBroken:
                        if relay.broken:
                            raise
                        # It had died while idle.
                await self._send(await self._pool.connect(address), address, message, relay, patience)
                return
            except LINK_ERRORS as broken:
                reason = str(broken)
        log.info("pushing block %d of %s to %s: %s", push.block, push.key, address, reason)
        self._owner.push_failed(push.key, push.block, f"to {address}: {reason}")

    async def _send(
        self, connection: Connection, address: str, message: Push, relay: _Relay, patience: trio.CancelScope
    ) -> None:
        def moved(count_bytes: int) -> None:
            patience.deadline = trio.current_time() + PUSH_LIMIT_S

        try:
            await connection.send_frame(CODEC.encode(message))
            at = 0
            while at < message.length_bytes:
                await relay.wait_beyond(at)
                budget = self._egress(message.key)
                await budget.wait_turn()
                part = relay.data[at : at + budget.part_size(relay.got - at)]
                budget.spend(len(part))
                await connection.stream.send_all(part, moved)
                at += len(part)
        except BaseException:
            connection.stream.abort()
            raise
        self._pool.give_back(address, connection)

    # An object of which there is no word yet has no budgets, and must not get one that nobody takes away.

    def _egress(self, key: ObjectKey) -> EgressBudget:
        known = self._store.get(key) is not None
        return self._limits.egress(key.transfer) if known else EgressBudget()

    def _ingress(self, key: ObjectKey) -> IngressBudget:
        known = self._store.get(key) is not None
        return self._limits.ingress(key.transfer) if known else IngressBudget()
