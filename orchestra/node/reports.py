"""Which blocks have come and are not reported yet, and when the controller hears of them.

Owns the gathering and sending of `BlocksHeld`. Must not know what blocks are, or why they come.

Theory of operation. A message costs a controller far more than a block in it, so reports leave together: as
long after the first as its transfer allows (`transfers.planners.events.report_interval_s`), or, where that is
not long, as soon as `REPORT_BLOCKS` have gathered. A block that was asked for by a `FetchBlocks` leaves
within `REPORT_INTERVAL_S` all the same, since it makes room for another ask, and takes along
what has gathered.
"""

import math
from collections.abc import Callable, Iterable

import trio

from orchestra.messages import BlocksHeld
from transfers.ids import BlockIndex
from transfers.manifest import ObjectKey
from transfers.planners.events import REPORT_INTERVAL_S, Stored

REPORT_BLOCKS = 8
"""From the design: batches of 8 cost a fifth of single reports."""


class Reports:
    """What one node has to report of the blocks of its objects.

    Args:
        tell: sends a report.
    """

    def __init__(self, tell: Callable[[BlocksHeld], None]) -> None:
        self._tell = tell
        self._unsent: dict[ObjectKey, list[Stored]] = {}
        self._due_at_s: dict[ObjectKey, float] = {}
        self._fetched: dict[ObjectKey, set[BlockIndex]] = {}
        self._changed = trio.Event()

    def __len__(self) -> int:
        """Objects with blocks that are not reported yet."""
        return len(self._unsent)

    async def run(self) -> None:
        """Send what is due until cancelled."""
        while True:
            with trio.move_on_at(min(self._due_at_s.values(), default=math.inf)):
                await self._changed.wait()
            self._changed = trio.Event()
            now = trio.current_time()
            for key in [key for key, at_s in self._due_at_s.items() if at_s <= now]:
                self.flush(key)

    def expect_fetched(self, key: ObjectKey, blocks: Iterable[BlockIndex]) -> None:
        """The controller has asked for these blocks, and waits to hear of them."""
        self._fetched.setdefault(key, set()).update(blocks)

    def add(self, key: ObjectKey, record: Stored) -> None:
        """A block has come; to be followed by `flush` or `send_soon`."""
        self._unsent.setdefault(key, []).append(record)

    def send_soon(self, key: ObjectKey, block: BlockIndex, interval_s: float) -> None:
        """Have the block that has just been added reported.

        Args:
            key: of its object.
            block: which one.
            interval_s: how long to gather what was not asked for by a `FetchBlocks`.
        """
        fetched = self._fetched.get(key)
        if fetched and block in fetched:
            fetched.discard(block)
            interval_s = REPORT_INTERVAL_S
        if len(self._unsent[key]) >= REPORT_BLOCKS and interval_s <= REPORT_INTERVAL_S:
            self.flush(key)
            return
        at_s = trio.current_time() + interval_s
        if at_s < self._due_at_s.get(key, math.inf):
            self._due_at_s[key] = at_s
            self._changed.set()

    def flush(self, key: ObjectKey) -> None:
        """Send what there is of an object."""
        self._due_at_s.pop(key, None)
        records = self._unsent.pop(key, None)
        if records:
            self._tell(BlocksHeld(key, tuple(records)))

    def forget(self, key: ObjectKey) -> None:
        """An object is let go: nothing is to be said of it."""
        self._unsent.pop(key, None)
        self._due_at_s.pop(key, None)
        self._fetched.pop(key, None)

    def forget_fetches(self, key: ObjectKey | None = None) -> None:
        """The controller waits for no block of an object any more, or of all objects."""
        if key is None:
            self._fetched.clear()
        else:
            self._fetched.pop(key, None)
