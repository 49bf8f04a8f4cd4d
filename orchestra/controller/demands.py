"""What transfers have left to move, in the words of policies.

Owns the translation: nodes become ports, and what receivers lack becomes bytes at ports. Must not know a
policy, nor how it is learnt what receivers lack. Pure.

Theory of operation. A port is one direction of a *card*: nodes of one host share its card, so what several of
them move of a shuffle is added up. Of a broadcast they need it once, since they map each other's store. (On
loopback, where there are no cards, each node has one of its own.)
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

import numpy as np

from orchestra.controller.members import Card
from schedulers import Broadcast, Shuffle, Standing
from transfers.ids import NodeName

NodeFlow = tuple[NodeName, NodeName]
"""A flow by its ends: who sends, who receives."""


class PortNumbers:
    """Numbers for the ports of cards, for one decision: each card has two.

    Args:
        card_of: a node's card.
    """

    def __init__(self, card_of: Callable[[NodeName], Card]) -> None:
        self.card_of = card_of
        self._places: dict[Card, int] = {}
        self.cards: list[Card] = []

    def egress(self, node: NodeName) -> int:
        """Of what a node sends."""
        return 2 * self._place(node)

    def ingress(self, node: NodeName) -> int:
        """Of what a node receives."""
        return 2 * self._place(node) + 1

    def port(self, number: int) -> tuple[Card, bool]:
        """Which card's it is, and whether it is what that sends."""
        return self.cards[number // 2], number % 2 == 0

    def _place(self, node: NodeName) -> int:
        card = self.card_of(node)
        place = self._places.get(card)
        if place is None:
            place = self._places[card] = len(self.cards)
            self.cards.append(card)
        return place


def broadcast_demand(
    standing: Standing,
    ports: PortNumbers,
    lacking_bytes: Mapping[NodeName, int],
    complete: Collection[NodeName],
) -> Broadcast | None:
    """A broadcast under way, or late joiners of one that is over.

    Blocks are passed on from receiver to receiver, so all of them go at one pace, that of the one that lacks
    most: whoever were slowed to end at the same time would slow those behind it. Each may have to send as
    much as it receives: who sends to whom is the planner's affair. What is missing comes from those who hold
    all.

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
    most, total = float(max(lacking.values())), sum(lacking.values())
    left: dict[int, float] = {}
    for name in lacking:
        left[ports.ingress(name)] = most
        if len(lacking) > 1:
            left[ports.egress(name)] = most
    for name in others:
        port = ports.egress(name)
        left[port] = max(left.get(port, 0.0), min(most, total / len(others)))
    return Broadcast(standing, np.array(list(left), dtype=np.intp), np.array(list(left.values())))


def shuffle_demand(
    standing: Standing, ports: PortNumbers, left_bytes: Mapping[NodeFlow, float], weighted: bool
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
    flows: defaultdict[tuple[int, int], float] = defaultdict(float)
    for (mapper, reducer), left in left_bytes.items():
        if left > 0:
            flows[ports.egress(mapper), ports.ingress(reducer)] += left
    if not flows:
        return None
    rows = {port: at for at, port in enumerate(dict.fromkeys(out for out, _ in flows))}
    columns = {port: at for at, port in enumerate(dict.fromkeys(into for _, into in flows))}
    matrix = np.zeros((len(rows), len(columns)))
    for (out, into), left in flows.items():
        matrix[rows[out], columns[into]] = left
    egress, ingress = np.array(list(rows), dtype=np.intp), np.array(list(columns), dtype=np.intp)
    return Shuffle.of(standing, egress, ingress, matrix, weighted)
