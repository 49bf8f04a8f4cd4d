"""Bottleneck, select, scale, iterate: an order with a proved bound, and strict levels.

Owns this one policy. Must not know blocks, sockets, clocks or randomness. Sincronia (Agarwal et al., SIGCOMM
2018): the order is made from its end. Of the transfers not yet placed, find the port that is busiest with
them; whoever uses it most for its weight goes last; take off the others' weights what this says of them, and
go on. Where all come at once, the order stays, and nothing is reserved, any rates that let no later transfer
hold up an earlier one keep the weighted sum of completion times within four times the least possible. Here
the order is made anew at every decision, of what is left; each level takes, max-min fair among its flows,
what those before it leave. It asks for sizes.
"""

from dataclasses import dataclass

import numpy as np

from schedulers.allocation import Allocation
from schedulers.filling import Bools, Floats, Indices
from schedulers.reserves import OLDEST_PART, refuse_wrong_part, reserve_for_oldest
from schedulers.sharing import Sharing
from schedulers.snapshot import ROUNDING, Snapshot


@dataclass(frozen=True, slots=True)
class Bssi:
    """The policy called ``bssi``.

    Nobody is passed by: who came first has ``oldest_part`` of its pace alone or more, so it ends, and the
    next is first. (With a part of 0 a transfer of little weight may wait as long as others come.)

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
        sharing = Sharing(snapshot)
        sharing.reserve(reserve_for_oldest(snapshot, self.oldest_part))
        order = bssi_order(snapshot)
        sharing.fill(order)
        return sharing.allocation(order)


def bssi_order(snapshot: Snapshot) -> Indices:
    """Shape (transfers,): who goes first (Agarwal et al. 2018)."""
    by_arrival = snapshot.in_order()
    busy_s = np.zeros((len(by_arrival), len(snapshot.capacities)))
    busy_s[snapshot.whose, snapshot.crossings] = snapshot.port_seconds
    busy_s = _without_twins(busy_s[by_arrival])
    weights = np.array([snapshot.demands[transfer].standing.weight for transfer in by_arrival])
    nothing = weights * ROUNDING
    loads, users = busy_s.sum(axis=0), (busy_s > 0).sum(axis=0)
    order = np.empty(len(by_arrival), dtype=np.intp)
    placed = np.zeros(len(by_arrival), dtype=bool)
    for place in reversed(range(len(by_arrival))):
        loads[users == 0] = 0.0  # exactly, whatever rounding has left
        use = np.where(placed, 0.0, busy_s[:, _busiest(loads, busy_s, placed)])
        price = np.divide(weights, use, out=np.full(len(use), np.inf), where=use > 0)
        # Of equal ones the last to come. Where nobody has anything left, all are equal.
        equal = (price <= price.min() * (1 + ROUNDING)) & ~placed
        last = int(np.flatnonzero(equal)[-1])
        order[place] = last
        placed[last] = True
        if use[last] > 0:
            weights = weights - weights[last] * use / use[last]
            weights[weights < nothing] = 0.0
        loads, users = np.maximum(loads - busy_s[last], 0.0), users - (busy_s[last] > 0)
    return by_arrival[order]


def _busiest(loads: Floats, busy_s: Floats, placed: Bools) -> int:
    """The port with most to do for those not yet placed; of equal ones that on which the earliest have
    most."""
    equal = np.flatnonzero(loads >= loads.max() * (1 - ROUNDING))
    for transfer in np.flatnonzero(~placed):
        if len(equal) == 1:
            break
        times = busy_s[transfer, equal]
        equal = equal[times >= times.max() * (1 - ROUNDING)]
    return int(equal[0])


def _without_twins(columns: Floats) -> Floats:
    """One of each set of columns that are alike: equal shuffles over all ports have very many."""
    kept = {column.tobytes(): place for place, column in enumerate(np.ascontiguousarray(columns.T))}
    return columns[:, list(kept.values())]
