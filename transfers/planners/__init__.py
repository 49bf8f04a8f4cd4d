"""Broadcast planners: one pure planner for each mechanism, all told the same events.

Pure: no waiting, no clock, no socket, no randomness but the generator passed in.
"""

from enum import Enum
from random import Random
from typing import assert_never

from transfers.ids import NodeName
from transfers.planners.base import BroadcastPlanner
from transfers.planners.chain import ChainPlanner
from transfers.planners.cornet import CornetPlanner
from transfers.planners.hdfs import HdfsPlanner
from transfers.planners.racks import Racks
from transfers.planners.tree import TreePlanner

__all__ = [
    "BroadcastPlanner",
    "ChainPlanner",
    "CornetPlanner",
    "HdfsPlanner",
    "Mechanism",
    "Racks",
    "TreePlanner",
    "make_planner",
]


class Mechanism(Enum):
    """How a broadcast travels."""

    CHAIN = "chain"
    TREE = "tree"
    HDFS = "hdfs"
    CORNET = "cornet"


def make_planner(
    mechanism: Mechanism,
    block_count: int,
    source: NodeName,
    rng: Random,
    *,
    degree: int = 2,
    replicas: int = 3,
    block_s: float = 0.0,
    racks: Racks | None = None,
    explores: bool = False,
) -> BroadcastPlanner:
    """The planner of a mechanism.

    ``degree`` is the tree's, ``replicas`` HDFS's; ``block_s`` tells Cornet what a block takes over a usual
    link, as far as that is believed; ``racks`` tells all where nodes stand, unless they are equally near.
    Cornet that ``explores`` is a swarm alone, in which as many pairs of nodes meet as can.

    Raises:
        ValueError: for a negative ``block_count``, a ``degree`` or ``replicas`` below 1.
    """
    match mechanism:
        case Mechanism.CHAIN:
            return ChainPlanner(block_count, source, rng, racks)
        case Mechanism.TREE:
            return TreePlanner(block_count, source, rng, degree, racks)
        case Mechanism.HDFS:
            return HdfsPlanner(block_count, source, rng, replicas, racks)
        case Mechanism.CORNET:
            return CornetPlanner(block_count, source, rng, explores, block_s, racks)
        case _:
            assert_never(mechanism)
