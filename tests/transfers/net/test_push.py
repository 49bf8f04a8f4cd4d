"""Pushes: blocks that go down a tree without being asked for, between whole sites on loopback."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from tests.transfers.net.sites import KEY, SECRET, MemoryStream, manifest_of, say, some_bytes, until
from transfers.errors import RemoteProtocolError, StreamBroken
from transfers.ids import BlockIndex, NodeName
from transfers.manifest import Manifest, ObjectKey
from transfers.net import push as push_module
from transfers.net.connection import Connection, open_connection
from transfers.net.incoming import IncomingBlocks
from transfers.net.limits import PortLimits
from transfers.net.messages import Push
from transfers.net.pool import ConnectionPool
from transfers.net.push import MOST_PUSHED_BYTES, PUSH_LIMIT_S, Pusher, branches
from transfers.net.server import BlockServer
from transfers.net.tcp import TcpListener, TcpNetwork
from transfers.store import Store

DATA = some_bytes(60_000)
HALF = 30_000
FIRST, SECOND = BlockIndex(0), BlockIndex(1)


@dataclass
class Node:
    """A store, a server and a pusher; hears of what is pushed, and stores it."""

    name: NodeName
    store: Store
    limits: PortLimits
    listener: TcpListener
    came: list[tuple[int, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    pusher: Pusher = field(init=False)

    def block_pushed(
        self, key: ObjectKey, block: BlockIndex, data: memoryview, sender: NodeName, seconds: float
    ) -> None:
        assert seconds >= 0
        held = self.store.get(key)
        assert held is not None
        held.block(block)[:] = data
        held.mark_stored(block)
        self.came.append((block, sender))

    def push_failed(self, key: ObjectKey, block: BlockIndex, reason: str) -> None:
        self.failed.append(reason)

    @property
    def address(self) -> str:
        """Of its server."""
        return self.listener.address

    def begin(self, manifest: Manifest) -> None:
        """Word of an object."""
        self.store.create(manifest)
        self.pusher.object_known(manifest.key)

    def holds(self) -> bool:
        """Whether it holds the whole object."""
        held = self.store.get(KEY)
        return held is not None and held.complete


@asynccontextmanager
async def nodes(*names: str) -> AsyncIterator[list[Node]]:
    """Sites that can push."""
    made: list[Node] = []
    pools: list[ConnectionPool] = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for name in names:
                store, limits = Store(1 << 20), PortLimits()
                node = Node(NodeName(name), store, limits, await TcpNetwork().listen("127.0.0.1:0"))
                pools.append(pool := ConnectionPool(TcpNetwork(), SECRET))
                node.pusher = Pusher(node.name, store, pool, limits, node)
                await nursery.start(node.pusher.run)
                nursery.start_soon(
                    BlockServer(store, SECRET, limits, IncomingBlocks(), node.pusher).serve, node.listener
                )
                made.append(node)
            try:
                yield made
            finally:
                nursery.cancel_scope.cancel()
    for pool in pools:
        pool.close()
    for node in made:
        node.store.close()
        await node.listener.aclose()


async def dial(node: Node) -> Connection:
    """A connection of our own to a node's data port."""
    return await open_connection(await TcpNetwork().connect(node.address, 5.0), SECRET)


def test_a_route_falls_into_the_trees_of_its_children() -> None:
    assert branches(("a",)) == []
    assert branches(("a", "b")) == [("b",)]
    assert branches(tuple("abcdefgh")) == [("b", "d", "e", "h"), ("c", "f", "g")]


async def test_a_block_goes_down_the_tree_to_everyone() -> None:
    async with nodes("src", *"abcde") as (source, *others):
        manifest = source.store.put(KEY, memoryview(DATA), HALF).manifest
        for node in others:
            node.begin(manifest)
        route = tuple(node.address for node in others)
        source.pusher.push(KEY, FIRST, route)
        source.pusher.push(KEY, SECOND, route[::-1])
        await until(lambda: all(node.holds() for node in others))
        senders = {str(node.name): dict(node.came) for node in others}
        assert [senders[name][0] for name in "abcde"] == ["src", *"aabb"]
        assert [senders[name][1] for name in "edcba"] == ["src", *"eedd"]
        assert not any(node.failed for node in others)


async def test_bytes_are_passed_on_while_the_rest_is_still_to_come() -> None:
    async with nodes("a", "b") as (a, b):
        manifest = manifest_of(DATA, len(DATA))
        a.begin(manifest)
        b.begin(manifest)
        connection = await dial(a)
        await say(connection, Push(KEY, FIRST, len(DATA), NodeName("src"), (a.address, b.address)))
        await connection.stream.send_all(DATA[:50_000])
        await until(lambda: received_by(b) >= 40_000)
        assert a.came == b.came == [], "neither has all of it"
        await connection.stream.send_all(DATA[50_000:])
        await until(lambda: bool(a.came and b.came))
        assert b.came == [(0, "a")]
        await connection.aclose()


def received_by(node: Node) -> int:
    """Bytes of the one push that a node is taking in."""
    return sum(relay.got for relay in node.pusher.taking)


async def test_a_block_waits_for_word_of_its_object() -> None:
    async with nodes("src", "a") as (source, a):
        manifest = source.store.put(KEY, memoryview(DATA), len(DATA)).manifest
        source.pusher.push(KEY, FIRST, (a.address,))
        await until(lambda: a.pusher.waiting == 1)
        assert not a.came
        a.begin(manifest)
        await until(a.holds)
        assert a.pusher.waiting == 0


async def test_word_that_comes_right_after_the_block_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with nodes("src", "a") as (source, a):
        manifest = source.store.put(KEY, memoryview(DATA), len(DATA)).manifest
        started = a.pusher._nursery
        assert started is not None
        start_soon = started.start_soon

        def start_and_begin(*arguments: object) -> None:
            start_soon(*arguments)  # type: ignore[arg-type]
            a.begin(manifest)  # before the task has run

        monkeypatch.setattr(started, "start_soon", start_and_begin)
        source.pusher.push(KEY, FIRST, (a.address,))
        await until(a.holds)


async def test_a_block_of_which_no_word_comes_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "PUSH_LIMIT_S", 0.2)
    async with nodes("src", "a") as (source, a):
        source.store.put(KEY, memoryview(DATA), len(DATA))
        source.pusher.push(KEY, FIRST, (a.address,))
        await until(lambda: a.pusher.waiting == 1)
        await until(lambda: a.pusher.waiting == 0)
        assert a.store.get(KEY) is None
        assert not a.limits.transfers, "and nothing is kept of it"


async def test_whoever_cannot_be_reached_is_told_and_the_others_get_it() -> None:
    async with nodes("src", "a", "b") as (source, a, b):
        manifest = source.store.put(KEY, memoryview(DATA), len(DATA)).manifest
        a.begin(manifest)
        b.begin(manifest)
        nobody = await TcpNetwork().listen("127.0.0.1:0")
        await nobody.aclose()
        source.pusher.push(KEY, FIRST, (a.address, nobody.address, b.address))
        await until(lambda: a.holds() and b.holds() and bool(a.failed))
        assert nobody.address in a.failed[0]
        assert not source.failed
        assert not b.failed


async def test_a_sender_that_breaks_off_is_told_by_all_below_it() -> None:
    async with nodes("a", "b") as (a, b):
        manifest = manifest_of(DATA, len(DATA))
        a.begin(manifest)
        b.begin(manifest)
        connection = await dial(a)
        await say(connection, Push(KEY, FIRST, len(DATA), NodeName("src"), (a.address, b.address)))
        await connection.stream.send_all(DATA[:20_000])
        await until(lambda: received_by(b) > 0)
        connection.stream.abort()
        await until(lambda: bool(a.failed and b.failed))
        assert not a.came
        assert not b.came


async def test_a_sender_that_stands_still_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "PUSH_LIMIT_S", 0.2)
    async with nodes("a") as (a,):
        a.begin(manifest_of(DATA, len(DATA)))
        connection = await dial(a)
        await say(connection, Push(KEY, FIRST, len(DATA), NodeName("src"), (a.address,)))
        await until(lambda: bool(a.failed))
        assert "src" in a.failed[0]
        assert await connection.receive_frame(100) is None, "and loses its connection"
        connection.stream.abort()


async def test_a_slow_sender_is_waited_for_as_long_as_it_gets_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "PUSH_LIMIT_S", 0.4)
    async with nodes("a", "b") as (a, b):
        manifest = manifest_of(DATA, len(DATA))
        a.begin(manifest)
        b.begin(manifest)
        connection = await dial(a)
        await say(connection, Push(KEY, FIRST, len(DATA), NodeName("src"), (a.address, b.address)))
        step = -(-len(DATA) // 5)
        for at in range(0, len(DATA), step):
            await connection.stream.send_all(DATA[at : at + step])
            await trio.sleep(0.2)
        await until(lambda: a.holds() and b.holds())
        assert not a.failed
        assert not b.failed
        connection.stream.abort()


class SlowReader(MemoryStream):
    """The other end takes a block in parts, one after each of the pauses."""

    def __init__(self, *pauses_s: float) -> None:
        super().__init__(b"")
        self._pauses_s = pauses_s

    async def send_all(
        self,
        data: bytes | memoryview,
        progress: Callable[[int], None] | None = None,
        head: bytes = b"",
        tail: bytes = b"",
    ) -> None:
        if len(data) < HALF:  # a header
            await super().send_all(data, progress, head, tail)
            return
        step = -(-len(data) // len(self._pauses_s))
        for at, pause_s in enumerate(self._pauses_s):
            await trio.sleep(pause_s)
            await super().send_all(data[at * step : (at + 1) * step], progress)


@asynccontextmanager
async def node_above(reader: SlowReader) -> AsyncIterator[Node]:
    """A node without a server; whoever is below it, at ``"below"``, is ``reader``."""
    store, limits = Store(1 << 20), PortLimits()
    node = Node(NodeName("a"), store, limits, await TcpNetwork().listen("127.0.0.1:0"))
    pool = ConnectionPool(TcpNetwork(), SECRET)
    pool.give_back("below", Connection(reader))
    node.pusher = Pusher(node.name, store, pool, limits, node)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.pusher.run)
        yield node
        nursery.cancel_scope.cancel()
    pool.close()
    store.close()
    await node.listener.aclose()


async def test_a_slow_reader_is_waited_for_as_long_as_it_takes_anything(
    autojump_clock: trio.testing.MockClock,
) -> None:
    reader = SlowReader(*[0.6 * PUSH_LIMIT_S] * 5)
    async with node_above(reader) as source:
        source.store.put(KEY, memoryview(DATA), len(DATA))
        source.pusher.push(KEY, FIRST, ("below",))
        await trio.sleep(5 * PUSH_LIMIT_S)
        assert not source.failed
        assert bytes(reader.sent[-len(DATA) :]) == DATA


@pytest.mark.parametrize("first_s", [0.0, 0.5 * PUSH_LIMIT_S])
async def test_a_reader_that_takes_nothing_more_is_not_waited_for_long(
    first_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    reader = SlowReader(first_s, 1.1 * PUSH_LIMIT_S)
    async with node_above(reader) as source:
        source.store.put(KEY, memoryview(DATA), len(DATA))
        source.pusher.push(KEY, FIRST, ("below",))
        await trio.sleep(first_s + 1.05 * PUSH_LIMIT_S)
        assert "nothing taken" in source.failed[0]
        assert reader.aborted


@pytest.mark.parametrize(("limit", "most"), [("MOST_TAKEN", 1), ("MOST_TAKEN_BYTES", len(DATA))])
async def test_what_a_slow_reader_has_not_taken_yet_counts_as_taken_in(
    limit: str, most: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(push_module, limit, most)
    message = Push(KEY, FIRST, len(DATA), NodeName("src"), ("a", "below"))
    async with node_above(SlowReader(*[1.0] * 5)) as node:
        node.begin(manifest_of(DATA, len(DATA)))
        await node.pusher.take(Connection(MemoryStream(DATA)), message)
        assert node.holds()
        with pytest.raises(RemoteProtocolError, match="pushed at a time"):
            await node.pusher.take(Connection(MemoryStream(DATA)), message)
        await trio.sleep(6.0)
        await node.pusher.take(Connection(MemoryStream(DATA)), message)
        assert not node.failed


async def test_pushes_beyond_their_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "MOST_TAKEN", 1)
    async with nodes("a") as (a,):
        message = Push(KEY, FIRST, len(DATA), NodeName("src"), (a.address,))
        first = await dial(a)
        await say(first, message)
        await until(lambda: len(a.pusher.taking) == 1)
        second = await dial(a)
        await say(second, message)
        assert await second.receive_frame(100) is None
        assert len(a.pusher.taking) == 1
        first.stream.abort()
        second.stream.abort()


@pytest.mark.parametrize("length", [len(DATA) - 1, len(DATA)])
async def test_what_does_not_match_the_manifest_is_not_kept(length: int) -> None:
    async with nodes("a") as (a,):
        a.begin(manifest_of(DATA, len(DATA)))
        connection = await dial(a)
        await say(connection, Push(KEY, FIRST, length, NodeName("src"), (a.address,)))
        await connection.stream.send_all(bytes(length))
        await until(lambda: bool(a.failed))
        assert "src" in a.failed[0]
        assert not a.came
        connection.stream.abort()


@pytest.mark.parametrize("length", [-1, 0, MOST_PUSHED_BYTES + 1])
async def test_a_push_of_a_length_that_cannot_be_costs_the_connection(length: int) -> None:
    async with nodes("a") as (a,):
        connection = await dial(a)
        await say(connection, Push(KEY, FIRST, length, NodeName("src"), (a.address,)))
        assert await connection.receive_frame(100) is None
        connection.stream.abort()


async def test_no_more_than_so_many_are_taken_in_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "MOST_TAKEN_BYTES", 19)
    async with nodes("a") as (a,):
        opened = [await dial(a) for _ in range(2)]
        await say(opened[0], Push(KEY, FIRST, 10, NodeName("src"), (a.address,)))
        await until(lambda: len(a.pusher.taking) == 1)
        await say(opened[1], Push(KEY, SECOND, 10, NodeName("src"), (a.address,)))
        assert await opened[1].receive_frame(100) is None
        for connection in opened:
            connection.stream.abort()


async def test_a_connection_that_has_died_while_idle_is_replaced() -> None:
    async with nodes("src", "a") as (source, a):
        manifest = source.store.put(KEY, memoryview(DATA), HALF).manifest
        a.begin(manifest)
        dead = MemoryStream(b"")

        async def broken(*arguments: object, **named: object) -> None:
            raise StreamBroken("gone")

        dead.send_all = broken  # type: ignore[method-assign]
        source.pusher._pool.give_back(a.address, Connection(dead))
        source.pusher.push(KEY, FIRST, (a.address,))
        await until(lambda: a.came == [(0, "src")])
        assert dead.aborted
        assert not source.failed


async def test_what_is_not_held_is_not_pushed() -> None:
    async with nodes("src", "a") as (source, a):
        source.begin(manifest_of(DATA, HALF))
        source.pusher.push(KEY, FIRST, (a.address,))
        source.pusher.push(ObjectKey(KEY.transfer, KEY.part), SECOND, ())
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not a.came
        assert not source.failed
