"""What tests of the data plane are made of: whole sites on loopback, and servers that misbehave."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

from transfers.blocks import BlockLayout
from transfers.errors import OrchestraError
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import ContentType, Manifest, ObjectKey, PartName, make_manifest
from transfers.net.connection import MAX_DATA_FRAME_BYTES, Connection, accept_connection
from transfers.net.fetch import FetchEngine
from transfers.net.incoming import IncomingBlocks
from transfers.net.limits import PortLimits
from transfers.net.messages import CODEC, Ask, BlockHeader, DataMessage
from transfers.net.pool import ConnectionPool
from transfers.net.server import BlockServer
from transfers.net.tcp import TcpListener, TcpNetwork
from transfers.planners.events import FetchFailure
from transfers.store import Store, StoredObject

SECRET = b"a secret of the tests"
KEY = ObjectKey(TransferName("t"))
STORE_BYTES = 32 << 20


def some_bytes(size: int) -> bytes:
    """Bytes that differ from block to block."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def manifest_of(data: bytes, block_size: int, part: str = "", transfer: str = "t") -> Manifest:
    """The manifest of an object made of ``data``."""
    key = ObjectKey(TransferName(transfer), PartName(part))
    return make_manifest(key, BlockLayout(len(data), block_size), memoryview(data), ContentType())


@dataclass
class Reports:
    """Hears what an engine reports, and lets tests wait for it."""

    stored: list[tuple[ObjectKey, int, str]] = field(default_factory=list)
    failed: list[tuple[ObjectKey, str, tuple[int, ...], FetchFailure]] = field(default_factory=list)
    seconds: dict[int, float] = field(default_factory=dict)
    changed: trio.Event = field(default_factory=trio.Event)
    server: BlockServer | None = None

    def block_stored(self, key: ObjectKey, block: BlockIndex, source: NodeName, seconds: float) -> None:
        assert seconds >= 0
        self.stored.append((key, block, source))
        self.seconds[block] = seconds
        if self.server is not None:
            self.server.block_stored(key, block)
        self._tell()

    def fetch_failed(
        self, key: ObjectKey, source: NodeName, blocks: tuple[BlockIndex, ...], failure: FetchFailure
    ) -> None:
        self.failed.append((key, source, blocks, failure))
        self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def wait(self, condition: Callable[[], bool], limit_s: float = 10.0) -> None:
        """Wait until ``condition`` holds; it is looked at after every report."""
        with trio.fail_after(limit_s):
            while not condition():
                await self.changed.wait()

    async def wait_failure(
        self, limit_s: float = 10.0
    ) -> tuple[ObjectKey, str, tuple[int, ...], FetchFailure]:
        """The first failure reported."""
        await self.wait(lambda: bool(self.failed), limit_s)
        return self.failed[0]


@dataclass
class Site:
    """One node's data plane."""

    name: NodeName
    store: Store
    server: BlockServer
    engine: FetchEngine
    pool: ConnectionPool
    limits: PortLimits
    reports: Reports
    listener: TcpListener

    def put(self, data: bytes, block_size: int, key: ObjectKey = KEY) -> Manifest:
        """Hold a whole object and serve it."""
        stored = self.store.put(key, memoryview(data), block_size)
        self.server.object_known(key)
        return stored.manifest

    def begin(self, manifest: Manifest) -> StoredObject:
        """Make room for an object and take it in."""
        stored = self.store.create(manifest)
        self.engine.begin(stored)
        self.server.object_known(manifest.key)
        return stored

    def bytes_of(self, key: ObjectKey = KEY) -> bytes:
        """The complete object."""
        held = self.store.get(key)
        assert held is not None
        return bytes(held.view().buffer)

    async def wait_complete(self, key: ObjectKey = KEY, limit_s: float = 20.0) -> None:
        """Wait until all of an object is here."""

        def complete() -> bool:
            held = self.store.get(key)
            return held is not None and held.complete

        await self.reports.wait(complete, limit_s)

    def drop(self, key: ObjectKey = KEY) -> None:
        """Let an object go, in the order in which a node does."""
        self.engine.forget(key)
        self.server.forget(key)
        self.store.release(key)


@dataclass
class World:
    """All sites of one test. Addresses of others can be entered too."""

    nursery: trio.Nursery
    addresses: dict[str, str] = field(default_factory=dict)
    sites: list[Site] = field(default_factory=list)
    listeners: list[TcpListener] = field(default_factory=list)

    async def site(self, name: str) -> Site:
        """Start one more."""
        store = Store(STORE_BYTES)
        limits, reports = PortLimits(), Reports()
        incoming = IncomingBlocks()
        server = BlockServer(store, SECRET, limits, incoming)
        reports.server = server
        pool = ConnectionPool(TcpNetwork(), SECRET)
        engine = FetchEngine(store, pool, limits, self.addresses.get, reports, incoming, server)
        listener = await TcpNetwork().listen("127.0.0.1:0")
        self.addresses[name] = listener.address
        self.listeners.append(listener)
        await self.nursery.start(engine.run)
        self.nursery.start_soon(server.serve, listener)
        made = Site(NodeName(name), store, server, engine, pool, limits, reports, listener)
        self.sites.append(made)
        return made

    async def liar(self, name: str, behave: Callable[[Connection], Awaitable[None]]) -> None:
        """Start a server that says what a test wants it to."""
        listener = await TcpNetwork().listen("127.0.0.1:0")
        self.addresses[name] = listener.address
        self.listeners.append(listener)

        async def one() -> None:
            while True:
                stream = await listener.accept()
                self.nursery.start_soon(attend, await accept_connection(stream, SECRET))

        async def attend(connection: Connection) -> None:
            try:
                await behave(connection)
            except OrchestraError:
                pass  # the engine under test has hung up
            finally:
                connection.stream.abort()

        self.nursery.start_soon(one)


@asynccontextmanager
async def world(limit_s: float = 30.0) -> AsyncIterator[World]:
    """A test's sites, which end with the block."""
    sites: list[Site] = []
    listeners: list[TcpListener] = []
    try:
        with trio.fail_after(limit_s):
            async with trio.open_nursery() as nursery:
                yield World(nursery, {}, sites, listeners)
                nursery.cancel_scope.cancel()
    finally:
        for site in sites:
            site.store.close()
        with trio.CancelScope(shield=True):
            for listener in listeners:
                await listener.aclose()


def indices(*blocks: int) -> tuple[BlockIndex, ...]:
    """Blocks of a command."""
    return tuple(BlockIndex(block) for block in blocks)


async def hear(connection: Connection) -> DataMessage | None:
    """The next message of a data connection."""
    body = await connection.receive_frame(MAX_DATA_FRAME_BYTES)
    return None if body is None else CODEC.decode(body)


async def say(connection: Connection, message: DataMessage) -> None:
    """Send a message on a data connection."""
    await connection.send_frame(CODEC.encode(message))


async def send_block(connection: Connection, key: ObjectKey, block: int, data: bytes) -> None:
    """Send a block, whatever it holds."""
    await say(connection, BlockHeader(key, BlockIndex(block), len(data)))
    await connection.stream.send_all(data)


async def asked_blocks(connection: Connection, count: int) -> list[int]:
    """The first ``count`` blocks that are asked for on a connection."""
    blocks: list[int] = []
    while len(blocks) < count:
        message = await hear(connection)
        if message is None:
            break
        if isinstance(message, Ask):
            blocks += message.blocks
    return blocks


async def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Wait until something holds that nobody tells of."""
    with trio.fail_after(limit_s):
        while not condition():
            await trio.sleep(0.002)


async def settle() -> None:
    """Let every task that can run do so, sockets included, a good while."""
    for _ in range(5):
        await trio.testing.wait_all_tasks_blocked(0.01)


class MemoryStream:
    """A `transfers.net.network.Stream` that gives out fixed bytes in fixed portions, and then ends.

    Args:
        data: what is to be received.
        portion: most bytes at one receive.
    """

    def __init__(self, data: bytes, portion: float = math.inf) -> None:
        self.peer = "memory"
        self.sent = bytearray()
        self.received = 0
        self.asked_bytes: list[int] = []
        self.aborted = False
        self._data = memoryview(data)
        self._portion = portion

    async def send_all(
        self,
        data: bytes | memoryview,
        progress: Callable[[int], None] | None = None,
        head: bytes = b"",
        tail: bytes = b"",
    ) -> None:
        for part in (head, data, tail):
            self.sent += part
        if progress is not None:
            progress(len(data))
        await trio.lowlevel.checkpoint()

    async def receive_some_into(self, buffer: memoryview, wanted_bytes: int = 1) -> int:
        await trio.lowlevel.checkpoint()
        self.asked_bytes.append(len(buffer))
        count = int(min(self._portion, len(buffer), len(self._data) - self.received))
        buffer[:count] = self._data[self.received : self.received + count]
        self.received += count
        return count

    def busy_s(self) -> float | None:
        return None

    def set_pacing_rate(self, rate_bytes_per_s: float | None) -> None:
        """Nothing to pace."""

    def set_unsent_limit(self, count_bytes: int | None) -> None:
        """Nothing to limit."""

    def prefer_low_delay(self) -> None:
        """Nothing to prefer."""

    async def aclose(self) -> None:
        self.abort()
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        self.aborted = True
