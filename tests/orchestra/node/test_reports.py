"""When what a node has stored is reported."""

import pytest
import trio
import trio.testing

from orchestra.messages import BlocksHeld
from orchestra.node.reports import REPORT_BLOCKS, Reports
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import ObjectKey
from transfers.planners.events import REPORT_INTERVAL_S, Stored

KEY, OTHER = ObjectKey(TransferName("one")), ObjectKey(TransferName("other"))
LONG_S = 1.0


class Node:
    """Reports that are running, and what the controller hears, with the time since the start."""

    def __init__(self) -> None:
        self.reports = Reports(self._hear)
        self.heard: list[tuple[float, ObjectKey, tuple[int, ...]]] = []
        self._began_s = trio.current_time()

    def _hear(self, message: BlocksHeld) -> None:
        blocks = tuple(record.block for record in message.records)
        self.heard.append((round(trio.current_time() - self._began_s, 6), message.key, blocks))

    def store(self, *blocks: int, key: ObjectKey = KEY, interval_s: float = REPORT_INTERVAL_S) -> None:
        """Blocks have come."""
        for block in map(BlockIndex, blocks):
            self.reports.add(key, Stored(block, NodeName("source"), 0.1))
            self.reports.send_soon(key, block, interval_s)


@pytest.fixture
async def node(nursery: trio.Nursery) -> Node:
    node = Node()
    nursery.start_soon(node.reports.run)
    await trio.testing.wait_all_tasks_blocked()
    return node


async def test_blocks_leave_together_after_the_interval(
    node: Node, autojump_clock: trio.testing.MockClock
) -> None:
    node.store(1)
    await trio.sleep(REPORT_INTERVAL_S / 2)
    node.store(2)
    assert (len(node.reports), node.heard) == (1, [])
    await trio.sleep(1.0)
    assert node.heard == [(REPORT_INTERVAL_S, KEY, (1, 2))]
    assert len(node.reports) == 0


async def test_as_many_as_a_report_holds_leave_at_once(
    node: Node, autojump_clock: trio.testing.MockClock
) -> None:
    node.store(*range(REPORT_BLOCKS + 1))
    assert node.heard == [(0.0, KEY, tuple(range(REPORT_BLOCKS)))]
    await trio.sleep(1.0)
    assert node.heard[1:] == [(REPORT_INTERVAL_S, KEY, (REPORT_BLOCKS,))]


async def test_where_it_may_take_long_any_number_gathers(
    node: Node, autojump_clock: trio.testing.MockClock
) -> None:
    blocks = tuple(range(3 * REPORT_BLOCKS))
    node.store(*blocks, interval_s=LONG_S)
    await trio.sleep(2 * LONG_S)
    assert node.heard == [(LONG_S, KEY, blocks)]


async def test_a_fetched_block_leaves_soon_and_takes_along_what_has_gathered(
    node: Node, autojump_clock: trio.testing.MockClock
) -> None:
    node.reports.expect_fetched(KEY, [BlockIndex(7)])
    node.store(1, 7, interval_s=LONG_S)
    await trio.sleep(LONG_S / 2)
    assert node.heard == [(REPORT_INTERVAL_S, KEY, (1, 7))]
    node.store(2, interval_s=LONG_S)
    await trio.sleep(2 * LONG_S)
    assert node.heard[1:] == [(1.5 * LONG_S, KEY, (2,))], "and the next gather anew"


async def test_a_fetch_that_nobody_waits_for_any_more_is_not_hurried(
    node: Node, autojump_clock: trio.testing.MockClock
) -> None:
    for key in (KEY, OTHER):
        node.reports.expect_fetched(key, [BlockIndex(7)])
    node.reports.forget_fetches(KEY)
    node.store(7, interval_s=LONG_S)
    node.reports.forget_fetches()
    node.store(7, key=OTHER, interval_s=LONG_S)
    await trio.sleep(2 * LONG_S)
    assert node.heard == [(LONG_S, KEY, (7,)), (LONG_S, OTHER, (7,))]


async def test_what_is_flushed_leaves_at_once_and_what_is_forgotten_never(
    node: Node, autojump_clock: trio.testing.MockClock
) -> None:
    node.store(1)
    node.store(2, key=OTHER)
    node.reports.flush(KEY)
    node.reports.forget(OTHER)
    assert node.heard == [(0.0, KEY, (1,))]
    await trio.sleep(1.0)
    assert len(node.heard) == 1
