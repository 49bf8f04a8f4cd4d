"""Which mechanism carries a broadcast, in blocks of what size, and why.

Owns the comparison, the sizes that blocks may have, and the sentence that explains the choice. The
predictions are `orchestra.costs`'; what is believed of the network is `orchestra.estimate`'s. Must not know
nodes, sockets or clocks. Pure.

Theory of operation. Every mechanism is predicted for every block size that the controller can bear, and the
least prediction wins. Small blocks fill a pipeline sooner, large ones cost less overhead and fewer events at
the controller. How small they may be: the controller hears of N·M stored blocks. A burst of
`EVENTS_A_BROADCAST` it bears however fast they come (and the predictions count the time it needs); more only
at `EVENTS_PER_S_BUDGET`, so that a long transfer leaves it free for others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestra.costs import Load, predict_s
from orchestra.estimate import LinkEstimate as LinkEstimate  # those who choose are to find it here
from orchestra.units import format_block_size, format_bytes, format_rate, format_seconds
from transfers.blocks import MAX_BLOCKS
from transfers.planners import Mechanism

MIN_BLOCK_SIZE_BYTES = 64 * 2**10
"""Smallest block chosen: the design's size of sub-blocks; below it the overhead a block rules."""

MAX_BLOCK_SIZE_BYTES = 4 * 2**20
"""Largest block chosen: Cornet's own (Chowdhury et al. 2011, from memory)."""

EVENTS_PER_S_BUDGET = 4000.0
"""Stored blocks a second that the controller may be told of for long. Brought by trees they cost it 28 to
98 µs each, by Cornet's stripes 60 without sockets and 180 to 330 with a thousand agents on the same two cores
(docs/decisions/0012): 4000 are a tenth of a core at best, more than one at worst. The budget is a guess."""

EVENTS_A_BROADCAST = 5000
"""Stored blocks of one broadcast that it may be told of at any rate: 0.15 to 1.6 s of one core, by the same
figures. No standing plan waits for them (a guess: a burst that is over before anyone is lost for it)."""

FEW_BLOCKS = 8
"""With fewer there is hardly any progress to see, and whoever loses its sender loses much (a guess)."""

FEW_BLOCKS_GAIN = 0.05
"""Share of the time that fewer blocks have to save (a guess)."""

TREE_DEGREE = 2
"""Children of an inner node of the tree, where the caller names no other (paper: D = 2)."""

HDFS_REPLICAS = 3
"""Holders of each block before it is read, where the caller names no other (paper: R = 3)."""

PREFERENCE = (Mechanism.CHAIN, Mechanism.TREE, Mechanism.CORNET, Mechanism.HDFS)
"""Who wins a tie: the simpler, so that one receiver gets a plain copy."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be done, and why.

    Attributes:
        mechanism: how the object travels.
        block_size_bytes: in blocks of this size; an object that is no larger is one block.
        predictions: seconds to the last receiver's last byte by each mechanism, each at its own best
            block size (few blocks aside, see `FEW_BLOCKS`), or at the caller's where that was given.
        reason: one sentence with the numbers.
    """

    mechanism: Mechanism
    block_size_bytes: int
    predictions: Mapping[Mechanism, float]
    reason: str

    @property
    def predicted_s(self) -> float | None:
        """Seconds predicted for what was chosen; None where nothing was predicted."""
        return self.predictions.get(self.mechanism)


def candidate_block_sizes(size_bytes: int, receivers: int, link: LinkEstimate) -> tuple[int, ...]:
    """Powers of two that a block may have, ascending; never empty.

    From `MIN_BLOCK_SIZE_BYTES` to `MAX_BLOCK_SIZE_BYTES`, those for which the controller is told of no more
    than `EVENTS_PER_S_BUDGET` stored blocks a second, N·W/B, or no more than `EVENTS_A_BROADCAST` in all,
    N·M, and the object has no more than `MAX_BLOCKS` blocks. Where no size keeps the budget, the largest is
    taken; where an object is too large for that, the least that is large enough.
    """
    told_bytes_per_s = receivers * link.rate_for(receivers)
    block_size_bytes = MIN_BLOCK_SIZE_BYTES
    sizes: list[int] = []
    while block_size_bytes <= MAX_BLOCK_SIZE_BYTES:
        within_budget = told_bytes_per_s <= EVENTS_PER_S_BUDGET * block_size_bytes
        few = receivers * -(-size_bytes // block_size_bytes) <= EVENTS_A_BROADCAST
        if (within_budget or few) and size_bytes <= block_size_bytes * MAX_BLOCKS:
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
    loads = [Load(size_bytes, receivers, size, link, degree, replicas) for size in sizes]
    for candidate in PREFERENCE:
        best[candidate] = _best_size(candidate, loads)
    predictions = {candidate: time_s for candidate, (time_s, _) in best.items()}
    if receivers <= replicas:  # the same pipeline, in which every block waits for a command besides
        predictions[Mechanism.HDFS] = max(predictions[Mechanism.HDFS], predictions[Mechanism.CHAIN])
    # min() keeps the first among equals, and `predictions` stands in the order of preference.
    chosen = min(predictions, key=predictions.__getitem__) if mechanism is None else mechanism
    chosen_size = best[chosen][1]
    reason = _reason(chosen, mechanism is not None, size_bytes, receivers, link, predictions, chosen_size)
    return Choice(chosen, chosen_size, predictions, reason)


def _best_size(mechanism: Mechanism, loads: Sequence[Load]) -> tuple[float, int]:
    """The least prediction and its block size, where few blocks have to be faster by `FEW_BLOCKS_GAIN`."""

    def weighed(load: Load) -> tuple[float, int]:
        # An equal prediction goes to the smaller block, which is checked, and asked for again, in less time.
        few = load.blocks < FEW_BLOCKS
        return predict_s(mechanism, load) * (1 + FEW_BLOCKS_GAIN * few), load.block_size_bytes

    best = min(loads, key=weighed)
    return predict_s(mechanism, best), best.block_size_bytes


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
    slowest = min(link.source_rate, link.slowest_in, link.slowest_out)
    if slowest < link.rate_bytes_per_s:
        where += f", the slowest link at {format_rate(slowest)}"
    if link.shared_host_rate_bytes_per_s is not None:
        where += f", sharing {format_rate(link.shared_host_rate_bytes_per_s)} of one host"
    return (
        f"{who}: predicted {format_seconds(predictions[chosen])} for {format_bytes(size_bytes)} to {nodes} "
        f"{where}, {link.origin} ({told}), {cut}"
    )
