"""The fetch engine: carries out `Follow`, `Fetch` and `Cancel`, receiving straight into the store.

Owns the open asks of a node and the links that carry them. It decides nothing about who should send:
it keeps the semantics written in `transfers.planners.events`, reports what was stored and what failed,
and never tries again by itself.

A link is the conversation with one source for one transfer, or one of several where what is taken from there
is spread over connections (`FetchEngine.spread`). It lives while asks are open on it and
then gives its connection back to the pool. A block has one writer at a time: a second copy that
arrives meanwhile is drained to scratch. A block counts only after its checksum has matched, but others may
be sent parts of it before (`transfers.net.incoming`).
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import trio

from transfers.blocks import BlockSet
from transfers.errors import RemoteProtocolError, StreamBroken
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import ObjectKey, RunningChecksum
from transfers.net.bodies import Stalled, drain_body, receive_body
from transfers.net.connection import MAX_DATA_FRAME_BYTES, Connection
from transfers.net.in_step import Demand, last_in_step
from transfers.net.incoming import Fate, IncomingBlocks
from transfers.net.limits import IngressBudget, PortLimits
from transfers.net.messages import (
    CODEC,
    Ask,
    BlockArriving,
    BlockHeader,
    DataMessage,
    Unavailable,
    Withdraw,
)
from transfers.net.pool import LINK_ERRORS, ConnectionPool
from transfers.planners.events import LOOK_AHEAD, FetchFailure
from transfers.store import Store, StoredObject

LINK_LOOK_AHEAD = 2
"""Asks open on each of several links to a source (a guess: one that arrives, and one behind it; whichever
link is faster takes more of the rest)."""

MOST_BROKEN_OFF = 3
"""Times in a row that a source may break blocks off before it counts as unreachable (a guess: whoever gets on
itself does so once for each loss further up)."""

log = logging.getLogger(__name__)


class FetchReports(Protocol):
    """Who hears of what the engine has done; called from the engine's tasks, must not block."""

    def block_stored(self, key: ObjectKey, block: BlockIndex, source: NodeName, seconds: float) -> None:
        """A block is verified and in the store."""
        ...

    def fetch_failed(
        self, key: ObjectKey, source: NodeName, blocks: tuple[BlockIndex, ...], failure: FetchFailure
    ) -> None:
        """Asks came to nothing; they are closed."""
        ...


@dataclass(frozen=True, slots=True)
class FetchStatistics:
    """What an engine has under way.

    Attributes:
        objects: objects that it takes in; complete ones count until they are let go.
        links: conversations with sources.
        open_asks: blocks asked for on them.
    """

    objects: int
    links: int
    open_asks: int


@dataclass(slots=True, eq=False)
class _Intake:
    """One object on its way in; ``follows`` by stripe, and for each the asks open because of it.

    Of stripes ``in_step`` nothing is asked for far beyond what others have that this node serves
    (`transfers.net.in_step`); ``block_s`` is what the last block took from its header to its last byte.
    """

    stored: StoredObject
    stripes: int = 1
    follows: dict[int, NodeName] = field(default_factory=dict)
    windows: dict[int, set[BlockIndex]] = field(default_factory=dict)
    asked: dict[BlockIndex, NodeName] = field(default_factory=dict)
    writers: dict[BlockIndex, "_Link"] = field(default_factory=dict)
    barred: set[tuple[BlockIndex, NodeName]] = field(default_factory=set)
    in_step: set[int] = field(default_factory=set)
    block_s: float = math.inf
    lanes: dict[BlockIndex, int] = field(
        default_factory=dict
    )  # on which of several links, where not the first

    def unask(self, block: BlockIndex) -> NodeName | None:
        """An ask is over, or meant for another; who was asked."""
        self.lanes.pop(block, None)
        window = self.windows.get(block % self.stripes)
        if window is not None:
            window.discard(block)
        return self.asked.pop(block, None)

    def unfollow(self, source: NodeName) -> bool:
        """Follow a source no longer; whether it was followed."""
        stripes = [stripe for stripe, followed in self.follows.items() if followed == source]
        for stripe in stripes:
            del self.follows[stripe]
        return bool(stripes)


@dataclass(slots=True, eq=False)
class _Link:
    """A conversation with one source for one transfer."""

    transfer: TransferName
    source: NodeName
    lane: int = 0
    open: dict[tuple[ObjectKey, BlockIndex], None] = field(default_factory=dict)
    outbox: list[DataMessage] = field(default_factory=list)
    wake: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    withdrawn: bool = False
    heard: bool = False
    reading: BlockHeader | BlockArriving | None = None
    broken_off: int = 0

    def ask_again(self) -> None:
        """On a new connection: ask for all that is open, and say nothing else."""
        self.outbox = [Ask(key, (block,)) for key, block in self.open]

    def say(self, message: DataMessage) -> None:
        """Queue a message; the planner's bound on open asks bounds the queue."""
        self.outbox.append(message)
        self.wake.set()


class FetchEngine:
    """Fetches blocks for one node.

    Args:
        store: where blocks go.
        pool: connections to others.
        limits: this node's budgets.
        resolve: a node's data address, or None where it is not known (any more).
        reports: who hears of results.
        incoming: told of every block that is arriving.
        demand: what others ask of this node; the engine has it tell when that changes.
    """

    def __init__(
        self,
        store: Store,
        pool: ConnectionPool,
        limits: PortLimits,
        resolve: Callable[[NodeName], str | None],
        reports: FetchReports,
        incoming: IncomingBlocks,
        demand: Demand,
    ) -> None:
        self._store = store
        self._pool = pool
        self._limits = limits
        self._resolve = resolve
        self._reports = reports
        self._incoming = incoming
        self._demand = demand
        demand.on_asked = self.resume
        self._held_back: dict[ObjectKey, None] = {}
        self._intakes: dict[ObjectKey, _Intake] = {}
        self._links: dict[tuple[TransferName, NodeName, int], _Link] = {}
        self._spread: dict[TransferName, Mapping[NodeName, int]] = {}
        self._nursery: trio.Nursery | None = None
        self.received_bytes = 0
        self.wasted_bytes = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    task_status.started()
                    await trio.sleep_forever()
                finally:
                    self._nursery = None
        finally:
            self._pool.close()  # after the links, which give theirs back when they end

    def statistics(self) -> FetchStatistics:
        """What is under way now."""
        return FetchStatistics(
            objects=len(self._intakes),
            links=len(self._links),
            open_asks=sum(len(link.open) for link in self._links.values()),
        )

    # -- commands ------------------------------------------------------------------------------

    def begin(self, stored: StoredObject) -> None:
        """Take in an object from now on."""
        self._intakes.setdefault(stored.manifest.key, _Intake(stored))

    def follow(
        self,
        key: ObjectKey,
        source: NodeName | None,
        stripe: int = 0,
        stripes: int = 1,
        in_step: bool = False,
    ) -> None:
        """Carry out `Follow`."""
        intake = self._intakes.get(key)
        if intake is None:
            return
        if stripes != intake.stripes:
            for other in list(intake.follows):
                self._unfollow(key, intake, other)
            intake.windows.clear()
            intake.in_step.clear()
            intake.stripes = stripes
        anew = intake.follows.get(stripe) != source
        if anew:
            self._unfollow(key, intake, stripe)
        if source is not None:
            intake.follows[stripe] = source
            intake.in_step.discard(stripe)
            if in_step:
                intake.in_step.add(stripe)
            if anew:
                intake.barred = {pair for pair in intake.barred if pair[1] != source}
            intake.windows[stripe] = {
                block
                for block, asked_of in intake.asked.items()
                if asked_of == source and block % stripes == stripe
            }
            self._refill(key, intake)

    def spread(self, transfer: TransferName, connections: Mapping[NodeName, int]) -> None:
        """Over how many connections to take a transfer's blocks from a source; one where nothing is said."""
        if connections != self._spread.get(transfer, {}):
            self._spread[transfer] = dict(connections)
            if not connections:
                del self._spread[transfer]
            for key, intake in self._intakes.items():
                if key.transfer == transfer:
                    self._refill(key, intake)

    def _unfollow(self, key: ObjectKey, intake: _Intake, stripe: int) -> None:
        """End the following of a stripe; blocks that are arriving still count."""
        intake.follows.pop(stripe, None)
        intake.in_step.discard(stripe)
        window = intake.windows.pop(stripe, set())
        self._withdraw(key, intake, sorted(block for block in window if block not in intake.writers))

    def fetch(self, key: ObjectKey, source: NodeName, blocks: Iterable[BlockIndex]) -> None:
        """Carry out `Fetch`."""
        intake = self._intakes.get(key)
        if intake is None:
            return
        asks: list[BlockIndex] = []
        for block in blocks:
            intake.barred.discard((block, source))
            if block in intake.stored.holds:
                self._reports.block_stored(key, block, source, 0.0)
            elif intake.asked.get(block) != source:
                self._withdraw(key, intake, [block])
                intake.asked[block] = source
                asks.append(block)
        self._ask(key, source, asks)
        self._refill(key, intake)

    def cancel(self, key: ObjectKey, blocks: Iterable[BlockIndex]) -> None:
        """Carry out `Cancel`."""
        intake = self._intakes.get(key)
        if intake is not None:
            self._withdraw(key, intake, blocks)
            self._refill(key, intake)  # what is followed brings them now

    def end_commands(self) -> None:
        """Follow nobody and ask for nothing any more; blocks that are arriving still count."""
        for key, intake in self._intakes.items():
            intake.follows.clear()
            self._withdraw(key, intake, [block for block in intake.asked if block not in intake.writers])
            intake.windows.clear()

    def forget(self, key: ObjectKey) -> None:
        """Take in an object no longer; nothing is written to its memory after this returns."""
        intake = self._intakes.pop(key, None)
        if intake is None:
            return
        if not any(other.transfer == key.transfer for other in self._intakes):
            self._spread.pop(key.transfer, None)
        for (transfer, _, _), link in list(self._links.items()):
            if transfer != key.transfer:
                continue
            if link.reading is not None and link.reading.key == key:
                link.scope.cancel()
            blocks = tuple(block for held, block in link.open if held == key)
            for block in blocks:
                del link.open[key, block]
            if blocks:
                link.withdrawn = True
                link.say(Withdraw(key, blocks))
            link.wake.set()

    def is_receiving(self, key: ObjectKey, block: BlockIndex) -> bool:
        """Whether a block is being written just now."""
        intake = self._intakes.get(key)
        return intake is not None and block in intake.writers

    def received_of(self, key: ObjectKey) -> int:
        """Bytes of an object that have come so far, checked or not; 0 for one that is not taken in."""
        intake = self._intakes.get(key)
        if intake is None:
            return 0
        layout = intake.stored.manifest.layout
        arriving = (self._incoming.get(key, block) for block in intake.writers)
        return layout.bytes_in(intake.stored.holds) + sum(
            incoming.got_bytes for incoming in arriving if incoming is not None
        )

    # -- asks ----------------------------------------------------------------------------------

    def _link_for(self, key: ObjectKey, intake: _Intake, block: BlockIndex, source: NodeName) -> _Link | None:
        """The link on which a block is asked for."""
        return self._links.get((key.transfer, source, intake.lanes.get(block, 0)))

    def _ask(self, key: ObjectKey, source: NodeName, blocks: list[BlockIndex], lane: int = 0) -> None:
        if not blocks or self._nursery is None:
            return
        where = (key.transfer, source, lane)
        link = self._links.get(where)
        if link is None:
            link = self._links[where] = _Link(*where)
            self._nursery.start_soon(self._run_link, link)
        for block in blocks:
            link.open[key, block] = None
        link.say(Ask(key, tuple(blocks)))

    def _withdraw(self, key: ObjectKey, intake: _Intake, blocks: Iterable[BlockIndex]) -> None:
        by_link: dict[_Link, list[BlockIndex]] = {}
        for block in blocks:
            asked = intake.asked.get(block)
            link = None if asked is None else self._link_for(key, intake, block, asked)
            intake.unask(block)
            if link is not None:
                by_link.setdefault(link, []).append(block)
        for link, withdrawn in by_link.items():
            mine = tuple(
                block
                for block in withdrawn
                if (key, block) in link.open and intake.writers.get(block) is not link
            )
            for block in mine:
                del link.open[key, block]
            if mine:
                link.withdrawn = True
                link.say(Withdraw(key, mine))

    def resume(self) -> None:
        """Others may ask for more of this node: ask for more as well, where that was put off."""
        held_back, self._held_back = self._held_back, {}
        for key in held_back:
            intake = self._intakes.get(key)
            if intake is not None:
                self._refill(key, intake)

    def _refill(self, key: ObjectKey, intake: _Intake) -> None:
        """Keep `LOOK_AHEAD` asks open at the followed source of each stripe, in step up to a limit."""
        for stripe, source in intake.follows.items():
            window = intake.windows.setdefault(stripe, set())
            lanes = self._spread.get(key.transfer, {}).get(source, 1)
            if lanes > 1:
                self._refill_lanes(key, intake, source, window, lanes)
                continue
            if len(window) >= LOOK_AHEAD:
                continue
            asks: list[BlockIndex] = []
            missing = intake.stored.holds.missing(stripe, intake.stripes)
            limit = self._limit(key, intake, stripe, missing)
            for block in missing:
                if len(window) >= LOOK_AHEAD:
                    break
                if limit is not None and block > limit:
                    self._held_back[key] = None
                    break
                if block not in intake.asked and (block, source) not in intake.barred:
                    intake.asked[block] = source
                    window.add(block)
                    asks.append(block)
            self._ask(key, source, asks)

    def _refill_lanes(
        self, key: ObjectKey, intake: _Intake, source: NodeName, window: set[BlockIndex], lanes: int
    ) -> None:
        """Keep `LINK_LOOK_AHEAD` asks open on each of several links to a source; the emptiest gets the
        next."""
        used = Counter(intake.lanes.get(block, 0) for block in window)
        room = {lane: LINK_LOOK_AHEAD - used[lane] for lane in range(lanes) if used[lane] < LINK_LOOK_AHEAD}
        asks: dict[int, list[BlockIndex]] = {}
        for block in intake.stored.holds.missing():
            if not room:
                break
            if block in intake.asked or (block, source) in intake.barred:
                continue
            lane = max(room, key=lambda each: room[each])
            room[lane] -= 1
            if not room[lane]:
                del room[lane]
            intake.asked[block] = source
            intake.lanes[block] = lane
            window.add(block)
            asks.setdefault(lane, []).append(block)
        for lane, blocks in asks.items():
            self._ask(key, source, blocks, lane)

    def _limit(self, key: ObjectKey, intake: _Intake, stripe: int, missing: BlockSet) -> int | None:
        """The last block of a stripe that may be asked for; None where there is no such limit."""
        if stripe not in intake.in_step:
            return None
        asked = self._demand.furthest_asked(key, stripe, intake.stripes)
        last = next((block for block in missing.descending() if block not in intake.asked), None)
        if asked is None or last is None or asked.last >= last:
            return None  # no ask will come that would tell of more
        size_bytes = intake.stored.manifest.layout.block_size_bytes
        return last_in_step(asked, intake.stripes, size_bytes, intake.block_s)

    def _fail_source(
        self, link: _Link, key: ObjectKey, blocks: Iterable[BlockIndex], failure: FetchFailure
    ) -> None:
        """A source has failed, with some asks: it is followed no longer, which is told in any case."""
        intake = self._intakes.get(key)
        followed = intake is not None and intake.unfollow(link.source)
        told = self._close_asks(link, key, blocks, failure)
        if followed and link.source not in told:
            self._reports.fetch_failed(key, link.source, (), failure)

    def _close_asks(
        self, link: _Link, key: ObjectKey, blocks: Iterable[BlockIndex], failure: FetchFailure
    ) -> Container[NodeName]:
        """Asks on a link have failed: close them, and report those that nobody else is asked for.

        Returns:
            The sources under which something was reported.
        """
        intake = self._intakes.get(key)
        told: dict[NodeName, list[BlockIndex]] = {}
        for block in blocks:
            link.open.pop((key, block), None)
            if intake is None or block in intake.stored.holds:
                continue
            latest = intake.asked.get(block)
            other = self._link_for(key, intake, block, latest) if latest is not None else None
            if latest is None or (other is not None and (key, block) in other.open):
                continue
            if intake.writers.get(block) not in (None, link):
                continue  # another copy is arriving; if that fails, it reports
            intake.unask(block)
            intake.barred.add((block, link.source))
            told.setdefault(latest, []).append(block)
        for source, failed in told.items():
            self._reports.fetch_failed(key, source, tuple(failed), failure)
        return told

    # -- links ---------------------------------------------------------------------------------

    async def _run_link(self, link: _Link) -> None:
        failure: FetchFailure | None = None
        try:
            with link.scope:
                # Asks may be added while a conversation that was through is being ended.
                while failure is None and link.open:
                    link.reading = None  # the last conversation may have ended inside a block
                    failure = await self._converse(link)
        finally:
            where = (link.transfer, link.source, link.lane)
            if self._links.get(where) is link:
                del self._links[where]
        self._fail_link(link, failure or FetchFailure.UNREACHABLE)

    def _fail_link(self, link: _Link, failure: FetchFailure) -> None:
        """A link has ended: whatever is open on it has failed, and so has the following of its source."""
        by_key: dict[ObjectKey, list[BlockIndex]] = {}
        for key, block in link.open:
            by_key.setdefault(key, []).append(block)
        for key, blocks in by_key.items():
            self._fail_source(link, key, blocks, failure)

    async def _converse(self, link: _Link) -> FetchFailure | None:
        """Ask and receive until nothing is open, or something fails; what fails."""
        link.heard = False
        address = self._resolve(link.source)
        if address is None:
            return FetchFailure.UNREACHABLE
        try:
            idle = self._pool.take_idle(address)
            if idle is not None:
                try:
                    return await self._use(link, address, idle)
                except StreamBroken:
                    if link.heard:
                        raise
                    # It had died while idle: say everything again on a new one.
                    link.ask_again()
            return await self._use(link, address, await self._pool.connect(address))
        except LINK_ERRORS as broken:
            log.info("fetching from %s: %s", link.source, broken)
            link.broken_off += 1
            if isinstance(link.reading, BlockArriving) and link.broken_off < MOST_BROKEN_OFF:
                link.ask_again()  # perhaps only that block came no farther
                return None
            return FetchFailure.UNREACHABLE

    async def _use(self, link: _Link, address: str, connection: Connection) -> FetchFailure | None:
        """Talk on one connection until nothing is open; raises what broke it, one of `LINK_ERRORS`."""
        clean, broken = False, None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, link, connection)
                while link.open or link.outbox:
                    said, link.outbox = link.outbox, []
                    for message in said:
                        await connection.send_frame(CODEC.encode(message))
                    link.wake = trio.Event()
                    if link.open and not link.outbox:
                        await link.wake.wait()
                clean = not link.withdrawn and link.reading is None
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            broken = _what_broke(group)
            if broken is None:
                raise
        finally:
            if clean:
                self._pool.give_back(address, connection)
            else:
                connection.stream.abort()
        # Raised out here it does not get the group as its context, which knows it; nor may it stay in this
        # frame, which it knows: each pair would keep itself, and views of the store, alive.
        try:
            if broken is None:
                return None
            if isinstance(broken, Stalled):
                return FetchFailure.STALLED
            raise broken
        finally:
            del broken

    async def _hear(self, link: _Link, connection: Connection) -> None:
        while True:
            body = await connection.receive_frame(MAX_DATA_FRAME_BYTES)
            if body is None:
                raise StreamBroken(f"connection to {link.source} closed")
            link.heard = True
            match CODEC.decode(body):
                case BlockHeader() | BlockArriving() as header:
                    link.reading = header
                    await self._receive_block(link, connection, header)
                    link.reading = None
                case Unavailable(key=key, blocks=blocks):
                    mine = [block for block in blocks if (key, block) in link.open]
                    self._fail_source(link, key, mine, FetchFailure.REFUSED)
                case other:
                    raise RemoteProtocolError(f"{type(other).__name__} sent to a receiver")
            if not link.open:
                link.wake.set()

    async def _receive_block(
        self, link: _Link, connection: Connection, header: BlockHeader | BlockArriving
    ) -> None:
        key, block = header.key, header.block
        intake = self._intakes.get(key)
        if (
            intake is None
            or (key, block) not in link.open
            or block in intake.stored.holds
            or block in intake.writers
        ):
            # An object that is gone has no budget any more, and must not get one that nobody takes away.
            budget = IngressBudget() if intake is None else self._limits.ingress(key.transfer)
            await drain_body(connection, header, budget)
            self.wasted_bytes += header.length_bytes
            self._close_asks(link, key, [block], FetchFailure.UNREACHABLE)
            return
        if header.length_bytes != intake.stored.manifest.layout.length(block):
            raise RemoteProtocolError(f"block {block} of {key} announced with {header.length_bytes} bytes")
        intake.writers[block] = link
        started = trio.current_time()
        target = intake.stored.block(block)
        incoming = self._incoming.begin(key, block, len(target))
        checksum = RunningChecksum()
        fate = Fate.LOST

        def taken(portion: memoryview) -> None:
            checksum.add(portion)
            incoming.add(len(portion))

        try:
            budget = self._limits.ingress(key.transfer)
            idle_s = await receive_body(connection, header, target, budget, taken, lambda: incoming.wanted)
            if self._intakes.get(key) is not intake:
                return  # forgotten, too late for the receive to be cancelled
            self.received_bytes += header.length_bytes
            if checksum.value() != intake.stored.manifest.checksums[block]:
                log.warning("block %d of %s from %s is corrupt", block, key, link.source)
                self._close_asks(link, key, [block], FetchFailure.CORRUPT)
            else:
                self._accept(link, key, intake, block)
                link.broken_off = 0
                fate = Fate.STORED
        finally:
            del intake.writers[block]
            self._incoming.end(key, block, fate)
        if fate is Fate.STORED:
            seconds = intake.block_s = max(0.0, trio.current_time() - started - idle_s)
            self._reports.block_stored(key, block, link.source, seconds)
        self._refill(key, intake)

    def _accept(self, link: _Link, key: ObjectKey, intake: _Intake, block: BlockIndex) -> None:
        del link.open[key, block]
        intake.stored.mark_stored(block)
        if intake.asked.get(block) == link.source:
            intake.unask(block)
        else:  # another source was asked meanwhile
            self._withdraw(key, intake, [block])


def _what_broke(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The one reason why a conversation ended; None where there is another that nobody foresaw.

    Whoever is cancelled while the connection breaks is cancelled: nobody waits for the error, and it would
    end the whole engine.
    """
    cancelled, others = group.split(trio.Cancelled)
    if others is None:
        return cancelled
    stalled, others = others.split(Stalled)
    broken, unforeseen = (None, None) if others is None else others.split(LINK_ERRORS)
    if unforeseen is not None:
        return None
    if cancelled is not None:
        return cancelled
    first = broken or stalled
    return None if first is None else _first_of(first)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
