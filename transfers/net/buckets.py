"""Leaky buckets: when the next bytes may move, so that a rate is kept.

Owns the clockwork. Must not know whose bytes they are, or which way they go.

Theory of operation. A bucket says when it is free; whoever moves bytes waits for that, moves a part, and
spends it, by which the bucket is free later. A rate of 0 is a pause: nobody moves until there is another
rate. A change of rate wakes those who wait. Where several wait for one bucket in turn (`TurnBucket`), the
lowest rank goes first, and of equal ranks who came first.
"""

from bisect import insort
from itertools import count

import trio

BURST_S = 0.05
"""Most of a rate that may be saved up unused, or moved at once, in seconds of it (a guess: half of what
pacing takes to bite after a change)."""
MIN_PART_BYTES = 1024
"""Least moved at once, however many share a rate (a guess: about one packet)."""


class Bucket:
    """A rate that is kept by all who move bytes under it.

    Args:
        rate_bytes_per_s: None is no limit, 0 a pause.

    Attributes:
        changed_at_s: when the rate was changed last; minus infinity if it never was.
    """

    def __init__(self, rate_bytes_per_s: float | None = None) -> None:
        self._rate = rate_bytes_per_s
        self._free_at_s = 0.0
        self._changed = trio.Event()
        self.changed_at_s = -float("inf")

    @property
    def rate_bytes_per_s(self) -> float | None:
        """As it is set now."""
        return self._rate

    @property
    def paused(self) -> bool:
        """Whether nothing may move."""
        return self._rate == 0

    def set_rate(self, rate_bytes_per_s: float | None) -> None:
        """Change it from now on; a debt is that of the new rate."""
        if rate_bytes_per_s == self._rate:
            return
        now = trio.current_time()
        if self._rate and rate_bytes_per_s:
            self._free_at_s = now + max(0.0, self._free_at_s - now) * self._rate / rate_bytes_per_s
        else:
            self._free_at_s = min(self._free_at_s, now)
        self._rate = rate_bytes_per_s
        self.changed_at_s = now
        self._changed.set()
        self._changed = trio.Event()

    def part_size(self, wanted_bytes: int, sharers: int = 1) -> int:
        """How much to move at once: small enough that the rate is kept smoothly."""
        if self._rate is None:
            return wanted_bytes
        return min(wanted_bytes, max(MIN_PART_BYTES, int(self._rate * BURST_S / sharers)))

    async def wait_turn(self) -> bool:
        """Wait until another part may move; whether there was anything to wait for."""
        waited = False
        while self._rate is not None and (ahead_s := self._ahead_s()) > 0:
            waited = True
            with trio.move_on_after(ahead_s):
                await self._changed.wait()
        return waited

    def spend(self, count_bytes: int) -> None:
        """Account for bytes that move."""
        if self._rate:
            earliest_s = trio.current_time() - BURST_S
            self._free_at_s = max(self._free_at_s, earliest_s) + count_bytes / self._rate

    def _ahead_s(self) -> float:
        return float("inf") if self._rate == 0 else self._free_at_s - trio.current_time()


class TurnBucket(Bucket):
    """A bucket for which several wait in turn, by rank."""

    def __init__(self, rate_bytes_per_s: float | None = None) -> None:
        super().__init__(rate_bytes_per_s)
        self._waiting: list[tuple[int, int]] = []
        self._numbers = count()
        self._left = trio.Event()

    async def wait_ranked_turn(self, rank: int) -> None:
        """Wait until another part may move, and nobody of a lower rank waits; `spend` it at once."""
        if self._rate is None or (self._ahead_s() <= 0 and not self._waiting):
            return
        ticket = (rank, next(self._numbers))
        insort(self._waiting, ticket)
        try:
            while self._rate is not None:
                if self._waiting[0] != ticket:
                    await self._left.wait()
                    continue
                ahead_s = self._ahead_s()
                if ahead_s <= 0:
                    return
                with trio.move_on_after(ahead_s):
                    await self._changed.wait()
        finally:
            self._waiting.remove(ticket)
            self._left.set()
            self._left = trio.Event()
