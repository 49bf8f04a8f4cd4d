"""Broadcasts between nodes of one process, from values to views."""

import gc
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from orchestra.node.joining import join
from orchestra.node.node import Node
from tests.orchestra.node.clusters import STORE_BYTES, address_of, cluster
from tests.transfers.net.sites import until
from transfers.errors import (
    LocalProtocolError,
    StoreFull,
    TransferFailed,
    TransferRefused,
    UnknownTransfer,
    WaitTimeout,
)
from transfers.ids import TransferName
from transfers.manifest import ObjectKey
from transfers.planners import Mechanism


def holds_nothing(*nodes: Node) -> bool:
    """Whether no node has an object in its store."""
    return not any(node.objects.store.statistics().objects for node in nodes)


SHARING = pytest.mark.parametrize("share", [False, True], ids=["sending", "sharing"])

ARRAYS: dict[str, Any] = {
    "floats": np.linspace(0, 1, 50_000),
    "integers": np.arange(-500, 500, dtype="<i2").reshape(10, 100),
    "big-endian": np.arange(10, dtype=">u4"),
    "complex": np.array([1 + 2j, 3 - 4j]),
    "bool": np.array([True, False, True]),
    "text": np.array(["a", "längst", ""]),
    "time": np.array(["2020-01-01", "NaT"], dtype="datetime64[D]"),
    "no dimension": np.array(3.5),
    "empty": np.zeros((0, 7), dtype=np.float32),
    "strided": np.arange(100).reshape(10, 10)[::2, ::3],
    "reversed": np.arange(20)[::-1],
    "Fortran": np.asfortranarray(np.arange(24.0).reshape(4, 6)),
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "nan": np.array([np.nan, np.inf, -0.0]),
}


@SHARING
async def test_arrays_arrive_with_dtype_shape_and_values(share: bool) -> None:
    async with cluster("a", "b", share=share) as (a, b):
        for name, array in ARRAYS.items():
            transfer = await a.broadcast(array, name)
            view = await b.receive(name)
            got = view.array()
            assert got.dtype == array.dtype, name
            assert got.shape == array.shape, name
            np.testing.assert_array_equal(got, array, err_msg=name)
            assert not got.flags.writeable
            outcome = await transfer.wait()
            assert set(outcome.node_completion_s) == {"b"}


@SHARING
@pytest.mark.parametrize("value", [b"", b"x", bytearray(b"y" * 70_000), memoryview(b"abcdef")[::2]], ids=len)
async def test_buffers_arrive_as_bytes(share: bool, value: Any) -> None:
    async with cluster("a", "b", share=share) as (a, b):
        await (await a.broadcast(value, "t")).wait()
        view = await b.receive("t")
        assert bytes(view.buffer) == bytes(value)
        assert view.buffer.readonly
        with pytest.raises(LocalProtocolError, match="not pickled"):
            view.object()


async def test_objects_are_pickled_only_where_that_is_allowed() -> None:
    async with cluster("a", "b") as (a, _):
        with pytest.raises(LocalProtocolError, match="allow_pickle"):
            await a.broadcast({"a": 1}, "t")
    async with cluster("a", "b", allow_pickle=True) as (a, b):
        await a.broadcast({"a": [1, 2]}, "t")
        view = await b.receive("t")
        assert view.object() == {"a": [1, 2]}
        with pytest.raises(LocalProtocolError, match="pickled"):
            view.array()


@pytest.mark.parametrize(
    "array", [np.array([{}, None], dtype=object), np.zeros(3, dtype=[("x", "f8")])], ids=["objects", "fields"]
)
async def test_arrays_that_are_no_plain_bytes_are_refused(array: Any) -> None:
    async with cluster("a", "b") as (a, _):
        with pytest.raises(ValueError, match="dtype"):
            await a.broadcast(array, "t")
        await (await a.broadcast(b"good", "t")).wait()


@SHARING
@pytest.mark.parametrize("mechanism", [each.value for each in Mechanism])
async def test_every_mechanism_reaches_every_node(share: bool, mechanism: str) -> None:
    data = np.random.default_rng(1).integers(0, 255, 600_001, dtype=np.uint8)
    async with cluster("a", "b", "c", "d", "e", share=share) as nodes:
        transfer = await nodes[0].broadcast(data, "t", mechanism=mechanism, block_size=65_536)
        assert transfer.mechanism is Mechanism(mechanism)
        assert transfer.reason
        outcome = await transfer.wait()
        assert set(outcome.node_completion_s) == {"b", "c", "d", "e"}
        assert transfer.progress().fraction == 1.0
        assert transfer.progress().receivers_done == 4
        for node in nodes[1:]:
            np.testing.assert_array_equal((await node.receive("t")).array(), data)
            if share:
                assert node.objects.store.statistics().adopted_bytes == data.nbytes, "mapped, not copied"


async def test_every_byte_travels_at_most_once_to_each_node() -> None:
    data = bytes(500_000)
    async with cluster("a", "b", "c", "d") as nodes:
        await (await nodes[0].broadcast(data, "t", block_size=50_000)).wait()
        for node in nodes[1:]:
            assert node.objects.engine.received_bytes == len(data)
            assert node.objects.engine.wasted_bytes == 0


@SHARING
async def test_views_outlive_the_release(share: bool) -> None:
    data = np.arange(100_000)
    async with cluster("a", "b", share=share) as (a, b):
        await (await a.broadcast(data, "t")).wait()
        array = (await b.receive("t")).array()
        await a.release("t")
        await until(partial(holds_nothing, a, b))
        for number in range(5):  # the memory is not used again while it can be seen
            await (await a.broadcast(np.full(100_000, number), f"u{number}")).wait()
        np.testing.assert_array_equal(array, data)
        del array
        gc.collect()
        assert b.objects.store.statistics().lingering_bytes == 0
        with pytest.raises(UnknownTransfer, match="'t'"):
            await b.release("t")
        await (await b.broadcast(b"again", "t")).wait()


async def test_release_in_flight_ends_it_for_everyone() -> None:
    async with cluster("a", "b", port_rate=2e6) as (a, b):
        transfer = await a.broadcast(bytes(20 << 20), "t")
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with pytest.raises(TransferFailed, match="released by b"):
                    await b.receive("t")

            nursery.start_soon(receive)
            await trio.sleep(0.1)
            await b.release("t")
        with pytest.raises(TransferFailed, match="released by b"):
            await transfer.wait()
        await until(partial(holds_nothing, a, b))


async def test_cancel_frees_everything_and_tells_who_waits() -> None:
    async with cluster("a", "b", port_rate=2e6) as (a, b):
        transfer = await a.broadcast(bytes(20 << 20), "t")
        await trio.sleep(0.1)
        await transfer.cancel()
        with pytest.raises(TransferFailed, match="cancelled by a"):
            await transfer.wait()
        await transfer.cancel()
        await until(partial(holds_nothing, a, b))
        await (await a.broadcast(b"another", "t")).wait()


@SHARING
async def test_a_late_joiner_is_served_without_being_named(share: bool) -> None:
    data = bytes(range(250)) * 1000
    async with cluster("a", "b", share=share) as (a, b):
        outcome = await (await a.broadcast(data, "t")).wait()
        await b.receive("t")
        async with join(address_of(a), name="late", share=share, store_limit=STORE_BYTES) as late:
            assert bytes((await late.receive("t")).buffer) == data
            await until(lambda: not late._member.busy)  # it has heard that it need not speak often any more
        assert set(outcome.node_completion_s) == {"b"}


async def test_whoever_asks_early_gets_it_too() -> None:
    async with cluster("a", "b", "c") as (a, b, c):
        got = list[bytes]()

        async def receive(node: Node) -> None:
            got.append(bytes((await node.receive("t")).buffer))

        async with trio.open_nursery() as nursery:
            for node in (b, c, c):
                nursery.start_soon(receive, node)
            await trio.sleep(0.1)
            transfer = await a.broadcast(b"data", "t", to=["b"])
            outcome = await transfer.wait()
        assert got == [b"data"] * 3
        assert set(outcome.node_completion_s) == {"b"}
        assert bytes((await a.receive("t")).buffer) == b"data", "the source holds it too"


async def test_what_never_comes_times_out_and_leaves_nothing() -> None:
    async with cluster("a") as (a,):
        for number in range(20):
            with pytest.raises(WaitTimeout, match=f"'t{number}' has not arrived"):
                await a.receive(f"t{number}", timeout=0.01)
        assert not a.objects._arrivals
        assert not a._member.wants


async def test_a_full_store_fails_its_node_by_name_and_the_others_finish() -> None:
    data = bytes(4 << 20)
    async with (
        cluster("a", "b") as (a, b),
        join(address_of(a), name="small", share=False, store_limit=1 << 20) as small,
    ):
        transfer = await a.broadcast(data, "t")
        with pytest.raises(TransferFailed) as failed:
            await transfer.wait()
        assert set(failed.value.failed) == {"small"}
        assert "store" in failed.value.failed["small"]
        assert bytes((await b.receive("t")).buffer) == data
        with pytest.raises(StoreFull):
            await small.broadcast(data, "u")
        await (await small.broadcast(b"fits", "u")).wait()  # the failed one has left nothing behind


async def test_saved_files_are_in_place_when_it_is_over(tmp_path: Path) -> None:
    source = tmp_path / "weights.bin"
    source.write_bytes(bytes(range(200)) * 2000)
    (tmp_path / "broken").mkdir()
    async with (
        cluster("a") as (a,),
        join(address_of(a), name="b", share=False, save=tmp_path / "b", store_limit=STORE_BYTES),
        join(address_of(a), name="c", share=False, save=tmp_path / "broken", store_limit=STORE_BYTES),
    ):
        await (await a.broadcast_file(source)).wait()
        assert (tmp_path / "b" / "weights.bin").read_bytes() == source.read_bytes()
        (tmp_path / "broken" / "folder").write_text("a file where a folder should be")
        with pytest.raises(TransferFailed) as failed:
            await (await a.broadcast_file(source, "folder/t")).wait()
        assert set(failed.value.failed) == {"c"}
        assert "cannot be saved" in failed.value.failed["c"]
        assert (tmp_path / "b" / "folder" / "t").read_bytes() == source.read_bytes()


async def test_nodes_of_one_host_map_a_file_that_has_no_transfer_name(tmp_path: Path) -> None:
    source = tmp_path / "weights.bin"
    source.write_bytes(bytes(range(200)) * 500)
    async with cluster("a", "b", share=True) as (a, b):
        transfer = await a.broadcast_file(source)
        await transfer.wait()
        held = b.objects.store.get(ObjectKey(TransferName(transfer.name)))
        assert held is not None
        assert held.adopted
        assert held.manifest.content.file_name == "weights.bin"
        assert bytes((await b.receive(transfer.name)).buffer) == source.read_bytes()
        del held


async def test_what_cannot_be_sent_as_a_file_is_refused_before_anyone_hears_of_it(tmp_path: Path) -> None:
    pipe, odd = tmp_path / "pipe", tmp_path / "li\nne"
    os.mkfifo(pipe)
    odd.write_bytes(b"data")
    unencodable = tmp_path / os.fsdecode(b"\xff")
    unencodable.write_bytes(b"data")
    async with cluster("a", "b") as (a, b):
        for path in (tmp_path, pipe, Path("/dev/null")):
            with pytest.raises(ValueError, match=r"path=.* is no regular file"):
                await a.broadcast_file(path, "t")
        with pytest.raises(ValueError, match="path='/proc/cpuinfo' has content"):
            await a.broadcast_file("/proc/cpuinfo", "t")
        for path in (odd, unencodable):
            with pytest.raises(ValueError, match=r"path=.*its own name"):
                await a.broadcast_file(path)
        with pytest.raises(FileNotFoundError):
            await a.broadcast_file(tmp_path / "missing")
        assert holds_nothing(a, b)
        await (await a.broadcast_file(odd, "t")).wait()  # with a name, its own does not matter
        assert bytes((await b.receive("t")).buffer) == b"data"


async def test_an_empty_file_is_sent(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    async with cluster("a", "b") as (a, b):
        await (await a.broadcast_file(tmp_path / "empty", "t")).wait()
        assert (await b.receive("t")).nbytes == 0


async def test_a_name_in_use_is_refused_and_the_first_use_goes_on() -> None:
    async with cluster("a", "b", port_rate=4e6) as (a, b):
        first = await a.broadcast(bytes(1 << 20), "t")
        with pytest.raises(LocalProtocolError, match="already"):
            await a.broadcast(b"x", "t")
        with pytest.raises((TransferRefused, LocalProtocolError), match=r"exists|already"):
            await b.broadcast(b"x", "t")
        assert (await first.wait()).failed == {}


async def test_a_second_proposal_of_one_name_does_not_hurt_the_first() -> None:
    async with cluster("a") as (a,):
        done = trio.Event()

        async def first() -> None:
            transfer = await a.broadcast(b"data", "t", to=["b"])
            assert (await transfer.wait()).failed == {}
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.sleep(0.1)
            with pytest.raises(LocalProtocolError, match="under way"):
                await a.broadcast(b"other", "t", to=["b"])
            async with join(address_of(a), name="b", store_limit=STORE_BYTES) as b:
                assert bytes((await b.receive("t")).buffer) == b"data"
                await done.wait()


async def test_receivers_that_never_come_are_named() -> None:
    async with cluster("a", "b") as (a, b):
        transfer = await a.broadcast(b"data", "t", to=["b", "nobody"], timeout=0.3)
        with pytest.raises(TransferFailed) as failed:
            await transfer.wait()
        assert set(failed.value.failed) == {"nobody"}
        assert bytes((await b.receive("t")).buffer) == b"data"
        with pytest.raises(TransferRefused, match="1 of 3"):
            await a.broadcast(b"data", "u", wait_for=3, timeout=0.3)
        with pytest.raises(TransferRefused, match="no receiver"):
            await a.broadcast(b"data", "v", to=[])


async def test_a_lost_receiver_is_named_and_the_others_finish() -> None:
    async with cluster("a", "b", port_rate=4e6) as (a, b):
        async with trio.open_nursery() as nursery:

            async def doomed(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
                with trio.CancelScope() as scope:
                    async with join(address_of(a), name="c", share=False, store_limit=STORE_BYTES):
                        task_status.started(scope)
                        await trio.sleep_forever()

            scope = await nursery.start(doomed)
            transfer = await a.broadcast(bytes(2 << 20), "t")
            await trio.sleep(0.1)
            scope.cancel()
        outcome = await transfer.wait_outcome()
        assert set(outcome.failed) == {"c"}
        assert outcome.failed["c"].startswith("lost:")
        assert len((await b.receive("t")).buffer) == 2 << 20


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"name": "../t"}, "'..'"),
        ({"name": ""}, "transfer name"),
        ({"to": "b"}, "to must be"),
        ({"to": ["b,c"]}, "node name"),
        ({"mechanism": "pigeon"}, "pigeon"),
        ({"block_size": 0}, "block_size"),
        ({"block_size": 1.5}, "block_size must be a whole number, got 1.5"),
        ({"block_size": 10**30}, "block_size"),
        ({"wait_for": -1}, "wait_for"),
        ({"wait_for": "2"}, "wait_for must be a whole number, got '2'"),
        ({"wait_for": True}, "wait_for"),
        ({"to": 5}, "to must be"),
        ({"to": [5]}, "to must be"),
        ({"timeout": "60"}, "timeout must be a number of seconds, got '60'"),
        ({"timeout": None}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"priority": 1.5}, "priority must be a whole number"),
        ({"priority": True}, "priority"),
        ({"priority": 10**30}, "priority"),
        ({"weight": 0.0}, "weight must be a number above 0"),
        ({"weight": "2"}, "weight"),
        ({"weight": float("inf")}, "weight"),
    ],
)
async def test_bad_arguments_are_named(wrong: dict[str, Any], named: str) -> None:
    async with cluster("a", "b") as (a, _):
        with pytest.raises(ValueError, match=named):
            await a.broadcast(b"data", **wrong)
        assert not a._member.controls


async def test_numbers_of_numpy_are_numbers() -> None:
    whole: Any = np.int64(2)
    limit: Any = np.float32(20)
    async with cluster("a", "b", "c") as (a, b, _):
        sent = await a.broadcast(b"data", "t", block_size=whole, wait_for=whole, timeout=limit)
        assert sent.block_size_bytes == 2
        await sent.wait()
        assert bytes((await b.receive("t", limit)).buffer) == b"data"
        running = await a.run_shuffle({"a": {"b": whole}}, timeout=limit)
        await running.wait()
        assert running.progress().total_bytes == 2


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", None])
async def test_a_bad_timeout_of_receive_is_named(timeout: Any) -> None:
    async with cluster("a") as (a,):
        with pytest.raises(ValueError, match=f"timeout must .*got {timeout!r}"):
            await a.receive("t", timeout)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"timeout": "1"}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"mappers": "a"}, "mappers must be"),
        ({"reducers": None}, "reducers must be"),
    ],
)
async def test_bad_arguments_of_a_shuffle_are_named(wrong: dict[str, Any], named: str) -> None:
    async with cluster("a") as (a,):
        with pytest.raises(ValueError, match=named):
            async with a.shuffle("s", **{"mappers": ["a"], "reducers": ["a"], **wrong}):
                pass


@pytest.mark.parametrize("sizes", [5, {"a": 5}, {"a": {"b": 1.5}}, {"a": {"b": -1}}, {"a": {5: 1}}])
async def test_bad_sizes_of_a_shuffle_are_named(sizes: Any) -> None:
    async with cluster("a") as (a,):
        with pytest.raises(ValueError, match="sizes"):
            await a.run_shuffle(sizes)


async def test_a_masked_array_is_refused_since_its_mask_would_be_lost() -> None:
    async with cluster("a", "b") as (a, _):
        with pytest.raises(ValueError, match="mask"):
            await a.broadcast(np.ma.masked_less(np.arange(4), 2))


async def test_the_status_tells_of_nodes_and_transfers() -> None:
    async with cluster("a", "b", token="a token of the tests") as (a, _):
        await (await a.broadcast(b"data", "t")).wait()
        told = json.loads(await a.status())
        assert set(told["nodes"]) == {"a", "b"}
        assert told["transfers"]["t"]["state"] == "done"
