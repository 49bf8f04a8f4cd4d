"""Which mechanism carries a broadcast, in blocks of what size, and why.

Owns the predictions and the sentence that explains them. Must not know nodes, sockets or clocks: it
is arithmetic on five numbers of the link, the size of the object and the number of receivers. Pure.

Theory of operation. Every mechanism is some links in a row, each of which carries the whole object
block by block, and some filling at the start. So each prediction is built from two terms:

    stream(S, R) = max(S/R + m·o, (S/R + m·o + m·2L) / A)      a link at R bytes/s carries S bytes
    hop(R)       = b/R + o + L                                 a block reaches the next node

with m = ⌈S/B⌉ blocks, b = min(B, S), o the overhead a block, L the latency one way, and A asks open at a time
between two nodes (`LOOK_AHEAD`): where a block passes faster than a round trip, the round trips are what one
waits for. A node of a chain or a tree gets its bytes through one fixed row of links, so the slowest link
among all decides when the last receiver is done; Cornet's stripes leave out who is slow, and HDFS's nodes
take from whoever has, which averages. N nodes on one host share its memory, whatever their links.

The block size is the best for each mechanism: small blocks fill a pipeline sooner, large ones cost
less overhead and fewer events at the controller.

Connecting and the controller's first commands are left out: they are the same for all.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

from orchestra.units import format_block_size, format_bytes, format_rate, format_seconds
from transfers.blocks import MAX_BLOCKS
from transfers.planners import Mechanism
from transfers.planners.events import LOOK_AHEAD
from transfers.planners.stripes import STRIPES

MIN_BLOCK_SIZE_BYTES = 64 * 2**10
"""Smallest block chosen: the design's size of sub-blocks; below it the overhead a block rules."""

MAX_BLOCK_SIZE_BYTES = 4 * 2**20
"""Largest block chosen: Cornet's own (Chowdhury et al. 2011, from memory)."""

EVENTS_PER_S_BUDGET = 4000.0
"""Stored blocks a second that the controller may be told of. Wire and msgpack cost 21-77 µs an event
(measured for the design), so 4000 are 8-31 % of one core, less where reports come in batches. The
share of a core is a guess."""

LOOPBACK_RATE_BYTES_PER_S = 0.9e9
"""One flow over loopback: measured with `examples.benchmarks.local_mechanisms --nodes 1 --size 256MB` on 2
cores, chain and tree, 0.72 to 1.16 GB/s. (Plain blocking sockets that check nothing: 1.8 GB/s.)"""

LOOPBACK_SHARED_RATE_BYTES_PER_S = 1.4e9
"""All flows of one host together: measured in the same way with 2, 4 and 7 receivers, 1.0 to 1.6 GB/s."""

LATENCY_S = 0.0001
"""One way between two idle hosts of a local network (the design measured round trips of 0.2 ms)."""

OVERHEAD_S_PER_BLOCK = 0.0004
"""What a block costs beside its bytes: asked for, headed, checked, reported (a guess: about six events of
the 21-77 µs above, and two wake-ups of a process)."""

RATE_SPREAD = 0.05
"""Standard deviation of what links really give, as a share of their rate (a guess). It is what makes long
rows of links slow: with 16 links the slowest is expected at 0.88 of the rate."""

MIN_RATE_SHARE = 0.1
"""The slowest link is never taken for slower than this share of the rate (a guess), however many links."""

CORNET_LINK_USE = 0.98
"""Share of a receiver's link that Cornet keeps busy once it runs (simulated: 0.99 to 1.00 with a control
delay of 20 ms)."""

CONTROL_DELAY_S = 0.02
"""From a stored block to the command that answers it (the design: 20 ms between reports)."""

TREE_DEGREE = 2
"""Children of an inner node of the tree, where the caller names no other (paper: D = 2)."""

HDFS_REPLICAS = 3
"""Holders of each block before it is read, where the caller names no other (paper: R = 3)."""

HDFS_READ_LINK_USE = 0.85
"""Share of a reader's link that is busy (measured through TCP under a port rate: all in all 1.15 x S/W with
16 receivers, 1.10 with 8, 1.01 with 4, which this figure gives within 3 %)."""

PREFERENCE = (Mechanism.CHAIN, Mechanism.TREE, Mechanism.CORNET, Mechanism.HDFS)
"""Who wins a tie: the simpler, so that one receiver gets a plain copy."""


@dataclass(frozen=True, slots=True)
class LinkEstimate:
    """What is believed of the network between the nodes of a transfer.

    The defaults are for the processes of one host over loopback, where no port is limited; `on_loopback`
    adds what they share.

    Attributes:
        rate_bytes_per_s: one direction of a node's link.
        latency_s: one way.
        overhead_s_per_block: what a block costs a node beside the time of its bytes.
        shared_host_rate_bytes_per_s: bytes/s that all nodes together can receive where they stand on one
            host and share its memory and cores; None where each node has a host of its own.
        rate_spread: standard deviation of the links' rates, as a share of the rate.

    Raises:
        ValueError: for a rate that is not above 0, or anything negative or not finite.
    """

    rate_bytes_per_s: float = LOOPBACK_RATE_BYTES_PER_S
    latency_s: float = LATENCY_S
    overhead_s_per_block: float = OVERHEAD_S_PER_BLOCK
    shared_host_rate_bytes_per_s: float | None = None
    rate_spread: float = RATE_SPREAD

    def __post_init__(self) -> None:
        rates = {
            "rate_bytes_per_s": self.rate_bytes_per_s,
            "shared_host_rate_bytes_per_s": self.shared_host_rate_bytes_per_s,
        }
        for name, rate in rates.items():
            if rate is not None and not (math.isfinite(rate) and rate > 0):
                raise ValueError(f"{name} must be above 0 and finite, got {rate}")
        for name in ("latency_s", "overhead_s_per_block", "rate_spread"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {value}")

    @classmethod
    def on_loopback(cls, port_rate_bytes_per_s: float | None = None) -> "LinkEstimate":
        """Nodes of one host, each held to a port rate in both directions, or by the host alone."""
        port_rate = math.inf if port_rate_bytes_per_s is None else port_rate_bytes_per_s
        return cls(
            rate_bytes_per_s=min(port_rate, LOOPBACK_RATE_BYTES_PER_S),
            shared_host_rate_bytes_per_s=LOOPBACK_SHARED_RATE_BYTES_PER_S,
        )

    def rate_for(self, streams: int) -> float:
        """Bytes/s of each of ``streams`` links at once: the link's own, or its part of the host."""
        if self.shared_host_rate_bytes_per_s is None:
            return self.rate_bytes_per_s
        return min(self.rate_bytes_per_s, self.shared_host_rate_bytes_per_s / streams)

    def slowest_of(self, links: int) -> float:
        """Bytes/s expected of the slowest of ``links`` links by themselves.

        ``rate · (1 - spread · sqrt(2 ln links))``: the leading term of the expected least of normally
        distributed values, never below `MIN_RATE_SHARE` of the rate.
        """
        share = 1 - self.rate_spread * math.sqrt(2 * math.log(links))
        return self.rate_bytes_per_s * max(share, MIN_RATE_SHARE)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be done, and why.

    Attributes:
        mechanism: how the object travels.
        block_size_bytes: in blocks of this size; an object that is no larger is one block.
        predictions: seconds to the last receiver's last byte by each mechanism, each at its own best
            block size, or at the caller's where that was given.
        reason: one sentence with the numbers.
    """

    mechanism: Mechanism
    block_size_bytes: int
    predictions: Mapping[Mechanism, float]
    reason: str


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

    def stream_s(self, size_bytes: float, rate_bytes_per_s: float) -> float:
        """Seconds in which one link carries ``size_bytes``: ``stream(S, R)`` of the module's docstring."""
        blocks = math.ceil(size_bytes / self.block_size_bytes)
        busy_s = size_bytes / rate_bytes_per_s + blocks * self.link.overhead_s_per_block
        return max(busy_s, (busy_s + blocks * 2 * self.link.latency_s) / LOOK_AHEAD)

    def hop_s(self, rate_bytes_per_s: float) -> float:
        """Seconds from a block's start at one node to its end at the next: ``hop(R)``."""
        block_bytes = min(self.block_size_bytes, self.size_bytes)
        return block_bytes / rate_bytes_per_s + self.link.overhead_s_per_block + self.link.latency_s


def predict_chain_s(load: Load) -> float:
    """Each receiver passes every block on to the next: N links in a row, pipelined by the block.

        T = stream(S, R) + (N-1) · hop(R)          R = min(slowest of N links, host / N)

    That is (M + N - 1) block times where blocks are all of one length.
    """
    rate = min(load.link.slowest_of(load.receivers), load.link.rate_for(load.receivers))
    return load.stream_s(load.size_bytes, rate) + (load.receivers - 1) * load.hop_s(rate)


def predict_tree_s(load: Load) -> float:
    """Each node serves up to d others at once, so each of these gets a d-th of its link.

        T = stream(S, R) + (depth-1) · hop(R)      R = min(slowest of N links / d, host / N)

    with the least depth for which d + d² + … + d^depth ≥ N, and d no more than N.
    """
    degree = min(load.degree, load.receivers)
    depth, placed, level = 0, 0, 1
    while placed < load.receivers:
        level *= degree
        placed += level
        depth += 1
    rate = min(load.link.slowest_of(load.receivers) / degree, load.link.rate_for(load.receivers))
    return load.stream_s(load.size_bytes, rate) + (depth - 1) * load.hop_s(rate)


def predict_hdfs_s(load: Load) -> float:
    """Write every block to R of the N receivers through a pipeline; all read what they lack.

        T = max(stream(S, W), stream(S·R/N, min(W, host / N)) + stream(S·(1 - R/N), V))
          + (R-1) · hop(W) + hop(V) + control delay
        writing  W = min(slowest of R links, host / R)        reading  V = min(rate · use, host / N)

    The replicas of a block lie on R receivers chosen for that block, so each receiver is written a share of
    R/N and reads the rest. A block can be read once it is written, while later ones still are. It is read
    from M·R holders, or N if that is less: ``use = 0.85 · min(1, M·R/N)``. Nothing is read where N ≤ R: the
    pipeline is a chain.
    """
    link = load.link
    replicas = min(load.replicas, load.receivers)
    writing = min(link.slowest_of(replicas), link.rate_for(replicas))
    written_s = load.stream_s(load.size_bytes, writing)
    row_s = (replicas - 1) * load.hop_s(writing)
    if replicas == load.receivers:
        return written_s + row_s
    share = replicas / load.receivers
    use = HDFS_READ_LINK_USE * min(1.0, load.blocks * share)
    reading = min(link.rate_bytes_per_s * use, link.rate_for(load.receivers))
    taken_s = load.stream_s(load.size_bytes * share, min(writing, link.rate_for(load.receivers)))
    taken_s += load.stream_s(load.size_bytes * (1 - share), reading)
    return max(written_s, taken_s) + row_s + load.hop_s(reading) + CONTROL_DELAY_S


def predict_cornet_s(load: Load) -> float:
    """Each of K stripes goes down a tree of degree K, in which every receiver has a place.

        T = stream(S, R) + ⌊log_K N⌋ · hop(R / K)      R = min(use · rate, host / N), K = 2

    A tree of degree K over N receivers is ⌊log_K N⌋ deep for K = 2, and a stripe's block crosses each level
    at a K-th of the link. The share of the link that is kept busy is `CORNET_LINK_USE`.
    """
    link = load.link
    rate = min(link.rate_bytes_per_s * CORNET_LINK_USE, link.rate_for(load.receivers))
    depth = load.receivers.bit_length() - 1
    return load.stream_s(load.size_bytes, rate) + depth * load.hop_s(rate / STRIPES)


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


def candidate_block_sizes(size_bytes: int, receivers: int, link: LinkEstimate) -> tuple[int, ...]:
    """Powers of two that a block may have, ascending; never empty.

    From `MIN_BLOCK_SIZE_BYTES` to `MAX_BLOCK_SIZE_BYTES`, those for which the controller is told of no more
    than `EVENTS_PER_S_BUDGET` stored blocks a second, N·W/B, and the object has no more than `MAX_BLOCKS`
    blocks. Where no size keeps the budget, the largest is taken; where an object is too large for that,
    the least that is large enough.
    """
    told_bytes_per_s = receivers * link.rate_for(receivers)
    block_size_bytes = MIN_BLOCK_SIZE_BYTES
    sizes: list[int] = []
    while block_size_bytes <= MAX_BLOCK_SIZE_BYTES:
        within_budget = told_bytes_per_s <= EVENTS_PER_S_BUDGET * block_size_bytes
        if within_budget and size_bytes <= block_size_bytes * MAX_BLOCKS:
            sizes.append(block_size_bytes)
        block_size_bytes *= 2
    last = MAX_BLOCK_SIZE_BYTES
    while last * MAX_BLOCKS < size_bytes:
        last *= 2
    return tuple(sizes or [last])


def choose(
    size_bytes: int,
    receivers: int,
    *,
    link: LinkEstimate | None = None,
    block_size_bytes: int | None = None,
    mechanism: Mechanism | None = None,
    degree: int = TREE_DEGREE,
    replicas: int = HDFS_REPLICAS,
) -> Choice:
    """Pick the mechanism that is predicted to be done first, and its block size.

    Args:
        size_bytes: of the object; 0 is an object without blocks, done at once by any mechanism.
        receivers: nodes that want it, the source not counted.
        link: what is believed of the network; `LinkEstimate.on_loopback` unless given.
        block_size_bytes: as the user fixed it, else the best for each mechanism.
        mechanism: as the user fixed it, else the best by `PREFERENCE` among the fastest.
        degree: children of an inner node of the tree.
        replicas: holders of each block before HDFS's readers read it.

    Raises:
        ValueError: for a negative size, or less than one receiver, byte in a block, child or replica.
    """
    link = LinkEstimate.on_loopback() if link is None else link
    counts = {"receivers": receivers, "degree": degree, "replicas": replicas}
    if block_size_bytes is not None:
        counts["block_size_bytes"] = block_size_bytes
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    if size_bytes < 0:
        raise ValueError(f"size_bytes must not be negative, got {size_bytes}")
    if block_size_bytes is None:
        sizes = candidate_block_sizes(size_bytes, receivers, link)
    else:
        sizes = (block_size_bytes,)

    best: dict[Mechanism, tuple[float, int]] = {}
    for candidate in PREFERENCE:
        formula = _formula(candidate)
        loads = [Load(size_bytes, receivers, size, link, degree, replicas) for size in sizes]
        # An equal prediction goes to the smaller block, which is checked, and asked for again, in less time.
        best[candidate] = min((formula(load) if size_bytes else 0.0, load.block_size_bytes) for load in loads)
    predictions = {candidate: time_s for candidate, (time_s, _) in best.items()}
    # min() keeps the first among equals, and `predictions` stands in the order of preference.
    chosen = min(predictions, key=predictions.__getitem__) if mechanism is None else mechanism
    chosen_size = best[chosen][1]
    reason = _reason(chosen, mechanism is not None, size_bytes, receivers, link, predictions, chosen_size)
    return Choice(chosen, chosen_size, predictions, reason)


def _reason(
    chosen: Mechanism,
    asked: bool,
    size_bytes: int,
    receivers: int,
    link: LinkEstimate,
    predictions: Mapping[Mechanism, float],
    block_size_bytes: int,
) -> str:
    """The sentence of `Choice.reason`."""
    who = f"{chosen.value} as asked" if asked else chosen.value
    nodes = f"{receivers} receiver" if receivers == 1 else f"{receivers} receivers"
    if size_bytes == 0:
        return f"{who}: an empty object has no blocks, so there is nothing to move to {nodes}"
    others = sorted((time_s, other.value) for other, time_s in predictions.items() if other is not chosen)
    told = ", ".join(f"{name} {format_seconds(time_s)}" for time_s, name in others)
    one = size_bytes <= block_size_bytes
    cut = "in one block" if one else f"blocks of {format_block_size(block_size_bytes)}"
    where = f"at {format_rate(link.rate_bytes_per_s)}"
    if link.shared_host_rate_bytes_per_s is not None:
        where += f", sharing {format_rate(link.shared_host_rate_bytes_per_s)} of one host"
    return (
        f"{who}: predicted {format_seconds(predictions[chosen])} for {format_bytes(size_bytes)} to {nodes} "
        f"{where} ({told}), {cut}"
    )
