"""The memory of one store, under a limit: reserving, freeing, keeping some warm for the next transfer.

Owns the segment and the books of its ranges. Must not know objects, or who still sees a range: whoever
frees one has made sure that nobody does.

Theory of operation. What is freed is *recycled*: still backed by memory, and taken first, so that the next
transfer writes to pages that are there already (fresh ones take three times as long). What is
recycled beyond a limit goes back to the kernel. The books are under a lock, so that a thread may reserve
a large object while another one uses the store; the kernel's part of reserving is outside of it.
"""

import threading

from transfers.errors import StoreFull
from transfers.store.memory import available_bytes
from transfers.store.ranges import Range, RangeAllocator
from transfers.store.segment import PAGE_BYTES, Segment

MEMORY_MARGIN_BYTES = 64 << 20
"""Memory that a reservation leaves available to everyone else (a guess: one small process)."""

ADDRESS_SPACE_FACTOR = 4
"""Address space over the limit (a guess): with room to spare, scattered free ranges do not add up to a
store that is full although its memory is not. Holes cost nothing."""


class Arena:
    """At most ``limit_bytes`` of memory, of which at most ``recycle_bytes`` are kept while free.

    Raises:
        ValueError: for a limit below one page, or a negative ``recycle_bytes``.
        StoreFull: when the address space cannot be had.
    """

    def __init__(self, limit_bytes: int, recycle_bytes: int) -> None:
        if limit_bytes < PAGE_BYTES:
            raise ValueError(f"limit_bytes must be at least a page of {PAGE_BYTES}, got {limit_bytes}")
        if recycle_bytes < 0:
            raise ValueError(f"recycle_bytes must not be negative, got {recycle_bytes}")
        self.limit_bytes = limit_bytes // PAGE_BYTES * PAGE_BYTES
        self.recycle_bytes = recycle_bytes
        self.segment = Segment(self.limit_bytes * ADDRESS_SPACE_FACTOR)
        self._ranges = RangeAllocator(self.segment.space_bytes, PAGE_BYTES)
        self._lock = threading.Lock()

    @property
    def taken_bytes(self) -> int:
        """Bytes of all ranges that are reserved, in whole pages."""
        return self._ranges.taken_bytes

    @property
    def recycled_bytes(self) -> int:
        """Free bytes that are backed by memory."""
        return self._ranges.warm_bytes

    def reserve(self, size_bytes: int, what: str) -> Range:
        """Take ``size_bytes`` (at least 1) in one run and put memory behind all of them.

        Args:
            size_bytes: how much.
            what: whom it is for, for the error.

        Raises:
            StoreFull: when the limit, the host's memory or the kernel does not allow it.
        """
        with self._lock:
            found, cold_bytes = self._take(size_bytes, what)
        try:
            available = available_bytes() if cold_bytes else None
            if available is not None and cold_bytes > available - MEMORY_MARGIN_BYTES:
                raise StoreFull(f"{what} needs {cold_bytes} bytes more; the host has {available} available")
            # Warm memory is there: asking for it again takes 40 ms a GB. Where memory cannot be given back by
            # parts, what counts as warm need not be.
            if cold_bytes or not self.segment.can_punch:
                self.segment.reserve(found)
        except BaseException:
            with self._lock:
                self.segment.punch(found)
                self._ranges.give_back(found, warm=not self.segment.can_punch)
            raise
        return found

    def free(self, taken: Range) -> None:
        """Give a range back that nobody sees."""
        with self._lock:
            self._ranges.give_back(taken, warm=True)
            self._cool(self._ranges.warm_bytes - self.recycle_bytes)

    def close(self) -> None:
        """Let go of the memory; what is mapped stays until its mappings end."""
        self.segment.close()

    def _take(self, size_bytes: int, what: str) -> tuple[Range, int]:
        in_use = self._ranges.taken_bytes
        if in_use + self._ranges.rounded(size_bytes) > self.limit_bytes:
            raise StoreFull(
                f"{what} needs {size_bytes} bytes; {in_use} of the store's {self.limit_bytes} are in use"
            )
        taken = self._ranges.take(size_bytes)
        if taken is None:
            raise StoreFull(f"{what} needs {size_bytes} bytes in one run; the store is too scattered")
        # Warm ranges that were too short for it must not push memory in use and memory kept over the limit.
        self._cool(self._ranges.taken_bytes + self._ranges.warm_bytes - self.limit_bytes)
        return taken

    def _cool(self, size_bytes: int) -> None:
        """Give free memory back to the kernel, where it takes it back by parts."""
        if size_bytes > 0 and self.segment.can_punch:
            for gone in self._ranges.cool(size_bytes):
                self.segment.punch(gone)
