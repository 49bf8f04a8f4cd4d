"""Serving a store in a trio loop: who is let in, what is endured, and how it ends."""

import gc
import logging
import os
import random
import socket
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import trio

from transfers.errors import ConnectFailed, LocalProtocolError, RemoteProtocolError, UnknownTransfer
from transfers.ids import BlockIndex, TransferName
from transfers.manifest import ContentType, ObjectKey
from transfers.store import Store, sharing
from transfers.store.attach import attach
from transfers.store.protocol import CLIENT_CODEC, PROTOCOL_VERSION, Hello, Lookup, socket_name
from transfers.store.sharing import adopt, serve

MIB = 1 << 20


def key(name: str) -> ObjectKey:
    return ObjectKey(TransferName(name))


StoreWith = Callable[..., Store]


@pytest.fixture
def store_with() -> Iterator[StoreWith]:
    """Makes stores, with one object of threes where a name is given, and closes them afterwards."""
    made: list[Store] = []

    def make(name: str = "", size_bytes: int = 1000) -> Store:
        made.append(Store(4 * MIB))
        if name:
            made[-1].put(key(name), np.full(size_bytes, 3, np.uint8).data, MIB)
        return made[-1]

    yield make
    for store in made:
        store.close()


def open_descriptors() -> int:
    """Of this process, without what earlier tests have left to the collector."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


async def connect(address: str) -> trio.socket.SocketType:
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    await sock.connect(socket_name(address))
    return sock


async def is_dropped(address: str) -> bool:
    """Whether a process that greets is sent away."""
    with await connect(address) as sock:
        try:
            await sock.send(CLIENT_CODEC.encode(Hello(PROTOCOL_VERSION)))
            return not await sock.recv(1000)
        except OSError:
            return True


async def read_once(address: str, name: str) -> bytes:
    def read() -> bytes:
        with attach(address) as attachment:
            return bytes(attachment.get(name).buffer)

    return await trio.to_thread.run_sync(read)


async def test_the_address_is_there_while_it_is_served(nursery: trio.Nursery, store_with: StoreWith) -> None:
    store = store_with("a")
    assert store.address == ""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:
            address = await inner.start(serve, store)
            assert store.address == address
            assert await read_once(address, "a") == b"\x03" * 1000
            with pytest.raises(LocalProtocolError, match="served already"):
                await serve(store)
            scope.cancel()
    assert store.address == ""
    with pytest.raises(ConnectFailed):
        attach(address)


async def test_200_messages_of_garbage_do_no_harm(
    nursery: trio.Nursery, store_with: StoreWith, caplog: pytest.LogCaptureFixture
) -> None:
    seed = 7
    rng = random.Random(seed)
    store = store_with("a")
    address = await nursery.start(serve, store)
    good = [CLIENT_CODEC.encode(Hello(PROTOCOL_VERSION)), CLIENT_CODEC.encode(Lookup(1, "a", ""))]
    descriptors = open_descriptors()
    for number in range(200):
        with await connect(address) as sock:
            if number % 2:
                await sock.send(good[0])
                await sock.recv(1000)
            garbage = bytearray(
                rng.choice(good) if number % 4 == 0 else rng.randbytes(rng.randrange(1, 4000))
            )
            garbage[rng.randrange(len(garbage))] ^= 1 << rng.randrange(8)
            await sock.send(garbage)
            with trio.fail_after(5):
                answer = await sock.recv(1000)
            assert answer == b"" or number % 4 == 0 or number % 2, (seed, number)
    assert await read_once(address, "a") == b"\x03" * 1000
    with trio.fail_after(5):
        while store.statistics().leases or open_descriptors() > descriptors + 1:
            await trio.lowlevel.checkpoint()
    assert "dropped a process" in caplog.text
    nursery.cancel_scope.cancel()


async def test_a_descriptor_sent_by_a_client_is_not_kept(
    nursery: trio.Nursery, store_with: StoreWith
) -> None:
    store = store_with("a")
    address = await nursery.start(serve, store)
    with await connect(address) as sock:
        reading, writing = os.pipe()
        await sock.sendmsg(
            [CLIENT_CODEC.encode(Hello(PROTOCOL_VERSION))],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, writing.to_bytes(4, "little"))],
        )
        await sock.recv(1000)
        os.close(writing)
        assert os.read(reading, 1) == b""  # nobody has the other end any more
        os.close(reading)
    nursery.cancel_scope.cancel()


async def test_a_message_over_the_limit_drops_its_sender(
    nursery: trio.Nursery, store_with: StoreWith
) -> None:
    store = store_with("a")
    address = await nursery.start(serve, store)
    with await connect(address) as sock:
        await sock.send(bytes(100_000))
        assert await sock.recv(1000) == b""
    nursery.cancel_scope.cancel()


async def test_who_does_not_greet_in_time_is_dropped(
    nursery: trio.Nursery, store_with: StoreWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "HANDSHAKE_TIMEOUT_S", 0.01)
    store = store_with("a")
    address = await nursery.start(serve, store)
    with await connect(address) as silent, await connect(address) as polite:
        await polite.send(CLIENT_CODEC.encode(Hello(PROTOCOL_VERSION)))
        await polite.recv(1000)
        with trio.fail_after(5):
            assert await silent.recv(1000) == b""
        await polite.send(CLIENT_CODEC.encode(Lookup(1, "a", "")))
        assert await polite.recv(1000) != b""
    nursery.cancel_scope.cancel()


async def test_another_users_process_is_dropped(
    nursery: trio.Nursery,
    store_with: StoreWith,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sharing, "is_same_user", lambda uid: False)
    store = store_with("a")
    address = await nursery.start(serve, store)
    with caplog.at_level(logging.WARNING), await connect(address) as sock:
        assert await sock.recv(1000) == b""
    assert f"it belongs to user {os.geteuid()}" in caplog.text
    nursery.cancel_scope.cancel()


async def test_the_number_of_connections_is_limited(
    nursery: trio.Nursery, store_with: StoreWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "MAX_CONNECTIONS", 2)
    store = store_with("a")
    address = await nursery.start(serve, store)
    with await connect(address), await connect(address) as second:
        with await connect(address) as third:
            assert await third.recv(1000) == b""
        second.close()
        with trio.fail_after(5):
            while await is_dropped(address):
                await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()


async def test_what_is_not_complete_is_not_given(nursery: trio.Nursery, store_with: StoreWith) -> None:
    whole = store_with("a", 3000)
    partial = store_with()
    manifest = whole.get(key("a")).manifest  # type: ignore[union-attr]
    stored = partial.create(manifest)
    address = await nursery.start(serve, partial)
    with pytest.raises(UnknownTransfer, match="0 of its 1 blocks"):
        await read_once(address, "a")
    stored.block(BlockIndex(0))[:] = b"\x04" * 3000
    stored.mark_stored(BlockIndex(0))
    assert await read_once(address, "a") == b"\x04" * 3000
    nursery.cancel_scope.cancel()


async def test_leases_do_not_end_when_serving_is_cancelled(store_with: StoreWith) -> None:
    store = store_with("a", MIB)
    async with trio.open_nursery() as inner:
        address = await inner.start(serve, store)
        attachment = await trio.to_thread.run_sync(attach, address)
        view = await trio.to_thread.run_sync(attachment.get, "a")
        inner.cancel_scope.cancel()
    store.release(key("a"))
    assert store.statistics().lingering_bytes == MIB
    assert view.array()[0] == 3
    attachment.close()


# -- adopting ------------------------------------------------------------------------------------


async def test_two_stores_can_adopt_from_one_another_in_one_loop(
    nursery: trio.Nursery, store_with: StoreWith
) -> None:
    one, other = store_with("a", MIB), store_with("b", MIB)
    address, other_address = await nursery.start(serve, one), await nursery.start(serve, other)
    a, b = one.get(key("a")), other.get(key("b"))
    assert a is not None
    assert b is not None
    async with trio.open_nursery() as both:
        both.start_soon(adopt, other, a.manifest, address)
        both.start_soon(adopt, one, b.manifest, other_address)
    taken = other.get(key("a"))
    assert taken is not None
    assert taken.adopted
    assert taken.complete
    assert bytes(taken.readable(BlockIndex(0))) == b"\x03" * MIB
    assert taken.view().buffer.readonly
    statistics = other.statistics()
    assert (statistics.adopted_bytes, statistics.reserved_bytes) == (MIB, MIB)
    for write in (lambda: taken.block(BlockIndex(0)), taken.reset):
        with pytest.raises(LocalProtocolError):
            write()
    other.release(key("a"))
    assert address not in other._attachments
    with trio.fail_after(5):
        while a.leases:
            await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()


async def test_a_file_that_is_saved_under_its_own_name_is_adopted_with_that_name(
    nursery: trio.Nursery, store_with: StoreWith
) -> None:
    one, other = store_with(), store_with()
    address = await nursery.start(serve, one)
    held = one.put(key("a"), memoryview(b"data"), 10, ContentType(file_name="weights.bin"))
    taken = await adopt(other, held.manifest, address)
    assert taken.adopted
    assert taken.manifest.content.file_name == "weights.bin"
    assert bytes(taken.view().buffer) == b"data"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "content",
    [ContentType("array", "|u1", (100,)), ContentType("array", "<u2", (50,)), ContentType("pickle")],
    ids=str,
)
async def test_the_same_bytes_to_be_read_otherwise_are_not_adopted(
    nursery: trio.Nursery, store_with: StoreWith, content: ContentType
) -> None:
    one, other = store_with(), store_with()
    address = await nursery.start(serve, one)
    one.put(key("a"), memoryview(bytes(100)), 10, ContentType("array", "|u1", (10, 10)))
    differing = store_with().put(key("a"), memoryview(bytes(100)), 10, content).manifest
    with pytest.raises(RemoteProtocolError, match="another object"):
        await adopt(other, differing, address)
    nursery.cancel_scope.cancel()


async def test_another_object_of_the_same_name_is_not_adopted(
    nursery: trio.Nursery, store_with: StoreWith
) -> None:
    one, other = store_with("a", 100), store_with()
    address = await nursery.start(serve, one)
    differing = store_with().put(key("a"), memoryview(bytes(100)), 10, ContentType()).manifest
    descriptors = open_descriptors()
    with pytest.raises(RemoteProtocolError, match="another object"):
        await adopt(other, differing, address)
    assert other.get(key("a")) is None
    with trio.fail_after(5):
        while open_descriptors() > descriptors:  # until the server's end is closed, too
            await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()


async def test_a_store_does_not_adopt_from_itself_nor_twice(
    nursery: trio.Nursery, store_with: StoreWith
) -> None:
    one, other = store_with("a", 100), store_with()
    address = await nursery.start(serve, one)
    manifest = one.get(key("a")).manifest  # type: ignore[union-attr]
    with pytest.raises(LocalProtocolError, match="own address"):
        await adopt(one, manifest, address)
    await adopt(other, manifest, address)
    descriptors = open_descriptors()
    with pytest.raises(LocalProtocolError, match="already"):
        await adopt(other, manifest, address)
    with trio.fail_after(5):
        while open_descriptors() > descriptors or one.statistics().leases > 1:
            await trio.lowlevel.checkpoint()
    assert other.statistics().adopted_bytes == 100
    nursery.cancel_scope.cancel()
