import pytest
import trio

from orchestra.controller.serving import serve_controller
from orchestra.node import synthetic
from orchestra.node.joining import join
from orchestra.node.synthetic import synthetic_bytes
from transfers.errors import TransferFailed, TransferRefused
from transfers.store import arena


@pytest.mark.parametrize("size_bytes", [0, 1, 7, 8, 9, 100_003])
def test_synthetic_bytes_are_as_many_as_asked(size_bytes: int) -> None:
    assert synthetic_bytes("n1", "n2", size_bytes).nbytes == size_bytes


def test_synthetic_bytes_can_be_repeated() -> None:
    assert synthetic_bytes("n1", "n2", 999).tobytes() == synthetic_bytes("n1", "n2", 999).tobytes()


@pytest.mark.parametrize(("start", "size_bytes"), [(0, 8), (7, 10), (8, 8), (333, 0), (13, 986)])
def test_synthetic_bytes_are_the_same_in_parts(start: int, size_bytes: int) -> None:
    part = synthetic_bytes("n1", "n2", size_bytes, start)
    assert part.tobytes() == synthetic_bytes("n1", "n2", 999).tobytes()[start : start + size_bytes]


def test_no_two_partitions_are_equal() -> None:
    pairs = [("n1", "n2"), ("n2", "n1"), ("n1", "n1"), ("n", "1n2")]
    assert len({synthetic_bytes(*pair, 64).tobytes() for pair in pairs}) == len(pairs)


def test_synthetic_bytes_do_not_repeat_a_word() -> None:
    data = synthetic_bytes("n1", "n2", 8000).tobytes()
    assert len({data[at : at + 8] for at in range(0, 8000, 8)}) == 1000


async def test_nodes_run_a_shuffle_for_one_that_takes_no_part() -> None:
    async with (
        serve_controller() as controller,
        join(controller.address, name="a", share=False) as first,
        join(controller.address, name="b", share=False) as second,
        join(controller.address, name="asks", receives=False) as asks,
    ):
        running = await asks.run_shuffle({"a": {"b": 3_000_000, "a": 5}, "b": {"a": 0}}, "s")
        outcome = await running.wait()
        assert set(outcome.node_completion_s) == {"a", "b"}
        assert outcome.failed == {}
        progress = running.progress()
        assert progress.done_bytes == progress.total_bytes == 3_000_005
        with trio.fail_after(5):  # they let go of it all
            while [*first.objects.store.objects(), *second.objects.store.objects()]:
                await trio.sleep(0.01)
        await (await asks.run_shuffle({"a": {"b": 1}}, "s")).wait()  # the name is free again


async def test_a_node_without_room_ends_the_shuffle_by_name() -> None:
    async with (
        serve_controller() as controller,
        join(controller.address, name="a", share=False),
        join(controller.address, name="full", share=False, store_limit=1_000_000),
        join(controller.address, name="asks", receives=False) as asks,
    ):
        running = await asks.run_shuffle({"full": {"a": 9_000_000}, "a": {"full": 10}})
        with trio.fail_after(20), pytest.raises(TransferFailed) as failed:
            await running.wait()
        assert list(failed.value.failed) == ["full"]


async def test_a_partition_of_absurd_size_is_refused_before_it_is_made_up() -> None:
    async with (
        serve_controller() as controller,
        join(controller.address, name="a", share=False) as first,
        join(controller.address, name="b", share=False),
        join(controller.address, name="asks", receives=False) as asks,
    ):
        running = await asks.run_shuffle({"a": {"b": 900_000_000_000_000}})
        with trio.fail_after(20), pytest.raises(TransferFailed, match="from a to b needs 9") as failed:
            await running.wait()
        assert "more than its store can ever hold" in str(failed.value)
        assert not first._member.shuffles, "its part is over"
        await (await asks.run_shuffle({"a": {"b": 1}})).wait()  # the agent lives


async def check_it_fails(reason: str) -> None:
    """A shuffle of ten bytes between two agents."""
    async with (
        serve_controller() as controller,
        join(controller.address, name="a", share=False),
        join(controller.address, name="b", share=False),
        join(controller.address, name="asks", receives=False) as asks,
    ):
        running = await asks.run_shuffle({"a": {"b": 10}})
        with trio.fail_after(20), pytest.raises(TransferFailed, match=reason):
            await running.wait()


async def test_a_partition_that_cannot_be_made_ends_the_shuffle_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(synthetic, "synthetic_bytes", refuse)
    await check_it_fails("from a to b: no memory")


async def test_memory_that_is_not_given_ends_the_shuffle_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "available_bytes", lambda: 777)
    await check_it_fails(r"a\b.* needs .*; the host has 777 available")


async def test_unknown_agents_are_refused_by_name() -> None:
    async with (
        serve_controller() as controller,
        join(controller.address, name="asks", receives=False) as asks,
    ):
        with pytest.raises(TransferRefused, match="x, y"):
            await asks.run_shuffle({"x": {"y": 1}})
