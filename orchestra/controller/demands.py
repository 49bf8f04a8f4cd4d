"""What transfers have left to move, in the words of policies.

Owns the translation: nodes become ports, and what receivers lack becomes bytes at ports. Must not know a
policy, nor how it is learnt what receivers lack. Pure.
"""

from collections.abc import Collection, Mapping

import numpy as np

from schedulers import Broadcast, Shuffle, Standing
from transfers.ids import NodeName


class PortNumbers:
    """Numbers for the ports of nodes, for one decision: each node has two."""

    def __init__(self) -> None:
        self._places: dict[NodeName, int] = {}
        self.nodes: list[NodeName] = []

    def egress(self, node: NodeName) -> int:
        """Of what a node sends."""
        return 2 * self._place(node)

    def ingress(self, node: NodeName) -> int:
        """Of what a node receives."""
        return 2 * self._place(node) + 1

    def node(self, port: int) -> NodeName:
        """Whose port that is."""
        return self.nodes[int(port) // 2]

    def _place(self, node: NodeName) -> int:
        place = self._places.get(node)
        if place is None:
            place = self._places[node] = len(self.nodes)
            self.nodes.append(node)
        return place


def broadcast_demand(
    standing: Standing,
    ports: PortNumbers,
    lacking_bytes: Mapping[NodeName, int],
    complete: Collection[NodeName],
) -> Broadcast | None:
    """A broadcast under way, or late joiners of one that is over.

    Whoever holds all alone sends as much as the receiver lacks that lacks most; the rest is spread over the
    receivers, or, where several hold all, over everyone: who sends to whom is the planner's affair.

    Args:
        standing: which transfer it is.
        ports: to be numbered.
        lacking_bytes: what receivers lack; 0 for one that lacks nothing is left out.
        complete: who holds all of it.

    Returns:
        None where nothing can move.
    """
    lacking = {name: left for name, left in lacking_bytes.items() if left > 0}
    others = [name for name in complete if name not in lacking]
    if not lacking or not others:
        return None
    most, total = max(lacking.values()), sum(lacking.values())
    if len(others) == 1:
        sent = {others[0]: float(most), **dict.fromkeys(lacking, (total - most) / len(lacking))}
    else:
        sent = dict.fromkeys([*others, *lacking], total / (len(others) + len(lacking)))
    numbers = [ports.egress(name) for name in sent] + [ports.ingress(name) for name in lacking]
    left = [*sent.values(), *map(float, lacking.values())]
    return Broadcast(standing, np.array(numbers, dtype=np.intp), np.array(left))


def shuffle_demand(
    standing: Standing,
    ports: PortNumbers,
    left_bytes: Mapping[tuple[NodeName, NodeName], int],
    weighted: bool,
) -> Shuffle | None:
    """A shuffle under way.

    Args:
        standing: which transfer it is.
        ports: to be numbered.
        left_bytes: of each flow that may move now, by the nodes at its two ends, which differ.
        weighted: whether flows are to end together.

    Returns:
        None where nothing can move.
    """
    flows = {pair: left for pair, left in left_bytes.items() if left > 0}
    if not flows:
        return None
    rows = {name: at for at, name in enumerate(dict.fromkeys(mapper for mapper, _ in flows))}
    columns = {name: at for at, name in enumerate(dict.fromkeys(reducer for _, reducer in flows))}
    matrix = np.zeros((len(rows), len(columns)))
    for (mapper, reducer), left in flows.items():
        matrix[rows[mapper], columns[reducer]] = left
    egress = np.array([ports.egress(name) for name in rows], dtype=np.intp)
    ingress = np.array([ports.ingress(name) for name in columns], dtype=np.intp)
    return Shuffle.of(standing, egress, ingress, matrix, weighted)
