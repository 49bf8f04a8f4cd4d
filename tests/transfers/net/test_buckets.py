"""Who goes first through a bucket that several wait for, on a clock that is not the wall's."""

import pytest
import trio
import trio.testing

from transfers.net.buckets import Bucket, TurnBucket

RATE = 1000.0
PART = 100


def busy_bucket() -> TurnBucket:
    """A bucket with a debt of a second, for which everybody has to wait."""
    bucket = TurnBucket(RATE)
    bucket.spend(int(RATE))  # nothing is saved up when clocks begin
    return bucket


async def move(bucket: TurnBucket, rank: int, name: str, moved: list[str], times: int = 1) -> None:
    """Move some parts, one behind the other."""
    for _ in range(times):
        await bucket.wait_ranked_turn(rank)
        bucket.spend(PART)
        moved.append(name)


async def test_the_lowest_rank_goes_first_whoever_came_first(autojump_clock: trio.testing.MockClock) -> None:
    busy, moved = busy_bucket(), list[str]()
    async with trio.open_nursery() as nursery:
        for rank in (2, 0, 3, 1):
            nursery.start_soon(move, busy, rank, f"rank {rank}", moved)
            await trio.testing.wait_all_tasks_blocked()
    assert moved == ["rank 0", "rank 1", "rank 2", "rank 3"]


async def test_of_equal_ranks_goes_first_who_came_first(autojump_clock: trio.testing.MockClock) -> None:
    busy, moved = busy_bucket(), list[str]()
    async with trio.open_nursery() as nursery:
        for name in "cab":
            nursery.start_soon(move, busy, 7, name, moved)
            await trio.testing.wait_all_tasks_blocked()
    assert moved == ["c", "a", "b"]


async def test_who_comes_later_with_a_lower_rank_goes_ahead_of_those_who_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    busy, moved = busy_bucket(), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(move, busy, 1, "early", moved)
        await trio.sleep(0.5)
        nursery.start_soon(move, busy, 0, "late", moved)
    assert moved == ["late", "early"]


async def test_a_bucket_that_is_free_is_not_taken_past_those_who_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bucket, moved = TurnBucket(0.0), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(move, bucket, 1, "waited", moved)
        await trio.testing.wait_all_tasks_blocked()
        bucket.set_rate(RATE)
        nursery.start_soon(move, bucket, 2, "came", moved)
    assert moved == ["waited", "came"]


async def test_the_first_rank_takes_it_all_and_the_rate_is_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    busy, moved = busy_bucket(), list[str]()
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(move, busy, 1, "second", moved, 5)
        nursery.start_soon(move, busy, 0, "first", moved, 5)
    assert moved == ["first"] * 5 + ["second"] * 5
    assert trio.current_time() - began_s == pytest.approx(1 + 9 * PART / RATE)


async def test_who_gives_up_waiting_does_not_keep_the_others(autojump_clock: trio.testing.MockClock) -> None:
    busy, moved = busy_bucket(), list[str]()
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            nursery.start_soon(move, busy, 1, "stays", moved)
            await move(busy, 0, "gone", moved)
    assert moved == ["stays"]


async def test_nobody_moves_in_a_pause_and_all_go_on_in_order(autojump_clock: trio.testing.MockClock) -> None:
    busy, moved = busy_bucket(), list[str]()
    busy.set_rate(0.0)
    async with trio.open_nursery() as nursery:
        for rank in (1, 0):
            nursery.start_soon(move, busy, rank, f"rank {rank}", moved)
        await trio.sleep(1000)
        assert moved == []
        busy.set_rate(RATE)
    assert moved == ["rank 0", "rank 1"]


async def test_a_lifted_rate_lets_all_go_at_once(autojump_clock: trio.testing.MockClock) -> None:
    busy, moved = busy_bucket(), list[str]()
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for rank in range(3):
            nursery.start_soon(move, busy, rank, f"rank {rank}", moved)
        await trio.testing.wait_all_tasks_blocked()
        busy.set_rate(None)
    assert len(moved) == 3
    assert trio.current_time() == began_s


@pytest.mark.parametrize(("rate", "waits_s"), [(500.0, 2.0), (1000.0, 1.0), (4000.0, 0.25)])
async def test_a_debt_is_paid_at_the_rate_of_now(
    rate: float, waits_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    bucket = Bucket(RATE)
    bucket.spend(int(RATE))  # nothing is saved up when clocks begin
    bucket.set_rate(rate)
    began_s = trio.current_time()
    assert await bucket.wait_turn()
    assert trio.current_time() - began_s == pytest.approx(waits_s)


async def test_a_pause_forgives_debts(autojump_clock: trio.testing.MockClock) -> None:
    bucket = Bucket(RATE)
    bucket.spend(100 * int(RATE))
    bucket.set_rate(0.0)
    assert bucket.paused
    bucket.set_rate(RATE)
    began_s = trio.current_time()
    await bucket.wait_turn()
    assert trio.current_time() == began_s
