"""Equal shares of a port: what holds where nobody says what is left to move.

Owns this one rule and the types of both its sides. Must not know blocks, sockets, clocks or randomness. Names
are types of this room's own, because it never meets the rooms that have nodes and transfers of flesh: the
caller translates.

Every transfer on a port gets the same part of it, taken a port at a time and a transfer at a time: a transfer
of many flows gets no more of a port than one of few. A port's share is not lent out when its transfer
cannot use it because the other end is the narrower: budgets are ceilings for senders and planners, and ports
alone do not say who meets whom. The bytes lost so are the price of knowing nothing of flows; policies
(`schedulers.snapshot`) are told more.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

from schedulers.snapshot import TransferId

NodeId = NewType("NodeId", str)
"""A node, by whatever name the caller gives it."""


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
class ActivePorts:
    """Who is active where.

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
class Budgets:
    """What each transfer may move through each port on which it is active.

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


def equal_shares(ports: ActivePorts) -> Budgets:
    """Equal shares of every port among the transfers active on it.

    With n transfers on a port of C bytes/s each gets C / n bytes/s; on a port without a limit, None.
    """
    budgets: dict[Budget, float | None] = {}
    for port, transfers in ports.active.items():
        capacity = ports.capacities[port]
        for transfer in transfers:
            budgets[Budget(transfer, port)] = None if capacity is None else capacity / len(transfers)
    return Budgets(budgets)
