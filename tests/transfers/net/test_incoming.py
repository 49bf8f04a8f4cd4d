"""Blocks are passed on while they arrive: how far, and what becomes of those that never come to an end."""

import pytest
import trio

from tests.transfers.net.sites import (
    KEY,
    Site,
    World,
    asked_blocks,
    hear,
    indices,
    manifest_of,
    say,
    send_block,
    settle,
    some_bytes,
    until,
    world,
)
from transfers.ids import BlockIndex, NodeName
from transfers.manifest import Manifest
from transfers.net import server as server_module
from transfers.net.connection import Connection
from transfers.net.fetch import MOST_BROKEN_OFF
from transfers.net.incoming import Fate, IncomingBlock, IncomingBlocks
from transfers.net.messages import IDLE_BYTES, Ask, BlockArriving, BlockHeader
from transfers.net.server import ServerStatistics
from transfers.planners.events import FetchFailure, forward_bytes

BLOCK = 1 << 18
DATA = some_bytes(BLOCK)
HALF = BLOCK // 2
SLOW, B = NodeName("slow"), NodeName("b")


class SlowSource:
    """Serves one block in two parts, halves unless told otherwise, the second when a test lets it.

    Args:
        second: what it sends as the second part.
        first: what it sends at once, behind the header.
    """

    def __init__(self, second: bytes = DATA[HALF:], first: bytes = DATA[:HALF]) -> None:
        self.go_on = trio.Event()
        self.first = first
        self._second = second

    async def behave(self, connection: Connection) -> None:
        """As a server for one receiver."""
        await asked_blocks(connection, 1)
        await say(connection, BlockHeader(KEY, BlockIndex(0), BLOCK))
        await connection.stream.send_all(self.first)
        await self.go_on.wait()
        await connection.stream.send_all(self._second)
        await hear(connection)


async def in_a_row(all_of: World, source: SlowSource) -> tuple[Site, Site, Manifest]:
    """b asks the slow source for the block, and c asks b."""
    await all_of.liar("slow", source.behave)
    b, c = await all_of.site("b"), await all_of.site("c")
    manifest = manifest_of(DATA, BLOCK)
    b.begin(manifest)
    c.begin(manifest)
    c.engine.fetch(KEY, B, indices(0))
    b.engine.fetch(KEY, SLOW, indices(0))
    await until(
        lambda: b.engine.is_receiving(KEY, BlockIndex(0)) and b.server.sent_bytes >= len(source.first)
    )
    return b, c, manifest


async def test_what_has_come_of_a_block_is_passed_on_before_the_rest() -> None:
    source = SlowSource()
    async with world() as all_of:
        b, c, _ = await in_a_row(all_of, source)
        assert not b.reports.stored
        assert b.server.sent_bytes == HALF
        source.go_on.set()
        await c.wait_complete()
        assert c.bytes_of() == DATA
        assert c.reports.stored == [(KEY, 0, "b")]


async def test_time_in_which_the_sender_waited_itself_is_not_counted_to_its_link() -> None:
    source = SlowSource()
    async with world() as all_of:
        b, c, _ = await in_a_row(all_of, source)
        await trio.sleep(0.4)
        source.go_on.set()
        await c.wait_complete()
        assert b.reports.seconds[0] >= 0.4
        assert c.reports.seconds[0] <= 0.2


async def test_a_corrupt_block_is_never_finished_and_only_who_sent_it_first_is_named() -> None:
    source = SlowSource(second=bytes(HALF))
    async with world() as all_of:
        good = await all_of.site("good")
        good.put(DATA, BLOCK)
        b, c, _ = await in_a_row(all_of, source)
        source.go_on.set()
        assert await b.reports.wait_failure() == (KEY, "slow", (0,), FetchFailure.CORRUPT)
        b.engine.fetch(KEY, NodeName("good"), indices(0))
        await c.wait_complete()
        assert c.bytes_of() == DATA
        assert not c.reports.failed
        assert c.reports.stored == [(KEY, 0, "b")]


async def test_a_block_that_stands_still_is_broken_off_below_and_comes_when_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "PASSING_LIMIT_S", 0.1)
    monkeypatch.setattr(server_module, "_WATCH_INTERVAL_S", 0.05)
    source = SlowSource()
    async with world() as all_of:
        b, c, _ = await in_a_row(all_of, source)
        await until(lambda: b.server.statistics().waiting_asks == 1)
        assert b.server.statistics().slots_taken == 0
        source.go_on.set()
        await c.wait_complete()
        assert c.bytes_of() == DATA
        assert not c.reports.failed
        assert b.server.sent_bytes == HALF + BLOCK


async def test_a_block_of_which_nothing_has_come_is_asked_for_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was said of it below, so there is nothing to break off."""
    monkeypatch.setattr(server_module, "PASSING_LIMIT_S", 0.1)
    monkeypatch.setattr(server_module, "_WATCH_INTERVAL_S", 0.05)
    source = SlowSource(second=DATA, first=b"")
    async with world() as all_of:
        b, c, _ = await in_a_row(all_of, source)
        connections = b.server.statistics().connections
        await trio.sleep(0.4)
        assert b.server.statistics() == ServerStatistics(connections, 1, 0, 0)
        assert not c.reports.failed
        source.go_on.set()
        await c.wait_complete()
        assert c.reports.stored == [(KEY, 0, "b")]


async def test_a_block_that_is_there_goes_before_one_that_arrives() -> None:
    source = SlowSource()
    async with world() as all_of:
        await all_of.liar("slow", source.behave)
        good, b, c = [await all_of.site(name) for name in ("good", "b", "c")]
        data = some_bytes(2 * BLOCK)
        manifest = good.put(data, BLOCK)
        b.begin(manifest)
        c.begin(manifest)
        b.engine.fetch(KEY, NodeName("good"), indices(1))
        await b.reports.wait(lambda: len(b.reports.stored) == 1)
        b.engine.fetch(KEY, SLOW, indices(0))
        await until(lambda: b.engine.is_receiving(KEY, BlockIndex(0)))
        c.engine.fetch(KEY, B, indices(0, 1))
        await c.reports.wait(lambda: bool(c.reports.stored))
        assert c.reports.stored == [(KEY, 1, "b")]


async def test_who_dies_while_passing_on_a_block_is_unreachable() -> None:
    async def dies(connection: Connection) -> None:
        await asked_blocks(connection, 1)
        await say(connection, BlockArriving(KEY, BlockIndex(0), BLOCK))
        await connection.stream.send_all(DATA[:HALF])
        all_of.addresses["slow"] = "127.0.0.1:1"  # nobody listens there

    async with world() as all_of:
        await all_of.liar("slow", dies)
        c = await all_of.site("c")
        c.begin(manifest_of(DATA, BLOCK))
        c.engine.fetch(KEY, SLOW, indices(0))
        assert await c.reports.wait_failure() == (KEY, "slow", (0,), FetchFailure.UNREACHABLE)


async def test_one_that_breaks_off_is_asked_again_for_all_that_is_open() -> None:
    asked: list[list[int]] = []

    async def breaks_off_once(connection: Connection) -> None:
        asked.append(await asked_blocks(connection, 2))
        if len(asked) == 1:
            await say(connection, BlockArriving(KEY, BlockIndex(0), BLOCK))
            await connection.stream.send_all(DATA[:HALF])
            return
        for block in asked[-1]:
            await send_block(connection, KEY, block, data[block * BLOCK : (block + 1) * BLOCK])
        await hear(connection)

    data = some_bytes(2 * BLOCK)
    async with world() as all_of:
        await all_of.liar("slow", breaks_off_once)
        c = await all_of.site("c")
        c.begin(manifest_of(data, BLOCK))
        c.engine.fetch(KEY, SLOW, indices(0, 1))
        await c.wait_complete()
        assert asked == [[0, 1], [0, 1]]
        assert not c.reports.failed


async def test_who_breaks_off_again_and_again_is_unreachable() -> None:
    asked: list[list[int]] = []

    async def breaks_off(connection: Connection) -> None:
        asked.append(await asked_blocks(connection, 1))
        await say(connection, BlockArriving(KEY, BlockIndex(0), BLOCK))

    async with world() as all_of:
        await all_of.liar("slow", breaks_off)
        c = await all_of.site("c")
        c.begin(manifest_of(DATA, BLOCK))
        c.engine.fetch(KEY, SLOW, indices(0))
        assert await c.reports.wait_failure() == (KEY, "slow", (0,), FetchFailure.UNREACHABLE)
        assert asked == [[0]] * MOST_BROKEN_OFF


async def test_what_is_said_of_idle_time_follows_the_block() -> None:
    async with world() as all_of:
        b, c = await all_of.site("b"), await all_of.site("c")
        manifest = manifest_of(DATA, BLOCK)
        c.begin(manifest)

        async def passes_on(connection: Connection) -> None:
            assert isinstance(await hear(connection), Ask)
            await say(connection, BlockArriving(KEY, BlockIndex(0), BLOCK))
            idle = (3_600_000_000).to_bytes(IDLE_BYTES, "big")
            await connection.stream.send_all(DATA, tail=idle)
            await hear(connection)

        await all_of.liar("slow", passes_on)
        c.engine.fetch(KEY, SLOW, indices(0))
        await c.wait_complete()
        assert c.reports.seconds[0] == 0.0  # longer than it took: a sender is not trusted to tell the time
        assert not b.reports.stored


async def test_the_end_of_an_object_ends_what_was_passed_on_of_it() -> None:
    source = SlowSource()
    async with world() as all_of:
        b, c, _ = await in_a_row(all_of, source)
        b.drop()
        failed = await c.reports.wait_failure()
        assert failed[1:3] == ("b", (0,))
        await settle()
        assert not c.reports.stored


async def test_waiting_for_more_ends_with_more_or_with_its_fate() -> None:
    block = IncomingBlock(100)
    woken: list[int] = []

    async def wait(beyond: int) -> None:
        await block.wait_beyond(beyond)
        woken.append(beyond)

    async with trio.open_nursery() as nursery:
        for beyond in (0, 10, 60):
            nursery.start_soon(wait, beyond)
        await settle()
        block.add(20)
        await settle()
        assert (sorted(woken), block.ready_bytes) == ([0, 10], 20)
        block.add(80)
        await settle()
        assert (len(woken), block.ready_bytes) == (2, 20)  # the last of it only when it is checked
        block.end(Fate.STORED)
    assert (len(woken), block.ready_bytes) == (3, 100)


async def test_nobody_waits_for_what_stands_still() -> None:
    blocks = IncomingBlocks()
    block = blocks.begin(KEY, BlockIndex(0), 100)
    fates = []
    for late_s in (0.0, 0.1):
        stalled = {KEY: block.moved_at_s + late_s}
        blocks.give_up(stalled.__getitem__)
        fates.append(block.fate)
    await block.wait_beyond(50)
    blocks.end(KEY, BlockIndex(0), Fate.STORED)
    assert [*fates, block.fate] == [Fate.ARRIVING, Fate.STUCK, Fate.STORED]
    assert not len(blocks)


@pytest.mark.parametrize(
    ("block_bytes", "rate", "part_bytes"),
    [(1000, 0.0, 1000), (64 << 10, 0.0, 32 << 10), (4 << 20, 0.0, 1 << 20), (1 << 20, 5e8, 500_000)],
)
def test_parts_are_few_and_neither_small_nor_short(block_bytes: int, rate: float, part_bytes: int) -> None:
    assert forward_bytes(block_bytes, rate) == part_bytes
