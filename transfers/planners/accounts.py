"""What Cornet's swarm keeps account of: blocks and asks of each node, and copies of each block.

Owns the counting. Must not know whom anybody is to ask (`transfers.planners.cornet`), nor what the stripes
bring. Sets of blocks are bits of integers here, because the planner looks at every node's on every event.
"""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from transfers.ids import BlockIndex, NodeName
from transfers.planners.base import Member
from transfers.planners.racks import Rack


@dataclass(slots=True)
class Peer:
    """One member's accounts, as bits and counts.

    Attributes:
        rack: None where it is not known, or where all are equally near.
        holds, open: blocks that it holds, and that it has been told to ask for.
        strays: failed on a stripe.
        swarmed: no stripe brings them.
        late: idle nodes are to bring them sooner than a stripe.
        carried: of ``open``, those asked for on the tree of another stripe; they are not in ``asks_in``.
        asks_in, asks_out: how many of its asks are open at each node, and how many of each node's at it.
        met: how many asks it has had open at each node so far.
        asked_at_s: when each of ``open`` was asked for.
        moves: how often the ask for a block was moved because it was late.
        ended: the ask that ended last, with when, and when it was made.
    """

    member: Member
    rack: Rack | None = None
    holds: int = 0
    open: int = 0
    strays: int = 0
    swarmed: int = 0
    late: int = 0
    carried: int = 0
    asks_in: dict[NodeName, int] = field(default_factory=dict)
    asks_out: dict[NodeName, int] = field(default_factory=dict)
    met: Counter[NodeName] = field(default_factory=Counter)
    asked_at_s: dict[BlockIndex, float] = field(default_factory=dict)
    moves: dict[BlockIndex, int] = field(default_factory=dict)
    ended: tuple[BlockIndex, float, float] | None = None

    @property
    def lacks(self) -> int:
        """Blocks for the swarm to bring that have not been asked for."""
        return (self.swarmed | self.late) & ~(self.holds | self.open)

    @property
    def hungers(self) -> bool:
        """Whether it wants blocks that the swarm is to bring, asked for or not."""
        return self.member.wants and bool((self.swarmed | self.late) & ~self.holds)

    @property
    def progress(self) -> int:
        """Blocks that it holds or has asked for, otherwise than by following."""
        return len(self.member.holds) + len(self.member.asked)

    def note_ask(self, block: BlockIndex, other: "Peer", carried: bool, now: float) -> None:
        """It asks another for a block, which is ``carried`` where it counts as part of a stream."""
        self.open |= 1 << block
        self.asked_at_s[block] = now
        if carried:
            self.carried |= 1 << block
            return
        name = other.member.name
        self.met[name] += 1
        self.asks_in[name] = other.asks_out[self.member.name] = self.asks_in.get(name, 0) + 1

    def note_unask(self, block: BlockIndex, other: "Peer", now: float) -> bool:
        """Its ask at another is open no longer; whether that was the last one there."""
        self.open &= ~(1 << block)
        asked_at_s = self.asked_at_s.pop(block)
        if self.carried >> block & 1:
            self.carried &= ~(1 << block)
            return False
        self.ended = block, now, asked_at_s
        name = other.member.name
        left = self.asks_in[name] - 1
        if left:
            self.asks_in[name] = other.asks_out[self.member.name] = left
            return False
        del self.asks_in[name], other.asks_out[self.member.name]
        return True

    def took_s(self, block: BlockIndex, now: float) -> float | None:
        """How long a block that is stored ``now`` has taken since it was asked for; None if it was not."""
        if self.ended is None or self.ended[:2] != (block, now):
            return None
        return now - self.ended[2]


class Copies:
    """How many nodes hold each block or have asked for it; at first one, the source.

    Args:
        block_count: blocks of the object.
    """

    def __init__(self, block_count: int) -> None:
        self._count = [1] * block_count
        self._by_count = [0, (1 << block_count) - 1]

    @property
    def single(self) -> int:
        """Blocks with one copy: while the source is there, what nobody else holds or has asked for."""
        return self._by_count[1]

    def change(self, block: BlockIndex, by: int) -> None:
        """A block has one more or one less that holds it or has asked for it."""
        before = self._count[block]
        after = self._count[block] = before + by
        bit = 1 << block
        self._by_count[before] &= ~bit
        if after == len(self._by_count):
            self._by_count.append(0)
        self._by_count[after] |= bit

    def rarest(self, among: int, rng: Random) -> BlockIndex:
        """One of the blocks in a non-empty set with fewest copies, by lot."""
        fewest = next(level & among for level in self._by_count if level & among)
        if fewest & (fewest - 1):
            start = rng.randrange(len(self._count))
            fewest = (fewest >> start << start) or fewest
        return BlockIndex((fewest & -fewest).bit_length() - 1)
