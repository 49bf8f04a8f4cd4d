"""Cutting objects into blocks, and sets of blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfers.blocks import MAX_BLOCKS, BlockLayout, BlockSet
from transfers.ids import BlockIndex


@given(st.integers(0, 10**7), st.integers(64, 10**6))
def test_blocks_cover_the_object_once_and_only_the_last_is_short(size: int, block_size: int) -> None:
    layout = BlockLayout(size, block_size)
    lengths = [layout.length(BlockIndex(block)) for block in range(min(layout.count, 2000))]
    if layout.count <= 2000:
        assert sum(lengths) == size
        assert all(length == block_size for length in lengths[:-1])
        assert all(0 < length <= block_size for length in lengths)
    for block, _ in enumerate(lengths):
        assert layout.offset(BlockIndex(block)) == block * block_size


def test_an_empty_object_has_no_blocks_and_is_complete() -> None:
    assert BlockLayout(0, 5).count == 0
    assert BlockSet(0).complete
    assert BlockSet.full(0) == BlockSet(0)


def test_a_block_larger_than_the_object_is_one_block() -> None:
    layout = BlockLayout(3, 1000)
    assert layout.count == 1
    assert layout.length(BlockIndex(0)) == 3


@pytest.mark.parametrize(
    ("size", "block_size", "named"),
    [
        (-1, 4, "size_bytes"),
        (4, 0, "block_size_bytes"),
        (4, -2, "-2"),
        (MAX_BLOCKS + 1, 1, "block_size_bytes=1"),
    ],
)
def test_bad_layouts_are_refused_by_name_and_value(size: int, block_size: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BlockLayout(size, block_size)


def test_the_largest_number_of_blocks_is_allowed() -> None:
    assert BlockLayout(MAX_BLOCKS, 1).count == MAX_BLOCKS


SETS = st.integers(1, 70).flatmap(
    lambda count: st.tuples(
        st.just(count), st.sets(st.integers(0, count - 1)), st.sets(st.integers(0, count - 1))
    )
)


@given(SETS)
def test_a_block_set_behaves_as_a_set(drawn: tuple[int, set[int], set[int]]) -> None:
    count, ones, others = drawn
    one, other = BlockSet(count, ones), BlockSet(count, others)
    assert list(one) == sorted(ones)
    assert len(one) == len(ones)
    assert list(one | other) == sorted(ones | others)
    assert list(one & other) == sorted(ones & others)
    assert list(one - other) == sorted(ones - others)
    assert list(one.missing()) == sorted(set(range(count)) - ones)
    assert one.complete == (len(ones) == count)
    assert (one == other) == (ones == others)
    assert all((block in one) == (block in ones) for block in range(-2, count + 2))
    assert BlockSet.from_bytes(count, one.to_bytes()) == one
    copied = one.copy()
    for block in others:
        copied.discard(BlockIndex(block))
    assert copied == one - other
    assert list(one) == sorted(ones)


def test_a_block_outside_is_refused_and_never_contained() -> None:
    some = BlockSet(4, [1])
    for block in (-1, 4, 2**70):
        with pytest.raises(ValueError, match="not among 4 blocks"):
            some.add(BlockIndex(block))
        assert block not in some
        some.discard(BlockIndex(block))
    assert "1" not in some
    with pytest.raises(ValueError, match="beyond 4"):
        BlockSet.from_bytes(4, b"\x10")


def test_sets_of_other_sizes_differ_and_none_can_be_a_key() -> None:
    assert BlockSet(3, [1]) != BlockSet(4, [1])
    assert BlockSet(3) != [1]
    with pytest.raises(TypeError, match="mutable"):
        hash(BlockSet(1))


def test_a_set_is_spelled_in_runs() -> None:
    assert BlockSet(20, [0, 1, 2, 7]).spelled() == "0-2, 7"
    assert BlockSet(20, [0, 2, 4, 6, 8]).spelled(2) == "0, 2 and 3 runs more"
    assert BlockSet(20).spelled() == ""
    assert repr(BlockSet(3, [1])) == "BlockSet(3, [1])"
