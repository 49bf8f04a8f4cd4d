"""The allocator never hands out a byte twice, merges what is freed, and loses nothing."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfers.store.ranges import Range, RangeAllocator, RangeSet

PAGE = 16
SPACE = 64 * PAGE

steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 20 * PAGE)),
        st.tuples(st.just("free"), st.integers(0, 100)),
        st.tuples(st.just("drop"), st.integers(0, 100)),
        st.tuples(st.just("cool"), st.integers(1, SPACE)),
    ),
    max_size=60,
)


@given(steps)
def test_every_byte_is_taken_warm_or_cold_and_taken_once(script: list[tuple[str, int]]) -> None:
    ranges = RangeAllocator(SPACE, PAGE)
    taken: list[Range] = []
    warm: set[int] = set()
    for step, number in script:
        used = {byte for one in taken for byte in range(one.start, one.end)}
        match step:
            case "take":
                got = ranges.take(number)
                longest = _longest_gap(used)
                if got is None:
                    assert longest < ranges.rounded(number)
                    continue
                one, cold_bytes = got
                bytes_of = set(range(one.start, one.end))
                assert one.start % PAGE == 0
                assert one.length == ranges.rounded(number) >= number
                assert not bytes_of & used
                assert cold_bytes == len(bytes_of - warm)
                warm -= bytes_of
                taken.append(one)
            case "free" | "drop" if taken:
                one = taken.pop(number % len(taken))
                ranges.give_back(one, warm=step == "free")
                if step == "free":
                    warm |= set(range(one.start, one.end))
            case "cool":
                cooled = {byte for one in ranges.cool(number) for byte in range(one.start, one.end)}
                assert cooled <= warm
                assert len(cooled) == min(ranges.rounded(number), len(warm))
                warm -= cooled
            case _:
                pass
        assert ranges.warm_bytes == len(warm)
        assert ranges.taken_bytes == sum(one.length for one in taken)
    for one in taken:
        ranges.give_back(one, warm=False)
    assert ranges.taken_bytes == 0
    everything = ranges.take(SPACE)
    assert everything is not None
    assert everything[0] == Range(0, SPACE)


def _longest_gap(used: set[int]) -> int:
    longest = run = 0
    for byte in range(SPACE):
        run = 0 if byte in used else run + 1
        longest = max(longest, run)
    return longest


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(1, 20)), max_size=40))
def test_a_range_set_is_a_set_of_bytes_in_merged_ranges(script: list[tuple[bool, int, int]]) -> None:
    ranges = RangeSet()
    model: set[int] = set()
    for add, start, length in script:
        bytes_of = set(range(start, start + length))
        if not add:
            assert ranges.remove(Range(start, start + length)) == len(bytes_of & model)
            model -= bytes_of
        elif bytes_of & model:
            with pytest.raises(ValueError, match="overlaps"):
                ranges.add(Range(start, start + length))
        else:
            ranges.add(Range(start, start + length))
            model |= bytes_of
        listed = list(ranges)
        assert {byte for one in listed for byte in range(one.start, one.end)} == model
        assert all(left.end < right.start for left, right in pairwise(listed))
        assert ranges.total == len(model)


def test_warm_memory_is_taken_before_a_lower_cold_range() -> None:
    ranges = RangeAllocator(SPACE, PAGE)
    first, second = ranges.take(PAGE), ranges.take(PAGE)
    assert first is not None
    assert second is not None
    ranges.give_back(first[0], warm=False)
    ranges.give_back(second[0], warm=True)
    assert ranges.take(PAGE) == (second[0], 0)


def test_a_range_freed_twice_is_refused() -> None:
    ranges = RangeAllocator(SPACE, PAGE)
    taken = ranges.take(PAGE)
    assert taken is not None
    ranges.give_back(taken[0], warm=True)
    with pytest.raises(ValueError, match="overlaps"):
        ranges.give_back(taken[0], warm=True)


@pytest.mark.parametrize("space", [0, -PAGE, PAGE + 1])
def test_a_space_that_is_not_whole_pages_is_refused(space: int) -> None:
    with pytest.raises(ValueError, match="space_bytes"):
        RangeAllocator(space, PAGE)


def test_nothing_is_not_a_size() -> None:
    with pytest.raises(ValueError, match="size_bytes"):
        RangeAllocator(SPACE, PAGE).take(0)
