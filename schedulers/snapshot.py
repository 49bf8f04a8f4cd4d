"""What a policy is shown and what it answers.

Owns the types of both sides. Must not know blocks, sockets, clocks or randomness. Ports are indices: which
node and direction one stands for is the caller's business.

A *port* is one direction of one node's network card. A `Snapshot` says what each port can carry, and what
every transfer has left to move through which ports; an `Allocation` gives each transfer a rate at each of its
ports, and rates to the flows of a shuffle that may move. Policies decide by totals a port. Only the flows of
a shuffle are a matrix, of mappers by reducers, and most policies look at it only when it is that shuffle's
turn.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NewType, Protocol, TypeAlias

import numpy as np

from schedulers.filling import Bools, Floats, Indices

_ROUNDING = 1e-9
"""Values that differ by less than this, relatively, are equal: units must not decide an order."""

TransferId = NewType("TransferId", str)
"""A transfer, by whatever name the caller gives it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a transfer is among the others, whatever it moves.

    Attributes:
        transfer: its name.
        arrival: when it came, on any scale; who has the least came first.
        priority: of its class; the highest goes first.
        weight: of its share.
        sent_bytes: moved so far, for policies that do not know what is left.

    Raises:
        ValueError: for a weight that is not above 0 and finite, bytes below 0, or an arrival that is no
        number.
    """

    transfer: TransferId
    arrival: float
    priority: int = 0
    weight: float = 1.0
    sent_bytes: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.arrival):
            raise ValueError(f"arrival of {self.transfer} must be finite, got {self.arrival}")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight of {self.transfer} must be above 0 and finite, got {self.weight}")
        if not self.sent_bytes >= 0:
            raise ValueError(f"sent_bytes of {self.transfer} must not be below 0, got {self.sent_bytes}")


@dataclass(frozen=True, eq=False)
class Shuffle:
    """Flows from egress ports to ingress ports, shown by totals a port; `of` makes one of a matrix.

    Attributes:
        standing: which transfer it is.
        egress: shape (m,), m > 0: the port of each mapper, no port twice.
        ingress: shape (r,), r > 0: the port of each reducer, no port twice, none that is an egress port.
        port_bytes: shape (m + r,): what each port has still to carry, egress first.
        port_flows: shape (m + r,): how many flows with something left cross each port.
        matrix: gives, shape (m, r), what each flow has left to move; 0 where there is none. It is asked only
            when flows are to be told apart.
        weighted: whether flows are to end together, each with a rate in proportion to what it has left; if
            not, they are equal whatever they have left.

    Raises:
        ValueError: without ports, for ports that come twice, or totals of another shape, below 0 or not
        finite.
    """

    standing: Standing
    egress: Indices
    ingress: Indices
    port_bytes: Floats
    port_flows: Floats
    matrix: Callable[[], Floats]
    weighted: bool = True

    def __post_init__(self) -> None:
        if not (len(self.egress) and len(self.ingress)):
            raise ValueError(f"{self.standing.transfer} must have egress and ingress ports")
        _refuse_wrong(self.standing.transfer, self.ports, self.port_bytes)
        if self.port_flows.shape != self.port_bytes.shape:
            raise ValueError(
                f"port_flows of {self.standing.transfer} must have shape {self.port_bytes.shape}"
            )

    @classmethod
    def of(
        cls, standing: Standing, egress: Indices, ingress: Indices, left_bytes: Floats, weighted: bool = True
    ) -> "Shuffle":
        """A shuffle of which every flow is known.

        Args:
            left_bytes: shape (m, r): what each flow has left to move; 0 where there is none.

        Raises:
            ValueError: as for the class, and for bytes of another shape, below 0 or not finite.
        """
        shape = (len(egress), len(ingress))
        if left_bytes.shape != shape:
            raise ValueError(
                f"bytes left of {standing.transfer} must have shape {shape}, got {left_bytes.shape}"
            )
        if left_bytes.size and not (left_bytes.min() >= 0 and math.isfinite(left_bytes.max())):
            raise ValueError(f"bytes left of {standing.transfer} must be finite and not below 0")
        flows = (left_bytes > 0).astype(np.float64)
        totals = port_sums(left_bytes), port_sums(flows)
        return cls(standing, egress, ingress, *totals, lambda: left_bytes, weighted)

    @cached_property
    def ports(self) -> Indices:
        """Shape (m + r,): egress, then ingress."""
        return np.concatenate([self.egress, self.ingress])

    @cached_property
    def complete(self) -> bool:
        """Whether every flow has something left."""
        return bool((self.port_flows[: len(self.egress)] == len(self.ingress)).all())

    @cached_property
    def left_bytes(self) -> Floats:
        """Shape (m, r): what each flow has left to move."""
        return self.matrix()

    @cached_property
    def live(self) -> Bools:
        """Shape (m, r): which flows have something left."""
        return self.left_bytes > 0

    @cached_property
    def flows(self) -> Floats:
        """Shape (m, r): 1 where a flow has something left, else 0."""
        return self.live.astype(np.float64)


@dataclass(frozen=True, eq=False)
class Broadcast:
    """One object on its way to many, by whatever overlay: what its ports carry grows in proportion.

    Attributes:
        standing: which transfer it is.
        ports: shape (k,), k > 0, no port twice.
        port_bytes: shape (k,): what each of them has still to carry; `broadcast` says it for one that begins.

    Raises:
        ValueError: without ports, for ports that come twice, or bytes of another shape, below 0 or not
        finite.
    """

    standing: Standing
    ports: Indices
    port_bytes: Floats

    def __post_init__(self) -> None:
        if not len(self.ports):
            raise ValueError(f"{self.standing.transfer} must have ports")
        _refuse_wrong(self.standing.transfer, self.ports, self.port_bytes)


Demand: TypeAlias = Shuffle | Broadcast
"""What one transfer has left to move."""


def broadcast(
    standing: Standing, source: int, ingress: Sequence[int], egress: Sequence[int], size_bytes: float
) -> Broadcast:
    """What a broadcast costs its ports, whichever overlay carries it: the source sends every byte once, each
    receiver takes every byte once, and the receivers send one another what the source does not.

    Args:
        standing: which transfer it is.
        source: the source's egress port.
        ingress: each receiver's ingress port.
        egress: each receiver's egress port.
        size_bytes: of the object.

    Raises:
        ValueError: without receivers, for ports that come twice, or a size below 0.
    """
    receivers = len(ingress)
    if not receivers or len(egress) != receivers:
        raise ValueError(f"ingress and egress must name each receiver's, got {receivers} and {len(egress)}")
    passed_on = size_bytes * (receivers - 1) / receivers
    return Broadcast(
        standing,
        np.array([source, *ingress, *egress], dtype=np.intp),
        np.array([size_bytes] * (1 + receivers) + [passed_on] * receivers, dtype=np.float64),
    )


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The network as a policy sees it at one moment.

    Attributes:
        capacities: shape (ports,), bytes/s: what each port can carry; infinity for one without a limit.
        demands: of the transfers that want to move.

    Raises:
        ValueError: for a capacity that is not above 0, a transfer that is named twice, or a port that has no
            capacity.
    """

    capacities: Floats
    demands: Sequence[Demand]

    def __post_init__(self) -> None:
        wrong = np.flatnonzero(~(self.capacities > 0))
        if wrong.size:
            raise ValueError(
                f"capacities must be above 0, got {self.capacities[wrong[0]]} at port {wrong[0]}"
            )
        if len({demand.standing.transfer for demand in self.demands}) != len(self.demands):
            raise ValueError("demands: a transfer is named twice")
        ports = self.crossings
        wrong = np.flatnonzero((ports < 0) | (ports >= len(self.capacities)))
        if wrong.size:
            raise ValueError(f"demands: ports must be 0 to {len(self.capacities) - 1}, got {ports[wrong[0]]}")

    @cached_property
    def crossings(self) -> Indices:
        """Shape (crossings,): the ports of all transfers, one transfer's after the other's."""
        return np.concatenate([np.empty(0, dtype=np.intp), *(demand.ports for demand in self.demands)])

    @cached_property
    def bounds(self) -> Indices:
        """Shape (transfers + 1,): the ports of transfer k are ``crossings[bounds[k]:bounds[k + 1]]``."""
        return np.cumsum([0, *(len(demand.ports) for demand in self.demands)])

    @cached_property
    def whose(self) -> Indices:
        """Shape (crossings,): the transfer of each."""
        return np.repeat(np.arange(len(self.demands)), np.diff(self.bounds))

    @cached_property
    def port_seconds(self) -> Floats:
        """Shape (crossings,): how long each port would be busy for that transfer alone."""
        totals = [np.empty(0), *(demand.port_bytes for demand in self.demands)]
        seconds: Floats = np.concatenate(totals) / self.capacities[self.crossings]
        return seconds

    @cached_property
    def bottlenecks_s(self) -> Floats:
        """Shape (transfers,): effective bottlenecks, what each transfer would take alone.

        T* of the design, section 9; Chowdhury, Zhong and Stoica 2014, section 5.1.
        """
        if not self.demands:
            return np.empty(0)
        longest: Floats = np.maximum.reduceat(self.port_seconds, self.bounds[:-1])
        return longest

    def in_order(self, *keys: Floats) -> Indices:
        """Shape (transfers,): transfers by the least of the first key, then of the next; then who came first.

        Keys that differ by no more than rounding are equal. Who came at the same time stands as in the
        snapshot.
        """
        arrivals = np.array([demand.standing.arrival for demand in self.demands])
        return np.lexsort([arrivals, *(_ranks(key) for key in reversed(keys))])


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Rates of the flows of a shuffle, by port: each flow has the less of its two ports'.

    Attributes:
        out: shape (m,), bytes/s.
        into: shape (r,), bytes/s.
    """

    out: Floats
    into: Floats


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
            rates = rates + np.where(self.demand.live, least, 0.0)
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
    """

    shares: Sequence[Share]
    holds_s: float = math.inf


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


def port_sums(matrix: Floats) -> Floats:
    """Shape (m + r,): the sums of rows, then of columns."""
    return np.concatenate([matrix.sum(axis=1), matrix.sum(axis=0)])


def pace_usage(demand: Demand, in_bytes: bool) -> Floats:
    """Shape of the demand's ports: what a pace counts at each of them."""
    return demand.port_flows if isinstance(demand, Shuffle) and not in_bytes else demand.port_bytes


def _ranks(key: Floats) -> Indices:
    """The place of each value among those that differ by more than rounding."""
    order = np.argsort(key, kind="stable")
    steps = np.diff(key[order]) > _ROUNDING * np.abs(key[order[1:]])
    ranks = np.empty(len(key), dtype=np.intp)
    ranks[order] = np.concatenate([np.zeros(min(1, len(key)), dtype=np.intp), np.cumsum(steps)])
    return ranks


def _refuse_wrong(transfer: TransferId, ports: Indices, port_bytes: Floats) -> None:
    if port_bytes.shape != ports.shape:
        raise ValueError(f"port_bytes of {transfer} must have shape {ports.shape}, got {port_bytes.shape}")
    if len(set(ports.tolist())) != len(ports):
        raise ValueError(f"ports of {transfer}: one comes twice")
    if not (port_bytes.min() >= 0 and math.isfinite(port_bytes.max())):
        raise ValueError(f"port_bytes of {transfer} must be finite and not below 0")
