"""Who is in the cluster, as the controller sees it.

Pure: a registry of nodes, each with the session (connection) by which it speaks. A node that comes back
under the same name is the same node if its incarnation is the same, and a new one otherwise.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

from orchestra.controller.measured import host_of
from orchestra.messages import Join
from orchestra.security import is_loopback
from transfers.ids import NodeName
from transfers.net.address import format_address

SessionId = NewType("SessionId", int)
"""One connection to the controller; never used twice."""

Card = NewType("Card", str)
"""A network card: by its host, or, on loopback, where there are none, by the one node that it is taken
for."""

_ALONE = "node "
"""Begins the name of a card that one node has for itself."""

MAX_GONE = 1000
"""Nodes that have gone and are still shown in the status (a guess)."""


def card_at(name: NodeName, data_address: str) -> Card:
    """The card of a node at an address."""
    if is_loopback(data_address):
        return Card(_ALONE + name)
    return Card(host_of(data_address))


def address_behind(card: Card) -> str:
    """A data address of the host that has a card."""
    return "127.0.0.1:0" if card.startswith(_ALONE) else format_address(card, 0)


class NodeState(Enum):
    """Where a node stands."""

    JOINED = "joined"
    SUSPECTED = "suspected"
    LOST = "lost"
    LEFT = "left"


@dataclass(slots=True)
class Node:
    """One node.

    Attributes:
        engaged_at_s: since when it has taken part in a transfer, and so has to speak often.
        pushed_at_s: when anything last got on of the small objects that it sends.
        known_peers: nodes whose address it has been told, each by the session that it had then.
        card: which network card it uses.
    """

    session: SessionId
    join: Join
    heard_at_s: float
    state: NodeState = NodeState.JOINED
    engaged_at_s: float | None = None
    pushed_at_s: float = -math.inf
    known_peers: dict[NodeName, SessionId] = field(default_factory=dict)
    card: Card = field(init=False)

    def __post_init__(self) -> None:
        self.card = card_at(self.join.name, self.join.data_address)

    @property
    def name(self) -> NodeName:
        """Its name."""
        return self.join.name

    @property
    def present(self) -> bool:
        """Whether it is connected."""
        return self.state is NodeState.JOINED or self.state is NodeState.SUSPECTED

    def shares_with(self, other: "Node") -> bool:
        """Whether the two can map each other's store."""
        return bool(
            self.join.store_address and other.join.store_address and self.join.host == other.join.host
        )


class Members:
    """The registry."""

    def __init__(self) -> None:
        self._nodes: dict[NodeName, Node] = {}
        self._sessions: dict[SessionId, Node] = {}
        self._sharing: dict[str, dict[NodeName, Node]] = {}
        self._by_card: dict[Card, dict[NodeName, Node]] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def card_of(self, name: NodeName) -> Card:
        """The network card of a node, also when it has gone; of one that was never there, one of its own."""
        node = self._nodes.get(name)
        return Card(_ALONE + name) if node is None else node.card

    def has_mates(self, name: NodeName) -> bool:
        """Whether other connected agents share a node's card."""
        mates = self.at_card(self.card_of(name))
        return any(node.present and node.join.receives and node.name != name for node in mates)

    def at_card(self, card: Card) -> Iterable[Node]:
        """Nodes that have a network card, also those that have gone, in the order in which they joined."""
        return self._by_card.get(card, {}).values()

    def get(self, name: NodeName) -> Node | None:
        """The node of that name, also when it has gone."""
        return self._nodes.get(name)

    def present(self, name: NodeName) -> Node | None:
        """The node of that name if it is connected."""
        node = self._nodes.get(name)
        return node if node is not None and node.present else None

    def speaking(self, session: SessionId) -> Node | None:
        """The node that speaks by this session, if it has joined and is still connected."""
        node = self._sessions.get(session)
        return node if node is not None and node.present else None

    def agents(self) -> list[Node]:
        """Connected nodes for whom broadcasts are meant, in the order in which they joined."""
        return [node for node in self._nodes.values() if node.present and node.join.receives]

    def sharing_on(self, host: str) -> Iterable[Node]:
        """Connected nodes of a host whose store others there can map, in the order in which they joined."""
        return self._sharing.get(host, {}).values()

    def one_of_each_host(self, first: NodeName, names: Iterable[NodeName]) -> list[Node]:
        """Connected nodes of some names, but for those that can map a copy of ``first`` or of one before
        them."""
        found: list[Node] = []
        hosts: set[str] = set()
        for name in (first, *names):
            node = self.present(name)
            if node is None or (node.join.store_address and node.join.host in hosts):
                continue
            if node.join.store_address:
                hosts.add(node.join.host)
            if name != first:
                found.append(node)
        return found

    def add(self, session: SessionId, join: Join, now: float) -> Node:
        """Take a node in, in place of one that has gone under the same name."""
        former = self._nodes.get(join.name)
        if former is not None:
            self._forget_sharing(former)
            self._forget(former)
        node = self._nodes[join.name] = Node(session, join, now)
        self._by_card.setdefault(node.card, {})[node.name] = node
        self._sessions[session] = node
        if join.store_address:
            self._sharing.setdefault(join.host, {})[join.name] = node
        return node

    def remove(self, node: Node, state: NodeState) -> None:
        """A node is gone. A command that has left as it should is not remembered."""
        node.state = state
        self._sessions.pop(node.session, None)
        self._forget_sharing(node)
        if state is NodeState.LEFT and not node.join.receives and self._nodes.get(node.name) is node:
            self._forget(node)
        gone = [other for other in self._nodes.values() if not other.present]
        for other in gone[: max(0, len(gone) - MAX_GONE)]:
            self._forget(other)

    def _forget(self, node: Node) -> None:
        del self._nodes[node.name]
        there = self._by_card[node.card]
        del there[node.name]
        if not there:
            del self._by_card[node.card]

    def _forget_sharing(self, node: Node) -> None:
        there = self._sharing.get(node.join.host, {})
        if there.get(node.name) is node:
            del there[node.name]
            if not there:
                del self._sharing[node.join.host]
