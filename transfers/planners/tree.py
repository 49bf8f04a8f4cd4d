"""Broadcast down a tree of degree d, block by block; `transfers.planners.chain` is the tree of degree 1.

Owns the overlay: who follows whom. Must not know sockets, clocks, or how blocks travel.

Theory of operation. Every receiver follows its parent and so takes all blocks, lowest first, as its
parent gets them. Loose nodes are hung by `transfers.planners.overlay`: first choice is the grandparent, else
the place nearest the root.

Blocks that the following does not bring, because they came corrupt, are asked of known holders one by
one; so is everything that the root lacks, when a receiver had to become root. Since only holders are
asked this way, no wait can become a circle.
"""

from random import Random

from transfers.blocks import BlockSet
from transfers.ids import NodeName
from transfers.planners.base import BroadcastPlanner, Member
from transfers.planners.events import BlocksStored, Event, FetchFailed, NodeJoined, Tick
from transfers.planners.overlay import Hanging
from transfers.planners.racks import Racks


class TreePlanner(BroadcastPlanner):
    """A tree in which each node sends to at most ``degree`` others (Chowdhury et al. 2011, section 7: D = 2).

    Departs from the paper in mending itself: there, whoever is below a dead node starts again.

    Where there are racks, nothing is hung before the first tick, so that all who join together are hung rack
    by rack, and each where its own rack is.

    Raises:
        ValueError: for a ``degree`` below 1.
    """

    def __init__(
        self,
        block_count: int,
        source: NodeName,
        rng: Random,
        degree: int = 2,
        racks: Racks | None = None,
    ) -> None:
        super().__init__(block_count, source, rng, racks=racks)
        if degree < 1:
            raise ValueError(f"degree must be at least 1, got {degree}")
        self.degree = degree
        self._gathers = racks is not None
        self.root = source
        self._strays: dict[NodeName, BlockSet] = {}
        self._parents: dict[NodeName, NodeName] = {}

    def _plan(self, event: Event, now: float) -> None:
        if self._gathers:
            self._gathers = not isinstance(event, Tick)
            self._unsettled = True
        if self._gathers:
            return
        match event:
            case BlocksStored():
                return  # whoever can be served has been told already
            case Tick():
                if not self._unsettled:
                    return
            case FetchFailed(node=node, blocks=blocks):
                strays = self._strays.setdefault(node, BlockSet(self.block_count))
                for block in blocks:
                    if 0 <= block < self.block_count:  # nodes are not trusted to count
                        strays.add(block)
            case NodeJoined(node=node):
                self._strays.pop(node, None)
                if node == self.root and not self.members[node].holds.complete:
                    self.root = self._best_root()  # it is back, but not with what made it the root
            case _:
                pass
        self._unsettled = False
        self._settle_root()
        self._hang()
        self._parents = {member.name: member.follows[0] for member in self.living() if member.follows}
        for node in {self.root: None, **dict.fromkeys(self._strays)}:
            member = self.members.get(node)
            if member is None:
                self._strays.pop(node, None)
            else:
                self._fetch_strays(member, now)

    # -- the root ------------------------------------------------------------------------------

    def _settle_root(self) -> None:
        root = self.members.get(self.root)
        if root is None or not (root.wants or root.holds.complete):
            self.root = self._best_root()
        root = self.members.get(self.root)
        if root is not None and (root.follows or self.root in self._parents):
            self._follow(root, None)

    def _best_root(self) -> NodeName:
        """Who holds most; a holder that wants nothing will do only if it lacks nothing."""
        fit = [member for member in self.living() if member.wants or member.holds.complete]
        best = max(fit, key=lambda member: (not member.suspected, len(member.holds)), default=None)
        return self.root if best is None else best.name

    # -- places --------------------------------------------------------------------------------

    def _hang(self) -> None:
        overlay = {
            member.name: member for member in self.living() if member.wants or member.name == self.root
        }
        if self.racks is not None:
            overlay = dict(sorted(overlay.items(), key=lambda item: self.turn(item[0])))
        hanging = Hanging(self, [self.root], overlay)
        hanging.run(self._rank)
        for member in hanging.unhung:
            self._unsettled = True
            if member.follows or member.name in self._parents:
                self._follow(member, None)

    def _rank(
        self, hanging: Hanging, member: Member, parent: Member
    ) -> tuple[bool, int, bool, int, int] | None:
        """Where a node has failed least, then its grandparent, then its rack, then nearest the root."""
        if len(hanging.children[parent.name]) >= self.degree:
            return None
        usable = self.usable(member, parent, self.now)
        if not usable and parent.name != member.follows.get(0):
            return None  # to stay where one is is no new work
        former = self._parents.get(member.name)
        prefer = former if member.suspected else self._parents.get(former) if former is not None else None
        failures = member.failures.get(parent.name, 0)
        far = self.far(member.name, parent.name)
        return not usable, failures, parent.name != prefer, far, hanging.depth[parent.name]

    # -- blocks beside the following -------------------------------------------------------------

    def _fetch_strays(self, member: Member, now: float) -> None:
        """Ask holders for all that the following does not bring: at most once for each block at a time."""
        strays = self._strays.get(member.name, BlockSet(self.block_count)) - member.holds
        if member.name == self.root:
            strays = member.holds.missing()
        elif not strays:
            self._strays.pop(member.name, None)
        if not member.wants:
            return
        for block in strays:
            at = member.asked.get(block)
            if at is not None and not self.members[at].suspected:
                continue
            source = self.pick_source(member, self.holders(block), now, prefer=member.follows.get(0))
            if source is not None:
                self._fetch(member, block, source)
            elif at is None:
                self._unsettled = True
