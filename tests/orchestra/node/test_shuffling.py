"""Shuffles between nodes of one process."""

import threading
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import trio

from orchestra.node.content import THREAD_FROM_BYTES
from orchestra.node.node import Node
from orchestra.node.shuffle import Shuffle, put_filled
from tests.orchestra.node.clusters import cluster
from transfers.errors import LocalProtocolError, TransferFailed, TransferRefused
from transfers.ids import NodeName
from transfers.store import Store, StoredObject

SHARING = pytest.mark.parametrize("share", [False, True], ids=["sending", "sharing"])


@SHARING
async def test_every_reducer_gets_what_every_mapper_has_for_it(share: bool) -> None:
    names = ["a", "b", "c", "d"]
    mappers, reducers = names[:3], names[1:]  # b and c are both
    async with cluster(*names, share=share) as nodes:
        got: dict[str, dict[str, int]] = defaultdict(dict)

        async def part(node: Node) -> None:
            async with node.shuffle("s", mappers=mappers, reducers=reducers) as shuffle:
                if node.name in mappers:
                    at = names.index(node.name)
                    await shuffle.put({to: np.full(30_000, 10 * at + names.index(to)) for to in reducers})
                if node.name in reducers:
                    async for mapper, view in shuffle.partitions():
                        array = view.array()
                        assert (array == array[0]).all()
                        got[node.name][mapper] = int(array[0])

        for _ in range(2):  # the name is free again afterwards
            got.clear()
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(part, node)
            assert got == {
                to: {of: 10 * names.index(of) + names.index(to) for of in mappers} for to in reducers
            }
            for node in nodes:
                statistics = node.objects.store.statistics()
                assert statistics.objects == 0, "partitions do not stay"


async def test_what_is_not_put_is_empty_and_left_out() -> None:
    async with cluster("a", "b") as nodes:
        got: dict[str, list[str]] = {"a": [], "b": []}

        async def part(node: Node) -> None:
            async with node.shuffle("s", mappers=["a", "b"], reducers=["a", "b"]) as shuffle:
                if node.name == "a":
                    await shuffle.put({"a": b"", "b": b"x"})
                shuffle.finish()
                async for mapper, view in shuffle.partitions():
                    got[node.name].append(mapper)
                    assert bytes(view.buffer) == (b"x" if node.name == "b" else b"")

        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(part, node)
        assert got == {"a": ["a"], "b": ["a"]}, "an empty buffer was put; what b left out was not"


async def test_leaving_the_block_declares_the_rest_empty_and_waits_for_all() -> None:
    async with cluster("a", "b") as nodes:
        left = list[str]()

        async def part(node: Node) -> None:
            async with node.shuffle("s", mappers=["a", "b"], reducers=["b"]) as shuffle:
                if node.name == "b":
                    await trio.sleep(0.2)
                    await shuffle.put({"b": b"own"})
                    assert left == []
                    got = [(mapper, bytes(view.buffer)) async for mapper, view in shuffle.partitions()]
                    assert got == [("b", b"own")]
            left.append(node.name)

        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(part, node)
        assert sorted(left) == ["a", "b"]


@pytest.mark.parametrize("where", ["before putting", "after putting"])
async def test_a_body_that_raises_ends_the_shuffle_for_the_others_by_name(where: str) -> None:
    async with cluster("a", "b", "c", limit_s=10) as (a, b, c):

        async def failing() -> None:
            async with a.shuffle("s", mappers=["a", "b"], reducers=["b", "c"]) as shuffle:
                if where == "after putting":
                    await shuffle.put({"b": b"x"})
                await trio.sleep(0.1)
                raise ZeroDivisionError

        async def other(node: Node) -> None:
            async with node.shuffle("s", mappers=["a", "b"], reducers=["b", "c"]) as shuffle:
                if node is b:
                    await shuffle.put({"b": b"x", "c": b"y"})
                async for _ in shuffle.partitions():
                    pass

        async def fails() -> None:
            with pytest.raises(ZeroDivisionError):
                await failing()

        async def hears(node: Node) -> None:
            with pytest.raises(TransferFailed) as failed:
                await other(node)
            assert set(failed.value.failed) == {"a"}

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails)
            nursery.start_soon(hears, b)
            nursery.start_soon(hears, c)
        for node in (a, b, c):
            assert node.objects.store.statistics().objects == 0


async def test_who_does_not_come_is_named() -> None:
    async with cluster("a", "b", limit_s=10) as (a, _):
        with pytest.raises(TransferFailed) as failed:
            async with a.shuffle("s", mappers=["a", "b"], reducers=["a"], timeout=0.5) as shuffle:
                await shuffle.put({"a": b"x"})
        assert failed.value.failed["b"] == "did not take part"


async def test_who_means_another_shuffle_of_the_name_is_refused_and_hurts_nobody() -> None:
    async with cluster("a", "b") as (a, b), a.shuffle("s", mappers=["a"], reducers=["a", "b"]) as shuffle:
        with pytest.raises(TransferRefused, match="other mappers"):
            async with b.shuffle("s", mappers=["a"], reducers=["b"]):
                pass
        await shuffle.put({"a": b"x"})
        async with b.shuffle("s", mappers=["a"], reducers=["a", "b"]):
            shuffle.finish()


async def test_a_name_can_be_used_again_at_once_after_a_failure() -> None:
    async with cluster("a") as (a,):
        for _ in range(20):
            with pytest.raises(ZeroDivisionError):
                async with a.shuffle("s", mappers=["a"], reducers=["a"]):
                    raise ZeroDivisionError
            async with a.shuffle("s", mappers=["a"], reducers=["a"]) as shuffle:
                await shuffle.put({"a": b"x"})
                assert [mapper async for mapper, _ in shuffle.partitions()] == ["a"]


async def test_misuse_is_said_at_once() -> None:
    async with cluster("a", "b") as (a, b):
        with pytest.raises(ValueError, match="scheduling"):
            async with a.shuffle("s", mappers=["a"], reducers=["a"], scheduling="odd"):
                pass
        with pytest.raises(TransferRefused, match="neither mapper nor reducer"):
            async with b.shuffle("s", mappers=["a"], reducers=["a"]):
                pass
        async with a.shuffle("s", mappers=["a"], reducers=["a"]) as shuffle:
            with pytest.raises(ValueError, match="'b' is no reducer"):
                await shuffle.put({"b": b"x"})
            await shuffle.put({"a": b"x"})
            with pytest.raises(LocalProtocolError, match="put already"):
                await shuffle.put({"a": b"x"})
            with pytest.raises(LocalProtocolError, match="takes part"):
                async with a.shuffle("s", mappers=["a"], reducers=["a"]):
                    pass
            assert [mapper async for mapper, _ in shuffle.partitions()] == ["a"]


async def test_views_of_partitions_outlive_the_shuffle() -> None:
    async with cluster("a") as (a,):
        async with a.shuffle("s", mappers=["a"], reducers=["a"]) as shuffle:
            await shuffle.put({"a": np.arange(1000)})
            views = [view async for _, view in shuffle.partitions()]
        np.testing.assert_array_equal(views[0].array(), np.arange(1000))


class HeldUpCopy:
    """Puts into a store that wait, in whatever thread they are, until they are let through."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.let_through = threading.Event(), threading.Event()
        self._put = store.put
        monkeypatch.setattr(store, "put", self.put)

    def put(self, *arguments: Any, may_spill: bool) -> StoredObject:
        self.begun.set()
        assert self.let_through.wait(20), "the loop is held up by a copy"
        return self._put(*arguments, may_spill=may_spill)

    async def wait_begun(self) -> None:
        while not self.begun.is_set():
            await trio.sleep(0.001)


async def test_a_large_partition_is_copied_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster("a") as (a,), a.shuffle("s", mappers=["a"], reducers=["a"]) as shuffle:
        copy = HeldUpCopy(a.objects.store, monkeypatch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shuffle.put, {"a": bytes(THREAD_FROM_BYTES)})
            await copy.wait_begun()
            with pytest.raises(LocalProtocolError, match="already"):
                await shuffle.put({"a": b"again"})
            shuffle.finish()  # does not call empty what is on its way
            copy.let_through.set()
        assert [len(view.buffer) async for _, view in shuffle.partitions()] == [THREAD_FROM_BYTES]


@pytest.mark.parametrize("size_bytes", [0, 10, THREAD_FROM_BYTES + 3])
async def test_a_partition_can_be_written_where_it_is_to_lie(size_bytes: int) -> None:
    whole = np.random.default_rng(1).bytes(size_bytes)

    def fill(start: int, part: memoryview) -> None:
        part[:] = whole[start : start + len(part)]

    async with cluster("a") as (a,), a.shuffle("s", mappers=["a"], reducers=["a"]) as shuffle:
        await put_filled(shuffle, NodeName("a"), size_bytes, fill)
        with pytest.raises(LocalProtocolError, match="already"):
            await put_filled(shuffle, NodeName("a"), size_bytes, fill)
        with pytest.raises(ValueError, match="no reducer"):
            await put_filled(shuffle, NodeName("b"), size_bytes, fill)
        shuffle.finish()
        assert b"".join([bytes(view.buffer) async for _, view in shuffle.partitions()]) == whole


async def test_of_a_partition_that_could_not_be_written_nothing_is_kept() -> None:
    def fill(start: int, part: memoryview) -> None:
        raise ZeroDivisionError

    async with cluster("a") as (a,), a.shuffle("s", mappers=["a"], reducers=["a"]) as shuffle:
        with pytest.raises(ZeroDivisionError):
            await put_filled(shuffle, NodeName("a"), 10, fill)
        assert not a.objects.store.statistics().objects
        await shuffle.put({"a": b"after all"})
        shuffle.finish()
        assert [bytes(view.buffer) async for _, view in shuffle.partitions()] == [b"after all"]


async def test_a_put_cancelled_while_it_copies_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster("a") as (a,), a.shuffle("s", mappers=["a"], reducers=["a"]) as shuffle:
        copy = HeldUpCopy(a.objects.store, monkeypatch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shuffle.put, {"a": bytes(THREAD_FROM_BYTES)})
            await copy.wait_begun()
            nursery.cancel_scope.cancel()
            copy.let_through.set()
        assert a.objects.store.statistics().objects == 0
        await shuffle.put({"a": b"another"})
        assert [bytes(view.buffer) async for _, view in shuffle.partitions()] == [b"another"]


async def test_a_put_that_outlives_its_shuffle_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster("a") as (a,):
        failures: list[LocalProtocolError] = []

        async def put(shuffle: Shuffle) -> None:
            try:
                await shuffle.put({"a": bytes(THREAD_FROM_BYTES)})
            except LocalProtocolError as failed:
                failures.append(failed)

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as enough:
                async with a.shuffle("s", mappers=["a"], reducers=["a"]) as shuffle:
                    copy = HeldUpCopy(a.objects.store, monkeypatch)
                    nursery.start_soon(put, shuffle)
                    await copy.wait_begun()
                    enough.cancel()
            copy.let_through.set()
        assert "was left" in str(failures[0])
        assert a.objects.store.statistics().objects == 0
