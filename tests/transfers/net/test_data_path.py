"""How bytes go between sockets and the store: straight, in large parts, checksummed on the way."""

import math

import numpy as np
import pytest
import trio
import trio.testing

from tests.transfers.net.sites import KEY, MemoryStream, Site, some_bytes, world
from transfers.ids import NodeName
from transfers.net.connection import (
    FAST_WANTED_BYTES,
    MOST_WANTED_BYTES,
    Connection,
)
from transfers.net.tcp import TcpNetwork, TcpStream

A = NodeName("a")
READ_AHEAD_BYTES = 4096
"""Of a block no more than this goes through a buffer, with its header."""


def addresses(view: memoryview) -> range:
    """Where in memory the bytes of a view lie."""
    start = int(np.frombuffer(view, np.uint8).ctypes.data)
    return range(start, start + view.nbytes)


def within(inner: range, outer: range) -> bool:
    """Whether memory lies in other memory."""
    return outer.start <= inner.start and inner.stop <= outer.stop


def object_of(site: Site) -> tuple[range, range]:
    """Where the object is mapped for writing, and where for reading."""
    held = site.store.get(KEY)
    assert held is not None
    return addresses(held.place.writable()), addresses(held.place.readable())


async def test_blocks_go_from_store_to_socket_to_store_without_a_copy_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[range] = []
    received: list[range] = []
    send_all, receive = TcpStream.send_all, TcpStream.receive_some_into

    async def note_send(
        self: TcpStream,
        data: bytes | memoryview,
        progress: object = None,
        head: bytes = b"",
        tail: bytes = b"",
    ) -> None:
        if isinstance(data, memoryview):
            sent.append(addresses(data))
        await send_all(self, data, progress, head, tail)  # type: ignore[arg-type]

    async def note_receive(self: TcpStream, buffer: memoryview, wanted_bytes: int = 1) -> int:
        got = await receive(self, buffer, wanted_bytes)
        if got:
            received.append(addresses(buffer[:got]))
        return got

    monkeypatch.setattr(TcpStream, "send_all", note_send)
    monkeypatch.setattr(TcpStream, "receive_some_into", note_receive)
    block, blocks = 1 << 18, 8
    data = some_bytes(block * blocks)
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        b.begin(a.put(data, block))
        b.engine.follow(KEY, A)
        await b.wait_complete()
        assert b.bytes_of() == data
        lies_at, (takes_at, _) = object_of(a)[1], object_of(b)
    assert all(within(part, lies_at) for part in sent)
    assert sum(len(part) for part in sent) == len(data)
    straight = sum(len(part) for part in received if within(part, takes_at))
    assert straight >= len(data) - blocks * READ_AHEAD_BYTES


class MeteredStream(MemoryStream):
    """Gives out what is wanted as late as a link of some rate would; notes what is wanted."""

    def __init__(self, size_bytes: int, rate_bytes_per_s: float, piled_up_bytes: int = 0) -> None:
        super().__init__(bytes(size_bytes), math.inf)
        self.wanted: list[int] = []
        self._rate_bytes_per_s = rate_bytes_per_s
        self._piled_up_bytes = piled_up_bytes

    async def receive_some_into(self, buffer: memoryview, wanted_bytes: int = 1) -> int:
        self.wanted.append(wanted_bytes)
        there = min(len(buffer), max(wanted_bytes, self._piled_up_bytes, 9000))
        await trio.sleep(max(0, there - self._piled_up_bytes) / self._rate_bytes_per_s)
        self._piled_up_bytes = max(0, self._piled_up_bytes - there)
        return await super().receive_some_into(buffer[:there])


@pytest.mark.parametrize(
    ("rate", "most"),
    [(100e3, 5_000), (6.25e6, MOST_WANTED_BYTES), (125e6, MOST_WANTED_BYTES), (1e10, FAST_WANTED_BYTES)],
)
async def test_as_much_is_waited_for_as_comes_in_little_time(
    rate: float, most: int, autojump_clock: trio.testing.MockClock
) -> None:
    size = int(min(rate / 2, 1e9))
    stream = MeteredStream(size, rate)
    block = memoryview(bytearray(4 << 20))
    connection = Connection(stream)
    for at in range(0, size, len(block)):
        await connection.receive_into(block[: size - at])
    assert max(stream.wanted) == pytest.approx(most, rel=0.01)
    assert max(stream.wanted) <= FAST_WANTED_BYTES


async def test_what_has_piled_up_does_not_pass_for_a_fast_link(
    autojump_clock: trio.testing.MockClock,
) -> None:
    size = 4 << 20
    stream = MeteredStream(size, 6.25e6, piled_up_bytes=1 << 19)
    await Connection(stream).receive_into(memoryview(bytearray(size)))
    assert max(stream.wanted) <= MOST_WANTED_BYTES


async def test_whoever_always_finds_its_socket_ready_lets_others_run() -> None:
    listener = await TcpNetwork().listen("127.0.0.1:0")
    client = await TcpNetwork().connect(listener.address, 5)
    server = await listener.accept()
    await server.send_all(bytes(1000))
    await trio.sleep(0.01)
    turns = [0]

    async def another() -> None:
        while True:
            turns[0] += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(another)
        one = memoryview(bytearray(1))
        for _ in range(100):
            assert await client.receive_some_into(one) == 1
        assert turns[0] >= 10
        before = turns[0]
        for _ in range(100):
            await client.send_all(b"x")
        assert turns[0] >= before + 10
        nursery.cancel_scope.cancel()
    client.abort()
    server.abort()
    await listener.aclose()


async def test_a_ready_socket_does_not_keep_the_cancelled() -> None:
    listener = await TcpNetwork().listen("127.0.0.1:0")
    client = await TcpNetwork().connect(listener.address, 5)
    server = await listener.accept()
    await server.send_all(b"there")
    await trio.sleep(0.01)
    buffer = memoryview(bytearray(5))
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.receive_some_into(buffer)
    assert scope.cancelled_caught
    assert await client.receive_some_into(buffer) == 5, "nothing was taken"
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.send_all(b"not this")
    assert scope.cancelled_caught
    client.abort()
    assert await server.receive_some_into(buffer) == 0, "nothing was sent"
    client.abort()
    server.abort()
    await listener.aclose()


async def test_a_corrupt_byte_in_any_part_of_a_block_is_found() -> None:
    block = 3 << 20  # some parts, whatever their size
    data = some_bytes(block)
    for at in (0, block // 2, block - 1):
        async with world() as all_of:
            a, b = await all_of.site("a"), await all_of.site("b")
            b.begin(a.put(data, block))
            held = a.store.get(KEY)
            assert held is not None
            held.place.writable()[at] ^= 1
            b.engine.follow(KEY, A)
            key, source, blocks, failure = await b.reports.wait_failure()
            assert (key, source, blocks, failure.name) == (KEY, "a", (0,), "CORRUPT")
