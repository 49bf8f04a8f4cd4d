"""Discretised coflow-aware least attained service: for transfers of unknown size.

Owns this one policy. Must not know blocks, sockets, clocks or randomness, nor which flow has how much left.
Aalo (Chowdhury and Stoica, SIGCOMM 2015): a transfer begins in the first queue and sinks from queue to queue
as it sends, at 10 MB, 100 MB, and so on; inside a queue who came first goes first, its flows max-min fair. So
small transfers, which are most of all, pass large ones, though nobody has said what is large.

Departs from it in what keeps low queues moving. Aalo gives queues shares of the network by weights; here
higher queues go first, as in its authors' simulator, and the oldest transfer has a small part at all times
(docs/scheduling.md has the figures of both).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from schedulers.allocation import Allocation, Share
from schedulers.filling import Floats
from schedulers.reserves import OLDEST_PART, refuse_wrong_part, reserve_for_oldest
from schedulers.sharing import Sharing
from schedulers.snapshot import Snapshot

QUEUES, FIRST_BYTES, FACTOR = 10, 10e6, 10.0
"""Number of queues, what the first holds, and how many times more each next one (its authors' simulator,
CoflowSim, has 10 MiB, and inside a queue goes by who sank first)."""

_REACHED = 1e-9
"""A limit from which so little is missing, relatively, has been reached: or rounding would decide."""


@dataclass(frozen=True, slots=True)
class Dclas:
    """The policy called ``dclas``.

    Nobody is passed by: who came first has ``oldest_part`` of its pace alone or more, so it ends, and the
    next is first. (With a part of 0 a transfer that has sent much may wait as long as new ones come.)

    Args:
        queues: how many there are.
        first_bytes: who has sent less is in the first queue.
        factor: of each next queue's limit.
        oldest_part: of its pace alone, with equal flows, that the transfer that came first has at least.

    Raises:
        ValueError: without queues, for a limit not above 0, a factor not above 1, or a part not between 0 and
        1.
    """

    queues: int = QUEUES
    first_bytes: float = FIRST_BYTES
    factor: float = FACTOR
    oldest_part: float = OLDEST_PART

    def __post_init__(self) -> None:
        if self.queues < 1:
            raise ValueError(f"queues must be at least 1, got {self.queues}")
        if not self.first_bytes > 0:
            raise ValueError(f"first_bytes must be above 0, got {self.first_bytes}")
        if not self.factor > 1:
            raise ValueError(f"factor must be above 1, got {self.factor}")
        refuse_wrong_part("oldest_part", self.oldest_part)

    def allocate(self, snapshot: Snapshot) -> Allocation:
        """As `Policy.allocate`; it stands until somebody sinks into the next queue."""
        limits = self.first_bytes * self.factor ** np.arange(self.queues - 1)
        sent = np.array([demand.standing.sent_bytes for demand in snapshot.demands])
        queue = np.searchsorted(limits * (1 - _REACHED), sent, side="right")
        sharing = Sharing(snapshot, sizes_known=False)
        sharing.reserve(reserve_for_oldest(snapshot, self.oldest_part))
        order = snapshot.in_order(queue.astype(np.float64))
        sharing.fill(order)
        allocation = sharing.allocation(order)
        return replace(
            allocation, holds_s=_sinks_s(allocation.shares, sent, np.append(limits, math.inf)[queue])
        )


def _sinks_s(shares: Iterable[Share], sent: Floats, limits: Floats) -> float:
    """How long until the first of them reaches its limit."""
    found = math.inf
    for share, sent_bytes, limit in zip(shares, sent, limits, strict=True):
        if share.moves and math.isfinite(limit):
            rate = float(share.port_rates.sum()) / 2  # what leaves a port arrives at another
            if math.isfinite(rate):
                found = min(found, (limit - sent_bytes) / rate)
    return found
