"""First in, first out, and what the paper makes of it: FIFO+ and priority classes.

Owns the three policies whose order is given by arrivals and priorities. Must not know blocks, sockets, clocks
or randomness, nor what transfers have left. Chowdhury et al. 2011, section 6; FIFO+ in 7.5 is "FIFO order,
and 3 % of the network for each other transfer".

Each transfer in turn gets the greatest pace that those before it leave, all its flows in proportion; then, in
the same order, flows get what is left. So nothing that the first cannot use is idle.
"""

from dataclasses import dataclass

import numpy as np

from schedulers.allocation import Allocation
from schedulers.filling import Floats, Indices
from schedulers.sharing import Sharing
from schedulers.snapshot import Snapshot

OTHERS_PART = 0.03
"""Of the network for each other transfer (FIFO+), or each lower class (paper, section 7.5, for FIFO+)."""


def allocate_in_order(snapshot: Snapshot, order: Indices, reserves: Floats | None = None) -> Allocation:
    """One transfer after the other, in proportion first, then flow by flow.

    Args:
        snapshot: whom to serve.
        order: shape (transfers,): who goes first.
        reserves: shape (transfers,): the part of its pace alone that each has beforehand; None is nothing.
    """
    sharing = Sharing(snapshot)
    if reserves is not None:
        sharing.reserve(reserves)
    sharing.give_in_proportion(order)
    sharing.fill(order)
    return sharing.allocation()


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
        reserves = np.zeros(len(order))
        reserves[order[1:]] = min(self.others_part, 1 / max(1, len(order)))
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
        ranks = np.array([-demand.standing.priority for demand in snapshot.demands], dtype=np.float64)
        order = snapshot.in_order(ranks)
        classes, firsts = np.unique(ranks[order], return_index=True)
        reserves = np.zeros(len(order))
        reserves[order[firsts[1:]]] = min(self.lower_part, 1 / max(1, len(classes)))
        return allocate_in_order(snapshot, order, reserves)


def reserve_for_oldest(snapshot: Snapshot, part: float) -> Floats:
    """Shape (transfers,): a part for who came first, so that everybody has it at last and ends."""
    reserves = np.zeros(len(snapshot.demands))
    reserves[snapshot.in_order()[:1]] = part
    return reserves


def refuse_wrong_part(name: str, part: float) -> None:
    """Raise for a part that is not between 0 and 1."""
    if not 0 <= part <= 1:
        raise ValueError(f"{name} must be 0 to 1, got {part}")
