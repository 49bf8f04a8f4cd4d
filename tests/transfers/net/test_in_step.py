"""How far ahead a node in step may ask."""

import pytest

from transfers.blocks import BlockLayout
from transfers.ids import BlockIndex
from transfers.net.in_step import IN_STEP_BYTES, MOST_BLOCKS, Asked, last_in_step
from transfers.planners.events import LOOK_AHEAD

STRIPES = 2


def last_for(last: int, waits_for: int | None, block_bytes: int, blocks: int = 1000) -> int | None:
    asked = Asked(BlockIndex(last), None if waits_for is None else BlockIndex(waits_for))
    return last_in_step(asked, BlockLayout(block_bytes * blocks, block_bytes), STRIPES)


def test_nobody_below_limits_nothing() -> None:
    assert last_in_step(None, BlockLayout(1000, 10), STRIPES) is None


@pytest.mark.parametrize(
    ("block_bytes", "beyond"),
    [
        (IN_STEP_BYTES * 8, 2),
        (IN_STEP_BYTES // 2, 2),
        (IN_STEP_BYTES // 4, 4),
        (IN_STEP_BYTES // 1024, MOST_BLOCKS),
    ],
)
def test_few_blocks_beyond_what_others_have_received(block_bytes: int, beyond: int) -> None:
    received = 90  # the last of this stripe, when four after it are asked for
    assert last_for(received + LOOK_AHEAD * STRIPES, None, block_bytes) == received + beyond * STRIPES


def test_what_somebody_waits_for_is_never_held_back() -> None:
    assert last_for(100, 98, IN_STEP_BYTES) == 98
    assert last_for(100, 94, IN_STEP_BYTES) == 96, "nor is what may be asked for anyway"


@pytest.mark.parametrize(("last", "limited"), [(997, True), (998, False), (999, False)])
def test_when_the_last_block_has_been_asked_for_nothing_is_limited(last: int, limited: bool) -> None:
    """No ask will come any more that would tell of further blocks received."""
    assert (last_for(last, None, IN_STEP_BYTES) is not None) == limited
