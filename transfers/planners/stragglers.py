"""Which nodes, and which streams between them, are slow: by what they hold and by their block times.

Owns the evidence. Must not know what is done about it (`transfers.planners.stripes`).

Theory of operation. A stream is a receiver's taking of one stripe from its sender. Whole blocks are asked for
and sent, so the time from a block's header to its last byte is that of the link between the two and of
whatever else its ports do, however late the sender got the block itself. A receiver to which every sender
takes long is slow. A single stream that takes long and falls behind what its sender holds lags. What is
overdue counts as if it had come just now. A few blocks that are late by less than a busy host is prove
nothing; many of them in a row do. Nothing is said before a quarter of all streams have shown what is usual.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from transfers.ids import NodeName
from transfers.planners.base import BroadcastPlanner, Member
from transfers.planners.events import REPORT_INTERVAL_S, TICK_INTERVAL_S, Stored, report_interval_s

LAG_BLOCKS, LAG_S = 3, 1.0
"""How far a stream whose blocks take long may fall behind its sender: so many blocks of a stripe (one is on
its way, one is being reported), and what usually comes in so many seconds (two TCP streams that leave by one
port differ by half a second's worth for a while, and catch up: seen on emulated hosts with bbr)."""

NEWS_S = 0.15
"""How old what a planner knows may be (a guess: half as much again as what it has to tolerate by design)."""

STALL_S, STALL_FACTOR = 1.0, 4.0
"""A stream stands still when it brings nothing for so long, and for so many times as long as a block usually
takes (guesses: a lost packet on a busy host costs most of a second; and a straggler among block times)."""

HASTY_FACTOR, HASTY_AFTER_BLOCKS = 2.5, 2
"""A node is slow if its blocks, from every sender, take so many times as long as blocks usually do, once each
has sent so many. Above 2, since a stream that has a port to itself at first is twice as fast as later."""

RASH_FACTOR, RASH_S = 3.5, 0.1
"""The same when a sender has sent one block only, and so much longer in any case (guesses: a fifth of the
rate is to show in the first block, half of it need not; and twice the noise)."""

SURE_FACTOR, SURE_AFTER_BLOCKS = 1.7, 8
"""The same with more evidence (a guess: two streams that share a port unevenly, five to three, stay
below)."""

NOISE_S = 0.05
"""And so much longer in any case: a busy host may leave a process waiting for that long (seen with 17
processes on 2 cores)."""

STEADY_S = 0.5
"""Blocks that took so long in all show without `NOISE_S` what a stream takes (a guess: a process that is left
waiting finds its next blocks there already, so that the mean is right; ten times the noise)."""

USUAL_QUANTILE = 0.45
"""Share of all streams that may be faster than what is called usual (a guess: a little below the median, for
slow nodes and their children are never on the fast side)."""

VERY_FEW, VERY_FEW_QUANTILE = 4, 0.25
"""Among so few receivers one that is slow, and its children, are half of all streams or more."""

RECOVERED_FACTOR = 1.25
"""A slow node has recovered when its blocks take no longer than so many times the usual (a guess)."""

MOST_HASTY = 0.25
"""When more receivers than this share would be slow because blocks are overdue, or by a single block, the
news is late or everyone has been held up (a guess)."""

BLOCK_SHARE = 0.3
"""Weight of the newest block in a stream's running mean of block times (a guess: the last three count)."""


@dataclass(slots=True)
class _Stream:
    """One receiver's taking of one stripe: what it had from ``sender`` when last looked at, and block times:
    ``block_s`` is the running mean, ``steady_s`` that of the last blocks that took `STEADY_S` in all; whether
    they took ``long`` when last judged."""

    sender: NodeName
    count: int
    least_gap: int
    hungry_since_s: float | None = None
    block_s: float = 0.0
    timed: int = 0
    steady_s: float = 0.0
    long: bool = False
    _sum_s: float = 0.0
    _summed: int = 0

    def note(self, seconds: float) -> None:
        """A block took so long."""
        share = BLOCK_SHARE if self.timed else 1.0
        self.block_s += share * (seconds - self.block_s)
        self.timed += 1
        self._sum_s += seconds
        self._summed += 1
        if self._sum_s >= STEADY_S:
            self.steady_s = self._sum_s / self._summed
            self._sum_s, self._summed = 0.0, 0

    def reset(self) -> None:
        """Begin anew to time blocks."""
        self.timed, self.steady_s, self._sum_s, self._summed = 0, 0.0, 0.0, 0

    def seems_s(self, now: float, news_s: float) -> float:
        """How long a block takes: as the last did, or as long as the next is overdue already."""
        overdue_s = 0.0 if self.hungry_since_s is None else now - self.hungry_since_s - news_s
        return max(self.block_s, overdue_s)

    def takes_long(self, seems_s: float, due_s: float) -> bool:
        """Whether blocks take longer than they should, judged by how many were timed, or one overdue."""
        if self.timed >= SURE_AFTER_BLOCKS and min(self.steady_s, self.block_s) > SURE_FACTOR * due_s:
            return True  # both: what was due may have changed since
        least_s = due_s + NOISE_S
        if self.timed >= SURE_AFTER_BLOCKS:
            least_s = max(least_s, SURE_FACTOR * due_s)
        elif self.timed >= HASTY_AFTER_BLOCKS or seems_s > self.block_s:
            least_s = max(least_s, HASTY_FACTOR * due_s)
        else:
            least_s = max(due_s + RASH_S, RASH_FACTOR * due_s)
        return seems_s > least_s

    def stands_still(self, now: float, usual_s: float) -> bool:
        """Whether nothing has come for very long, while there is more."""
        waited_s = 0.0 if self.hungry_since_s is None else now - self.hungry_since_s
        return waited_s > max(STALL_S, STALL_FACTOR * usual_s)


class Stragglers:
    """What is known of the streams of one broadcast.

    Args:
        planner: whose members follow each other.
        block_s: what a block takes over a usual link, as far as that is believed; else 0.
    """

    def __init__(self, planner: BroadcastPlanner, block_s: float = 0.0) -> None:
        self._planner = planner
        self._block_s = block_s
        self._streams: dict[tuple[NodeName, int], _Stream] = {}
        self._judged_at_s = 0.0
        self._news_s = NEWS_S

    def note_stored(self, member: Member, records: Iterable[Stored]) -> None:
        """Take in how long blocks of streams took."""
        for record in records:
            stripe = record.block % self._planner.stripes
            if record.seconds > 0 and member.follows.get(stripe) == record.source:
                stream = self._stream(member, stripe, record.source)
                stream.note(record.seconds)

    def judge(
        self,
        loads: Mapping[NodeName, float],
        usual_s: float,
        known: Container[NodeName],
        now: float,
        carrying: bool = False,
    ) -> tuple[dict[NodeName, float], list[tuple[NodeName, int]]]:
        """Who is slow, and which streams lag.

        Args:
            loads: streams that each node gives.
            usual_s: of a block, see `usual_block_s`.
            known: who is known to be slow; nothing more is said of those.
            now: seconds.
            carrying: whether one tree brings blocks of another, which makes all block times longer; then only
                what stands still counts.

        Returns:
            Slow nodes, each with about what share of the usual it takes; and single streams, by receiver and
            stripe, of receivers that are not slow.
        """
        gathered_s = report_interval_s(len(self._planner.members))
        self._news_s = NEWS_S + gathered_s - REPORT_INTERVAL_S
        self._excuse_pause(now, max(TICK_INTERVAL_S, gathered_s + TICK_INTERVAL_S / 2))
        slow: dict[NodeName, float] = {}
        hasty: list[NodeName] = []
        lagging: list[tuple[NodeName, int]] = []
        receivers = 0
        for member in self._planner.receivers():
            receivers += 1
            if member.suspected or member.holds.complete or not usual_s:
                continue
            long, behind, still, fine = self._look_at_all(member, loads, usual_s, now)
            if member.name in known:
                continue
            if carrying:
                lagging += [(member.name, stripe) for stripe in still]
                continue
            if long and len(long) == len(member.follows) and len(set(member.follows.values())) > 1:
                slow[member.name] = usual_s / max(long.values())
                streams = [(self._streams[member.name, stripe], seems_s) for stripe, seems_s in long.items()]
                if any(one.block_s < seems_s or one.timed < HASTY_AFTER_BLOCKS for one, seems_s in streams):
                    hasty.append(member.name)
            elif fine:  # else it may be slow itself: wait and see
                lagging += [(member.name, stripe) for stripe in behind]
        if len(hasty) > max(1, receivers * MOST_HASTY):
            for name in hasty:  # rather the news is late
                del slow[name]
        return slow, lagging

    def takes_long(self, name: NodeName, stripe: int) -> bool:
        """Whether the blocks of a stream took long when it was last judged."""
        stream = self._streams.get((name, stripe))
        return stream is not None and stream.long

    def recovered(
        self, known: Iterable[NodeName], loads: Mapping[NodeName, float], usual_s: float
    ) -> list[NodeName]:
        """Who was slow and is so no longer: all its blocks have taken about as long as usual for a while."""
        found = []
        for name in known:
            member = self._planner.members.get(name)
            if member is None or not usual_s or len(member.follows) < self._planner.stripes:
                continue
            streams = [self._stream(member, stripe, sender) for stripe, sender in member.follows.items()]
            if all(
                stream.timed >= SURE_AFTER_BLOCKS
                and stream.block_s <= RECOVERED_FACTOR * usual_s * max(1.0, loads.get(stream.sender, 1.0))
                for stream in streams
            ):
                found.append(name)
        return found

    def _look_at_all(
        self, member: Member, loads: Mapping[NodeName, float], usual_s: float, now: float
    ) -> tuple[dict[int, float], list[int], list[int], bool]:
        """Of one receiver: streams whose blocks take long, and how long; which of them lag; which of those
        stand still; whether one is well."""
        long: dict[int, float] = {}
        behind: list[int] = []
        still: list[int] = []
        fine = False
        for stripe, sender in member.follows.items():
            stream = self._stream(member, stripe, sender)
            gap = self._look_at(stream, member, stripe, now)
            due_s = usual_s * max(1.0, loads.get(sender, 1.0))
            seems_s = stream.seems_s(now, self._news_s)
            # A link between racks may be slow, and no other way is better.
            apart = self._planner.far(member.name, sender) > 0
            stream.long = stream.takes_long(seems_s, due_s) and (not apart or stream.stands_still(now, due_s))
            if not stream.long:
                fine = fine or stream.timed >= HASTY_AFTER_BLOCKS
                continue
            long[stripe] = seems_s
            lag = max(LAG_BLOCKS, LAG_S / due_s)
            if stream.stands_still(now, due_s):
                still.append(stripe)
            if gap - stream.least_gap >= lag or stripe in still:
                behind.append(stripe)
        return long, behind, still, fine

    def _excuse_pause(self, now: float, usual_s: float) -> None:
        """Whoever plans was away: what came meanwhile is not known yet, and nothing is overdue for that."""
        late_s = now - self._judged_at_s - usual_s
        if self._judged_at_s and late_s > TICK_INTERVAL_S:
            for stream in self._streams.values():
                if stream.hungry_since_s is not None:
                    stream.hungry_since_s += late_s
        self._judged_at_s = now

    def reset(self, name: NodeName) -> None:
        """Begin anew to time the blocks of a node."""
        for stripe in range(self._planner.stripes):
            stream = self._streams.get((name, stripe))
            if stream is not None:
                stream.reset()

    def forget(self, name: NodeName) -> None:
        """A node is gone."""
        for stripe in range(self._planner.stripes):
            self._streams.pop((name, stripe), None)

    def _stream(self, member: Member, stripe: int, sender: NodeName) -> _Stream:
        stream = self._streams.get((member.name, stripe))
        if stream is None or stream.sender != sender:
            count = self._count(member, stripe)
            gap = self._count(self._planner.members[sender], stripe) - count
            stream = self._streams[member.name, stripe] = _Stream(sender, count, gap)
        return stream

    def _count(self, member: Member, stripe: int) -> int:
        return member.holds.count_in(stripe, self._planner.stripes)

    def _look_at(self, stream: _Stream, member: Member, stripe: int, now: float) -> int:
        """By how many blocks a stream is behind its sender. The source held everything from the start."""
        count = self._count(member, stripe)
        gap = max(0, self._count(self._planner.members[stream.sender], stripe) - count)
        if gap == 0:
            stream.hungry_since_s = None
        elif count > stream.count or stream.hungry_since_s is None:
            stream.hungry_since_s = now
        stream.count = count
        stream.least_gap = min(stream.least_gap, gap)
        return gap

    def usual_block_s(self, loads: Mapping[NodeName, float]) -> float:
        """How long a block takes where its sender gives no other stream; 0 while too few have shown.

        Of all streams the one at `USUAL_QUANTILE`: a slow node makes the streams of its children slow too.
        (The median of each receiver's faster stream was tried. Where two share a port unevenly, or a reader
        is late, that is a third less than usual; on 30 emulated hosts ten were taken for slow in a minute.)

        Never less than what a link is believed to need: a port that rests between blocks sends most of each
        out of a full bucket, and beside such streams those that share the source's port look slow. (So, on 30
        emulated hosts of 20 Mbit/s, every second broadcast lost a root at its start, and one in four took 1.2
        to 1.7 x S/W; with this eleven in a row took 1.035 to 1.05.)
        """
        receivers: dict[NodeName, None] = {}
        units: list[float] = []
        for (name, _), stream in self._streams.items():
            if stream.timed:
                receivers[name] = None
                units.append(stream.block_s / max(1.0, loads.get(stream.sender, 1.0)))
        if 4 * len(receivers) <= sum(1 for _ in self._planner.receivers()):
            return 0.0
        quantile = USUAL_QUANTILE if len(receivers) > VERY_FEW else VERY_FEW_QUANTILE
        return max(self._block_s, sorted(units)[int(quantile * (len(units) - 1))])
