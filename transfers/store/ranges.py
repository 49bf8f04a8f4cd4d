"""Which bytes of a store are in use: sets of ranges, and the first-fit allocator on top of them.

Pure: numbers in, numbers out; knows nothing of files, mappings or objects.

Theory of operation. The address space of a store is longer than the memory it may use, since it is
sparse. Every byte of it is in one of three states: *taken* (an object lies there), *warm* (free, but
still backed by memory) or *cold* (free and not backed). Taking prefers warm ranges, because they
need no new pages; freeing makes a range warm; `RangeAllocator.cool` picks the warm ranges whose
memory is to go back to the kernel, highest first, so that first fit finds the rest.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Bytes from ``start`` up to and without ``end``."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"range: start={self.start} and end={self.end} hold no bytes")

    @property
    def length(self) -> int:
        """Bytes in the range."""
        return self.end - self.start


class RangeSet:
    """A set of bytes, kept as disjoint ranges in ascending order; neighbours are merged."""

    __slots__ = ("_ends", "_starts", "total")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0

    def __iter__(self) -> Iterator[Range]:
        return (Range(start, end) for start, end in zip(self._starts, self._ends, strict=True))

    def add(self, new: Range) -> None:
        """Put a range in.

        Raises:
            ValueError: when some byte of it is in already.
        """
        at = bisect_left(self._starts, new.start)
        if (at > 0 and self._ends[at - 1] > new.start) or (
            at < len(self._starts) and self._starts[at] < new.end
        ):
            raise ValueError(f"range {new.start}-{new.end} overlaps one that is in the set")
        joins_left = at > 0 and self._ends[at - 1] == new.start
        joins_right = at < len(self._starts) and self._starts[at] == new.end
        start = self._starts[at - 1] if joins_left else new.start
        end = self._ends[at] if joins_right else new.end
        first, last = at - joins_left, at + joins_right
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
        self.total += new.length

    def remove(self, gone: Range) -> int:
        """Take out whatever of a range is in; gives the bytes taken out."""
        first = bisect_right(self._ends, gone.start)
        last = bisect_left(self._starts, gone.end)
        if first >= last:
            return 0
        before = sum(self._ends[first:last]) - sum(self._starts[first:last])
        kept = [
            (start, end)
            for start, end in ((self._starts[first], gone.start), (gone.end, self._ends[last - 1]))
            if start < end
        ]
        self._starts[first:last] = [start for start, _ in kept]
        self._ends[first:last] = [end for _, end in kept]
        removed = before - sum(end - start for start, end in kept)
        self.total -= removed
        return removed

    def first_fit(self, length: int) -> Range | None:
        """The lowest ``length`` bytes that lie in one run."""
        for start, end in zip(self._starts, self._ends, strict=True):
            if end - start >= length:
                return Range(start, start + length)
        return None

    def highest(self, most: int) -> Range | None:
        """The end of the highest range: at most ``most`` bytes of it."""
        if not self._starts:
            return None
        return Range(max(self._starts[-1], self._ends[-1] - most), self._ends[-1])


class RangeAllocator:
    """Hands out ranges of ``space_bytes``, first fit, all of them multiples of ``page_bytes``.

    Raises:
        ValueError: for a space that is not a positive multiple of the page.
    """

    def __init__(self, space_bytes: int, page_bytes: int) -> None:
        if space_bytes < page_bytes or space_bytes % page_bytes:
            raise ValueError(f"space_bytes={space_bytes} is not a positive multiple of {page_bytes}")
        self.space_bytes = space_bytes
        self.page_bytes = page_bytes
        self._free = RangeSet()
        self._free.add(Range(0, space_bytes))
        self._warm = RangeSet()

    @property
    def taken_bytes(self) -> int:
        """Bytes that objects lie in."""
        return self.space_bytes - self._free.total

    @property
    def warm_bytes(self) -> int:
        """Free bytes that memory still stands behind."""
        return self._warm.total

    def rounded(self, size_bytes: int) -> int:
        """What ``size_bytes`` takes up: whole pages."""
        return -(-size_bytes // self.page_bytes) * self.page_bytes

    def take(self, size_bytes: int) -> tuple[Range, int] | None:
        """Take ``size_bytes`` (at least 1) in one run, rounded up to pages.

        Returns:
            The range and how many bytes of it are cold; None where no free range is long enough.
        """
        if size_bytes < 1:
            raise ValueError(f"size_bytes must be at least 1, got {size_bytes}")
        length = self.rounded(size_bytes)
        found = self._warm.first_fit(length) or self._free.first_fit(length)
        if found is None:
            return None
        self._free.remove(found)
        return found, length - self._warm.remove(found)

    def give_back(self, taken: Range, *, warm: bool) -> None:
        """Free a range that `take` gave, with or without memory behind it.

        Raises:
            ValueError: when some byte of it is free already.
        """
        self._free.add(taken)
        if warm:
            self._warm.add(taken)

    def cool(self, size_bytes: int) -> list[Range]:
        """Pick warm ranges, ``size_bytes`` in all or as much as there is; they count as cold from now on."""
        picked: list[Range] = []
        left = self.rounded(size_bytes)
        while left > 0:
            found = self._warm.highest(left)
            if found is None:
                break
            self._warm.remove(found)
            picked.append(found)
            left -= found.length
        return picked
