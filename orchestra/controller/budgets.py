"""What a policy has given, as words to nodes.

Owns the translation of shares into `Budget`s. Must not know policies, nor when they are asked. Pure.

Theory of operation. A budget is a ceiling. A broadcast has one number: the pace of its busiest port is what
any of its nodes may send, and receive, since who sends is the planner's affair. A shuffle's flows have a rate
each; where nodes cannot pace sockets they have connections in proportion instead, and budgets a port (the
paper's way). A transfer that may move nothing is paused: nothing is sent, and nobody is blamed for it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestra.controller.demands import NodeFlow, PortNumbers
from orchestra.messages import Budget
from schedulers import Share, Shuffle
from transfers.ids import NodeName, TransferName

MOST_CONNECTIONS = 8
"""Of one flow, where shares are kept by numbers of connections (a guess: eight steps between the least flow
and the largest; and a node that takes from thirty has no more than 240)."""

STREAMS = 4
"""Of a broadcast's node at a time, by which its slowest stream is guessed (its slots)."""

NEAR = 0.02
"""Rates that differ by no more than this share are not told anew (a guess: pacing keeps within 2.5 %)."""


@dataclass(frozen=True, slots=True)
class ShuffleNodes:
    """Who takes part in a shuffle.

    Attributes:
        nodes: all of them.
        places: which reducers' places each node has.
        left_bytes: of each flow that may move.
    """

    nodes: Sequence[NodeName]
    places: Mapping[NodeName, Sequence[NodeName]]
    left_bytes: Mapping[NodeFlow, float]


def unlimited(transfer: TransferName, nodes: Sequence[NodeName], rank: int = 0) -> dict[NodeName, Budget]:
    """Nobody holds it back."""
    return dict.fromkeys(nodes, Budget(transfer, None, None, rank))


def paused(transfer: TransferName, nodes: Sequence[NodeName], rank: int = 0) -> dict[NodeName, Budget]:
    """Nothing moves; what is on its way still comes."""
    return dict.fromkeys(nodes, Budget(transfer, 0.0, None, rank, {}, 0.0, 0.0))


def broadcast_budgets(
    transfer: TransferName, share: Share, nodes: Sequence[NodeName], rank: int
) -> dict[NodeName, Budget]:
    """What each node of a broadcast may send and receive for it.

    Args:
        transfer: its name.
        share: what it was given.
        nodes: who takes part.
        rank: its turn.
    """
    most = float(share.port_rates.max(initial=0.0))
    if most <= 0:
        return paused(transfer, nodes, rank)
    if math.isinf(most):
        return unlimited(transfer, nodes, rank)
    return {node: Budget(transfer, most, most, rank, {}, None, most / STREAMS) for node in nodes}


def shuffle_budgets(
    transfer: TransferName,
    share: Share,
    ports: PortNumbers,
    who: ShuffleNodes,
    rank: int,
    others_bytes_per_s: float | None,
) -> dict[NodeName, Budget]:
    """What each flow of a shuffle may move, kept by the kernel's pacing of each connection.

    Args:
        transfer: its name.
        share: what it was given.
        ports: whose ports they are.
        who: takes part.
        rank: its turn.
        others_bytes_per_s: what a flow may that is not known yet; None is no limit.
    """
    if share.flow_rates is None:
        return paused(transfer, who.nodes, rank)
    out: dict[NodeName, dict[NodeName, float]] = {}
    slowest: dict[NodeName, float] = {}
    for (mapper, reducer), rate in node_rates(share, ports, who.left_bytes).items():
        if math.isinf(rate):
            continue
        slowest[reducer] = min(rate, slowest.get(reducer, math.inf))
        out.setdefault(mapper, {}).update(dict.fromkeys(who.places.get(reducer, ()), rate))
    others = others_bytes_per_s if out else None  # where nothing is known of ports nobody is held back
    return {
        node: Budget(transfer, None, None, rank, out.get(node, {}), others, slowest.get(node))
        for node in who.nodes
    }


def connection_budgets(
    transfer: TransferName,
    share: Share,
    ports: PortNumbers,
    who: ShuffleNodes,
    rank: int,
    *,
    keep_sums: bool,
) -> dict[NodeName, Budget]:
    """How many connections each flow of a shuffle has: in proportion to what it was given, and from 1.

    Args:
        transfer, share, ports, who, rank: as `shuffle_budgets`.
        keep_sums: whether what it sends and receives at each port is limited as well.
    """
    if share.flow_rates is None:
        return paused(transfer, who.nodes, rank)
    rates = node_rates(share, ports, who.left_bytes)
    most = max((rate for rate in rates.values() if math.isfinite(rate)), default=0.0)
    taken: dict[NodeName, dict[NodeName, int]] = {}
    stopped: dict[NodeName, dict[NodeName, float]] = {}
    for (mapper, reducer), rate in rates.items():
        if rate <= 0:
            stopped.setdefault(mapper, {}).update(dict.fromkeys(who.places.get(reducer, ()), 0.0))
        elif most > 0 and math.isfinite(rate):
            count = max(1, round(MOST_CONNECTIONS * rate / most))
            taken.setdefault(reducer, {})[mapper] = count
    sums: dict[int, float] = {}
    if keep_sums:
        sums = {
            int(port): float(rate) for port, rate in zip(share.demand.ports, share.port_rates, strict=True)
        }

    def kept(port: int) -> float | None:
        rate = sums.get(port)
        return rate if rate is not None and math.isfinite(rate) else None

    budgets = {}
    for node in who.nodes:
        egress, ingress = kept(ports.egress(node)), kept(ports.ingress(node))
        flows, slow = stopped.get(node, {}), 0.0 if any(node in each for each in stopped.values()) else None
        budgets[node] = Budget(transfer, egress, ingress, rank, flows, None, slow, taken.get(node, {}))
    return budgets


def differ(one: Budget | None, other: Budget) -> bool:
    """Whether the second is worth telling to who knows the first."""
    if one is None:
        return True
    if (one.rank, one.connections) != (other.rank, other.connections):
        return True
    if one.flows_bytes_per_s.keys() != other.flows_bytes_per_s.keys():
        return True
    pairs = [
        (one.egress_bytes_per_s, other.egress_bytes_per_s),
        (one.ingress_bytes_per_s, other.ingress_bytes_per_s),
        (one.other_flows_bytes_per_s, other.other_flows_bytes_per_s),
        (one.slowest_bytes_per_s, other.slowest_bytes_per_s),
        *((rate, other.flows_bytes_per_s[name]) for name, rate in one.flows_bytes_per_s.items()),
    ]
    return any(_apart(before, after) for before, after in pairs)


def _apart(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return before is not after
    return abs(after - before) > NEAR * before


def node_rates(
    share: Share, ports: PortNumbers, left_bytes: Mapping[NodeFlow, float]
) -> dict[NodeFlow, float]:
    """The rate of each flow that has something left, bytes/s. Flows between the same two cards have theirs by
    what they have left.

    Args:
        share: of a shuffle; of a broadcast, or a shuffle that may move nothing, there are none.
        ports: whose ports they are.
        left_bytes: of each flow.
    """
    demand, rates = share.demand, share.flow_rates
    if rates is None or not isinstance(demand, Shuffle):
        return {}
    rows = {port: at for at, port in enumerate(demand.egress.tolist())}
    columns = {port: at for at, port in enumerate(demand.ingress.tolist())}
    found: dict[NodeFlow, float] = {}
    for (mapper, reducer), left in left_bytes.items():
        row, column = rows.get(ports.egress(mapper)), columns.get(ports.ingress(reducer))
        if left > 0 and row is not None and column is not None:
            part = left / float(demand.left_bytes[row, column])
            found[mapper, reducer] = float(rates[row, column]) * part
    return found
