"""The inside of a node, by itself: whose turn it is among its small broadcasts."""

import pytest
import trio
import trio.testing

from orchestra.node.handles import TransferControl
from orchestra.node.member import MOST_SMALL_AT_ONCE, MOST_SMALL_TURN_S, SMALL_TURN_S, Member
from transfers.ids import NodeName


async def begin(member: Member) -> TransferControl:
    """A small broadcast that is under way when this returns."""
    control = TransferControl(lambda: None)
    await member.wait_small_turn(control)
    return control


async def hang(member: Member, count: int) -> list[TransferControl]:
    """So many that do not end by themselves."""
    return [await begin(member) for _ in range(count)]


@pytest.mark.parametrize("each_s", [0.1, 0.9 * SMALL_TURN_S])
async def test_those_that_hang_lose_their_places_while_others_go_on_completing(
    each_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    member = Member(NodeName("n"), receives=False, saves=False)
    most_at_once = under_way = 0

    async def one() -> None:
        nonlocal most_at_once, under_way
        control = await begin(member)
        under_way += 1
        most_at_once = max(most_at_once, under_way)
        await trio.sleep(each_s)
        under_way -= 1
        control.over.set()

    async def keep_asking(nursery: trio.Nursery) -> None:
        while True:
            nursery.start_soon(one)
            await trio.sleep(each_s / 2)

    async with trio.open_nursery() as member._nursery:
        hanging = await hang(member, MOST_SMALL_AT_ONCE - 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_asking, nursery)
            await trio.sleep(0.9 * MOST_SMALL_TURN_S)
            assert most_at_once == 1, "those that hang have the other places"
            await trio.sleep(0.2 * MOST_SMALL_TURN_S)
            assert most_at_once > 1
            nursery.cancel_scope.cancel()
        for control in hanging:
            assert not control.over.is_set(), "only their turns are over"
        member._nursery.cancel_scope.cancel()


@pytest.mark.parametrize("completing", [0, 1])
async def test_where_no_more_complete_all_lose_their_places_soon(
    completing: int, autojump_clock: trio.testing.MockClock
) -> None:
    member = Member(NodeName("n"), receives=False, saves=False)
    async with trio.open_nursery() as member._nursery:
        controls = await hang(member, MOST_SMALL_AT_ONCE)
        await trio.sleep(0.5 * SMALL_TURN_S * completing)
        for control in controls[:completing]:
            control.over.set()
        started_s = trio.current_time()
        await hang(member, MOST_SMALL_AT_ONCE)
        assert trio.current_time() - started_s == pytest.approx(SMALL_TURN_S)
        member._nursery.cancel_scope.cancel()
