"""What has passed each node's port so far, as reports tell. Pure.

Owns two sums a node. Must not know transfers, or what a port could carry.
"""

from collections import Counter

from transfers.ids import NodeName


class Traffic:
    """Bytes by node, each way, since the controller began.

    Attributes:
        sent_bytes, received_bytes: by node.
    """

    def __init__(self) -> None:
        self.sent_bytes: Counter[NodeName] = Counter()
        self.received_bytes: Counter[NodeName] = Counter()

    def note(self, source: NodeName, to: NodeName, count_bytes: int) -> None:
        """So much more has come from one node to another."""
        self.sent_bytes[source] += count_bytes
        self.received_bytes[to] += count_bytes

    def forget_node(self, node: NodeName) -> None:
        """A node has gone."""
        del self.sent_bytes[node]
        del self.received_bytes[node]
