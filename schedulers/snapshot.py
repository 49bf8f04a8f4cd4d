"""What a policy is shown.

Owns the types of it. Must not know blocks, sockets, clocks or randomness, nor what a policy answers
(`schedulers.allocation`). Ports are indices: which node and direction one stands for is the caller's
business.

A *port* is one direction of one node's network card. A `Snapshot` says what each port can carry, and what
every transfer has left to move through which ports. Policies decide by totals a port. The flows of a shuffle
are a matrix, of mappers by reducers, which is asked for only where some have ended and others find room, or
when somebody wants their rates.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NewType, TypeAlias

import numpy as np

from schedulers.filling import Bools, Floats, Indices

ROUNDING = 1e-9
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
        ValueError: without ports, or for totals of another shape. (That no port comes twice, and that bytes
            are finite and not below 0, is seen by the `Snapshot`, for all at once.)
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
        _refuse_shape(self.standing.transfer, "port_bytes", self.port_bytes, self.ports)
        _refuse_shape(self.standing.transfer, "port_flows", self.port_flows, self.ports)

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

    @cached_property
    def flow_weights(self) -> Floats | None:
        """Shape (m, r): what each flow has left by the mean of all that have something; None where flows are
        to be equal.

        The paper's weights of a weighted shuffle (Chowdhury et al. 2011, section 5.2), on average 1, so that
        all together count as much as those of a shuffle whose flows are equal.
        """
        if not self.weighted:
            return None
        if not self.live.any():
            return self.flows
        weights: Floats = self.left_bytes / self.left_bytes[self.live].mean()
        return weights


@dataclass(frozen=True, eq=False)
class Broadcast:
    """One object on its way to many, by whatever overlay: what its ports carry grows in proportion.

    Attributes:
        standing: which transfer it is.
        ports: shape (k,), k > 0, no port twice.
        port_bytes: shape (k,): what each of them has still to carry; `broadcast` says it for one that begins.

    Raises:
        ValueError: without ports, or for bytes of another shape; more is seen by the `Snapshot`.
    """

    standing: Standing
    ports: Indices
    port_bytes: Floats

    def __post_init__(self) -> None:
        if not len(self.ports):
            raise ValueError(f"{self.standing.transfer} must have ports")
        _refuse_shape(self.standing.transfer, "port_bytes", self.port_bytes, self.ports)


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
        ValueError: without receivers, or where one has only one port.
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
        ValueError: for a capacity that is not above 0, a transfer that is named twice, a port that has no
            capacity, that comes twice in a transfer or that shuffles use both ways, or bytes that are below 0
            or not finite.
    """

    capacities: Floats
    demands: Sequence[Demand]

    def __post_init__(self) -> None:
        wrong = np.flatnonzero(~(self.capacities > 0))
        if wrong.size:
            found = self.capacities[wrong[0]]
            raise ValueError(f"capacities must be above 0, got {found} at port {wrong[0]}")
        if len({demand.standing.transfer for demand in self.demands}) != len(self.demands):
            raise ValueError("demands: a transfer is named twice")
        count, ports, whose = len(self.capacities), self.crossings, self.whose
        if ports.size and not (ports.min() >= 0 and ports.max() < count):
            raise ValueError(f"demands: ports must be 0 to {count - 1}, got {ports.min()} to {ports.max()}")
        allowed = (self.port_bytes >= 0) & (self.port_bytes < math.inf)
        self._refuse("port_bytes must be finite and not below 0", ~allowed)
        places = whose * count + ports
        self._refuse("a port comes twice", np.bincount(places, minlength=1)[places] > 1)
        is_ingress = np.arange(len(ports)) >= self.middles[whose]
        of_shuffle = (self.middles < self.bounds[1:])[whose]
        out, into = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        out[ports[of_shuffle & ~is_ingress]] = True
        into[ports[of_shuffle & is_ingress]] = True
        both = of_shuffle & (out & into)[ports]
        self._refuse("a port is egress of one shuffle and ingress of another", both)

    def _refuse(self, why: str, wrong: Bools) -> None:
        """Raise if any crossing is wrong, naming its transfer and its port."""
        places = np.flatnonzero(wrong)
        if places.size:
            transfer = self.demands[self.whose[places[0]]].standing.transfer
            raise ValueError(f"demands: {transfer} at port {self.crossings[places[0]]}: {why}")

    @cached_property
    def unfinished(self) -> Bools:
        """Shape (transfers,): who has something left."""
        return np.array([bool(demand.port_bytes.any()) for demand in self.demands], dtype=bool)

    @cached_property
    def crossings(self) -> Indices:
        """Shape (crossings,): the ports of all transfers, one transfer's after the other's."""
        return np.concatenate([np.empty(0, dtype=np.intp), *(demand.ports for demand in self.demands)])

    @cached_property
    def bounds(self) -> Indices:
        """Shape (transfers + 1,): the ports of transfer k are ``crossings[bounds[k]:bounds[k + 1]]``."""
        return np.cumsum([0, *(len(demand.ports) for demand in self.demands)])

    @cached_property
    def middles(self) -> Indices:
        """Shape (transfers,): where a shuffle's ingress ports begin among the crossings; a broadcast's
        end."""
        middles = [
            start + len(demand.egress) if isinstance(demand, Shuffle) else end
            for demand, start, end in zip(self.demands, self.bounds[:-1], self.bounds[1:], strict=True)
        ]
        return np.array(middles, dtype=np.intp)

    @cached_property
    def whose(self) -> Indices:
        """Shape (crossings,): the transfer of each."""
        return np.repeat(np.arange(len(self.demands)), np.diff(self.bounds))

    @cached_property
    def port_bytes(self) -> Floats:
        """Shape (crossings,): what each port has still to carry for that transfer."""
        return np.concatenate([np.empty(0), *(demand.port_bytes for demand in self.demands)])

    @cached_property
    def port_seconds(self) -> Floats:
        """Shape (crossings,): how long each port would be busy for that transfer alone."""
        seconds: Floats = self.port_bytes / self.capacities[self.crossings]
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


def port_sums(matrix: Floats) -> Floats:
    """Shape (m + r,): the sums of rows, then of columns."""
    return np.concatenate([matrix.sum(axis=1), matrix.sum(axis=0)])


def pace_usage(demand: Demand, in_bytes: bool) -> Floats:
    """Shape of the demand's ports: what a pace counts at each of them."""
    return demand.port_flows if isinstance(demand, Shuffle) and not in_bytes else demand.port_bytes


def _ranks(key: Floats) -> Indices:
    """The place of each value among those that differ by more than rounding."""
    order = np.argsort(key, kind="stable")
    steps = np.diff(key[order]) > ROUNDING * np.abs(key[order[1:]])
    ranks = np.empty(len(key), dtype=np.intp)
    ranks[order] = np.concatenate([np.zeros(min(1, len(key)), dtype=np.intp), np.cumsum(steps)])
    return ranks


def _refuse_shape(transfer: TransferId, name: str, totals: Floats, ports: Indices) -> None:
    if totals.shape != ports.shape:
        raise ValueError(f"{name} of {transfer} must have shape {ports.shape}, got {totals.shape}")
