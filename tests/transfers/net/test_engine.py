"""The fetch engine and the block server, between whole sites on loopback."""

import logging
import time
from functools import partial

import pytest
import trio

from tests.transfers.net.sites import (
    KEY,
    SECRET,
    Site,
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
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import ObjectKey, PartName
from transfers.net import bodies as bodies_module
from transfers.net import in_step as in_step_module
from transfers.net import server as server_module
from transfers.net.connection import Connection, open_connection
from transfers.net.in_step import Asked
from transfers.net.messages import Ask, BlockHeader, Unavailable
from transfers.net.tcp import TcpNetwork
from transfers.planners.events import LOOK_AHEAD, FetchFailure

BLOCK = 4096
DATA = some_bytes(10 * BLOCK + 17)
A, B, C = NodeName("a"), NodeName("b"), NodeName("c")


def last_stored_is(site: Site, block: int) -> bool:
    """Whether this block was stored last, from ``a``."""
    return site.reports.stored[-1:] == [(KEY, block, "a")]


def heard_of_more_than(site: Site, count: int) -> bool:
    """Whether more than ``count`` asks have been stored or have failed."""
    return len(site.reports.stored) + len(site.reports.failed) > count


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> float:
    """Make every limit of the data plane short; how short."""
    limit_s = 0.3
    monkeypatch.setattr(bodies_module, "STALL_LIMIT_S", limit_s)
    monkeypatch.setattr(server_module, "STALL_LIMIT_S", limit_s)
    monkeypatch.setattr(server_module, "UNKNOWN_OBJECT_LIMIT_S", limit_s)
    monkeypatch.setattr(server_module, "_WATCH_INTERVAL_S", 0.05)
    return limit_s


# -- following -------------------------------------------------------------------------------------


async def test_following_gets_every_block_in_order_and_once() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        b.begin(a.put(DATA, BLOCK))
        b.engine.follow(KEY, A)
        await b.wait_complete()
        assert b.bytes_of() == DATA
        assert [(block, source) for _, block, source in b.reports.stored] == [(n, "a") for n in range(11)]
        assert b.reports.failed == []
        await settle()
        assert b.engine.received_bytes == a.server.sent_bytes == len(DATA)
        assert b.engine.wasted_bytes == 0


async def test_a_chain_forwards_blocks_as_they_arrive() -> None:
    async with world() as all_of:
        a, b, c = [await all_of.site(name) for name in "abc"]
        manifest = manifest_of(DATA, BLOCK)
        for site, source in ((c, B), (b, A)):  # the last asks first, for what nobody holds yet
            site.begin(manifest)
            site.engine.follow(KEY, source)
        await settle()
        assert not b.reports.stored
        assert not c.reports.stored
        a.put(DATA, BLOCK)
        await c.wait_complete()
        assert c.bytes_of() == DATA
        assert {source for _, _, source in c.reports.stored} == {"b"}


async def test_only_the_look_ahead_is_asked_for() -> None:
    asked = list[int]()

    async def count(connection: Connection) -> None:
        asked.extend(await asked_blocks(connection, LOOK_AHEAD))
        message = await hear(connection)
        asked.extend(message.blocks if isinstance(message, Ask) else ())

    async with world() as all_of:
        await all_of.liar("a", count)
        b = await all_of.site("b")
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.follow(KEY, A)
        await settle()
        assert asked == list(range(LOOK_AHEAD))


async def test_an_empty_object_needs_no_block() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        assert b.begin(a.put(b"", BLOCK)).complete
        b.engine.follow(KEY, A)
        await settle()
        assert b.bytes_of() == b""
        assert not b.reports.stored
        assert not b.reports.failed


async def test_a_new_source_replaces_the_old_one() -> None:
    async def silent(connection: Connection) -> None:
        while await hear(connection) is not None:
            pass

    async with world() as all_of:
        await all_of.liar("a", silent)
        b, c = await all_of.site("b"), await all_of.site("c")
        b.begin(c.put(DATA, BLOCK))
        b.engine.follow(KEY, A)
        await settle()
        b.engine.follow(KEY, C)
        await b.wait_complete()
        assert {source for _, _, source in b.reports.stored} == {"c"}
        assert b.reports.failed == []


async def test_following_nobody_ends_the_asking() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        manifest = manifest_of(DATA, BLOCK)
        b.begin(manifest)
        b.engine.follow(KEY, A)
        await settle()
        b.engine.follow(KEY, None)
        await settle()
        a.put(DATA, BLOCK)
        await settle()
        assert not b.reports.stored
        assert not b.reports.failed


# -- fetching --------------------------------------------------------------------------------------


async def test_a_fetch_takes_its_blocks_away_from_the_followed_source() -> None:
    async def silent(connection: Connection) -> None:
        while await hear(connection) is not None:
            pass

    async with world() as all_of:
        await all_of.liar("a", silent)
        b, c = await all_of.site("b"), await all_of.site("c")
        b.begin(c.put(DATA, BLOCK))
        b.engine.follow(KEY, A)
        await settle()
        b.engine.fetch(KEY, C, indices(7, 0, 3))
        await b.reports.wait(lambda: len(b.reports.stored) == 3)
        assert [(block, source) for _, block, source in b.reports.stored] == [(7, "c"), (0, "c"), (3, "c")]


async def test_what_is_cancelled_comes_by_the_stripe_again() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        c = await all_of.site("c")
        c.begin(a.put(DATA, BLOCK))
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.fetch(KEY, C, indices(*range(11)))  # which has none of them
        b.engine.follow(KEY, A)
        await settle()
        assert not b.reports.stored
        b.engine.cancel(KEY, indices(*range(11)))
        await b.wait_complete()


async def test_a_stored_block_is_reported_as_stored_again() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        b.begin(a.put(DATA, BLOCK))
        b.engine.fetch(KEY, A, indices(1))
        await b.reports.wait(lambda: len(b.reports.stored) == 1)
        b.engine.fetch(KEY, A, indices(1))
        assert len(b.reports.stored) == 2
        await settle()
        assert a.server.sent_bytes == BLOCK


async def test_a_waiting_ask_takes_no_slot_and_no_connection_time(soon: float) -> None:
    async with world() as all_of:
        a = await all_of.site("a")
        manifest = manifest_of(DATA, BLOCK)
        held = a.begin(manifest)
        b = await all_of.site("b")
        b.begin(manifest)
        b.engine.fetch(KEY, A, indices(0, 1, 2, 3, 4, 5, 6))
        await settle()
        held.block(BlockIndex(9))[:] = DATA[9 * BLOCK : 10 * BLOCK]
        held.mark_stored(BlockIndex(9))
        a.server.block_stored(KEY, BlockIndex(9))
        b.engine.fetch(KEY, A, indices(9))
        await b.reports.wait(lambda: [block for _, block, _ in b.reports.stored] == [9])
        await trio.sleep(2 * soon)  # waiting is not stalling, and the object is known: nothing fails
        assert b.reports.failed == []


async def test_answers_come_in_the_order_in_which_blocks_become_ready() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        manifest = manifest_of(DATA, BLOCK)
        held = a.begin(manifest)
        b.begin(manifest)
        b.engine.fetch(KEY, A, indices(0, 1, 2, 3))
        await settle()
        for block in (2, 0, 3, 1):
            index = BlockIndex(block)
            held.block(index)[:] = DATA[block * BLOCK : (block + 1) * BLOCK]
            held.mark_stored(index)
            a.server.block_stored(KEY, index)
            await b.reports.wait(partial(last_stored_is, b, block))
        assert [block for _, block, _ in b.reports.stored] == [2, 0, 3, 1]


async def test_a_withdrawn_ask_is_not_answered() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        manifest = manifest_of(DATA, BLOCK)
        b.begin(manifest)
        b.engine.fetch(KEY, A, indices(0, 1))
        await settle()
        b.engine.cancel(KEY, indices(0))
        await settle()
        a.put(DATA, BLOCK)
        await b.reports.wait(lambda: bool(b.reports.stored))
        await settle()
        assert [block for _, block, _ in b.reports.stored] == [1]
        assert a.server.sent_bytes == BLOCK
        b.engine.fetch(KEY, A, indices(0))  # and can be asked for again
        await b.reports.wait(lambda: len(b.reports.stored) == 2)
        assert b.reports.failed == []


async def test_commands_about_unknown_objects_are_harmless() -> None:
    async with world() as all_of:
        b = await all_of.site("b")
        b.engine.follow(KEY, A)
        b.engine.fetch(KEY, A, indices(1))
        b.engine.cancel(KEY, indices(1))
        b.engine.forget(KEY)
        b.server.forget(KEY)
        b.server.object_known(KEY)
        assert b.reports.failed == []


async def test_many_short_fetches_from_one_source_never_fail() -> None:
    # A link ends when nothing is open on it; a command that comes while it does must not be lost.
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        data = some_bytes(600)
        b.begin(a.put(data, 1))
        for block in range(600):
            b.engine.fetch(KEY, A, indices(block))
            await b.reports.wait(partial(heard_of_more_than, b, block))
            for _ in range(block % 7):
                await trio.lowlevel.checkpoint()
        assert b.reports.failed == []
        assert b.bytes_of() == data


# -- faults ----------------------------------------------------------------------------------------


async def test_a_corrupt_block_names_its_sender_and_comes_from_elsewhere() -> None:
    async def corrupt(connection: Connection) -> None:
        for block in await asked_blocks(connection, 2):
            await send_block(connection, KEY, block, b"\xff" * BLOCK)
        while await hear(connection) is not None:
            pass

    async with world() as all_of:
        await all_of.liar("a", corrupt)
        b, c = await all_of.site("b"), await all_of.site("c")
        b.begin(c.put(DATA, BLOCK))
        b.engine.fetch(KEY, A, indices(3, 4))
        await b.reports.wait(lambda: len(b.reports.failed) == 2)
        assert {(source, failure) for _, source, _, failure in b.reports.failed} == {
            ("a", FetchFailure.CORRUPT)
        }
        assert b.reports.stored == []
        b.engine.follow(KEY, C)
        await b.wait_complete()
        assert b.bytes_of() == DATA


async def test_a_corrupt_block_is_passed_over_at_the_followed_source() -> None:
    async def corrupt_the_first(connection: Connection) -> None:
        sent = 0
        while True:
            message = await hear(connection)
            if message is None:
                return
            assert isinstance(message, Ask)
            for block in message.blocks:
                good = DATA[block * BLOCK : (block + 1) * BLOCK]
                await send_block(connection, KEY, block, good if block else b"\0" * BLOCK)
                sent += 1

    async with world() as all_of:
        await all_of.liar("a", corrupt_the_first)
        b = await all_of.site("b")
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.follow(KEY, A)
        await b.reports.wait(lambda: len(b.reports.stored) == 10)
        assert b.reports.failed == [(KEY, "a", (0,), FetchFailure.CORRUPT)]


async def test_a_block_that_stops_arriving_has_stalled_within_the_limit(soon: float) -> None:
    async def stall(connection: Connection) -> None:
        (block,) = await asked_blocks(connection, 1)
        await say(connection, BlockHeader(KEY, BlockIndex(block), BLOCK))
        await connection.stream.send_all(b"x" * 100)
        await trio.sleep_forever()

    async with world() as all_of:
        await all_of.liar("a", stall)
        b = await all_of.site("b")
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.fetch(KEY, A, indices(2))
        began = trio.current_time()
        assert await b.reports.wait_failure() == (KEY, "a", (2,), FetchFailure.STALLED)
        assert soon <= trio.current_time() - began < soon + 2


async def test_who_stood_still_itself_does_not_blame_the_sender(soon: float) -> None:
    async def stop_us(connection: Connection) -> None:
        await asked_blocks(connection, 1)
        await say(connection, BlockHeader(KEY, BlockIndex(2), BLOCK))
        await connection.stream.send_all(DATA[2 * BLOCK : 2 * BLOCK + 100])
        await settle()
        await connection.stream.send_all(DATA[2 * BLOCK + 100 : 3 * BLOCK - 1])
        time.sleep(soon + 2 * bodies_module.OWN_PAUSE_S)  # noqa: ASYNC251 - the whole process is to stand still
        await trio.sleep(soon / 3)
        await connection.stream.send_all(DATA[3 * BLOCK - 1 : 3 * BLOCK])
        await hear(connection)

    async with world() as all_of:
        b = await all_of.site("b")
        await all_of.liar("a", stop_us)
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.fetch(KEY, A, indices(2))
        await b.reports.wait(lambda: bool(b.reports.stored or b.reports.failed))
        assert (b.reports.stored, b.reports.failed) == ([(KEY, 2, "a")], [])


async def test_a_slow_block_has_not_stalled(soon: float) -> None:
    async def slowly(connection: Connection) -> None:
        (block,) = await asked_blocks(connection, 1)
        await say(connection, BlockHeader(KEY, BlockIndex(block), BLOCK))
        for at in range(0, BLOCK, 1024):
            await trio.sleep(soon * 0.5)
            await connection.stream.send_all(DATA[at : at + 1024])
        await trio.sleep_forever()

    async with world() as all_of:
        await all_of.liar("a", slowly)
        b = await all_of.site("b")
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.fetch(KEY, A, indices(0))
        await b.reports.wait(lambda: bool(b.reports.stored))
        assert b.reports.failed == []


async def test_a_source_that_closes_is_unreachable_and_followed_no_longer() -> None:
    async def close(connection: Connection) -> None:
        await asked_blocks(connection, 4)

    async with world() as all_of:
        await all_of.liar("a", close)
        b, c = await all_of.site("b"), await all_of.site("c")
        b.begin(c.put(DATA, BLOCK))
        b.engine.follow(KEY, A)
        assert await b.reports.wait_failure() == (KEY, "a", (0, 1, 2, 3), FetchFailure.UNREACHABLE)
        await settle()
        assert len(b.reports.failed) == 1, "the engine does not try again by itself"
        b.engine.follow(KEY, C)
        await b.wait_complete()


async def test_a_followed_source_that_breaks_is_told_of_though_its_blocks_are_asked_of_another() -> None:
    may_break = trio.Event()

    async def begin_to_send(connection: Connection) -> None:
        await asked_blocks(connection, 4)
        await say(connection, BlockHeader(KEY, BlockIndex(0), BLOCK))
        await connection.stream.send_all(bytes(BLOCK // 2))
        await may_break.wait()

    async def never_answer(connection: Connection) -> None:
        await trio.sleep_forever()

    async with world() as all_of:
        await all_of.liar("a", begin_to_send)
        await all_of.liar("c", never_answer)
        b = await all_of.site("b")
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.follow(KEY, A)
        await until(lambda: bool(b.engine._intakes[KEY].writers))
        b.engine.fetch(KEY, C, indices(*range(11)))
        may_break.set()
        assert await b.reports.wait_failure() == (KEY, "a", (), FetchFailure.UNREACHABLE)


async def test_stripes_are_followed_each_at_its_own_source() -> None:
    async with world() as all_of:
        a, c = await all_of.site("a"), await all_of.site("c")
        manifest = a.put(DATA, BLOCK)
        c.put(DATA, BLOCK)
        b = await all_of.site("b")
        b.begin(manifest)
        b.engine.follow(KEY, A, 0, 2)
        b.engine.follow(KEY, C, 1, 2)
        await b.wait_complete()
        assert b.bytes_of() == DATA
        assert {(block % 2, source) for _, block, source in b.reports.stored} == {(0, "a"), (1, "c")}
        for stripe, source in ((0, "a"), (1, "c")):
            mine = [block for _, block, at in b.reports.stored if at == source]
            assert mine == list(range(stripe, 11, 2)), "lowest first"


async def test_in_step_no_block_is_asked_for_far_beyond_what_others_ask_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Asked | None] = [None]
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        monkeypatch.setattr(b.server, "furthest_asked", lambda key, stripe, stripes: asked[0])
        stored = b.begin(a.put(some_bytes(64 * BLOCK), BLOCK))
        for last in (4, 20):
            asked[0] = Asked(BlockIndex(last), None)
            if last == 4:
                b.engine.follow(KEY, A, 0, 2, in_step=True)
                b.engine.follow(KEY, A, 1, 2)
            b.engine.resume()
            await settle()
            there = [block for block in stored.holds if block % 2 == 0]
            assert there == list(range(0, last + 2 * LOOK_AHEAD + 1, 2))
        assert all(BlockIndex(block) in stored.holds for block in range(1, 64, 2)), (
            "the other is not held back"
        )
        asked[0] = None
        b.engine.resume()
        await b.wait_complete()


async def test_in_step_nothing_is_held_back_when_no_ask_will_tell_of_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        await all_of.site("c")
        monkeypatch.setattr(
            b.server, "furthest_asked", lambda key, stripe, stripes: Asked(BlockIndex(62), None)
        )
        monkeypatch.setattr(in_step_module, "MOST_BLOCKS", 1)
        stored = b.begin(a.put(some_bytes(80 * BLOCK), BLOCK))
        b.engine.follow(KEY, A, 0, 2, in_step=True)
        await settle()
        assert list(stored.holds) == list(range(0, 57, 2))
        b.engine.fetch(KEY, C, indices(*range(64, 80, 2)))  # which does not have them
        b.engine.resume()
        await settle()
        assert list(stored.holds) == list(range(0, 64, 2))


async def test_a_block_that_failed_is_not_asked_for_again_because_step_is_to_be_kept() -> None:
    asks: list[int] = []

    async def corrupt_first(connection: Connection) -> None:
        while isinstance(message := await hear(connection), Ask):
            asks.extend(message.blocks)
            for block in message.blocks:
                data = DATA[block * BLOCK : (block + 1) * BLOCK]
                await send_block(connection, KEY, block, data if block else bytes(len(data)))

    async with world() as all_of:
        b = await all_of.site("b")
        await all_of.liar("a", corrupt_first)
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.follow(KEY, A)
        assert await b.reports.wait_failure() == (KEY, "a", (0,), FetchFailure.CORRUPT)
        b.engine.follow(KEY, A, in_step=True)
        await settle()
        assert asks.count(0) == 1
        b.engine.follow(KEY, None)
        b.engine.follow(KEY, A)
        await settle()
        assert asks.count(0) == 2, "who is told so anew may try again"


async def test_what_is_asked_furthest_counts_while_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "TAKING_S", 0.3)
    asked: list[None] = []
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        b.begin(a.put(DATA, BLOCK))
        b.server.on_asked = lambda: asked.append(None)
        stream = await TcpNetwork().connect(b.listener.address, 5)
        client = await open_connection(stream, SECRET)
        await say(client, Ask(KEY, indices(0, 2, 4)))
        await until(lambda: bool(asked))
        assert b.server.furthest_asked(KEY, 0, 2) == Asked(BlockIndex(4), BlockIndex(0))
        assert b.server.furthest_asked(KEY, 1, 2) is None
        assert b.server.furthest_asked(ObjectKey(TransferName("other")), 0, 2) is None
        b.engine.fetch(KEY, A, indices(0))
        assert isinstance(await hear(client), BlockHeader)
        await trio.sleep(0.4)
        assert b.server.furthest_asked(KEY, 0, 2) == Asked(BlockIndex(4), BlockIndex(2)), (
            "who waits is not one who takes nothing"
        )
        b.engine.fetch(KEY, A, indices(2, 4))
        await until(lambda: b.server.furthest_asked(KEY, 0, 2) is None)
        client.stream.abort()


async def test_nobody_below_who_takes_nothing_keeps_a_node_from_its_blocks(soon: float) -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        b.begin(a.put(some_bytes(64 * BLOCK), BLOCK))
        frozen = await freeze(b.listener.address, indices(0, 2))
        for stripe in (0, 1):
            b.engine.follow(KEY, A, stripe, 2, in_step=True)
        await b.wait_complete()
        frozen.stream.abort()


async def test_one_stripe_can_end_while_the_other_goes_on() -> None:
    async with world() as all_of:
        a = await all_of.site("a")
        b = await all_of.site("b")
        b.begin(a.put(DATA, BLOCK))
        b.engine.follow(KEY, A, 1, 2)
        b.engine.follow(KEY, A, 0, 2)
        b.engine.follow(KEY, None, 0, 2)
        await until(lambda: {1, 3, 5, 7, 9} <= {block for _, block, _ in b.reports.stored})
        await settle()
        assert {block for _, block, _ in b.reports.stored} == {1, 3, 5, 7, 9}
        b.engine.follow(KEY, A)
        await b.wait_complete()


@pytest.mark.parametrize("address", [None, "127.0.0.1:1", "no address at all"])
async def test_a_source_without_an_address_is_unreachable(address: str | None) -> None:
    async with world() as all_of:
        b = await all_of.site("b")
        if address is not None:
            all_of.addresses["a"] = address
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.fetch(KEY, A, indices(0, 5))
        assert await b.reports.wait_failure() == (KEY, "a", (0, 5), FetchFailure.UNREACHABLE)


@pytest.mark.parametrize(
    "wrong",
    [
        BlockHeader(KEY, BlockIndex(0), BLOCK - 1),
        BlockHeader(KEY, BlockIndex(0), -5),
        Ask(KEY, indices(0)),
        None,
    ],
    ids=["short", "negative", "an ask", "garbage"],
)
async def test_a_server_that_breaks_the_protocol_is_unreachable(wrong: BlockHeader | Ask | None) -> None:
    async def lie(connection: Connection) -> None:
        await asked_blocks(connection, 1)
        if wrong is None:
            await connection.send_frame(b"\xc1\xc1")
        else:
            await say(connection, wrong)
        await trio.sleep_forever()

    async with world() as all_of:
        await all_of.liar("a", lie)
        b = await all_of.site("b")
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.fetch(KEY, A, indices(0))
        assert await b.reports.wait_failure() == (KEY, "a", (0,), FetchFailure.UNREACHABLE)


async def test_blocks_that_nobody_asked_for_are_not_stored() -> None:
    async def push(connection: Connection) -> None:
        await asked_blocks(connection, 1)
        for block in (5, 6, 10**9, -1):
            await send_block(connection, KEY, block, DATA[5 * BLOCK : 6 * BLOCK])
        await send_block(connection, ObjectKey(TransferName("other")), 0, b"x" * 1000)
        await send_block(connection, KEY, 0, DATA[:BLOCK])
        await trio.sleep_forever()

    async with world() as all_of:
        await all_of.liar("a", push)
        b = await all_of.site("b")
        held = b.begin(manifest_of(DATA, BLOCK))
        b.engine.fetch(KEY, A, indices(0))
        await b.reports.wait(lambda: bool(b.reports.stored))
        assert list(held.holds) == [0]
        assert b.engine.wasted_bytes == 4 * BLOCK + 1000


async def test_an_unknown_object_is_refused_after_its_limit(soon: float) -> None:
    async with world() as all_of:
        await all_of.site("a")
        b = await all_of.site("b")
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.follow(KEY, A)
        began = trio.current_time()
        _, source, blocks, failure = await b.reports.wait_failure()
        assert (source, blocks, failure) == ("a", (0, 1, 2, 3), FetchFailure.REFUSED)
        assert soon <= trio.current_time() - began < soon + 2


async def test_a_block_beyond_the_object_is_refused_when_the_object_comes() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.fetch(KEY, A, indices(9))
        await settle()
        a.put(DATA[: 2 * BLOCK], BLOCK)  # another object of that name
        assert await b.reports.wait_failure() == (KEY, "a", (9,), FetchFailure.REFUSED)


# -- one writer, forgetting ------------------------------------------------------------------------


async def test_two_sources_of_one_block_do_not_write_over_each_other() -> None:
    began, go = trio.Event(), trio.Event()

    async def in_halves(connection: Connection) -> None:
        await asked_blocks(connection, 1)
        await say(connection, BlockHeader(KEY, BlockIndex(0), BLOCK))
        await connection.stream.send_all(DATA[: BLOCK // 2])
        began.set()
        await go.wait()
        await connection.stream.send_all(DATA[BLOCK // 2 : BLOCK])
        await trio.sleep_forever()

    async def at_once(connection: Connection) -> None:
        await asked_blocks(connection, 1)
        await send_block(connection, KEY, 0, b"\xee" * BLOCK)  # would spoil it
        await trio.sleep_forever()

    async with world() as all_of:
        await all_of.liar("a", in_halves)
        await all_of.liar("c", at_once)
        b = await all_of.site("b")
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.fetch(KEY, A, indices(0))
        await began.wait()
        await settle()
        b.engine.fetch(KEY, C, indices(0))
        await until(lambda: b.engine.wasted_bytes > 0)
        await settle()
        go.set()
        await b.reports.wait(lambda: bool(b.reports.stored))
        held = b.store.get(KEY)
        assert held is not None
        assert bytes(held.readable(BlockIndex(0))) == DATA[:BLOCK]
        assert b.reports.stored == [(KEY, 0, "a")]
        assert b.reports.failed == []


async def test_forgetting_in_the_middle_of_a_block_leaves_engine_and_store_sound() -> None:
    begun = trio.Event()

    async def half(connection: Connection) -> None:
        await asked_blocks(connection, 1)
        await say(connection, BlockHeader(KEY, BlockIndex(0), BLOCK))
        await connection.stream.send_all(DATA[:100])
        begun.set()
        await hear(connection)

    async with world() as all_of:
        await all_of.liar("a", half)
        b, c = await all_of.site("b"), await all_of.site("c")
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.follow(KEY, A)
        await begun.wait()
        await settle()
        b.drop()
        await settle()
        assert not b.reports.stored
        assert not b.reports.failed
        statistics = b.store.statistics()
        assert (statistics.objects, statistics.reserved_bytes, statistics.lingering_bytes) == (0, 0, 0)
        b.begin(c.put(DATA, BLOCK))  # the same key, anew
        b.engine.follow(KEY, C)
        await b.wait_complete()
        assert b.bytes_of() == DATA


async def test_forgetting_at_the_very_last_byte_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    # The receive has succeeded already when the object goes: no cancellation can stop it any more.
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        b.begin(a.put(DATA[:BLOCK], BLOCK))
        receive_into = Connection.receive_into

        async def drop_at_the_end(
            self: Connection, target: memoryview, progress: object = None, forwarding: object = None
        ) -> None:
            await receive_into(self, target, progress, forwarding)  # type: ignore[arg-type]
            if b.store.get(KEY) is not None and len(target) == BLOCK:
                del target
                b.engine.forget(KEY)
                b.store.release(KEY)

        monkeypatch.setattr(Connection, "receive_into", drop_at_the_end)
        b.engine.fetch(KEY, A, indices(0))
        await until(lambda: b.store.get(KEY) is None)
        await settle()
        assert not b.reports.stored
        assert not b.reports.failed


async def test_forgetting_at_the_source_refuses_those_who_wait() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        manifest = manifest_of(DATA, BLOCK)
        a.begin(manifest)
        b.begin(manifest)
        b.engine.follow(KEY, A)
        await settle()
        a.drop()
        assert await b.reports.wait_failure() == (KEY, "a", (0, 1, 2, 3), FetchFailure.REFUSED)


async def test_forgetting_at_the_source_breaks_off_what_is_being_sent() -> None:
    big = some_bytes(8 << 20)
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        b.begin(a.put(big, 8 << 20))
        b.limits.set_budget(TransferName("t"), None, 1e6)
        b.engine.follow(KEY, A)
        await until(lambda: b.limits.ingress(TransferName("t"))._free_at_s > 0)
        a.drop()
        b.limits.set_budget(TransferName("t"), None, None)  # what is under way already may come quickly
        assert await b.reports.wait_failure() == (KEY, "a", (0,), FetchFailure.UNREACHABLE)
        await settle()
        assert a.store.statistics().lingering_bytes == 0


async def test_other_parts_of_the_transfer_go_on_when_one_is_forgotten() -> None:
    one, two = (
        ObjectKey(TransferName("t"), PartName("m/one")),
        ObjectKey(TransferName("t"), PartName("m/two")),
    )
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        manifests = [manifest_of(DATA, BLOCK, part="m/one"), manifest_of(DATA, BLOCK, part="m/two")]
        for manifest in manifests:
            b.begin(manifest)
            b.engine.follow(manifest.key, A)
        await settle()
        b.drop(one)
        a.put(DATA, BLOCK, two)
        await b.wait_complete(two)
        assert b.reports.failed == []


# -- connections -----------------------------------------------------------------------------------


async def test_connections_are_kept_and_a_dead_one_is_replaced_unseen() -> None:
    opened = list[Connection]()

    async def serve_three(connection: Connection) -> None:
        opened.append(connection)
        (block,) = await asked_blocks(connection, 1)
        await send_block(connection, KEY, block, DATA[block * BLOCK : (block + 1) * BLOCK])
        if len(opened) > 1:
            await trio.sleep_forever()  # the first connection dies while idle

    async with world() as all_of:
        await all_of.liar("a", serve_three)
        b = await all_of.site("b")
        b.begin(manifest_of(DATA, BLOCK))
        b.engine.fetch(KEY, A, indices(0))
        await b.reports.wait(lambda: len(b.reports.stored) == 1)
        await settle()
        b.engine.fetch(KEY, A, indices(1))
        await b.reports.wait(lambda: len(b.reports.stored) == 2)
        assert len(opened) == 2
        assert b.reports.failed == []


async def test_one_connection_serves_one_transfer_after_another() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        for name in ("one", "two", "three"):
            key = ObjectKey(TransferName(name))
            b.begin(a.put(DATA, BLOCK, key))
            b.engine.follow(key, A)
            await b.wait_complete(key)
            await settle()
            assert len(a.server._clients) == 1


# -- slots -----------------------------------------------------------------------------------------


async def freeze(address: str, blocks: tuple[BlockIndex, ...]) -> Connection:
    """Ask for blocks of `KEY` on a connection of our own, and read nothing."""
    stream = await TcpNetwork().connect(address, 5)
    connection = await open_connection(stream, SECRET)
    await say(connection, Ask(KEY, blocks))
    return connection


BIG = 24 << 20
"""More than the kernel buffers of a connection hold."""


async def test_slots_bound_how_many_broadcast_blocks_are_sent_at_a_time() -> None:
    async with world() as all_of:
        a = await all_of.site("a")
        a.put(some_bytes(BIG), BIG)
        a.put(some_bytes(BIG // 8), BIG, ObjectKey(TransferName("s"), PartName("a/b")))
        frozen = [await freeze(a.listener.address, indices(0)) for _ in range(server_module.SLOTS + 3)]
        await settle()
        assert sum(client.sending is not None for client in a.server._clients) == server_module.SLOTS
        # A partition of a shuffle takes no slot.
        b = await all_of.site("b")
        part = ObjectKey(TransferName("s"), PartName("a/b"))
        b.begin(manifest_of(some_bytes(BIG // 8), BIG, part="a/b", transfer="s"))
        b.engine.follow(part, A)
        await b.wait_complete(part)
        for connection in frozen:
            connection.stream.abort()
        await settle()
        assert len(a.server._clients) == 1


async def test_a_frozen_receiver_does_not_hold_a_slot_for_ever(soon: float) -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        b.begin(a.put(some_bytes(BIG + BLOCK), BIG))
        frozen = [await freeze(a.listener.address, indices(0)) for _ in range(server_module.SLOTS)]
        await settle()
        b.engine.fetch(KEY, A, indices(1))
        await b.reports.wait(lambda: last_stored_is(b, 1), soon + 5)
        assert sum(client.sending is not None for client in a.server._clients) >= server_module.SLOTS
        for connection in frozen:
            connection.stream.abort()
        await settle()
        assert not a.server._slots, "a slot is given back once, never twice"


async def test_a_broadcast_does_not_wait_for_the_slots_of_another() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        a.put(some_bytes(BIG), BIG)
        frozen = [await freeze(a.listener.address, indices(0)) for _ in range(server_module.SLOTS)]
        await settle()
        key = ObjectKey(TransferName("u"))
        b.begin(a.put(DATA, BLOCK, key))
        b.engine.follow(key, A)
        await b.wait_complete(key, limit_s=1.0)
        for connection in frozen:
            connection.stream.abort()


async def test_asks_beyond_the_limit_end_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "MAX_WAITING_ASKS", 10)
    async with world() as all_of:
        a = await all_of.site("a")
        with caplog.at_level(logging.WARNING):
            connection = await freeze(a.listener.address, indices(*range(11)))
            with trio.fail_after(5):
                assert await connection.receive_frame(1000) is None
        assert "more than 10 asks open" in caplog.text
        connection.stream.abort()


async def test_asking_beyond_a_known_object_ends_the_connection() -> None:
    async with world() as all_of:
        a = await all_of.site("a")
        a.put(DATA, BLOCK)
        for block in (11, -1, 2**63):
            connection = await freeze(a.listener.address, indices(block))
            with trio.fail_after(5):
                assert await connection.receive_frame(1000) is None
            connection.stream.abort()


async def test_a_client_that_speaks_as_a_server_is_dropped() -> None:
    async with world() as all_of:
        a = await all_of.site("a")
        connection = await freeze(a.listener.address, ())
        await say(connection, Unavailable(KEY, ()))
        with trio.fail_after(5):
            assert await connection.receive_frame(1000) is None
        connection.stream.abort()


# -- budgets ---------------------------------------------------------------------------------------

RATE = 4e6
SIZE = 6 << 20


@pytest.mark.parametrize("senders", [1, 3])
async def test_an_ingress_budget_is_never_exceeded(senders: int) -> None:
    block, t = 1 << 18, TransferName("t")
    data = some_bytes(SIZE)
    async with world() as all_of:
        sources = [await all_of.site(f"s{number}") for number in range(senders)]
        b = await all_of.site("b")
        for source in sources:
            manifest = source.put(data, block)
        b.begin(manifest)
        b.limits.set_budget(t, None, RATE)
        began = trio.current_time()
        count = manifest.layout.count
        for number, source in enumerate(sources):
            b.engine.fetch(KEY, source.name, indices(*range(number, count, senders)))
        for _ in range(8):
            await trio.sleep(0.1)
            elapsed_s = trio.current_time() - began
            assert b.engine.received_bytes <= RATE * (elapsed_s + 0.05 * (senders + 1)) + block
        assert b.engine.received_bytes > 0.3 * RATE * 0.8, "and it is used"


@pytest.mark.parametrize("receivers", [1, 3])
async def test_an_egress_budget_is_kept_over_all_receivers(receivers: int) -> None:
    block, t = 1 << 18, TransferName("t")
    async with world() as all_of:
        a = await all_of.site("a")
        manifest = a.put(some_bytes(SIZE), block)
        a.limits.set_budget(t, RATE, None)
        others = [await all_of.site(f"r{number}") for number in range(receivers)]
        began = trio.current_time()
        for other in others:
            other.begin(manifest)
            other.engine.follow(KEY, A)
        for _ in range(8):
            await trio.sleep(0.1)
            elapsed_s = trio.current_time() - began
            received = sum(other.engine.received_bytes for other in others)
            # Pacing begins with a burst and bites after 50 to 100 ms.
            assert received <= RATE * (1.1 * elapsed_s + 0.25) + block
        assert received > 0.3 * RATE * 0.8, "and it is used"


async def test_a_lifted_budget_frees_pooled_connections() -> None:
    async with world() as all_of:
        a, b = await all_of.site("a"), await all_of.site("b")
        a.limits.set_budget(TransferName("t"), 2e6, None)
        b.begin(a.put(some_bytes(200_000), 50_000))
        b.engine.follow(KEY, A)
        await b.wait_complete()
        await settle()
        key = ObjectKey(TransferName("u"))
        b.begin(a.put(some_bytes(16 << 20), 1 << 20, key))
        began = trio.current_time()
        b.engine.follow(key, A)
        await b.wait_complete(key)
        assert trio.current_time() - began < 4, "at the old rate it would take 8 s"
