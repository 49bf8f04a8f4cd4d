"""Blocks of one stripe that the tree of another brings, so that all trees end together.

Owns which blocks those are, and the asks for them. Must not know why a stripe is late (a root that was slow
or died, two connections that share a port unevenly).

Theory of operation. A stripe whose root was in trouble ends later than the others, and in that time half of
every port is idle. So while its last blocks have not left the source yet, half of what it has more to bring
is asked of another tree: every node asks its parent there, one `Fetch` each. The parents need not hold the
blocks yet, and nothing circles, since it is a tree and all in it ask alike. (Where it is not one any more
nothing is carried: who has all of a stripe follows whom it did, wherever that one has been hung since.)
Whenever a tree is mended this ends: what has not come is withdrawn, and comes by its own stripe.
"""

from collections.abc import Iterable, Sequence
from statistics import median_low

from transfers.blocks import stripe_bits
from transfers.ids import BlockIndex, NodeName
from transfers.planners.base import BroadcastPlanner
from transfers.planners.events import LOOK_AHEAD

LEAST_DIFFERENCE = 4
"""Blocks that one stripe must have more to bring than another (a guess: more than they differ by when all is
well, and about what is on its way or reported late)."""

UNDER_WAY = 2 * LOOK_AHEAD
"""Blocks of a stripe, of those that have not left the source, that stay with it: what its root has asked for,
and as much again for news that is late."""


class Carrying:
    """What is carried in one broadcast.

    Args:
        planner: whose members follow each other in every stripe.

    Attributes:
        carried: the blocks as bits.
        asking: whether it is asking for them just now.
    """

    def __init__(self, planner: BroadcastPlanner) -> None:
        self._planner = planner
        self._own = [
            stripe_bits(planner.block_count, stripe, planner.stripes) for stripe in range(planner.stripes)
        ]
        self._brings = list(self._own)  # by each tree
        self.carried = 0
        self.asking = False

    def even(self, holds: Sequence[int], unasked: int) -> None:
        """Have the stripe that would end first carry blocks of the one that would end last, if it is time to.

        Args:
            holds: what each receiver has, as bits.
            unasked: blocks that nobody but the source holds or is asked for, otherwise than by following.
        """
        entered = 0
        for held in holds:
            entered |= held
        at_source = [(brings & ~entered).bit_count() for brings in self._brings]
        if not holds or not any(at_source):
            return
        left = [median_low((brings & ~held).bit_count() for held in holds) for brings in self._brings]
        first, last = left.index(min(left)), left.index(max(left))
        more = left[last] - left[first]
        is_time = at_source[first] <= LOOK_AHEAD or at_source[last] <= UNDER_WAY + LOOK_AHEAD + more // 2
        if more < LEAST_DIFFERENCE or not is_time or not self._all_hang(by=first, own=last):
            return
        movable = _blocks(self._own[last] & unasked & ~entered)[UNDER_WAY:]
        self._carry(movable[-(more // 2) :], last, first)

    def _all_hang(self, by: int, own: int) -> bool:
        """Whether all who wait for blocks of their ``own`` stripe hang on the source ``by`` another, through
        others that do."""
        members, hang = self._planner.members, {self._planner.source}
        for member in self._planner.living():
            if own not in member.follows:
                continue
            at, way = member, dict[NodeName, None]()
            while at.name not in hang:
                parent = members.get(at.follows.get(by, at.name))
                if parent is None or at.name in way:
                    return False
                way[at.name] = None
                at = parent
            hang |= way.keys()
        return True

    def _carry(self, blocks: Iterable[BlockIndex], own: int, by: int) -> None:
        for block in blocks:
            self.carried |= 1 << block
            self._brings[own] &= ~(1 << block)
            self._brings[by] |= 1 << block
            self.asking = True
            for member in self._planner.living():
                parent = member.follows.get(by)
                if parent not in (None, member.follows.get(own)) and block not in member.holds:
                    self._planner._fetch(member, block, parent)
            self.asking = False

    def end(self) -> None:
        """Every block comes by its own stripe again."""
        if not self.carried:
            return
        for member in self._planner.living():
            for block in [block for block in member.asked if self.carried >> block & 1]:
                self._planner._cancel(member, block)
        self._brings, self.carried = list(self._own), 0


def _blocks(bits: int) -> list[BlockIndex]:
    """The blocks of a set, lowest first."""
    found = []
    while bits:
        low = bits & -bits
        found.append(BlockIndex(low.bit_length() - 1))
        bits ^= low
    return found
