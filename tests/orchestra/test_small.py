"""Small objects: their cut, and their ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.small import (
    HALVES_FROM_BYTES,
    IN_MESSAGES_BYTES,
    SMALL_BYTES,
    fits_in_messages,
    routes,
    small_block_bytes,
)
from transfers.blocks import BlockLayout
from transfers.net.push import branches


@pytest.mark.parametrize(
    ("size_bytes", "blocks"),
    [(0, 0), (1, 1), (HALVES_FROM_BYTES - 1, 1), (HALVES_FROM_BYTES, 2), (SMALL_BYTES - 1, 2)],
)
def test_a_small_object_is_one_block_or_two_halves(size_bytes: int, blocks: int) -> None:
    block_bytes = small_block_bytes(size_bytes)
    assert block_bytes is not None
    assert BlockLayout(size_bytes, block_bytes).count == blocks


def test_what_is_larger_is_not_small() -> None:
    assert small_block_bytes(SMALL_BYTES) is not None
    assert small_block_bytes(SMALL_BYTES + 1) is None


def test_messages_carry_the_bytes_while_receivers_times_size_is_small() -> None:
    assert fits_in_messages(IN_MESSAGES_BYTES // 16, 16)
    assert not fits_in_messages(IN_MESSAGES_BYTES // 16 + 1, 16)
    assert fits_in_messages(IN_MESSAGES_BYTES, 0), "nobody to send to takes no more than one"


def inner_nodes(route: tuple[str, ...]) -> set[str]:
    """Nodes of a tree that pass on."""
    below = branches(route)
    return ({route[0]} if below else set()).union(*(inner_nodes(branch) for branch in below))


def everyone(route: tuple[str, ...]) -> list[str]:
    """All nodes of a tree, each as often as it is sent to."""
    return [route[0], *(name for branch in branches(route) for name in everyone(branch))]


def depth(route: tuple[str, ...]) -> int:
    """Levels of a tree."""
    return 1 + max((depth(branch) for branch in branches(route)), default=0)


@given(st.integers(1, 200))
def test_both_halves_reach_everyone_once_and_nobody_passes_on_both(receivers: int) -> None:
    names = [f"n{at}" for at in range(receivers)]
    first, second = routes(names, 2)
    assert sorted(everyone(first)) == sorted(everyone(second)) == sorted(names)
    assert not inner_nodes(first) & inner_nodes(second)
    assert depth(first) == depth(second) == receivers.bit_length()


def test_without_receivers_or_blocks_there_is_no_way() -> None:
    assert routes([], 2) == []
    assert routes(["a"], 0) == []
