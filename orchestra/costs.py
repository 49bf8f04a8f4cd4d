"""How long each mechanism takes: a formula for each, in its docstring.

Owns the predictions. Must not know nodes, sockets or clocks: it is arithmetic on an estimate of the network
(`orchestra.estimate`), the size of the object and the number of receivers. Pure.

Theory of operation. Every mechanism is some links in a row, through which the first block has to pass one
by one, part by part, and then a stream of all other blocks behind it. So each prediction is built from four
terms:

    start                                                      commands, connections, the last report
    hop(R, k)    = max(b - u/k, 0)/R + o + L                   the first block reaches a node
    pass(R, k)   = max(p - u/k, 0)/R + o + L                   and so much of it each node below
    stream(S, R) = max(S/R + m·o, (S/R + m·o + m·2L) / A)      a link at R bytes/s carries S bytes

with m = ⌈S/B⌉ blocks, b = min(B, S), p the part of a block that is passed on at a time (`forward_bytes`), o
the overhead a block, L the latency of handing it on, u what a port lets through before its rate holds, k the
streams that share a port, and A asks open at a time between two nodes (`LOOK_AHEAD`): where a block passes
faster than a round trip, the round trips are what one waits for.
In a row of links the slowest decides when the last receiver is done; Cornet's stripes leave out who is slow,
but the slow one needs its time. N nodes on one host share its memory, whatever their links.

Nothing is done before the controller has heard of all N·M blocks, which takes it `EVENT_S` each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from orchestra.estimate import LinkEstimate
from transfers.planners import Mechanism
from transfers.planners.events import LOOK_AHEAD, PUSH_DEGREE, PUSH_STEP_BYTES, forward_bytes
from transfers.planners.stripes import STRIPES

EVENT_S = 50e-6
"""What one stored block costs the controller where reports bring several: 28 to 98 µs, measured with trees of
150 to 1,000 receivers (docs/decisions/0012). Where a swarm has to help, several times as much."""

CHAIN_LOSS_A_LINK, CHAIN_LINK_USE = 0.0025, 0.96
"""Share of its time that each link of a chain loses by itself, because its sender wakes late, and the share
that all keep busy even so (emulated hosts, 32 MB at 50 Mbit/s: chains of 4, 8 and 16 took 1.020, 1.032 and
1.083 x S/W, the last with hardly a core left)."""

CORNET_LINK_USE = 0.99
"""Share of a receiver's link that Cornet keeps busy once it runs (the same hosts, and simulated with a
control delay of 20 ms: 0.98 to 1.00)."""

HDFS_FEW_LINK_USE = 0.85
"""Share of a link that is busy while HDFS writes and reads, with 2 or 3 receivers: blocks are placed by lot,
so that some links have two to carry and others none (simulated with blocks of 512 KiB: 0.86)."""

HDFS_LINK_USE = 0.68
"""The same with more receivers (simulated with 4 and 8, blocks of 512 KiB: 0.68 to 0.76)."""

HDFS_WINDOW = 4
"""Blocks under way at one time to first replicas, and to each reader (`transfers.planners.hdfs`)."""


@dataclass(frozen=True, slots=True)
class Load:
    """One broadcast, cut into blocks of one size, over one network: what the formulas speak of."""

    size_bytes: int
    receivers: int
    block_size_bytes: int
    link: LinkEstimate
    degree: int
    replicas: int

    @property
    def blocks(self) -> int:
        """Blocks of the object."""
        return -(-self.size_bytes // self.block_size_bytes)

    @property
    def block_bytes(self) -> int:
        """Bytes of its first block."""
        return min(self.block_size_bytes, self.size_bytes)

    @property
    def told_s(self) -> float:
        """What the controller needs to hear of every block at every receiver."""
        return self.receivers * self.blocks * EVENT_S

    def stream_s(self, size_bytes: float, rate_bytes_per_s: float) -> float:
        """Seconds in which one link carries ``size_bytes``: ``stream(S, R)`` of the module's docstring."""
        blocks = math.ceil(size_bytes / self.block_size_bytes)
        busy_s = size_bytes / rate_bytes_per_s + blocks * self.link.overhead_s_per_block
        return max(busy_s, (busy_s + blocks * 2 * self.link.latency_s) / LOOK_AHEAD)

    def row_s(self, links: int, rate_bytes_per_s: float, streams: int = 1) -> float:
        """Seconds until a first block has passed so many links: ``hop(R, k)``, and ``pass(R, k)`` beyond."""
        return self.hop_s(rate_bytes_per_s, streams) + (links - 1) * self._passing_s(
            forward_bytes(self.block_bytes, rate_bytes_per_s), rate_bytes_per_s, streams
        )

    def hop_s(self, rate_bytes_per_s: float, streams: int = 1) -> float:
        """Seconds in which the first block reaches a node that is asked for it: ``hop(R, k)``."""
        return self._passing_s(self.block_bytes, rate_bytes_per_s, streams)

    def _passing_s(self, size_bytes: float, rate_bytes_per_s: float, streams: int) -> float:
        paced_bytes = max(0.0, size_bytes - self.link.burst_bytes / streams)
        return paced_bytes / rate_bytes_per_s + self.link.overhead_s_per_block + self.link.latency_s

    def rest_s(self, rate_bytes_per_s: float) -> float:
        """Seconds of the stream behind the first block."""
        return self.stream_s(max(0, self.size_bytes - self.block_bytes), rate_bytes_per_s)

    def row_rate(self, children: int) -> float:
        """Bytes/s of the slowest in a row of links, where each node sends to so many others."""
        link = self.link
        senders = link.source_rate if self.receivers <= children else min(link.source_rate, link.slowest_out)
        return min(senders / children, link.slowest_in, link.host_share(self.receivers))


def predict_s(mechanism: Mechanism, load: Load) -> float:
    """Seconds from acceptance to the last receiver's last byte, as the controller hears of it."""
    return max(_formula(mechanism)(load), load.told_s) if load.size_bytes else 0.0


def _formula(mechanism: Mechanism) -> Callable[[Load], float]:
    match mechanism:
        case Mechanism.CHAIN:
            return predict_chain_s
        case Mechanism.TREE:
            return predict_tree_s
        case Mechanism.HDFS:
            return predict_hdfs_s
        case Mechanism.CORNET:
            return predict_cornet_s
        case _:
            assert_never(mechanism)


def predict_small_s(size_bytes: int, receivers: int, inside: bool, link: LinkEstimate) -> float:
    """A small object, sent before it is planned (`orchestra.small`).

        inside the control messages     T = start + max(N·S - u, 0) / R + L
        pushed down two trees           T = start + max(S - u, 0) / R + ⌊log2 N⌋ · (max(d·s - u, 0) / R + L)

    with start that of small objects. A half is passed on while it arrives, in steps of s bytes to d children,
    so beside its bytes a level costs no more than a step.

    Args:
        inside: whether control messages carry it; the controller's link is taken for a usual one.
    """
    rate = link.rate_bytes_per_s
    if inside:
        sent_bytes = max(0.0, size_bytes * receivers - link.burst_bytes)
        return link.small_start_s + sent_bytes / rate + link.latency_s
    step_bytes = max(0.0, PUSH_DEGREE * min(PUSH_STEP_BYTES, size_bytes) - link.burst_bytes)
    levels = max(0, receivers.bit_length() - 1)
    sent_s = max(0.0, size_bytes - link.burst_bytes) / min(rate, link.source_rate)
    return link.small_start_s + sent_s + levels * (step_bytes / rate + link.latency_s)


def predict_chain_s(load: Load) -> float:
    """Each receiver passes every block on to the next while it arrives: N links in a row, and parts in them.

        T = start + hop(R, 1) + (N - 1) · pass(R, 1) + stream(S - b, R)
        R = use · min(source, slowest link of N, host / N)

    with ``use`` the share of time in which links are busy: `CHAIN_LOSS_A_LINK` less for each behind another.
    """
    use = max(CHAIN_LINK_USE, 1 - CHAIN_LOSS_A_LINK * (load.receivers - 1))
    rate = use * load.row_rate(1)
    return load.link.start_s + load.row_s(load.receivers, rate) + load.rest_s(rate)


def predict_tree_s(load: Load) -> float:
    """Each node serves up to d others at once, so each of these gets a d-th of its link.

        T = start + hop(R, d) + (depth - 1) · pass(R, d) + stream(S - b, R)
        R = min(source / d, slowest sender / d, slowest receiver, host / N)

    with the least depth for which d + d² + … + d^depth ≥ N, and d no more than N.
    """
    degree = min(load.degree, load.receivers)
    depth, placed, level = 0, 0, 1
    while placed < load.receivers:
        level *= degree
        placed += level
        depth += 1
    rate = load.row_rate(degree)
    return load.link.start_s + load.row_s(depth, rate, degree) + load.rest_s(rate)


def predict_hdfs_s(load: Load) -> float:
    """Write every block to R of the N receivers through a pipeline; all read what they lack.

        T = start + hop(V, 1) + (R - 1) · pass(V, 1) + stream(S - b, V) + reading
        1/V = 1/(use · W) + start/(A · b),   V ≤ host / N       reading = start + hop(V, 1), 0 where N ≤ R
        V = min(W, A · b / (b/W + start)) for one receiver

    with W the slowest link's rate. The source has A = 4 blocks under way at a time, and so has each reader;
    each needs a report and a command before the next, about as long as ``start``. Blocks lie and are read by
    lot, so links are busy for a share of the time: ``use`` is `HDFS_FEW_LINK_USE` for up to R receivers and
    `HDFS_LINK_USE` beyond, less where the M·R places of few blocks are not as many as nodes.
    """
    link = load.link
    replicas = min(load.replicas, load.receivers)
    row = load.row_rate(1)
    ahead_bytes = HDFS_WINDOW * load.block_bytes
    if load.receivers == 1:
        rate = min(row, ahead_bytes / (load.block_bytes / row + link.start_s))
    else:
        use = HDFS_FEW_LINK_USE if load.receivers <= replicas else HDFS_LINK_USE
        use *= min(1.0, load.blocks * replicas / load.receivers)
        rate = 1 / (1 / (use * row) + link.start_s / ahead_bytes)
    written_s = link.start_s + load.row_s(replicas, rate) + load.rest_s(rate)
    return written_s if replicas == load.receivers else written_s + link.start_s + load.hop_s(rate)


def predict_cornet_s(load: Load) -> float:
    """Each of K stripes goes down a tree of degree K, in which every receiver has a place.

        T = start + max(row + stream(S - b, R),   stream(S, slowest receiver))
        row = hop(R / K, K) + ⌊log_K N⌋ · pass(R / K, K),   R = min(use · W, source, host / N),   K = 2

    A tree of degree K over N receivers is ⌊log_K N⌋ deep for K = 2, below its root, and a stripe's block
    crosses each level at a K-th of the link. The share of the link that is kept busy is `CORNET_LINK_USE`;
    who is slow stands in nobody's way. The stripes begin side by side and do not end so: the last is done
    about a block after the others. To one receiver it is a plain copy, as the chain's. With fewer blocks than
    stripes, each level waits for the controller instead.
    """
    link = load.link
    rate = min(link.rate_bytes_per_s * CORNET_LINK_USE, link.source_rate, link.host_share(load.receivers))
    levels = load.receivers.bit_length()
    if load.receivers == 1:
        rate = min(rate, link.slowest_in)
        return link.start_s + load.hop_s(rate) + load.rest_s(rate)
    if load.blocks < STRIPES:
        running_s = levels * load.hop_s(rate) + (levels - 1) * link.start_s
    else:
        running_s = load.row_s(levels, rate / STRIPES, STRIPES) + load.rest_s(rate)
    slowest_s = load.stream_s(load.size_bytes, min(link.slowest_in, rate))
    return link.start_s + max(running_s, slowest_s)
