"""Who is in the cluster, as the controller sees it.

Pure: a registry of nodes, each with the session (connection) by which it speaks. A node that comes back
under the same name is the same node if its incarnation is the same, and a new one otherwise.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

from orchestra.messages import Join
from transfers.ids import NodeName

SessionId = NewType("SessionId", int)
"""One connection to the controller; never used twice."""

MAX_GONE = 1000
"""Nodes that have gone and are still shown in the status (a guess)."""


class NodeState(Enum):
    """Where a node stands."""

    JOINED = "joined"
    SUSPECTED = "suspected"
    LOST = "lost"
    LEFT = "left"


@dataclass(slots=True)
class Node:
    """One node."""

    session: SessionId
    join: Join
    heard_at_s: float
    state: NodeState = NodeState.JOINED
    engaged_at_s: float | None = None
    known_peers: set[NodeName] = field(default_factory=set)

    @property
    def name(self) -> NodeName:
        """Its name."""
        return self.join.name

    @property
    def present(self) -> bool:
        """Whether it is connected."""
        return self.state in (NodeState.JOINED, NodeState.SUSPECTED)

    def shares_with(self, other: "Node") -> bool:
        """Whether the two can map each other's store."""
        return bool(
            self.join.store_address and other.join.store_address and self.join.host == other.join.host
        )


class Members:
    """The registry."""

    def __init__(self) -> None:
        self._nodes: dict[NodeName, Node] = {}
        self._sessions: dict[SessionId, NodeName] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def get(self, name: NodeName) -> Node | None:
        """The node of that name, also when it has gone."""
        return self._nodes.get(name)

    def present(self, name: NodeName) -> Node | None:
        """The node of that name if it is connected."""
        node = self._nodes.get(name)
        return node if node is not None and node.present else None

    def speaking(self, session: SessionId) -> Node | None:
        """The node that speaks by this session, if it has joined and is still connected."""
        name = self._sessions.get(session)
        return None if name is None else self.present(name)

    def agents(self) -> list[Node]:
        """Connected nodes for whom broadcasts are meant, in the order in which they joined."""
        return [node for node in self._nodes.values() if node.present and node.join.receives]

    def add(self, session: SessionId, join: Join, now: float) -> Node:
        """Take a node in, in place of one that has gone under the same name."""
        self._nodes.pop(join.name, None)
        node = self._nodes[join.name] = Node(session, join, now)
        self._sessions[session] = join.name
        for other in self._nodes.values():
            other.known_peers.discard(join.name)
        return node

    def remove(self, node: Node, state: NodeState) -> None:
        """A node is gone. A command that has left as it should is not remembered."""
        node.state = state
        self._sessions.pop(node.session, None)
        if state is NodeState.LEFT and not node.join.receives and self._nodes.get(node.name) is node:
            del self._nodes[node.name]
        gone = [other.name for other in self._nodes.values() if not other.present]
        for name in gone[: max(0, len(gone) - MAX_GONE)]:
            del self._nodes[name]
