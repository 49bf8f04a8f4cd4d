"""Standing stripes: what brings a broadcast's blocks while all links are about alike.

Owns the overlay of each stripe, and who is too slow to stand in its way. Must not know what becomes of blocks
that no stripe brings: that is the swarm's business (`transfers.planners.cornet`).

Theory of operation. Blocks are dealt into K stripes, and for each there is a tree of degree K over all
receivers, in which one of K nodes is inner and the others are leaves, each in another stripe
(interior-disjoint trees: Castro et al., SplitStream, SOSP 2003). So every node takes K streams and gives K
streams, and every port is full in both directions with a handful of commands. A block that crosses the tree
costs K block times a hop, which is least for K from 2 to 4; two streams share a port most evenly.

The trees are mended when nodes come and go (`transfers.planners.overlay`): the place with least children over
all stripes is taken, then the one nearest the source. Who is slow (`transfers.planners.stragglers`), or makes
two receivers lag, loses its children and stays a leaf, away from the source, where the others leave room: a
stream to it as one of three at a port slows the other two. Another stream that lags is moved, a few times.
When a slow node recovers, streams go from those who give too many to where there is room again. When a
quarter of all are slow, links are not alike, and the stripes are given up.

TCP need not share the source's port evenly between the roots of the trees, so these ask in step with their
children, where they have two, and what one cannot pass on the other gets. Near the end a stripe that is late
has some of its blocks brought by another's tree (`transfers.planners.carrying`).

In the end, who has all of one stripe and lacks blocks of another may have those from nodes that are idle.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from transfers.blocks import stripe_bits
from transfers.ids import NodeName
from transfers.planners.base import BroadcastPlanner, Member
from transfers.planners.carrying import Carrying
from transfers.planners.events import LOOK_AHEAD, Stored
from transfers.planners.overlay import Hanging
from transfers.planners.racks import plan_trees
from transfers.planners.stragglers import NOISE_S, Stragglers

STRIPES = 2
"""Trees of a broadcast (measured in simulation, 16 x 122 blocks of 42 ms and 100 x 256 of 45 ms: two 1.076
and 1.053 x S/W, three 1.105 and 1.061, four 1.102 and 1.072)."""

MOST_CHILDREN = 2 * STRIPES
"""Streams that a node gives, over all stripes; twice what it takes (a guess: for repairs, not for the
plan)."""

LATE_BLOCKS = 4 * LOOK_AHEAD
"""Of a stripe, that a child may have less than its parent and still count (a guess: twice what lies between
two who are in step)."""

LEAST_IN_STEP = 2
"""Children that count, with which a node keeps step: to a single one it passes on all that it can take, and
nothing is lost if it takes more than its share (simulated, two receivers, each the other's child: 1.02 x S/W
both ways; with one at 0.7 of the rate and short blocks the other takes 1.43 in step, and else 1.19)."""

MAX_MOVES = 3
"""How often the stream of one receiver and stripe is moved because it lags (a guess); it bounds the steps."""

TAIL_BLOCKS = 5
"""Blocks of a stripe that must be missing before idle nodes help (a guess: more than stripes differ by when
all is well)."""

REST_S = 2.0
"""How long a receiver that was moved does not come back to the same sender (a guess: many block times)."""

FEW_NODES = 100
"""Up to so many nodes the stripes are given up when very many are slow; of more a swarm costs too much (a
guess)."""

MOST_SLOW = 0.25
"""Share of receivers that may be slow before stripes are given up (a guess)."""


@dataclass(slots=True)
class Stripes:
    """The standing plan of one broadcast.

    Args:
        planner: whose members are to follow each other; has `STRIPES` stripes.
        block_s: what a block takes over a usual link, as far as that is believed; else 0.

    Attributes:
        standing: whether there is a plan.
        children: streams that each node has to give still, over all stripes.
        entering: blocks as bits, of stripes that someone follows at the source.
        carrying: blocks that another stripe's tree brings.
    """

    planner: BroadcastPlanner
    block_s: float = 0.0
    standing: bool = False
    children: dict[NodeName, float] = field(default_factory=dict)
    entering: int = 0
    carrying: Carrying = field(init=False)
    _parents: dict[tuple[NodeName, int], NodeName] = field(default_factory=dict)
    _stragglers: Stragglers = field(init=False)
    _moves: dict[tuple[NodeName, int], int] = field(default_factory=dict)
    _complaints: dict[NodeName, dict[NodeName, None]] = field(default_factory=dict)
    _doubted: dict[NodeName, None] = field(default_factory=dict)
    _slow: dict[NodeName, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stragglers = Stragglers(self.planner, self.block_s)
        self.carrying = Carrying(self.planner)

    def bits(self, stripe: int) -> int:
        """Blocks of a stripe."""
        return stripe_bits(self.planner.block_count, stripe, self.planner.stripes)

    # -- the plan --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Plan for all receivers that are there. Later ones are hung where there is room."""
        planner = self.planner
        if planner.source not in planner.members:
            self.give_up()
            return
        self.standing = True
        receivers = [member for member in planner.receivers() if not (member.done or member.suspected)]
        if planner.racks is not None:
            names = [member.name for member in receivers]
            for stripe, tree in enumerate(plan_trees(planner.source, names, planner.racks, planner.stripes)):
                for name, parent in tree.items():
                    planner._follow(planner.members[name], parent, stripe)
            return
        for stripe in range(planner.stripes):
            inner = receivers[stripe :: planner.stripes]
            leaves = [member for at, member in enumerate(receivers) if at % planner.stripes != stripe]
            order = inner + leaves
            for at, member in enumerate(order):
                parent = order[(at - 1) // planner.stripes].name if at else planner.source
                planner._follow(member, parent, stripe)

    def mend(self) -> None:
        """Hang whoever follows nobody in some stripe; gives up if there is no source any more."""
        if not self.standing:
            return
        planner = self.planner
        self.carrying.end()
        if planner.source not in planner.members:
            self.give_up()
            return
        if self._many_slow():
            if len(planner.members) <= FEW_NODES:
                self.give_up()
                return
            self._slow.clear()
            self._complaints.clear()
        for stripe in range(planner.stripes):
            self._mend_stripe(stripe, but=self._slow)
        if self._slow:  # those take what places are left, and make do with a small share of a port
            for stripe in range(planner.stripes):
                self._mend_stripe(stripe)
        self.children = self._loads()
        self.entering = 0
        self._parents = {}
        for member in planner.living():
            for stripe, parent in member.follows.items():
                self._parents[member.name, stripe] = parent
                if parent == planner.source:
                    self.entering |= self.bits(stripe)

    def give_up(self) -> None:
        """Nobody is to follow anybody any more, for good."""
        self.standing = False
        for member in self.planner.living():
            for stripe in range(self.planner.stripes):
                if stripe in member.follows or (member.name, stripe) in self._parents:
                    self.planner._follow(member, None, stripe)
        self.children, self.entering, self._parents = {}, 0, {}

    def _mend_stripe(self, stripe: int, but: Container[NodeName] = ()) -> None:
        """Hang who is loose in one stripe, ``but`` some."""
        planner = self.planner
        full = [planner.members[planner.source]]
        full += [member for member in planner.living() if not self._lacking(member, stripe)]
        elsewhere = self._loads(but=stripe)
        # Who has room itself is hung first, so that others can be hung there.
        overlay = {member.name: member for member in full}
        overlay |= {
            member.name: member
            for member in sorted(planner.receivers(), key=lambda member: self._turn(member, elsewhere))
            if stripe in member.follows or member.name not in but
        }

        def load(hanging: Hanging, name: NodeName) -> float:
            return elsewhere.get(name, 0.0) + sum(
                self._slow.get(child, 1.0) for child in hanging.children[name]
            )

        def rank(
            hanging: Hanging, member: Member, parent: Member
        ) -> tuple[bool, int, bool, int, bool, float, int] | None:
            name = parent.name
            here = len(hanging.children[name])
            streams = load(hanging, name)
            if streams >= MOST_CHILDREN or name in self._slow or parent is member:
                return None
            stays = name == self._parents.get((member.name, stripe))
            usable = planner.usable(member, parent, planner.now)
            if not usable and not (stays and member.suspected):
                return None
            moves = not (stays and member.suspected)
            # Every block leaves the source once, if it can, and not to somebody slow.
            again = name == planner.source and (here >= 1 or member.name in self._slow)
            far = planner.far(member.name, name)
            return not usable, member.failures.get(name, 0), moves, far, again, streams, hanging.depth[name]

        def crowded(hanging: Hanging, name: NodeName) -> bool:
            return name in self._slow or load(hanging, name) + 1 > planner.stripes

        hanging = Hanging(planner, [member.name for member in full], overlay, stripe, keep_leaves=True)
        hanging.run(rank, crowded)
        for member in hanging.unhung:
            planner._unsettled = True
            if stripe in member.follows or (member.name, stripe) in self._parents:
                planner._follow(member, None, stripe)

    def _turn(self, member: Member, loads: Mapping[NodeName, float]) -> tuple[tuple[int, int], float]:
        """When a loose node is hung: racks above come first, since those below have their blocks from
        there."""
        return self.planner.turn(member.name), loads.get(member.name, 0.0)

    def _loads(self, but: int | None = None, excuse: bool = True) -> dict[NodeName, float]:
        """Streams that each node has to give still, over all stripes or all but one.

        One to who is slow counts less, unless not to be excused.
        """
        loads: dict[NodeName, float] = {}
        for member in self.planner.living():
            for stripe, parent in member.follows.items():
                if stripe != but and self._lacking(member, stripe):
                    weight = self._slow.get(member.name, 1.0) if excuse else 1.0
                    loads[parent] = loads.get(parent, 0.0) + weight
        return loads

    def keep_step(self) -> None:
        """Have whoever follows the source ask in step with its children, where others need the source too.

        A single one is no measure for its parent, nor one that is slow, or far behind because it came late.
        Nor are all of them, where all take long.
        """
        planner, follows = self.planner, dict[tuple[NodeName, int], list[Member]]()
        for member in planner.living() if self.standing else ():
            for stripe, sender in member.follows.items():
                if self._lacking(member, stripe):
                    follows.setdefault((sender, stripe), []).append(member)
        entering = [(stripe, member) for (sender, stripe), found in follows.items()
                    if sender == planner.source for member in found]  # fmt: skip
        in_step = {
            (member.name, stripe)
            for stripe, member in entering
            if any(at != stripe and other is not member for at, other in entering)
            and self._has_step_to_keep(follows.get((member.name, stripe), ()), member, stripe)
        }
        changed, planner._outbox.in_step = sorted(planner._outbox.in_step ^ in_step), in_step
        for name, stripe in changed:
            if name in planner.members and planner.members[name].follows.get(stripe) == planner.source:
                planner._follow(planner.members[name], planner.source, stripe)

    def _has_step_to_keep(self, children: Iterable[Member], parent: Member, stripe: int) -> bool:
        """Whether enough of a node's children in one stripe are well, and little behind it.

        If all of them take long, it is rather the node: in step nobody would see how far they fall behind.
        """
        least = parent.holds.count_in(stripe, self.planner.stripes) - LATE_BLOCKS
        well = [
            child.name
            for child in children
            if not child.suspected
            and child.name not in self._slow
            and child.holds.count_in(stripe, self.planner.stripes) >= least
        ]
        all_long = not self.carrying.carried and all(
            self._stragglers.takes_long(name, stripe) for name in well
        )
        return len(well) >= LEAST_IN_STEP and not all_long

    # -- who is slow -----------------------------------------------------------------------------

    def note_stored(self, member: Member, records: Iterable[Stored]) -> None:
        """Take in how long blocks of streams took."""
        self._stragglers.note_stored(member, records)

    def watch(self, now: float) -> bool:
        """Relieve who is slow, and move what lags.

        Returns:
            Whether there is something to mend.
        """
        if not self.standing:
            return False
        loads = self._loads()
        usual_s = self._stragglers.usual_block_s(loads)
        carrying = self.carrying.carried != 0
        slow, lagging = self._stragglers.judge(loads, usual_s, self._slow, now, carrying)
        changed = False
        if self._doubt(slow, usual_s):
            return False
        recovered: list[NodeName] = []
        if self._slow:
            recovered = self._stragglers.recovered(list(self._slow), self._loads(excuse=False), usual_s)
        for name in recovered:
            del self._slow[name]
            self._complaints.pop(name, None)
        for name, share in slow.items():
            changed = self._relieve(name, share) or changed
        for name, stripe in lagging:
            if name not in self._slow:
                changed = self._act(self.planner.members[name], stripe, now) or changed
        if recovered:
            changed = self._ease() or changed
        return changed

    def tails(self) -> tuple[dict[NodeName, int], dict[NodeName, None]]:
        """The end game: blocks that some lack of one stripe when they have all of another, and who is idle.

        Whoever is through and has no open stream to send is idle, and can bring those blocks sooner.
        """
        self.children = self._loads()
        late: dict[NodeName, int] = {}
        busy: dict[NodeName, None] = {}
        for member in self.planner.receivers():
            if member.holds.complete:
                continue
            lacking = {stripe: self._lacking(member, stripe) for stripe in member.follows}
            busy.update((member.follows[stripe], None) for stripe, count in lacking.items() if count)
            if not all(lacking.values()):
                for stripe, count in lacking.items():
                    if count >= TAIL_BLOCKS:
                        late[member.name] = late.get(member.name, 0) | self.bits(stripe)
        idle = {
            member.name: None for member in self.planner.living() if member.done and member.name not in busy
        }
        return late, idle

    def _act(self, member: Member, stripe: int, now: float) -> bool:
        """One receiver's stream from one sender lags; whether anybody has to be hung anew."""
        sender = member.follows.get(stripe)
        if sender is None:
            return False  # was relieved of just now
        if sender == self.planner.source:  # nobody else has more: another must take this one's place
            return self._relieve(member.name)
        moves = self._moves.get((member.name, stripe), 0)
        if moves >= MAX_MOVES:
            return False
        self._moves[member.name, stripe] = moves + 1
        complaints = self._complaints.setdefault(sender, {})
        complaints[member.name] = None
        if len(complaints) > 1 and sender not in self._slow:
            self._relieve(sender)
        member.resting[sender] = now + REST_S
        member.follows.pop(stripe, None)
        return True

    def _relieve(self, name: NodeName, share: float = 1.0) -> bool:
        """A node is slow, and takes a ``share`` of the usual: its children are to be hung elsewhere.

        So is the node itself, after them, since it has one of the places that they need.

        Returns:
            Whether there is anybody to hang.
        """
        self._slow[name] = share
        self._stragglers.reset(name)
        had = False
        for member in self.planner.living():
            for stripe in [stripe for stripe, sender in member.follows.items() if sender == name]:
                del member.follows[stripe]
                had = True
        if had:
            self.planner.members[name].follows.clear()
        return had

    def _ease(self) -> bool:
        """Somebody can give streams again: take them from those who give more than they would by plan.

        Returns:
            Whether there is anybody to hang.
        """
        loads, most = self._loads(), self.planner.stripes
        givers = [member.name for member in self.planner.living() if member.name not in self._slow]
        room = sum(max(0, int(most - loads.get(name, 0.0))) for name in givers)
        inner = {item for member in self.planner.living() for item in member.follows.items()}
        eased = False
        for member in self.planner.receivers():
            for stripe, sender in list(member.follows.items()):
                is_leaf = (stripe, member.name) not in inner
                if room and is_leaf and loads.get(sender, 0.0) > most and self._lacking(member, stripe):
                    del member.follows[stripe]
                    loads[sender] -= self._slow.get(member.name, 1.0)
                    room, eased = room - 1, True
        return eased

    def _doubt(self, slow: Mapping[NodeName, float], usual_s: float) -> bool:
        """Whether very many seem slow, and others than last time: hosts are busy, and links may be alike.

        Only where blocks take less than a busy host is late by; and of many nodes always: with a thousand
        agents on two cores every process is late, and a swarm of so many costs the controller far more than
        stripes do (measured: 360 to 610 µs a block event, 40 to 47 % of a core).
        """
        seem = {**self._slow, **slow}
        few = len(self.planner.members) <= FEW_NODES
        if not self._many(len(seem)) or (few and usual_s >= NOISE_S):
            return False
        again = sum(name in self._doubted for name in seem)
        if few and 2 * again > len(seem):
            return False
        self._doubted = dict.fromkeys(seem)
        for name in seem:
            self._stragglers.reset(name)
        self._slow.clear()
        self._complaints.clear()
        return True

    def _many_slow(self) -> bool:
        return self._many(sum(1 for name in self._slow if name in self.planner.members))

    def _many(self, slow: int) -> bool:
        receivers = sum(1 for _ in self.planner.receivers())
        return slow > max(1, receivers * MOST_SLOW)

    def forget(self, name: NodeName) -> None:
        """A node is gone, or has come back: nothing that was known of it counts any more."""
        self._slow.pop(name, None)
        self._complaints.pop(name, None)
        for complaints in self._complaints.values():
            complaints.pop(name, None)
        self._stragglers.forget(name)
        for stripe in range(self.planner.stripes):
            self._moves.pop((name, stripe), None)

    def _lacking(self, member: Member, stripe: int) -> int:
        """How many blocks of a stripe a member lacks."""
        return self.bits(stripe).bit_count() - member.holds.count_in(stripe, self.planner.stripes)
