"""The inter-transfer controller: which transfer may take how much of each node's port.

It looks at all transfers at once, gives each its equal share of every port (`schedulers.equal_shares`), and
tells nodes what has changed. Where ports have no limit of their own TCP shares them, and there is nothing to
tell.
"""

from collections.abc import Iterable

from orchestra.controller.transfer import Cluster, TransferController
from orchestra.messages import Budget
from schedulers import TransferId
from schedulers.equal_shares import ActivePorts, Direction, NodeId, Port, equal_shares
from transfers.ids import NodeName, TransferName

_Rates = tuple[float | None, float | None]


class InterTransferController:
    """Keeps the budgets of all transfers.

    Args:
        cluster: through which nodes are told.
        port_rate_bytes_per_s: what each node may send, and what it may receive; None is no limit.
    """

    def __init__(self, cluster: Cluster, port_rate_bytes_per_s: float | None) -> None:
        self._cluster = cluster
        self._rate = port_rate_bytes_per_s
        self._told: dict[tuple[NodeName, TransferName], _Rates] = {}

    @property
    def budgets(self) -> int:
        """How many budgets, of one transfer at one node each, hold just now."""
        return len(self._told)

    def reallocate(self, transfers: Iterable[TransferController]) -> None:
        """Share all ports anew among the transfers, and tell nodes whose share has changed."""
        if self._rate is None:
            return
        active: dict[Port, tuple[TransferId, ...]] = {}
        for transfer in transfers:
            if not transfer.moving:
                continue
            for name in transfer.participants():
                for direction in Direction:
                    port = Port(NodeId(name), direction)
                    active[port] = (*active.get(port, ()), TransferId(transfer.name))
        shares = equal_shares(ActivePorts(dict.fromkeys(active, self._rate), active))
        told: dict[tuple[NodeName, TransferName], _Rates] = {}
        for port, transfer_ids in active.items():
            for transfer_id in transfer_ids:
                rates = (
                    shares.budget(transfer_id, port.node, Direction.EGRESS),
                    shares.budget(transfer_id, port.node, Direction.INGRESS),
                )
                told[NodeName(port.node), TransferName(transfer_id)] = rates
        for where, rates in told.items():
            if self._told.get(where) != rates:
                self._cluster.send(where[0], Budget(where[1], *rates))
        self._told = told

    def forget_node(self, node: NodeName) -> None:
        """A node has come anew and knows no budgets."""
        self._told = {where: rates for where, rates in self._told.items() if where[0] != node}
