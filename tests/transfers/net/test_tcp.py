"""Addresses, and the mapping of what sockets raise."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import trio
import trio.testing

from transfers.errors import ConnectFailed, StreamBroken
from transfers.net.tcp import TcpNetwork, local_host_towards


async def test_what_cannot_be_reached_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectFailed, match=f"{nobody}: connection refused"):
            await TcpNetwork().connect(nobody, 5)


@pytest.mark.parametrize("address", ["nonsense", "host:99999", "a\0b:1", f"{'x' * 70}.y:1", "[::1:1"])
async def test_an_address_that_is_none_cannot_be_reached(address: str) -> None:
    # Other nodes say where they listen: what they say must not raise anything else.
    with pytest.raises(ConnectFailed):
        await TcpNetwork().connect(address, 2)


async def test_a_port_in_use_cannot_be_had() -> None:
    listener = await TcpNetwork().listen("127.0.0.1:0")
    with pytest.raises(ConnectFailed, match=f"cannot listen on {listener.address}: address already in use"):
        await TcpNetwork().listen(listener.address)
    await listener.aclose()


async def test_a_stream_carries_bytes_both_ways_and_breaks_by_name() -> None:
    listener = await TcpNetwork().listen("127.0.0.1:0")
    client = await TcpNetwork().connect(listener.address, 5)
    server = await listener.accept()
    client.prefer_low_delay()
    client.set_pacing_rate(1e6)
    client.set_pacing_rate(None)
    client.set_pacing_rate(1e12)
    await client.send_all(b"there")
    await server.send_all(memoryview(b"back"))
    buffer = memoryview(bytearray(10))
    assert bytes(buffer[: await server.receive_some_into(buffer)]) == b"there"
    assert bytes(buffer[: await client.receive_some_into(buffer)]) == b"back"
    await client.aclose()
    assert await server.receive_some_into(buffer) == 0
    with pytest.raises(StreamBroken):
        await client.send_all(b"x")
    with pytest.raises(StreamBroken):
        await server.send_all(bytes(64 << 20))
    server.abort()
    await listener.aclose()
    with pytest.raises(StreamBroken):
        await listener.accept()


async def test_aborting_wakes_whoever_waits() -> None:
    listener = await TcpNetwork().listen("127.0.0.1:0")
    client = await TcpNetwork().connect(listener.address, 5)
    server = await listener.accept()

    async def wait() -> None:
        with pytest.raises(StreamBroken, match="closed on this side"):
            await client.receive_some_into(memoryview(bytearray(1)))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            client.abort()
    server.abort()
    await listener.aclose()


def test_the_way_towards_loopback_is_loopback() -> None:
    assert local_host_towards("127.0.0.1:1") == "127.0.0.1"
    with pytest.raises(ConnectFailed, match="no way to"):
        local_host_towards("name.invalid:1")


def places(*ports: int) -> list[Any]:
    """What the resolver says of a host that listens, or does not, on several places."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Have every host resolve to these ports of loopback."""

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return places(*ports)

    monkeypatch.setattr(trio.socket, "getaddrinfo", resolve)


@contextmanager
def refusing() -> Iterator[int]:
    """A port of loopback on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def silent() -> Iterator[int]:
    """A port of loopback that does not answer: its queue of connections is full."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


async def test_the_next_address_of_a_host_is_tried_when_one_refuses_or_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener = await TcpNetwork().listen("127.0.0.1:0")
    with refusing() as nobody, silent() as deaf:
        resolve_to(monkeypatch, nobody, deaf, int(listener.address.rpartition(":")[2]))
        stream = await TcpNetwork().connect("several:1", 1)
        assert stream.peer == "several:1"
        await stream.aclose()
    await listener.aclose()


async def test_when_no_address_of_a_host_answers_every_reason_is_told_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with refusing() as nobody, silent() as deaf, trio.fail_after(5):
        resolve_to(monkeypatch, nobody, nobody, deaf)
        started_s = trio.current_time()
        with pytest.raises(ConnectFailed, match=r"several:1: connection refused; no answer within 0\.\d+ s"):
            await TcpNetwork().connect("several:1", 0.3)
        assert trio.current_time() - started_s < 2


def test_the_way_towards_a_host_is_that_of_its_first_address_that_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_way: Any = (socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("255.255.255.255", 1))  # not without a permit
    way: Any = (socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("127.0.0.1", 1))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [no_way, way])
    assert local_host_towards("several:1") == "127.0.0.1"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [no_way, no_way])
    with pytest.raises(ConnectFailed, match=r"no way to several:1: permission denied$"):
        local_host_towards("several:1")


async def test_a_reader_sleeps_until_as_much_is_there_as_it_wants_but_not_for_long() -> None:
    listener = await TcpNetwork().listen("127.0.0.1:0")
    client = await TcpNetwork().connect(listener.address, 5)
    server = await listener.accept()
    buffer = memoryview(bytearray(1000))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            got: list[int] = []

            async def read(wanted_bytes: int) -> None:
                got.append(await client.receive_some_into(buffer, wanted_bytes))

            nursery.start_soon(read, 1000)
            await trio.testing.wait_all_tasks_blocked()
            await server.send_all(bytes(400))
            await trio.sleep(0.02)
            assert got == [], "less than it wants does not wake it"
            await server.send_all(bytes(600))
        assert got == [1000]
        await server.send_all(bytes(3))
        await read(1000)
        assert got == [1000, 3], "what never comes does not hang it"
        await server.send_all(b"x")
        await read(1)
        assert got == [1000, 3, 1], "nor is the mark left standing"
        server.abort()
        await read(1000)
        assert got[-1] == 0
    client.abort()
    with pytest.raises(StreamBroken, match="closed on this side"):
        await client.receive_some_into(buffer, 1000)
    await listener.aclose()


async def test_head_and_tail_go_around_the_data_of_which_alone_progress_hears() -> None:
    listener = await TcpNetwork().listen("127.0.0.1:0")
    client = await TcpNetwork().connect(listener.address, 5)
    server = await listener.accept()
    data = bytes(range(256)) * (8 << 12)  # more than the kernel takes at once
    taken: list[int] = []
    received = bytearray()

    async def receive() -> None:
        buffer = memoryview(bytearray(1 << 20))
        while more := await server.receive_some_into(buffer):
            received.extend(buffer[:more])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await client.send_all(memoryview(data), taken.append, head=b"head", tail=b"tail")
        await client.send_all(b"", head=b"more")
        await client.aclose()
    assert bytes(received) == b"head" + data + b"tail" + b"more"
    assert sum(taken) == len(data)
    server.abort()
    await listener.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long bytes were under way")
async def test_a_stream_is_busy_while_the_other_end_does_not_take_what_was_sent() -> None:
    listener = await TcpNetwork().listen("127.0.0.1:0")
    client = await TcpNetwork().connect(listener.address, 5)
    server = await listener.accept()
    assert client.busy_s() == pytest.approx(0.0, abs=0.05)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, bytes(64 << 20))
        await trio.sleep(0.3)
        before_s = client.busy_s()
        await trio.sleep(0.3)
        after_s = client.busy_s()
        nursery.cancel_scope.cancel()
    assert before_s is not None
    assert after_s is not None
    assert after_s - before_s == pytest.approx(0.3, abs=0.15)
    client.abort()
    assert client.busy_s() is None
    server.abort()
    await listener.aclose()
