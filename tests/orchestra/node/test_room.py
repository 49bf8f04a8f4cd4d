"""Shuffles of more than stores hold: they spill, wait for room, and slow down who sends."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from orchestra.controller.serving import serve_controller
from orchestra.node.joining import join
from orchestra.node.node import Node
from orchestra.node.waiting_room import WaitingRoom
from orchestra.simulation.cluster import SimulatedCluster
from tests.orchestra.controller.clusters import manifest_of
from tests.orchestra.node.simulated import RATE, Part, content, in_cluster
from tests.transfers.net.sites import until
from transfers.errors import StoreFull, TransferFailed
from transfers.ids import NodeName, TransferName
from transfers.manifest import Manifest
from transfers.store.view import ObjectView

MIB = 1 << 20
PARTITION = 600 << 10


def many(mapper: str, reducer: str, size: int = PARTITION) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """A partition's bytes."""
    return np.frombuffer(content(mapper, reducer, size), np.uint8)


@asynccontextmanager
async def nodes(**options: dict[str, Any]) -> AsyncIterator[list[Node]]:
    """Nodes on loopback that send every byte, by name with the arguments of `join`."""
    with trio.fail_after(30):
        async with serve_controller(seed=1) as controller, trio.open_nursery() as nursery:
            made: list[Node] = []

            async def live(name: str, more: dict[str, Any], task_status: trio.TaskStatus[Node]) -> None:
                words = {"store_limit": 64 * MIB, **more}
                async with join(controller.address, name=name, share=False, **words) as node:
                    task_status.started(node)
                    await trio.sleep_forever()

            for name, more in options.items():
                made.append(await nursery.start(live, name, more))
            yield made
            nursery.cancel_scope.cancel()


def spilled(node: Node) -> int:
    return node.objects.store.statistics().spilled_bytes


async def take(node: Node, terms: dict[str, Any], got: dict[str, bytes]) -> None:
    """Take what comes, and keep copies."""
    async with node.shuffle("s", **terms) as shuffle:
        async for mapper, view in shuffle.partitions():
            got[f"{mapper}/{node.name}"] = bytes(view.buffer)
            del view


async def give(node: Node, terms: dict[str, Any], size: int = PARTITION) -> None:
    """Put something for each reducer."""
    async with node.shuffle("s", **terms) as shuffle:
        await shuffle.put({to: many(node.name, to, size) for to in shuffle.reducers})


# -- files ---------------------------------------------------------------------------------------------


async def test_a_mapper_puts_more_than_its_memory_into_files(tmp_path: Path) -> None:
    small = {"store_limit": MIB, "spill": tmp_path, "spill_limit": 8 * MIB}
    terms: dict[str, Any] = {"mappers": ["a"], "reducers": ["b", "c", "d"]}
    got: dict[str, bytes] = {}
    async with nodes(a=small, b={}, c={}, d={}) as (a, *others):
        async with trio.open_nursery() as nursery, a.shuffle("s", **terms) as shuffle:
            await shuffle.put({to: many("a", to) for to in terms["reducers"]})
            assert spilled(a) == 2 * PARTITION
            for node in others:
                nursery.start_soon(take, node, terms, got)
        assert got == {f"a/{to}": content("a", to, PARTITION) for to in terms["reducers"]}
        assert spilled(a) == 0
        assert os.listdir(tmp_path) == []


async def test_a_reducer_takes_one_huge_partition_into_a_file(tmp_path: Path) -> None:
    small = {"store_limit": MIB, "spill": tmp_path, "spill_limit": 16 * MIB}
    got: dict[str, bytes] = {}
    async with nodes(a={}, b=small) as (a, b):
        terms: dict[str, Any] = {"mappers": ["a", "b"], "reducers": ["a", "b"]}

        async def part(node: Node) -> None:
            async with node.shuffle("s", **terms) as shuffle:
                if node is a:
                    await shuffle.put({"b": many("a", "b", 9 * MIB)})
                shuffle.finish()
                async for mapper, view in shuffle.partitions():
                    assert spilled(node) == 9 * MIB
                    got[f"{mapper}/{node.name}"] = bytes(view.buffer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(part, a)
            nursery.start_soon(part, b)
        assert got == {"a/b": content("a", "b", 9 * MIB)}
        assert spilled(b) == 0


async def test_broadcasts_are_never_in_files(tmp_path: Path) -> None:
    small = {"store_limit": MIB, "spill": tmp_path, "spill_limit": 64 * MIB}
    async with nodes(a={}, b=small) as (a, b):
        with pytest.raises(StoreFull):
            await b.broadcast(bytes(2 * MIB), "own")
        transfer = await a.broadcast(bytes(2 * MIB), "x", to=["b"])
        with pytest.raises(TransferFailed) as failed:
            await transfer.wait()
        assert list(failed.value.failed) == ["b"]


@pytest.mark.parametrize(
    ("spill", "limit", "named"),
    [(True, None, "spill_limit"), (False, 1000, "spill_limit"), (True, 0, "spill limit")],
)
async def test_a_folder_and_its_limit_go_together(
    tmp_path: Path, spill: bool, limit: int | None, named: str
) -> None:
    async with serve_controller() as controller:
        with pytest.raises(ValueError, match=f"{named} must be"):
            async with join(
                controller.address, name="a", spill=tmp_path if spill else None, spill_limit=limit
            ):
                pass


# -- who puts waits --------------------------------------------------------------------------------------


async def test_a_put_waits_for_room_until_others_have_been_delivered() -> None:
    terms: dict[str, Any] = {"mappers": ["a"], "reducers": ["b", "c"]}
    done, got = trio.Event(), dict[str, bytes]()
    async with nodes(a={"store_limit": MIB}, b={}, c={}) as (a, b, c):

        async def put() -> None:
            async with a.shuffle("s", **terms) as shuffle:
                await shuffle.put({to: many("a", to) for to in "bc"})
                done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            nursery.start_soon(take, c, terms, got)
            await until(lambda: a.objects.store.statistics().objects == 1)
            await trio.sleep(0.2)
            assert not done.is_set()
            nursery.start_soon(take, b, terms, got)
        assert done.is_set()
        assert got == {f"a/{to}": content("a", to, PARTITION) for to in "bc"}


async def test_what_can_never_have_room_is_refused_at_once_where_nothing_will_leave() -> None:
    async with nodes(a={"store_limit": MIB}, b={}) as (a, _):
        with pytest.raises(StoreFull, match=r"s\[a/b\] needs"):
            async with a.shuffle("s", mappers=["a"], reducers=["b"], timeout=60) as shuffle:
                await shuffle.put({"b": many("a", "b", 2 * MIB)})


async def test_where_partitions_stay_to_the_end_nobody_waits_for_room() -> None:
    async with nodes(a={"store_limit": MIB}, b={}) as (a, _):
        with pytest.raises(StoreFull, match=r"s\[a/c\] needs"):
            async with a.shuffle("s", mappers=["a"], reducers=["b", "c"], replaceable=True) as shuffle:
                await shuffle.put({"b": many("a", "b"), "c": many("a", "c")})


async def test_who_waits_for_room_hears_that_the_shuffle_has_failed() -> None:
    terms: dict[str, Any] = {"mappers": ["a"], "reducers": ["b", "c"]}
    async with nodes(a={"store_limit": MIB}, b={}) as (a, b):

        async def fail() -> None:
            await until(lambda: a.objects.store.statistics().objects == 1)
            with pytest.raises(ZeroDivisionError):
                async with b.shuffle("s", **terms):
                    raise ZeroDivisionError

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            with pytest.raises(TransferFailed) as failed:
                await give(a, terms)
            assert list(failed.value.failed) == ["b"]


def waiting_are(node: Node, count: int) -> Callable[[], bool]:
    """Whether so many partitions wait for room at a node."""
    return lambda: node.objects.statistics().waiting == count


# -- who takes makes others wait -----------------------------------------------------------------------------


async def test_a_slow_reducer_holds_no_more_than_its_store_and_gets_everything() -> None:
    mappers = ["m1", "m2", "m3", "m4"]
    terms: dict[str, Any] = {"mappers": mappers, "reducers": ["r"]}
    got: dict[str, bytes] = {}
    async with nodes(r={"store_limit": MIB}, **{name: {} for name in mappers}) as (r, *givers):
        async with trio.open_nursery() as nursery:
            for node in givers:
                nursery.start_soon(give, node, terms)
            async with r.shuffle("s", **terms) as shuffle:
                async for mapper, view in shuffle.partitions():
                    await until(waiting_are(r, len(mappers) - len(got) - 1))
                    statistics = r.objects.store.statistics()
                    assert statistics.reserved_bytes + statistics.lingering_bytes <= MIB
                    got[mapper] = bytes(view.buffer)
                    del view
                assert r.objects.statistics().waiting == 0
        assert got == {mapper: content(mapper, "r", PARTITION) for mapper in mappers}


async def fails(node: Node, terms: dict[str, Any], why: list[TransferFailed], size: int = PARTITION) -> None:
    """Put what cannot be delivered."""
    with pytest.raises(TransferFailed) as failed:
        await give(node, terms, size)
    why.append(failed.value)


async def test_a_reducer_that_keeps_its_views_is_named_when_nothing_gets_on() -> None:
    terms: dict[str, Any] = {"mappers": ["a", "b"], "reducers": ["r"], "timeout": 1.0}
    views: dict[str, ObjectView] = {}
    why: list[TransferFailed] = []
    async with nodes(a={}, b={}, r={"store_limit": MIB}) as (a, b, r):

        async def keep() -> None:
            async with r.shuffle("s", **terms) as shuffle:
                async for mapper, view in shuffle.partitions():
                    views[mapper] = view

        async with trio.open_nursery() as nursery:
            for node in (a, b):
                nursery.start_soon(fails, node, terms, why)
            with pytest.raises(TransferFailed) as failed:
                await keep()
        ((taken, view),) = views.items()
        (other,) = {"a", "b"} - {taken}
        assert failed.value.failed == {"r": f"has no room for the partition of {other}"}
        assert [each.failed for each in why] == [failed.value.failed] * 2
        assert bytes(view.buffer) == content(taken, "r", PARTITION)
        assert r.objects.statistics().waiting == 0, "it waits no longer for what is over"


async def test_a_partition_that_the_reducer_can_never_hold_fails_by_name() -> None:
    terms: dict[str, Any] = {"mappers": ["a"], "reducers": ["r"]}
    why: list[TransferFailed] = []
    async with nodes(a={}, r={"store_limit": MIB}) as (a, r):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, a, terms, why, 2 * MIB)
            with pytest.raises(TransferFailed) as failed:
                await take(r, terms, {})
        assert failed.value.failed == why[0].failed
        assert list(why[0].failed) == ["r"]
        assert "needs" in why[0].failed["r"]


async def test_a_synthetic_shuffle_of_more_than_its_agents_hold_goes_through() -> None:
    mappers, reducers = ["a", "b"], ["c", "d", "e"]
    small = {name: {"store_limit": MIB} for name in mappers + reducers}
    async with nodes(asks={}, **small) as (asks, *agents):
        sizes = {mapper: dict.fromkeys(reducers, PARTITION) for mapper in mappers}
        outcome = await (await asks.run_shuffle(sizes, "s", timeout=20)).wait()
        assert set(outcome.node_completion_s) == set(reducers)
        await until(lambda: not any(node.objects.store.statistics().objects for node in agents))


async def test_an_all_to_all_shuffle_of_more_than_its_agents_hold_goes_through() -> None:
    names = ["a", "b", "c", "d"]
    async with nodes(asks={}, **{name: {"store_limit": MIB} for name in names}) as (asks, *agents):
        sizes = {mapper: dict.fromkeys(names, 300 << 10) for mapper in names}
        outcome = await (await asks.run_shuffle(sizes, "s", timeout=20)).wait()
        assert set(outcome.node_completion_s) == set(names)
        await until(lambda: not any(node.objects.store.statistics().objects for node in agents))


# -- who comes late, who has nothing, and who has it all -------------------------------------------------


def test_mappers_that_come_late_are_waited_for() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        terms: dict[str, Any] = {"mappers": ["a", "b"], "reducers": ["c"], "timeout": 60.0}
        a, b, c = (Part(cluster, name, **terms) for name in "abc")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(c.run, 0)
            nursery.start_soon(a.run, 100_000)
            await trio.sleep(50.0)
            assert list(c.got) == ["a"]
            assert not c.shuffle.over
            nursery.start_soon(b.run, 100_000)
        assert c.got == {mapper: [content(mapper, "c", 100_000)] for mapper in "ab"}

    in_cluster("abc", body)


def test_a_mapper_may_put_at_long_intervals() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        terms: dict[str, Any] = {"mappers": ["a"], "reducers": ["b", "c"], "timeout": 60.0}
        b, c = (Part(cluster, name, **terms) for name in "bc")
        async with trio.open_nursery() as nursery:
            for part in (b, c):
                nursery.start_soon(part.run, 0)
            async with cluster.nodes["a"].shuffle("s", **terms) as shuffle:
                for part in (c, b):
                    await trio.sleep(50.0)
                    await shuffle.put({part.name: content("a", part.name, 100_000)})
        for part in (b, c):
            assert part.got == {"a": [content("a", part.name, 100_000)]}

    in_cluster("abc", body)


def test_where_nobody_has_anything_it_ends_at_once() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        terms: dict[str, Any] = {"mappers": ["a", "b"], "reducers": ["b", "c"]}

        async def part(name: str) -> None:
            async with cluster.nodes[name].shuffle("s", **terms) as shuffle:
                if name in shuffle.mappers:
                    shuffle.finish()
                if name in shuffle.reducers:
                    assert [mapper async for mapper, _ in shuffle.partitions()] == []

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(part, name)
        assert trio.current_time() < 5.0
        assert sum(cluster.world.bytes_sent) == 0

    in_cluster("abc", body)


@pytest.mark.parametrize("scheduling", ["weighted", "fair"])
def test_one_huge_partition_among_small_and_empty_ones_takes_no_longer_than_alone(scheduling: str) -> None:
    huge, small = int(8 * RATE), 1000

    async def body(cluster: SimulatedCluster) -> None:
        sizes = {
            "a": {"c": huge, "d": small},
            "b": {"c": small, "d": 0},
        }
        running = await cluster.nodes["b"].run_shuffle(sizes, "s", scheduling=scheduling, timeout=60)
        outcome = await running.wait()
        assert outcome.failed == {}
        assert 8.0 <= outcome.completion_s <= 9.5
        assert set(outcome.flow_completion_s["a"]) == {"c", "d"}
        progress = running.progress()
        assert progress.done_bytes == progress.total_bytes == huge + 2 * small

    in_cluster("abcd", body)


# -- the waiting room ----------------------------------------------------------------------------------------


def partition(part: str, transfer: str = "s") -> Manifest:
    return manifest_of(transfer, 40, part=part)


def test_those_who_wait_are_let_in_in_order_up_to_the_first_without_room() -> None:
    room, let_in = WaitingRoom(), list[tuple[str, NodeName | None]]()
    waiting = [partition(part) for part in ("a/r", "b/r", "c/r")]
    for manifest in waiting:
        room.enter(manifest)
    room.follow(waiting[0].key, NodeName("a"))

    def has_room(manifest: Manifest, source: NodeName | None) -> bool:
        if manifest is waiting[1]:
            return False
        let_in.append((manifest.key.part, source))
        return True

    room.admit(has_room)
    assert let_in == [("a/r", "a")]
    assert [manifest.key in room for manifest in waiting] == [False, True, True]
    assert room.forget(waiting[1].key)
    assert not room.forget(waiting[1].key)
    room.admit(has_room)
    assert let_in == [("a/r", "a"), ("c/r", None)]
    assert len(room) == 0


def test_who_enters_again_keeps_place_and_source() -> None:
    room, seen = WaitingRoom(), list[tuple[str, NodeName | None]]()
    for part in ("a/r", "b/r"):
        room.enter(partition(part))
    room.follow(partition("a/r").key, NodeName("a"))
    room.enter(partition("a/r"))
    room.enter(partition("a/r", "other"))
    assert room.of(TransferName("s")) == [partition("a/r").key, partition("b/r").key]

    def has_room(manifest: Manifest, source: NodeName | None) -> bool:
        seen.append((str(manifest.key), source))
        return True

    room.admit(has_room)
    assert [source for _, source in seen] == ["a", None, None]


async def test_a_put_waits_for_room_until_its_own_node_has_taken_what_lies_there() -> None:
    terms: dict[str, Any] = {"mappers": ["a"], "reducers": ["a", "b"]}
    got: dict[str, bytes] = {}
    size = 600 << 10
    async with nodes(a={"store_limit": MIB}, b={}) as (a, b), trio.open_nursery() as nursery:
        nursery.start_soon(take, b, terms, got)
        async with a.shuffle("s", **terms) as shuffle, trio.open_nursery() as both:

            async def take_own() -> None:
                async for mapper, view in shuffle.partitions():
                    got[f"{mapper}/a"] = bytes(view.buffer)
                    del view

            both.start_soon(take_own)
            await shuffle.put({to: many("a", to, size) for to in "ab"})
    assert got == {f"a/{to}": content("a", to, size) for to in "ab"}
