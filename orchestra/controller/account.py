"""The account of one broadcast's receivers: who is counted, who is through, who has failed.

Owns whose end the outcome depends on, and what of it is told: to the owner while it runs, to everyone in
the tally. Must not know how bytes move, nor send anything: what nodes hold is passed in. Pure.

Theory of operation. Receivers that are meant when a broadcast starts are counted; late joiners are served as
well and are not. A counted receiver is unsettled until it says that it is through, or fails by name; when
none is unsettled the broadcast is done, and the account is closed. From then on nothing that happens to a
counted receiver changes the tally, because its outcome has been told.
"""

from collections.abc import Callable, Iterable

from orchestra.controller.transfer import PROGRESS_INTERVAL_S, Tally
from orchestra.messages import Progress
from transfers.blocks import BlockLayout, BlockSet
from transfers.ids import NodeName, TransferName

HoldsOf = Callable[[NodeName], BlockSet | None]
"""What a node holds; None where that is not known."""


class Account:
    """Of one broadcast.

    Args:
        transfer: its name.
        tally: where times and failures are written down.

    Attributes:
        counted: receivers on which the outcome depends.
        uncounted: others that are served, or hold it.
        settled: who is through, counted or not.
        closed: whether the outcome stands.
    """

    def __init__(self, transfer: TransferName, tally: Tally) -> None:
        self.counted: dict[NodeName, None] = {}
        self.uncounted: dict[NodeName, None] = {}
        self.settled: dict[NodeName, None] = {}
        self.closed = False
        self._transfer = transfer
        self._tally = tally
        self._lacking: NodeName | None = None  # someone who was not through when last looked at
        self._told_bytes: tuple[int, int] = (-1, -1)
        self._told_at_s = 0.0

    # -- who is in it --------------------------------------------------------------------------

    def count(self, there: Iterable[NodeName], absent: Iterable[NodeName], timeout_s: float) -> None:
        """These are the receivers; those who are absent have failed."""
        missing = list(absent)
        self.counted = dict.fromkeys([*there, *missing])
        for name in missing:
            self._tally.failed[name] = f"not joined within {timeout_s:g} s"

    def involves(self, name: NodeName) -> bool:
        """Whether a node receives, counted or not."""
        return name in self.counted or name in self.uncounted

    def counts(self, name: NodeName) -> bool:
        """Whether the outcome still depends on a node."""
        return name in self.counted and not self.closed

    def take_in(self, name: NodeName) -> None:
        """A node is served, or holds it: uncounted, unless the outcome depends on it."""
        if not self.counts(name):
            self.uncounted[name] = None

    def take_back(self, name: NodeName) -> bool:
        """A node has come back: whether it is one that counts, which then has not failed after all."""
        if not self.counts(name):
            return False
        self._tally.failed.pop(name, None)
        return True

    def put_off(self) -> list[NodeName]:
        """Nobody can be served for now: the uncounted who are not through are let off, and returned."""
        names = [name for name in self.uncounted if name not in self.settled]
        for name in names:
            del self.uncounted[name]
        return names

    # -- what becomes of them ------------------------------------------------------------------

    def note_complete(self, name: NodeName, now: float) -> None:
        """A node has all blocks: that is when it was complete, also if saving takes longer."""
        if self.counts(name):
            self._tally.node_completion_s.setdefault(name, now - self._tally.accepted_at_s)

    def note_settled(self, name: NodeName, now: float) -> None:
        """A node is through."""
        self.settled[name] = None
        if self.take_back(name):
            self.note_complete(name, now)

    def fail(self, name: NodeName, reason: str) -> None:
        """A node has failed, unless it was through before."""
        if self.counts(name) and name not in self.settled:
            self._tally.failed[name] = reason
            self._tally.node_completion_s.pop(name, None)

    def lose(self, name: NodeName, reason: str) -> None:
        """A node is gone; one that has failed already keeps its first reason. Of one that was never counted
        nothing is kept."""
        self.fail(name, self._tally.failed.get(name, f"lost: {reason}"))
        if name in self.uncounted:
            del self.uncounted[name]
            if name not in self.counted:
                self.settled.pop(name, None)

    def has_failed(self, name: NodeName) -> bool:
        """Whether a node is named as failed."""
        return name in self._tally.failed

    # -- whether it is done --------------------------------------------------------------------

    def is_unsettled(self, name: NodeName) -> bool:
        """Whether a node is neither through nor failed."""
        return name not in self.settled and name not in self._tally.failed

    def unsettled(self) -> list[NodeName]:
        """Counted receivers of which that is true."""
        return [name for name in self.counted if self.is_unsettled(name)]

    def all_settled(self) -> bool:
        """Whether there are none; cheap, as it is asked at every word of a node."""
        if self._lacking is None or not self.is_unsettled(self._lacking):  # else there is no need to look
            self._lacking = next((name for name in self.counted if self.is_unsettled(name)), None)
        return self._lacking is None

    def close(self, now: float) -> None:
        """All are settled: it took as long as the last of them."""
        self.closed = True
        times_s = self._tally.node_completion_s.values()
        self._tally.completion_s = max(times_s, default=now - self._tally.accepted_at_s)

    def close_failed(self, reason: str) -> None:
        """It has ended otherwise: receivers that are not through have failed by that."""
        for name in self.unsettled():
            self._tally.failed[name] = reason
        self.closed = True

    # -- how far it is -------------------------------------------------------------------------

    @property
    def settled_count(self) -> int:
        """Counted receivers that are through."""
        return sum(name in self.settled for name in self.counted)

    @property
    def settled_share(self) -> float:
        """The same as a share of all that are counted, 0 to 1."""
        return self.settled_count / len(self.counted) if self.counted else 1.0

    def bytes_done(self, layout: BlockLayout, holds_of: HoldsOf) -> tuple[int, int]:
        """Bytes that counted receivers have, and those that they are to have; the failed are left out."""
        done = total = 0
        for name in self.counted:
            if name in self._tally.failed:
                continue
            total += layout.size_bytes
            held = holds_of(name)
            if name in self.settled:
                done += layout.size_bytes
            elif held is not None:
                done += min(layout.size_bytes, len(held) * layout.block_size_bytes)
        return done, total

    def news(
        self, layout: BlockLayout, holds_of: HoldsOf, now: float, at_once: bool = False
    ) -> Progress | None:
        """What to tell the owner; None if nothing is new, or the last word was just before and this one need
        not come ``at_once``."""
        if not at_once and now - self._told_at_s < PROGRESS_INTERVAL_S:
            return None
        done, total = self.bytes_done(layout, holds_of)
        if (done, total) == self._told_bytes:
            return None
        self._told_bytes, self._told_at_s = (done, total), now
        return Progress(self._transfer, done, total, self.settled_count, len(self.counted))
