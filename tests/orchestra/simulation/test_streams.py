"""Simulated streams: times worked out by hand, backpressure, and what a fault does in the middle."""

import pytest
import trio

from orchestra.simulation.streams import MESSAGE_BYTES, POLL_S, SEND_BUFFER_BYTES, WINDOW_BYTES
from orchestra.simulation.world import Delays, World
from tests.orchestra.simulation.worlds import BULK, RATE, connected, in_world, read_all, some_bytes
from transfers.errors import StreamBroken
from transfers.net.network import LEAST_PACING_BYTES_PER_S


def test_bulk_takes_its_bytes_over_the_rate() -> None:
    async def body(world: World) -> float:
        one, other = await connected(world, 0, 1)
        begin_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, some_bytes(2_000_000))
            assert await read_all(other, 2_000_000) == some_bytes(2_000_000)
        return trio.current_time() - begin_s

    assert in_world(body) == pytest.approx(2.0)


def test_latency_comes_on_top_once() -> None:
    async def body(world: World) -> float:
        one, other = await connected(world, 0, 1)
        begin_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, bytes(BULK))
            await read_all(other, BULK)
        return trio.current_time() - begin_s

    assert in_world(body, latency_s=0.01) == pytest.approx(BULK / RATE + 0.01)


def test_two_senders_share_the_receivers_port() -> None:
    async def body(world: World) -> list[float]:
        ended: list[float] = []
        begin_s = 0.0

        async def move(sender: int, count: int) -> None:
            one, other = await connected(world, sender, 2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.send_all, bytes(count))
                await read_all(other, count)
            ended.append(trio.current_time() - begin_s)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(move, 0, BULK)
            nursery.start_soon(move, 1, 2 * BULK)
        return ended

    # Halves while both flow; then the longer one has the port for itself.
    assert in_world(body) == pytest.approx([2 * BULK / RATE, 3 * BULK / RATE])


def test_a_paced_stream_takes_its_bytes_over_its_rate_and_a_change_bites_at_once() -> None:
    async def body(world: World) -> float:
        one, other = await connected(world, 0, 1)
        one.set_pacing_rate(0.6 * RATE)
        begin_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, bytes(BULK))
            nursery.start_soon(read_all, other, BULK)
            await trio.sleep(0.1)
            one.set_pacing_rate(0.8 * RATE)
        return trio.current_time() - begin_s

    assert in_world(body) == pytest.approx(0.1 + (BULK - 0.1 * 0.6 * RATE) / (0.8 * RATE))


def test_a_message_takes_its_delay_and_no_capacity() -> None:
    async def body(world: World) -> list[float]:
        one, other = await connected(world, 0, 1)
        one.prefer_low_delay()
        times: list[float] = []
        for _ in range(50):
            begin_s = trio.current_time()
            await one.send_all(b"x")
            await read_all(other, 1)
            times.append(trio.current_time() - begin_s)
        assert world.fluid.settlings == 0
        return times

    times = in_world(body, delays=Delays(0.02, jitter=0.5))
    assert all(0.01 <= each <= 0.0301 for each in times)
    assert max(times) - min(times) > 0.01


def test_a_message_between_idle_hosts_is_quick_and_from_a_busy_one_late() -> None:
    async def body(world: World) -> tuple[float, float]:
        one, other = await connected(world, 0, 1)
        bulk, _ = await connected(world, 0, 2)

        async def message_s() -> float:
            begin_s = trio.current_time()
            await one.send_all(b"x")
            await read_all(other, 1)
            return trio.current_time() - begin_s

        idle_s = await message_s()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bulk.send_all, bytes(1_000_000))
            await trio.sleep(0.01)
            busy_s = await message_s()
            nursery.cancel_scope.cancel()
        return idle_s, busy_s

    idle_s, busy_s = in_world(body, delays=Delays(0.02, jitter=0.0))
    assert idle_s < 0.001
    assert busy_s == pytest.approx(0.02, rel=0.01)


def test_what_follows_a_message_never_overtakes_it() -> None:
    sizes = [1, MESSAGE_BYTES, MESSAGE_BYTES + 1, 7, 50_000, 3, 3, 90_000, 1]

    async def body(world: World) -> bytes:
        one, other = await connected(world, 0, 1)
        one.prefer_low_delay()
        data, at = some_bytes(sum(sizes)), 0
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                nonlocal at
                for size in sizes:
                    await one.send_all(data[at : at + size])
                    at += size

            nursery.start_soon(send)
            got = await read_all(other, len(data), at_once=1000)
        assert got == data
        return got

    in_world(body, delays=Delays(0.02, jitter=1.0))


def test_a_writer_is_held_back_by_window_and_buffer() -> None:
    async def body(world: World) -> int:
        one, _ = await connected(world, 0, 1)
        told: list[int] = []
        with trio.move_on_after(60):
            await one.send_all(bytes(2 * WINDOW_BYTES), told.append)
        assert world.fluid.live == 0  # a flow that the reader stops takes nobody's capacity
        return sum(told)

    assert in_world(body, rate=1e6) == WINDOW_BYTES


def test_a_writer_goes_on_when_the_reader_reads_again() -> None:
    async def body(world: World) -> None:
        one, other = await connected(world, 0, 1)
        data = some_bytes(WINDOW_BYTES + 2_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, data)
            await trio.sleep(30)
            assert await read_all(other, len(data)) == data

    in_world(body, rate=1e6)


def test_a_short_write_is_off_our_hands_at_once_and_a_long_one_is_not() -> None:
    async def body(world: World) -> tuple[float, float]:
        one, other = await connected(world, 0, 1)
        begin_s = trio.current_time()
        await one.send_all(bytes(SEND_BUFFER_BYTES))
        short_s = trio.current_time() - begin_s
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, other, SEND_BUFFER_BYTES + 1_000_000)
            await one.send_all(bytes(1_000_000))
        return short_s, trio.current_time() - begin_s

    short_s, long_s = in_world(body)
    assert short_s == 0.0
    assert long_s == pytest.approx((SEND_BUFFER_BYTES + 1_000_000) / RATE)


def test_a_reader_hears_of_slow_bytes_before_they_are_all_there() -> None:
    async def body(world: World) -> int:
        one, other = await connected(world, 0, 1)
        one.set_pacing_rate(LEAST_PACING_BYTES_PER_S)
        buffer = memoryview(bytearray(BULK))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, bytes(BULK))
            first = await other.receive_some_into(buffer)
            nursery.cancel_scope.cancel()
        assert trio.current_time() <= 2 * POLL_S
        return first

    assert 0 < in_world(body) <= LEAST_PACING_BYTES_PER_S * 2 * POLL_S


@pytest.mark.parametrize("count", [10, BULK])
def test_where_a_way_is_cut_bytes_wait_until_it_is_mended(count: int) -> None:
    async def body(world: World) -> float:
        one, other = await connected(world, 0, 1)
        async with trio.open_nursery() as nursery:
            world.change("cut", 0, 1)
            nursery.start_soon(one.send_all, some_bytes(count))
            await trio.sleep(3)
            with trio.move_on_after(1) as patience:
                await other.receive_some_into(memoryview(bytearray(1)))
            assert patience.cancelled_caught
            world.change("mend", 0, 1)
            assert await read_all(other, count) == some_bytes(count)
        return trio.current_time()

    assert in_world(body) == pytest.approx(4.0, abs=0.2)


def test_a_cut_in_the_middle_keeps_what_came_before_and_the_other_way_goes_on() -> None:
    async def body(world: World) -> None:
        one, other = await connected(world, 0, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, some_bytes(BULK))
            await trio.sleep(BULK / RATE / 2)
            world.change("cut", 0, 1)
            await other.send_all(b"back")
            assert await read_all(one, 4) == b"back"
            begun = await read_all(other, BULK // 4)
            await trio.sleep(5)
            world.change("mend", 0, 1)
            assert begun + await read_all(other, BULK - len(begun)) == some_bytes(BULK)

    in_world(body)


def test_a_slow_card_is_slow_both_ways_until_it_is_mended() -> None:
    async def body(world: World) -> float:
        one, other = await connected(world, 0, 1)
        world.change("slow", 1, share=0.1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, bytes(BULK))
            nursery.start_soon(read_all, other, BULK)
            await trio.sleep(0.5)
            world.change("slow", 1, share=1.0)
        return trio.current_time()

    assert in_world(body) == pytest.approx(0.5 + BULK / 2 / RATE)


def test_one_byte_of_the_read_that_is_named_is_corrupt_and_no_other() -> None:
    async def body(world: World) -> list[int]:
        one, other = await connected(world, 0, 1)
        world.corrupting[0, 1] = 2
        wrong: list[int] = []
        for _ in range(4):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.send_all, some_bytes(BULK))
                got = await read_all(other, BULK, at_once=BULK)
            pairs = zip(got, some_bytes(BULK), strict=True)
            wrong.append(sum(here != there for here, there in pairs))
        return wrong

    assert in_world(body) == [0, 1, 0, 0]


def test_writing_on_after_a_cancelled_write_is_complained_of() -> None:
    async def body(world: World) -> list[str]:
        one, _ = await connected(world, 0, 1)
        with trio.move_on_after(0.1):
            await one.send_all(bytes(2 * WINDOW_BYTES))
        assert world.complaints == []
        with trio.move_on_after(0.1):
            await one.send_all(b"more")
        return world.complaints

    assert len(in_world(body)) == 1


def test_the_end_comes_after_the_bytes_and_a_write_then_breaks() -> None:
    async def body(world: World) -> None:
        one, other = await connected(world, 0, 1)
        await one.send_all(b"last words")
        await one.aclose()
        assert await read_all(other, 100) == b"last words"
        await trio.sleep(1)
        with pytest.raises(StreamBroken, match="reset by peer"):
            await other.send_all(b"x")

    in_world(body, latency_s=0.01)


def test_bytes_of_one_host_go_faster_than_any_card() -> None:
    async def body(world: World) -> float:
        one, other = await connected(world, 1, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, bytes(1_000_000))
            await read_all(other, 1_000_000)
        return trio.current_time()

    assert in_world(body) < 0.01
