"""What a policy answers.

Owns the types of it, and what the rates of flows are that it has given by totals. Must not know blocks,
sockets, clocks or randomness, nor which policy it was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from schedulers.filling import Floats
from schedulers.snapshot import Broadcast, Demand, Shuffle, Snapshot, pace_usage, port_sums


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Rates of the flows of a shuffle, by port: each flow has the less of its two ports'.

    Attributes:
        out: shape (m,), bytes/s.
        into: shape (r,), bytes/s.
        weights: shape (m, r): how many times as much each flow has; None is once everywhere.
    """

    out: Floats
    into: Floats
    weights: Floats | None = None


@dataclass(frozen=True, eq=False)
class Share:
    """What one transfer may move.

    Attributes:
        demand: what it has to move.
        pace: how many times a second all that it has left may pass: the part of its rates that is in
            proportion.
        in_bytes: what that counts: bytes left, or, where flows are to be equal, one byte for each flow.
        beside: what flows of a shuffle may move on top of that; None for nothing.
    """

    demand: Demand
    pace: float
    in_bytes: bool = True
    beside: Levels | None = None

    @cached_property
    def port_rates(self) -> Floats:
        """Shape of the demand's ports, bytes/s. Infinity where neither that port nor another is a limit."""
        if self.beside is not None:
            return port_sums(self._flow_rates)
        usage = pace_usage(self.demand, self.in_bytes)
        rates: Floats = np.zeros(len(usage))
        np.multiply(usage, self.pace, out=rates, where=usage > 0)
        return rates

    @property
    def flow_rates(self) -> Floats | None:
        """Shape (m, r), bytes/s, of a shuffle that may move; None for who may not, and for a broadcast."""
        return None if isinstance(self.demand, Broadcast) or not self.moves else self._flow_rates

    @cached_property
    def _flow_rates(self) -> Floats:
        assert isinstance(self.demand, Shuffle), "a broadcast has no flows"
        rates: Floats = np.zeros(self.demand.left_bytes.shape)
        if self.pace:
            rates = (self.demand.left_bytes if self.in_bytes else self.demand.flows) * self.pace
        if self.beside is not None:
            least = np.minimum(self.beside.out[:, None], self.beside.into)
            beside = np.where(self.demand.live, least, 0.0)
            rates = rates + (beside if self.beside.weights is None else beside * self.beside.weights)
        return rates

    @property
    def moves(self) -> bool:
        """Whether it may move anything now."""
        return self.pace > 0 or (self.beside is not None and bool(self.port_rates.any()))


@dataclass(frozen=True, slots=True)
class Allocation:
    """What everyone may move.

    Attributes:
        shares: one for each demand of the snapshot, in its order.
        holds_s: how long the answer stands if nothing comes, ends or fails; infinity for as long as that.
        order: the places of all demands, who goes first standing first; empty where nobody goes before
            others.
    """

    shares: Sequence[Share]
    holds_s: float = math.inf
    order: tuple[int, ...] = ()


class Policy(Protocol):
    """Shares ports among transfers: a pure function of the snapshot.

    No port carries more than it can. No flow could be faster with the others as they are: one of its ports is
    full; so it is with a broadcast. Names, the order of ports and of demands, and the units of bytes and
    seconds change nothing; transfers that are equal in all that a policy looks at are taken as they came. No
    transfer is passed by for ever: each policy says why.
    """

    def allocate(self, snapshot: Snapshot) -> Allocation:
        """Rates for every transfer."""
        ...
