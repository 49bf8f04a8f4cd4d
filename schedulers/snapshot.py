"""What a policy is shown and what it answers.

Owns the types of both sides. Must not know blocks, sockets, clocks or randomness. Names are types of
this room's own, because it never meets the rooms that have nodes and transfers of flesh: the caller
translates.

A port is one direction of one node's network card. A `Snapshot` says what each port can carry and
which transfers are active on it; an `Allocation` gives each of them a budget there. Both are mappings
in the caller's order, and nothing here depends on hash order.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType, Protocol

NodeId = NewType("NodeId", str)
"""A node, by whatever name the caller gives it."""

TransferId = NewType("TransferId", str)
"""A transfer, by whatever name the caller gives it."""


class Direction(Enum):
    """Which way bytes pass a port."""

    EGRESS = "egress"
    INGRESS = "ingress"


@dataclass(frozen=True, slots=True)
class Port:
    """One direction of one node's network card."""

    node: NodeId
    direction: Direction


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The network as a policy sees it at one moment.

    Attributes:
        capacities: bytes/s that each port can carry; None is a port without a limit.
        active: the transfers that want to move bytes through each port; a port may be left out.

    Raises:
        ValueError: for a capacity that is not above 0 and finite, a transfer named twice on a port, or
            transfers on a port that has no entry in ``capacities``.
    """

    capacities: Mapping[Port, float | None]
    active: Mapping[Port, tuple[TransferId, ...]]

    def __post_init__(self) -> None:
        for port, capacity in self.capacities.items():
            if capacity is not None and not (math.isfinite(capacity) and capacity > 0):
                raise ValueError(f"capacities: {port} must be above 0 and finite, got {capacity}")
        for port, transfers in self.active.items():
            if port not in self.capacities:
                raise ValueError(f"active: {port} has no entry in capacities")
            if len(set(transfers)) != len(transfers):
                raise ValueError(f"active: {port} names a transfer twice, got {transfers}")


@dataclass(frozen=True, slots=True)
class Budget:
    """To whom and where a budget is given."""

    transfer: TransferId
    port: Port


@dataclass(frozen=True, slots=True)
class Allocation:
    """Port budgets: what each transfer may move through each port on which it is active.

    Attributes:
        budgets: bytes/s; None where the port has no limit.
    """

    budgets: Mapping[Budget, float | None] = field(default_factory=dict)

    def budget(self, transfer: TransferId, node: NodeId, direction: Direction) -> float | None:
        """Bytes/s for one transfer at one port, None for no limit.

        Raises:
            KeyError: when the transfer was not active there.
        """
        return self.budgets[Budget(transfer, Port(node, direction))]


class Policy(Protocol):
    """Shares ports among transfers: a pure function of the snapshot.

    Every policy gives a budget to each transfer on each port where it is active and to no one else,
    never more in sum than the port carries, and answers the same whatever nodes and transfers are
    called and in whatever unit capacities are counted.
    """

    def allocate(self, snapshot: Snapshot) -> Allocation:
        """Budgets for every active transfer at every port."""
        ...
