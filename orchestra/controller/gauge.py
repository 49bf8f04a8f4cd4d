"""What one broadcast's reports say about the ports its blocks passed.

Owns the accounts of one broadcast: a few figures for each stream (all that one node takes from one source)
and each port. What they mean beyond this broadcast is `orchestra.controller.measured`'s business. Pure.

Theory of operation. A node reports, of each block, the seconds from its header to its last byte, less those
in which the sender had nothing of it to send: time in which bytes flowed as fast as the ports let them.
Reports come late and several at a time, so of each report only the sum of the seconds counts, and a stream's
reports are laid end to end: its place in time is uncertain by the delay of reports, its length is not. A port
is busy while any of its streams flows: the bytes that passed it, by the time it was busy, are the rate it
gave, however many streams shared it. A stream's first block does not count for the rate, because a token
bucket may have let it through at once, unless it is large; how much sooner than the others it came tells the
bucket's depth.

A node that comes late to a block finds part of it in its socket already, and reports too little time; what is
missing stands between that block and the one before. So gaps count as busy too, but for each block's own
overhead, as long as they are short. Where a port was idle for much of the time, its streams had to wait for
blocks, and only the reported seconds count.

A block that takes many times as long as those before it in its stream counts for no more than `SLOW_FACTOR`
of them: that was a sender without a turn on its CPU, or a lost packet's timeout, but not the port's rate.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median

from orchestra.estimate import OVERHEAD_S_PER_BLOCK
from transfers.blocks import BlockLayout
from transfers.ids import BlockIndex, NodeName
from transfers.planners import Mechanism
from transfers.planners.events import Stored, forward_bytes

SLOW_FACTOR = 4.0
"""Times the stream's mean that one block counts for (a guess: above what a port shared by four slots
varies)."""

MORE = 1.25
"""One port has more streams than another from this factor on (a guess: half-way between one and two,
nearly)."""

FAIR_SHARE = 0.8
"""A stream that gets less than this of its port's rate, by the number of streams, is held back at its other
end (a guess: TCP's sharing varies by a tenth over a second)."""

BEGUN_FACTOR = 2.0
"""After so many times what the source's first byte took, all nodes are connected (a guess: their commands
leave together)."""

BUSY_SHARE = 0.4
"""Share of its time from which on a port counts as busy throughout (a guess: on two cores with work for many
more, nodes reported 0.5 to 0.9 of the time that their links of 50 Mbit/s needed; whoever waits for a link of
a fifth reports 0.2. Who waits for one of a half is taken for as slow, until another broadcast shows
better)."""

MIN_WAITS = 4
"""Of nodes that were connected, before those of others are left out (a guess: reports vary by 20 ms)."""

MIN_BLOCKS = 4
"""Of a stream, beside the first, before its usual block is known (a guess: one in four may be odd)."""

LEAST_S = 1e-6
"""Shorter times for a block are none: no link is so fast, and clocks that count from long ago cannot add them
up."""

TELLING_BYTES = 256 << 10
"""Of a stream, before it says something about rates; and of a first block, before it counts (a guess: several
times the buckets that shapers are given, of one packet as hosts hand it to their cards, 64 KiB)."""


@dataclass(slots=True)
class Stream:
    """What one node has taken from one source.

    Attributes:
        first: the block that came first, of ``first_bytes`` in ``first_s`` seconds; its last byte was
            reported at ``first_at_s``.
        blocks, moved_bytes, seconds: of all others, and of that one if it was large.
        last_at_s: when the last one was reported.
        placed_s: end of its time, as laid end to end.
    """

    first: BlockIndex
    first_bytes: int
    first_s: float
    first_at_s: float
    last_at_s: float
    placed_s: float
    blocks: int = 0
    moved_bytes: int = 0
    seconds: float = 0.0

    @property
    def told(self) -> bool:
        """Whether enough has passed to say something."""
        return self.moved_bytes >= TELLING_BYTES and self.seconds > 0

    @property
    def rate_bytes_per_s(self) -> float:
        """While its blocks flowed."""
        return self.moved_bytes / self.seconds


@dataclass(slots=True)
class PortUse:
    """What has passed one direction of one node's link.

    Attributes:
        moved_bytes, blocks: without the first block of each stream, if that was small.
        busy_s: time in which any stream flowed.
        stream_s: the sum over all streams.
        since_s, until_s: beginning of the first time in which it was busy, and end of the last.
    """

    moved_bytes: int = 0
    blocks: int = 0
    busy_s: float = 0.0
    stream_s: float = 0.0
    since_s: float = math.inf
    until_s: float = 0.0

    @property
    def rate_bytes_per_s(self) -> float:
        """While it was busy, all gaps included where they are short."""
        span_s = self.until_s - self.since_s
        if self.busy_s < BUSY_SHARE * span_s:
            return self.moved_bytes / self.busy_s
        return self.moved_bytes / max(self.busy_s, span_s - self.blocks * OVERHEAD_S_PER_BLOCK)

    @property
    def flowing_bytes_per_s(self) -> float:
        """While bytes flowed as nodes reported it: the most that its rate may have been."""
        return self.moved_bytes / self.busy_s

    @property
    def streams(self) -> float:
        """How many flowed at once, on average, while it was busy."""
        return self.stream_s / self.busy_s

    def pass_through(self, moved_bytes: int, blocks: int, begins_s: float, seconds: float) -> None:
        """Some blocks of a stream have passed."""
        ends_s = begins_s + seconds
        self.since_s = min(self.since_s, begins_s)
        self.moved_bytes += moved_bytes
        self.blocks += blocks
        self.stream_s += seconds
        if ends_s > self.until_s:
            self.busy_s += ends_s - max(begins_s, self.until_s)
            self.until_s = ends_s


@dataclass(frozen=True, slots=True)
class StreamVerdict:
    """Which link held a stream back: the one that more streams shared, or both where that is equal; but if
    the stream got less than its share of one, then the other.

    Attributes:
        to, source: its ends.
        seconds: how long its bytes flowed.
        sender_full, receiver_full: whether it was that end's.
    """

    to: NodeName
    source: NodeName
    seconds: float
    sender_full: bool
    receiver_full: bool


@dataclass(slots=True)
class Gauge:
    """The accounts of one broadcast.

    Args:
        source: its source.
        layout: how the object is cut.
        accepted_at_s: when its clock began.
        mechanism: by which it goes.

    Attributes:
        streams: by receiver and sender.
        ingress, egress: by node.
        whole: all of them together.
    """

    source: NodeName
    layout: BlockLayout
    accepted_at_s: float
    mechanism: Mechanism
    streams: dict[tuple[NodeName, NodeName], Stream] = field(default_factory=dict)
    ingress: dict[NodeName, PortUse] = field(default_factory=dict)
    egress: dict[NodeName, PortUse] = field(default_factory=dict)
    whole: PortUse = field(default_factory=PortUse)
    _first_at_s: dict[tuple[NodeName, BlockIndex], float] = field(default_factory=dict)

    @property
    def standing(self) -> bool:
        """Whether nodes follow each other; else they wait for a command before each block."""
        return self.mechanism is not Mechanism.HDFS

    def note(self, node: NodeName, records: Iterable[Stored], now: float) -> None:
        """Take in a report of blocks that exist."""
        by_source: dict[NodeName, list[Stored]] = {}
        for record in records:
            if record.seconds >= LEAST_S:  # those of no time were here already, and are reported again
                by_source.setdefault(record.source, []).append(record)
        for source, taken in by_source.items():
            self._note_stream(node, source, taken, now)

    def _note_stream(self, node: NodeName, source: NodeName, records: list[Stored], now: float) -> None:
        longest_s = now - self.accepted_at_s  # nodes are not trusted to tell the time
        stream = self.streams.get((node, source))
        if stream is None:
            stream = self._begin(node, source, records, now)
            if stream.first_bytes < TELLING_BYTES:
                records = records[1:]
        moved_bytes, seconds = 0, 0.0
        for record in records:
            block_s = min(record.seconds, longest_s)
            if stream.blocks >= MIN_BLOCKS:
                block_s = min(block_s, SLOW_FACTOR * stream.seconds / stream.blocks)
            block_bytes = self.layout.length(record.block)
            moved_bytes += block_bytes
            seconds += block_s
            stream.blocks += 1
            stream.moved_bytes += block_bytes
            stream.seconds += block_s
        stream.last_at_s = now
        if not seconds:
            return
        begins_s = max(stream.placed_s, now - seconds)
        stream.placed_s = begins_s + seconds
        for port in (
            self.ingress.setdefault(node, PortUse()),
            self.egress.setdefault(source, PortUse()),
            self.whole,
        ):
            port.pass_through(moved_bytes, len(records), begins_s, seconds)

    def _begin(self, node: NodeName, source: NodeName, records: list[Stored], now: float) -> Stream:
        first, *others = records
        longest_s = now - self.accepted_at_s
        others_s = sum(min(record.seconds, longest_s) for record in others)
        at_s = max(self.accepted_at_s, now - others_s)
        self._first_at_s.setdefault((node, first.block), at_s)
        first_s = min(first.seconds, at_s - self.accepted_at_s)
        stream = Stream(first.block, self.layout.length(first.block), first_s, at_s, now, at_s)
        self.streams[node, source] = stream
        return stream

    # -- what it says --------------------------------------------------------------------------

    def start_s(self) -> float | None:
        """From acceptance to the source's first bytes, the way of the first report included."""
        fed = [stream for (_, sender), stream in self.streams.items() if sender == self.source]
        waits = [stream.first_at_s - stream.first_s - self.accepted_at_s for stream in fed]
        return max(0.0, min(waits)) if waits and self.standing else None

    def latency_s(self) -> float | None:
        """What the handing-on of a block takes besides its bytes: the median over first blocks.

        A block that the sender had comes later than there by this and by its own time; one that was passed on
        while it arrived, by this and by the time of a part. Where the sender had it early, the receiver's
        connection may not have been there yet; such waits count only where there are hardly any others.
        """
        start_s = self.start_s()
        if start_s is None:
            return None
        all_begun_s = self.accepted_at_s + BEGUN_FACTOR * start_s
        waits, late = [], []
        for (_, sender), stream in self.streams.items():
            before_s = self._first_at_s.get((sender, stream.first))
            if sender != self.source and before_s is not None and stream.first_s > 0:
                behind_s = stream.first_at_s - before_s
                if behind_s < stream.first_s:  # passed on while it arrived
                    part_bytes = forward_bytes(stream.first_bytes, stream.first_bytes / stream.first_s)
                    waits.append(max(0.0, behind_s - stream.first_s * part_bytes / stream.first_bytes))
                else:
                    waits.append(behind_s - stream.first_s)
                if before_s >= all_begun_s:
                    late.append(waits[-1])
        counted = late if len(late) >= MIN_WAITS else waits
        return max(0.0, median(counted)) if counted else None

    def burst_bytes(self) -> float | None:
        """What ports let through before their rate held: the mean over what the source's streams say.

        Blocks that others pass on while they arrive say too much: buckets fill again between their parts.
        """
        depths = []
        for (node, sender), stream in self.streams.items():
            if sender == self.source and stream.told and stream.blocks >= MIN_BLOCKS:
                shared = max(1.0, self.ingress[node].streams, self.egress[sender].streams)
                ahead = stream.first_bytes - stream.first_s * stream.rate_bytes_per_s
                depths.append(min(max(ahead, 0.0), stream.first_bytes) * shared)
        return sum(depths) / len(depths) if depths and self.standing else None

    def verdicts(self) -> Iterator[StreamVerdict]:
        """Which end held each stream back."""
        for (to, source), stream in self.streams.items():
            if not stream.told:
                continue
            out, into = self.egress[source], self.ingress[to]
            slow_in = stream.rate_bytes_per_s < FAIR_SHARE * out.rate_bytes_per_s / out.streams
            slow_out = stream.rate_bytes_per_s < FAIR_SHARE * into.rate_bytes_per_s / into.streams
            if slow_in == slow_out:
                sender = out.streams * MORE >= into.streams
                receiver = into.streams * MORE >= out.streams
            else:
                sender, receiver = slow_out, slow_in
            yield StreamVerdict(to, source, stream.seconds, sender, receiver)
