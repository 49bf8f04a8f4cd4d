"""Nodes of one host that map each other's copy of a broadcast's object.

Owns who maps whose copy, and the words that tell them to. Must not know how the copy comes to be. Pure.

Theory of operation. Nodes of one host that share their store count as one for the planner: the first of them
receives, the others, its mates, map its copy when it is complete. A mate maps the copy of one that receives
for itself, never of another mate, so there are no chains. When the first is gone, its mates are let off, and
one of them becomes the first.
"""

from orchestra.controller.account import Account
from orchestra.controller.members import Node
from orchestra.controller.planning import Planning
from orchestra.controller.transfer import Cluster
from orchestra.messages import MapObject
from transfers.ids import NodeName
from transfers.manifest import Manifest


class HostMates:
    """Of one broadcast.

    Args:
        source: who holds the object from the start.
        account: who receives, and who is through.
        planning: who receives for itself.
    """

    def __init__(self, cluster: Cluster, source: NodeName, account: Account, planning: Planning) -> None:
        self._cluster = cluster
        self._source = source
        self._account = account
        self._planning = planning
        self._first_of_host: dict[NodeName, NodeName] = {}

    def __contains__(self, name: NodeName) -> bool:
        """Whether a node maps another's copy, or is to."""
        return name in self._first_of_host

    def first_for(self, node: Node) -> NodeName | None:
        """A node whose copy this one can map, now or when it is complete."""
        if not node.join.store_address:
            return None
        for mate in self._cluster.members.sharing_on(node.join.host):
            name = mate.name
            if name == node.name or not (name == self._source or self._account.involves(name)):
                continue
            fit = name not in self._first_of_host and not self._account.has_failed(name)
            if (name == self._source or fit) and self._planning.knows(name):
                return name
        return None

    def add(self, name: NodeName, first: NodeName, manifest: Manifest) -> None:
        """A node is to map the copy of the first, at once if that is complete."""
        self._first_of_host[name] = first
        if first == self._source or first in self._account.settled:
            self._send_map(name, first, manifest)

    def discard(self, name: NodeName) -> None:
        """A node maps nothing, or not any more."""
        self._first_of_host.pop(name, None)

    def matters(self, name: NodeName) -> bool:
        """Whether the outcome depends on what a node gets: it counts, or one that does waits for its copy."""
        counts, unsettled = self._account.counts, self._account.is_unsettled
        waiting = (mate for mate, of in self._first_of_host.items() if of == name)
        return counts(name) or any(counts(mate) and unsettled(mate) for mate in waiting)

    def first_is_complete(self, first: NodeName, manifest: Manifest) -> None:
        """A node's copy is complete: those who wait for it can map it."""
        for name, of in self._first_of_host.items():
            if of == first and name not in self._account.settled:
                self._send_map(name, first, manifest)

    def first_is_gone(self, first: NodeName) -> list[NodeName]:
        """The node whose copy others map is gone: they depend on it no more, and those who have not mapped it
        yet are returned."""
        mates = [name for name, of in self._first_of_host.items() if of == first]
        for name in mates:
            del self._first_of_host[name]
        return [name for name in mates if name not in self._account.settled]

    def _send_map(self, name: NodeName, first: NodeName, manifest: Manifest) -> None:
        mate = self._cluster.members.present(first)
        if mate is not None:
            self._cluster.send(name, MapObject(manifest, first, mate.join.store_address))
