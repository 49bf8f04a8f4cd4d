"""Pure policy: a snapshot of ports, transfers and flows in, rates out.

Knows nothing of blocks, sockets, clocks or randomness. `POLICIES` holds every policy by the name that
a user gives it; one contract suite runs over all of them.
"""

from collections.abc import Mapping
from types import MappingProxyType

from schedulers.fair import Fair, fair_port_budgets
from schedulers.snapshot import Allocation, Budget, Direction, NodeId, Policy, Port, Snapshot, TransferId

POLICIES: Mapping[str, Policy] = MappingProxyType({"fair": Fair()})
"""Every policy, by name."""

__all__ = [
    "POLICIES",
    "Allocation",
    "Budget",
    "Direction",
    "Fair",
    "NodeId",
    "Policy",
    "Port",
    "Snapshot",
    "TransferId",
    "fair_port_budgets",
]
