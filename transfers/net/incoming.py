"""Blocks that are arriving at a node, and how far each has come: what its server may pass on already.

Owns the count of a block's bytes between its first and its check, and who waits for more of them. Must not
know where they come from or who wants them. The engine writes here, the server reads.

Theory of operation. A block is the unit of control: asked for, checked, reported. Passed on only when it is
all there, it makes an overlay later by its own length in time at every level. So its bytes are passed on as
they come, but the last of them only when the block has matched its checksum: a node never finishes a block
that it has not verified. One that proves to be corrupt, or stops coming, is broken off by closing the
connections that it was passed on. There it is asked for again, and nobody is blamed but who sent it first.
"""

from collections.abc import Callable
from enum import Enum

import trio

from transfers.ids import BlockIndex
from transfers.manifest import ObjectKey


class Fate(Enum):
    """What has become of a block."""

    ARRIVING = "arriving"
    STORED = "stored"
    LOST = "lost"
    """It did not come to its end, or not in one piece; whatever was passed on of it is worth nothing."""
    STUCK = "stuck"
    """It stands still: nobody is to wait for parts of it any more, though it may still come."""


class IncomingBlock:
    """One block between its header and its check.

    Attributes:
        length_bytes: of the whole block.
        moved_at_s: when something of it came last.
        ready_bytes: how many may be passed on: what is in the store; of the last part only what is checked.
        fate: what has become of it.
        wanted: whether anybody here waits for parts of it.
    """

    __slots__ = (
        "_got_bytes",
        "_waiting",
        "fate",
        "length_bytes",
        "moved_at_s",
        "ready_bytes",
        "wanted",
    )

    def __init__(self, length_bytes: int) -> None:
        self.length_bytes = length_bytes
        self.ready_bytes = 0
        self.fate = Fate.ARRIVING
        self.moved_at_s = trio.current_time()
        self.wanted = False
        self._got_bytes = 0
        self._waiting: dict[trio.Event, int] = {}

    @property
    def got_bytes(self) -> int:
        """How many have come, of which the last may not be passed on yet."""
        return self._got_bytes

    def add(self, count_bytes: int) -> None:
        """So many more have come."""
        self._got_bytes += count_bytes
        self.moved_at_s = trio.current_time()
        if self._got_bytes < self.length_bytes:
            self.ready_bytes = self._got_bytes
            self._wake()

    async def wait_beyond(self, count_bytes: int) -> None:
        """Wait until more than so many may be passed on, or it is known that there will not be more."""
        if self.ready_bytes > count_bytes or self.fate is not Fate.ARRIVING:
            return
        event = trio.Event()
        self._waiting[event] = count_bytes
        try:
            await event.wait()
        finally:
            del self._waiting[event]

    def end(self, fate: Fate) -> None:
        """No more of it is to be waited for, and why."""
        self.fate = fate
        if fate is Fate.STORED:
            self.ready_bytes = self.length_bytes
        for event in self._waiting:
            event.set()

    def _wake(self) -> None:
        for event, beyond in self._waiting.items():
            if self.ready_bytes > beyond:
                event.set()


class IncomingBlocks:
    """All blocks that are arriving at one node.

    Attributes:
        on_begun: called with each block that begins to arrive.
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[ObjectKey, BlockIndex], IncomingBlock] = {}
        self.on_begun: Callable[[ObjectKey, BlockIndex, IncomingBlock], None] | None = None

    def __len__(self) -> int:
        return len(self._blocks)

    def get(self, key: ObjectKey, block: BlockIndex) -> IncomingBlock | None:
        """A block that is arriving; None if it is not."""
        return self._blocks.get((key, block))

    def begin(self, key: ObjectKey, block: BlockIndex, length_bytes: int) -> IncomingBlock:
        """A block's header has come."""
        incoming = self._blocks[key, block] = IncomingBlock(length_bytes)
        if self.on_begun is not None:
            self.on_begun(key, block, incoming)
        return incoming

    def give_up(self, since_s: Callable[[ObjectKey], float]) -> None:
        """Nobody is to wait for blocks of which nothing has come since then, by object."""
        for (key, _), incoming in self._blocks.items():
            if incoming.moved_at_s < since_s(key):
                incoming.end(Fate.STUCK)

    def end(self, key: ObjectKey, block: BlockIndex, fate: Fate) -> None:
        """It arrives no longer."""
        self._blocks.pop((key, block)).end(fate)
