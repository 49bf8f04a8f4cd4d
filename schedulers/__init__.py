"""Pure policy: a snapshot of ports and transfers in, rates out.

Knows nothing of blocks, sockets, clocks or randomness. `POLICIES` holds every policy by the name that
a user gives it; one contract suite runs over all of them.
"""

from collections.abc import Mapping
from types import MappingProxyType

from schedulers.allocation import Allocation, Policy, Share
from schedulers.bssi import Bssi
from schedulers.dclas import Dclas
from schedulers.fair import Fair
from schedulers.in_order import Fifo, FifoPlus, Priority
from schedulers.sebf import Sebf
from schedulers.snapshot import (
    Broadcast,
    Demand,
    Shuffle,
    Snapshot,
    Standing,
    TransferId,
    broadcast,
)
from schedulers.weighted import Weighted

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "fair": Fair(),
        "weighted": Weighted(),
        "fifo": Fifo(),
        "fifo+": FifoPlus(),
        "priority": Priority(),
        "sebf": Sebf(),
        "bssi": Bssi(),
        "dclas": Dclas(),
    }
)
"""Every policy, by name."""

__all__ = [
    "POLICIES",
    "Allocation",
    "Broadcast",
    "Bssi",
    "Dclas",
    "Demand",
    "Fair",
    "Fifo",
    "FifoPlus",
    "Policy",
    "Priority",
    "Sebf",
    "Share",
    "Shuffle",
    "Snapshot",
    "Standing",
    "TransferId",
    "Weighted",
    "broadcast",
]
