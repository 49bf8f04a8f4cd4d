"""Broadcast as one would through HDFS: write R replicas of each block, read the rest from them.

Owns where replicas are placed and who reads where. Must not know sockets, clocks, or how blocks travel.

Theory of operation. Each block gets R distinct receivers, drawn block by block over all of them, as HDFS
does. It is written through a pipeline: the source sends to the first replica, that one to the second, and
so on; a later replica asks the one before it at once and is answered when that holds the block. A block
is *written* when all its replicas hold it. From then on all others read it from them, in block order,
`READ_WINDOW` asks open, each time from the replica with the fewest asks open.

Writing starts at the first tick after a receiver has joined, so that those who join together are all
drawn from. Where racks are known, pipelines go from rack to rack in the order in which blocks pass them, and
who has a mate that holds a block, or has asked for it, reads it there. A lost replica is replaced: by any
receiver while the block is being written, afterwards by one that has read it already, since the readers are
copying it anyway.
"""

from random import Random

from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners.base import BroadcastPlanner, Member
from transfers.planners.events import BlocksStored, Event, NodeJoined, Tick
from transfers.planners.racks import Racks

WRITE_WINDOW = 4
"""Blocks on their way from the writer to a first replica (a guess: they hide a control delay of 20 ms
where a block takes 5 ms or more)."""

READ_WINDOW = 4
"""Asks for written blocks that a reader has open (a guess: as many as a server has slots)."""


class HdfsPlanner(BroadcastPlanner):
    """Replicas first, readers after (Chowdhury et al. 2011, section 7: R = 3 and R = 10).

    Departs from HDFS in reading each block as soon as it is written, not when the whole file is.

    Raises:
        ValueError: for ``replicas`` below 1.
    """

    def __init__(
        self,
        block_count: int,
        source: NodeName,
        rng: Random,
        replicas: int = 3,
        racks: Racks | None = None,
    ) -> None:
        super().__init__(block_count, source, rng, racks=racks)
        if replicas < 1:
            raise ValueError(f"replicas must be at least 1, got {replicas}")
        self.replica_count = replicas
        self.written = BlockSet(block_count)
        self._unplaced = BlockSet.full(block_count)
        self._replicas: dict[BlockIndex, list[NodeName]] = {}
        self._open: dict[BlockIndex, None] = {}
        self._started = False

    def replicas_of(self, block: BlockIndex) -> tuple[NodeName, ...]:
        """The replicas of a block in the order of its pipeline; none before it is placed."""
        return tuple(self._replicas.get(block, ()))

    def _plan(self, event: Event, now: float) -> None:
        match event:
            case BlocksStored(node=node, records=records):
                for record in records:
                    self._take_written(record.block, now)
                self._write_on(now)
                self._read_on(self.members[node], now)
                return
            case NodeJoined() if not self._started:
                return
            case Tick():
                if not self._started:
                    self._started = any(self.receivers())
                elif not self._unsettled:
                    return
            case _:
                pass
        self._unsettled = False
        self._mend_all(now)
        self._write_on(now)
        for member in self.receivers():
            self._read_on(member, now)

    # -- writing -------------------------------------------------------------------------------

    def _write_on(self, now: float) -> None:
        """Place blocks, lowest first, while the writer has room."""
        if not self._started:
            return
        while self._unplaced and self._writing_first() < WRITE_WINDOW:
            block = next(iter(self._unplaced))
            if not self._place(block):
                return
            self._mend(block, now)

    def _writing_first(self) -> int:
        return sum(block not in self.members[self._replicas[block][0]].holds for block in self._open)

    def _place(self, block: BlockIndex) -> bool:
        """Draw the replicas of a block; holders come first, so that they need not be written to."""
        self._replicas.setdefault(block, [])
        self._draw_replicas(block)
        if not self._replicas[block]:
            return False
        self._unplaced.discard(block)
        self._open[block] = None
        return True

    def _draw_replicas(self, block: BlockIndex) -> None:
        chosen = self._replicas[block]
        pool = [member for member in self.receivers() if not member.suspected and member.name not in chosen]
        wanting = max(0, min(self.replica_count - len(chosen), len(pool)))
        chosen += [member.name for member in self.rng.sample(pool, wanting)]
        chosen.sort(key=lambda name: (block not in self.members[name].holds, self.turn(name)))

    def _mend(self, block: BlockIndex, now: float) -> None:
        """See that every replica that lacks an open block has asked for it, nearest in the pipeline first."""
        chosen = self._replicas[block]
        for place, name in enumerate(chosen):
            member = self.members[name]
            if block in member.holds:
                continue
            at = member.asked.get(block)
            if at is not None and not self.members[at].suspected:
                continue
            upstream = [self.members[before] for before in reversed(chosen[:place])]
            source = next(
                (
                    candidate.name
                    for candidate in upstream
                    if self.usable(member, candidate, now)
                    and not self.exhausted(member, candidate.name)
                    and self.waits_end_at_holder(name, block, candidate.name)
                ),
                None,
            )
            if source is None:
                source = self.pick_source(member, self.holders(block), now, prefer=self.source)
            if source is not None:
                self._fetch(member, block, source)
            elif at is None:
                self._unsettled = True
        self._take_written(block, now)

    def _take_written(self, block: BlockIndex, now: float) -> None:
        """A block whose replicas all hold it is written: readers may have it."""
        if block not in self._open:
            return
        if all(block in self.members[name].holds for name in self._replicas[block]):
            del self._open[block]
            self.written.add(block)
            for member in self.receivers():
                self._read_on(member, now)

    def _mend_all(self, now: float) -> None:
        """After a loss or a failure: replace replicas that cannot serve, and ask again."""
        shorter: list[BlockIndex] = []
        for block, chosen in self._replicas.items():
            fit = [name for name in chosen if self._serves(name, block)]
            if len(fit) < len(chosen):
                chosen[:] = fit
                shorter.append(block)
        for block in shorter:
            if block in self.written:
                self._replace_by_readers(block)
        for block in list(self._open):
            self._draw_replicas(block)
            if self._replicas[block]:
                self._mend(block, now)
        for block in shorter:
            if not self._replicas[block]:
                self.written.discard(block)
                self._open.pop(block, None)
                self._unplaced.add(block)

    def _serves(self, name: NodeName, block: BlockIndex) -> bool:
        member = self.members.get(name)
        if member is None:
            return False
        return block in member.holds or (member.wants and not member.suspected and block in self._open)

    def _replace_by_readers(self, block: BlockIndex) -> None:
        chosen = self._replicas[block]
        readers = [
            member.name
            for member in self.receivers()
            if block in member.holds and not member.suspected and member.name not in chosen
        ]
        wanting = max(0, min(self.replica_count - len(chosen), len(readers)))
        chosen += self.rng.sample(readers, wanting)

    def _near(self, member: Member, block: BlockIndex) -> list[Member]:
        """Where racks are known: whom of its own rack a reader can have a block from, now or once it
        comes."""
        if self.racks is None:
            return []
        mates = [each for each in self.living() if self.racks.together(member.name, each.name)]
        holding = [each for each in mates if block in each.holds and self.usable(member, each, self.now)]
        return holding or [
            each
            for each in mates
            if block in each.asked
            and self.usable(member, each, self.now)
            and self.waits_end_at_holder(member.name, block, each.name)
        ]

    # -- reading -------------------------------------------------------------------------------

    def _read_on(self, member: Member, now: float) -> None:
        """Keep a reader's asks open; a block on a suspected node is asked of another, if there is one."""
        if member.done or member.suspected:
            return
        reading = sum(block in self.written for block in member.asked)
        for block in self.written - member.holds:
            at = member.asked.get(block)
            if at is None:
                if reading >= READ_WINDOW:
                    return
            elif not self.members[at].suspected:
                continue
            replicas = [self.members[name] for name in self._replicas[block]]
            near = self._near(member, block)
            source = self.pick_source(member, near or (each for each in replicas if block in each.holds), now)
            if source is None:
                source = self.pick_source(member, self.holders(block), now)
            if source is not None:
                self._fetch(member, block, source)
                reading += at is None
            elif at is None:
                self._unsettled = True
