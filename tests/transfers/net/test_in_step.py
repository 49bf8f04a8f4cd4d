"""How far ahead a node in step may ask."""

import math

import pytest

from transfers.ids import BlockIndex
from transfers.net.in_step import IN_STEP_BYTES, IN_STEP_S, MOST_BLOCKS, Asked, last_in_step
from transfers.planners.events import LOOK_AHEAD

STRIPES = 2


def last_for(last: int, waits_for: int | None, block_bytes: int, block_s: float = math.inf) -> int:
    asked = Asked(BlockIndex(last), None if waits_for is None else BlockIndex(waits_for))
    return last_in_step(asked, STRIPES, block_bytes, block_s)


@pytest.mark.parametrize(
    ("block_bytes", "block_s", "beyond"),
    [
        (8 * IN_STEP_BYTES, math.inf, 2),
        (IN_STEP_BYTES // 2, 1.0, 2),
        (IN_STEP_BYTES // 4, 1.0, 4),
        (IN_STEP_BYTES // 1024, 1.0, MOST_BLOCKS),
        (8 * IN_STEP_BYTES, IN_STEP_S / 2.5, 3),
        (8 * IN_STEP_BYTES, 1e-6, MOST_BLOCKS),
        (8 * IN_STEP_BYTES, 0.0, MOST_BLOCKS),
    ],
)
def test_few_blocks_beyond_what_others_have_received(block_bytes: int, block_s: float, beyond: int) -> None:
    received = 90  # the last of this stripe, when four after it are asked for
    asked = received + LOOK_AHEAD * STRIPES
    assert last_for(asked, None, block_bytes, block_s) == received + beyond * STRIPES


def test_what_somebody_waits_for_is_never_held_back() -> None:
    assert last_for(100, 98, IN_STEP_BYTES) == 98
    assert last_for(100, 94, IN_STEP_BYTES) == 96, "nor is what may be asked for anyway"
