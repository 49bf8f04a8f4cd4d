"""Smallest effective bottleneck first.

Owns this one policy. Must not know blocks, sockets, clocks or randomness. Varys (Chowdhury, Zhong and Stoica,
SIGCOMM 2014): who would be through soonest alone goes first (SEBF), each with just the rates by which all its
flows end with its bottleneck (MADD), and flows get what is left. It asks for sizes. Departs from it twice.
The bottleneck is that of what is left, not of what there was at first, and what MADD leaves is given in the
same order. And large transfers do not wait for ever because the oldest has a small part at all times, where
Varys gives time slots.
"""

from dataclasses import dataclass

from schedulers.allocation import Allocation
from schedulers.reserves import OLDEST_PART, refuse_wrong_part, reserve_for_oldest
from schedulers.sharing import allocate_in_order
from schedulers.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Sebf:
    """The policy called ``sebf``.

    Nobody is passed by: who came first has ``oldest_part`` of its pace alone or more, so it ends, and the
    next is first. (With a part of 0 a large transfer may wait as long as small ones come.)

    Args:
        oldest_part: of its pace alone that the transfer that came first has at least.

    Raises:
        ValueError: for a part below 0 or above 1.
    """

    oldest_part: float = OLDEST_PART

    def __post_init__(self) -> None:
        refuse_wrong_part("oldest_part", self.oldest_part)

    def allocate(self, snapshot: Snapshot) -> Allocation:
        """As `Policy.allocate`."""
        reserves = reserve_for_oldest(snapshot, self.oldest_part)
        return allocate_in_order(snapshot, snapshot.in_order(snapshot.bottlenecks_s), reserves)
