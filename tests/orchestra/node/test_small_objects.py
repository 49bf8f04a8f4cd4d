"""Small objects between real nodes over loopback: delivered, pushed, and what happens when that fails."""

from pathlib import Path

import numpy as np
import pytest
import trio
import trio.testing

from orchestra.node import member as member_module
from orchestra.node.node import Node
from orchestra.small import IN_MESSAGES_BYTES, SMALL_BYTES
from tests.orchestra.node.clusters import cluster
from transfers.errors import TransferRefused
from transfers.ids import TransferName
from transfers.manifest import ObjectKey

SIZES = (0, 1, 1000, IN_MESSAGES_BYTES // 3, IN_MESSAGES_BYTES // 3 + 1, SMALL_BYTES, SMALL_BYTES + 1)


@pytest.mark.parametrize("size", SIZES)
async def test_every_receiver_gets_the_bytes(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    async with cluster("src", "a", "b", "c") as (source, *others):
        transfer = await source.broadcast(data, "t")
        outcome = await transfer.wait()
        assert outcome.node_completion_s.keys() == {"a", "b", "c"}
        for node in others:
            view = await node.receive("t")
            assert np.array_equal(view.array(), data)
        asked = [node.objects.engine.received_bytes for node in others]
        assert all(asked) == (size > SMALL_BYTES), "what is small comes without being asked for"
        await source.release("t")


async def test_the_reason_says_how_it_went() -> None:
    async with cluster("src", "a") as (source, _):
        few = await source.broadcast(bytes(100), "few")
        more = await source.broadcast(bytes(IN_MESSAGES_BYTES + 1), "more", to=["a"])
        told = await source.broadcast(bytes(100), "told", mechanism="chain")
        for transfer in (few, more, told):
            await transfer.wait()
        assert "inside the control messages" in few.reason
        assert "pushed" in more.reason
        assert "chain as asked" in told.reason


async def test_what_is_refused_leaves_nothing_behind() -> None:
    async with cluster("src", "a") as (source, other):
        await (await source.broadcast(b"first", "t")).wait()
        with pytest.raises(TransferRefused, match="cannot be a receiver"):
            await other.broadcast(b"second", "t2", to=["a"])
        assert other.objects.store.get(ObjectKey(TransferName("t2"))) is None
        await (await other.broadcast(b"second", "t2", to=["src"])).wait()


async def test_what_is_pushed_is_saved(tmp_path: Path) -> None:
    async with cluster("src") as (source,):
        from orchestra.node.joining import join
        from tests.orchestra.node.clusters import address_of

        async with join(address_of(source), name="saver", share=False, save=tmp_path):
            outcome = await (await source.broadcast(bytes(50_000), "folder/t")).wait()
            assert not outcome.failed
            assert (tmp_path / "folder" / "t").read_bytes() == bytes(50_000)


async def test_where_pushes_are_refused_blocks_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster("src", "a", "b", limit_s=60.0) as (source, *others):
        for node in others:
            monkeypatch.setattr(node.objects.server, "_pusher", None)
        transfer = await source.broadcast(bytes(100_000), "t")
        await transfer.wait()
        for node in others:
            assert bytes((await node.receive("t")).buffer) == bytes(100_000)
            assert node.objects.engine.received_bytes == 100_000


async def test_hundreds_at_once_all_arrive() -> None:
    async with cluster("src", "a", "b", limit_s=60.0) as (source, *others):

        async def one(number: int) -> None:
            size = 200 if number % 10 else 50_000
            transfer = await source.broadcast(bytes([number % 256]) * size, f"t{number}")
            await transfer.wait()

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(one, number)
        for number in (0, 7, 299):
            for node in others:
                view = await node.receive(f"t{number}")
                assert set(bytes(view.buffer)) == {number % 256}


async def test_no_more_than_so_many_are_under_way_and_one_that_hangs_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(member_module, "MOST_SMALL_AT_ONCE", 2)
    async with cluster("src", "a") as (source, _):
        hanging = 3
        async with trio.open_nursery() as nursery:
            for number in range(hanging):
                to = [f"nobody{number}"]
                nursery.start_soon(lambda at, to: source.broadcast(b"x", f"h{at}", to=to), number, to)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert len(source._member._small_turns) == 2, "the third waits"
            started = trio.current_time()
            await (await source.broadcast(b"x", "t", to=["a"])).wait()
            assert trio.current_time() - started < 2.5 * member_module.SMALL_TURN_S
            nursery.cancel_scope.cancel()


async def test_of_two_that_take_one_name_at_once_the_winners_object_stays_everywhere() -> None:
    async with cluster("src", "a", "b") as (source, other, third):
        accepted: list[str] = []
        refused: list[str] = []

        async def take(node: Node) -> None:
            try:
                transfer = await node.broadcast(node.name.encode() * 50, "t")
            except TransferRefused:
                refused.append(node.name)
            else:
                accepted.append(node.name)
                assert not (await transfer.wait_outcome()).failed

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, source)
            nursery.start_soon(take, other)
        assert len(accepted) == len(refused) == 1
        for node in (source, other, third):
            view = await node.receive("t", timeout=5.0)
            assert bytes(view.buffer) == accepted[0].encode() * 50
