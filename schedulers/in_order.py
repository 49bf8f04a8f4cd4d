"""First in, first out, and what the paper makes of it: FIFO+ and priority classes.

Owns the three policies whose order is given by arrivals and priorities. Must not know blocks, sockets, clocks
or randomness. The order does not look at what transfers have left; rates inside a weighted shuffle are in
proportion to it. Chowdhury et al. 2011, sections 6 and 7.4, where FIFO+ "enforces a FIFO order but gives a
small share of the network (3% each) to other transfers as well".

Each transfer in turn gets the greatest pace that those before it leave, all its flows in proportion; then, in
the same order, flows get what is left. So nothing that the first cannot use is idle.
"""

from dataclasses import dataclass

import numpy as np

from schedulers.allocation import Allocation
from schedulers.reserves import refuse_wrong_part
from schedulers.sharing import allocate_in_order
from schedulers.snapshot import Snapshot

OTHERS_PART = 0.03
"""Of the network for each other transfer (FIFO+; paper, section 7.4), or for each lower class (a guess after
it)."""


@dataclass(frozen=True, slots=True)
class Fifo:
    """The policy called ``fifo``: who came first goes first.

    Nobody is passed by: only those who came before go before, and each of them ends.
    """

    def allocate(self, snapshot: Snapshot) -> Allocation:
        """As `Policy.allocate`."""
        return allocate_in_order(snapshot, snapshot.in_order())


@dataclass(frozen=True, slots=True)
class FifoPlus:
    """The policy called ``fifo+``: FIFO, and a part of the network for each of those who wait.

    Nobody is passed by, as in FIFO.

    Args:
        others_part: of its pace alone that each other transfer has at least; an n-th where there are so many,
            n, that it would be more than that.

    Raises:
        ValueError: for a part below 0 or above 1.
    """

    others_part: float = OTHERS_PART

    def __post_init__(self) -> None:
        refuse_wrong_part("others_part", self.others_part)

    def allocate(self, snapshot: Snapshot) -> Allocation:
        """As `Policy.allocate`."""
        order = snapshot.in_order()
        waiting = order[snapshot.unfinished[order]]
        reserves = np.zeros(len(order))
        reserves[waiting[1:]] = min(self.others_part, 1 / max(1, len(waiting)))
        return allocate_in_order(snapshot, order, reserves)


@dataclass(frozen=True, slots=True)
class Priority:
    """The policy called ``priority``: the highest class goes first, and inside a class who came first.

    A lower class is capped, where a higher one wants the same ports, but not stopped: the first of each has a
    part of its pace alone. So nobody is passed by: each class gets on, one transfer of it after the other.

    Args:
        lower_part: of its pace alone that the first of each lower class has at least.

    Raises:
        ValueError: for a part below 0 or above 1.
    """

    lower_part: float = OTHERS_PART

    def __post_init__(self) -> None:
        refuse_wrong_part("lower_part", self.lower_part)

    def allocate(self, snapshot: Snapshot) -> Allocation:
        """As `Policy.allocate`."""
        priorities = [demand.standing.priority for demand in snapshot.demands]
        place = {priority: rank for rank, priority in enumerate(sorted(set(priorities), reverse=True))}
        ranks = np.array([place[priority] for priority in priorities], dtype=np.float64)
        order = snapshot.in_order(ranks)
        waiting = order[snapshot.unfinished[order]]
        classes, firsts = np.unique(ranks[waiting], return_index=True)
        reserves = np.zeros(len(order))
        reserves[waiting[firsts[1:]]] = min(self.lower_part, 1 / max(1, len(classes)))
        return allocate_in_order(snapshot, order, reserves)
