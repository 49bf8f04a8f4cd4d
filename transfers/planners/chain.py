"""Broadcast down a chain: every node sends to one other. The overlay is the tree of degree 1.

A late joiner is appended to the end; the children of a lost node move up by one.
"""

from random import Random

from transfers.ids import NodeName
from transfers.planners.racks import Racks
from transfers.planners.tree import TreePlanner


class ChainPlanner(TreePlanner):
    """A chain in the order of joining, rack by rack (Chowdhury et al. 2011, section 7)."""

    def __init__(self, block_count: int, source: NodeName, rng: Random, racks: Racks | None = None) -> None:
        super().__init__(block_count, source, rng, degree=1, racks=racks)
