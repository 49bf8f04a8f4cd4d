"""What every carrier promises (`transfers.net.network`): one suite for TCP and for the simulated network."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest
import trio
import trio.testing

from orchestra.simulation.world import World, host_name
from tests.orchestra.simulation.worlds import in_world, some_bytes
from transfers.errors import ConnectFailed, StreamBroken
from transfers.net.network import Listener, Network, Stream
from transfers.net.tcp import TcpNetwork

Body: TypeAlias = Callable[[Network, Network, str], Awaitable[None]]
Carrier: TypeAlias = Callable[[Body], None]


def over_tcp(body: Body) -> None:
    async def main() -> None:
        with trio.fail_after(20):
            await body(TcpNetwork(), TcpNetwork(), "127.0.0.1")

    trio.run(main)


def over_simulation(body: Body) -> None:
    async def main(world: World) -> None:
        await body(world.process(0), world.process(1), host_name(1))
        assert world.complaints == []

    in_world(main, rate=1e8, latency_s=1e-4)


@pytest.fixture(params=[over_tcp, over_simulation], ids=["tcp", "simulation"])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    """Runs a body with two ways into one network, and the second one's address."""
    chosen: Carrier = request.param
    return chosen


async def pair(near: Network, far: Network, host: str) -> tuple[Stream, Stream, Listener]:
    """Both ends of a stream, and the listener through which they met."""
    listener = await far.listen(f"{host}:0")
    stream = await near.connect(listener.address, 5)
    return stream, await listener.accept(), listener


async def receive_exactly(stream: Stream, count: int) -> bytes:
    got = bytearray()
    buffer = memoryview(bytearray(100_000))
    while len(got) < count:
        more = await stream.receive_some_into(buffer[: count - len(got)])
        assert more, f"the stream ended after {len(got)} of {count} bytes"
        got += buffer[:more]
    return bytes(got)


def test_bytes_come_whole_and_in_order_both_ways(carrier: Carrier) -> None:
    data = some_bytes(3_000_001)

    async def body(near: Network, far: Network, host: str) -> None:
        one, other, listener = await pair(near, far, host)

        async def send(stream: Stream) -> None:
            at = 0
            for size in (1, 4096, 4097, 1_000_000, 70_000, len(data)):
                await stream.send_all(memoryview(data)[at : at + size])
                at = min(len(data), at + size)

        async def receive(stream: Stream) -> None:
            assert await receive_exactly(stream, len(data)) == data

        async with trio.open_nursery() as nursery:
            for stream in (one, other):
                nursery.start_soon(send, stream)
                nursery.start_soon(receive, stream)
        await one.aclose()
        await other.aclose()
        await listener.aclose()

    carrier(body)


def test_what_was_sent_before_closing_arrives_and_then_the_end(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        one, other, listener = await pair(near, far, host)
        await one.send_all(b"goodbye")
        await one.aclose()
        assert await receive_exactly(other, 7) == b"goodbye"
        assert await other.receive_some_into(memoryview(bytearray(1))) == 0
        assert await other.receive_some_into(memoryview(bytearray(1))) == 0
        await other.aclose()
        await listener.aclose()

    carrier(body)


def test_sending_to_an_end_that_is_gone_breaks(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        one, other, listener = await pair(near, far, host)
        other.abort()

        async def send_on() -> None:
            while True:
                await one.send_all(bytes(1 << 20))

        with pytest.raises(StreamBroken):
            await send_on()
        await one.aclose()
        await listener.aclose()

    carrier(body)


def test_an_end_that_is_closed_here_is_of_no_use(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        one, other, listener = await pair(near, far, host)
        await one.aclose()
        await one.aclose()
        one.abort()
        with pytest.raises(StreamBroken):
            await one.send_all(b"x")
        with pytest.raises(StreamBroken):
            await one.receive_some_into(memoryview(bytearray(1)))
        other.abort()
        await listener.aclose()

    carrier(body)


def test_aborting_wakes_whoever_reads_or_writes(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        one, other, listener = await pair(near, far, host)

        async def read() -> None:
            with pytest.raises(StreamBroken, match="closed on this side"):
                await one.receive_some_into(memoryview(bytearray(1)))

        async def write() -> None:
            with pytest.raises(StreamBroken, match="closed on this side"):
                await one.send_all(bytes(64 << 20))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(write)
            await trio.sleep(0.05)
            one.abort()
        other.abort()
        await listener.aclose()

    carrier(body)


def test_a_writer_waits_for_a_reader_that_does_not_read(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        one, other, listener = await pair(near, far, host)
        told: list[int] = []
        with trio.move_on_after(0.5) as patience:
            await one.send_all(bytes(64 << 20), told.append)
        assert patience.cancelled_caught
        assert 0 < sum(told) < 64 << 20
        assert min(told) > 0
        one.abort()
        other.abort()
        await listener.aclose()

    carrier(body)


def test_progress_tells_of_every_byte_once(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        one, other, listener = await pair(near, far, host)
        told: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_exactly, other, 2_000_000)
            await one.send_all(bytes(2_000_000), told.append)
        assert sum(told) == 2_000_000
        one.abort()
        other.abort()
        await listener.aclose()

    carrier(body)


def test_a_receive_that_is_cancelled_loses_nothing(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        one, other, listener = await pair(near, far, host)
        for _ in range(3):
            with trio.move_on_after(0.01):
                await other.receive_some_into(memoryview(bytearray(10)))
        await one.send_all(b"all of it")
        await trio.sleep(0.05)
        with trio.CancelScope() as scope:
            scope.cancel()
            await other.receive_some_into(memoryview(bytearray(4)))
        assert await receive_exactly(other, 9) == b"all of it"
        one.abort()
        other.abort()
        await listener.aclose()

    carrier(body)


def test_where_nobody_listens_nobody_connects(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        listener = await far.listen(f"{host}:0")
        await listener.aclose()
        with pytest.raises(ConnectFailed, match=f"{listener.address}: connection refused"):
            await near.connect(listener.address, 5)

    carrier(body)


@pytest.mark.parametrize("address", ["nonsense", "host:99999", "a\0b:1", "[::1:1"])
def test_an_address_that_is_none_is_refused(carrier: Carrier, address: str) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        with pytest.raises(ConnectFailed):
            await near.connect(address, 2)

    carrier(body)


def test_a_port_is_had_once_and_again_after_closing(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        listener = await far.listen(f"{host}:0")
        with pytest.raises(
            ConnectFailed, match=f"cannot listen on {listener.address}: address already in use"
        ):
            await far.listen(listener.address)
        await listener.aclose()
        again = await far.listen(listener.address)
        assert again.address == listener.address
        await again.aclose()

    carrier(body)


def test_closing_a_listener_ends_accepting(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        listener = await far.listen(f"{host}:0")

        async def accept() -> None:
            with pytest.raises(StreamBroken, match="closed on this side"):
                await listener.accept()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            await trio.sleep(0.02)
            await listener.aclose()
        with pytest.raises(StreamBroken):
            await listener.accept()

    carrier(body)


def test_each_connection_is_accepted_once_and_knows_its_peer(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        listener = await far.listen(f"{host}:0")
        ends = [await near.connect(listener.address, 5) for _ in range(5)]
        assert [end.peer for end in ends] == [listener.address] * 5
        accepted = [await listener.accept() for _ in range(5)]
        assert len({end.peer for end in accepted}) == 5
        for number, end in enumerate(ends):
            await end.send_all(bytes([number]))
        assert sorted([await receive_exactly(end, 1) for end in accepted]) == [bytes([n]) for n in range(5)]
        for end in ends + accepted:
            end.abort()
        await listener.aclose()

    carrier(body)


def test_an_empty_send_and_settings_change_nothing(carrier: Carrier) -> None:
    async def body(near: Network, far: Network, host: str) -> None:
        one, other, listener = await pair(near, far, host)
        one.prefer_low_delay()
        for rate in (1e6, None, 1e12, 0.5, None):
            one.set_pacing_rate(rate)
        await one.send_all(b"")
        await one.send_all(b"there")
        assert await receive_exactly(other, 5) == b"there"
        one.abort()
        one.set_pacing_rate(1e6)
        other.abort()
        await listener.aclose()

    carrier(body)
