"""Broadcast down a tree of degree d, block by block; `transfers.planners.chain` is the tree of degree 1.

Owns the overlay: who follows whom. Must not know sockets, clocks, or how blocks travel.

Theory of operation. Every receiver follows its parent and so takes all blocks, lowest first, as its
parent gets them. The overlay is a tree at any time: a node without a parent (just joined, or its parent
is gone, silent or cannot be reached) is *loose*; it is hung on a node that is connected to the root, which
is never one below itself. First choice is the grandparent, else the place nearest the root. A suspected
node is hung last and offers no place, so it ends as a leaf. A loose node that finds no place lets go
of its children, so that they are not held up, and tries again at a tick.

Blocks that the following does not bring, because they came corrupt, are asked of known holders one by
one; so is everything that the root lacks, when a receiver had to become root. Since only holders are
asked this way, no wait can become a circle.
"""

from collections import deque
from random import Random

from transfers.blocks import BlockSet
from transfers.ids import NodeName
from transfers.planners.base import BroadcastPlanner, Member
from transfers.planners.events import BlocksStored, Event, FetchFailed, NodeJoined, Tick


class TreePlanner(BroadcastPlanner):
    """A tree in which each node sends to at most ``degree`` others (Chowdhury et al. 2011, section 7: D = 2).

    Departs from the paper in mending itself: there, whoever is below a dead node starts again.

    Raises:
        ValueError: for a ``degree`` below 1.
    """

    def __init__(self, block_count: int, source: NodeName, rng: Random, degree: int = 2) -> None:
        super().__init__(block_count, source, rng)
        if degree < 1:
            raise ValueError(f"degree must be at least 1, got {degree}")
        self.degree = degree
        self.root = source
        self._strays: dict[NodeName, BlockSet] = {}
        self._parents: dict[NodeName, NodeName] = {}

    def _plan(self, event: Event, now: float) -> None:
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
        _Hanging(self, now).run()
        self._parents = {
            member.name: member.follows for member in self.living() if member.follows is not None
        }
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
        if root is not None and (root.follows is not None or self.root in self._parents):
            self._follow(root, None)

    def _best_root(self) -> NodeName:
        """Who holds most; a holder that wants nothing will do only if it lacks nothing."""
        fit = [member for member in self.living() if member.wants or member.holds.complete]
        best = max(fit, key=lambda member: (not member.suspected, len(member.holds)), default=None)
        return self.root if best is None else best.name

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
            source = self.pick_source(member, self.holders(block), now, prefer=member.follows)
            if source is not None:
                self._fetch(member, block, source)
            elif at is None:
                self._unsettled = True


class _Hanging:
    """One mending of the overlay: hangs every loose node, or puts it off."""

    def __init__(self, planner: TreePlanner, now: float) -> None:
        self.planner = planner
        self.now = now
        self.overlay = {
            member.name: member for member in planner.living() if member.wants or member.name == planner.root
        }
        self.children: dict[NodeName, list[NodeName]] = {name: [] for name in self.overlay}
        self.depth: dict[NodeName, int] = {}
        loose = []
        for member in self.overlay.values():
            if member.name == planner.root:
                continue
            if member.follows is None or self._is_loose(member, member.follows):
                loose.append(member)
            else:
                self.children[member.follows].append(member.name)
        loose.sort(key=lambda member: member.suspected)
        self.queue = deque(loose)

    def run(self) -> None:
        """Hang what is loose."""
        if self.planner.root in self.overlay:
            self._ground(self.planner.root, 0)
        while self.queue:
            member = self.queue.popleft()
            parent = self._place(member)
            children = self.children[member.name]
            if parent is not None:
                self.children[parent].append(member.name)
                self._ground(member.name, self.depth[parent] + 1)
                if member.follows != parent:
                    self.planner._follow(member, parent)
            elif children:
                self.children[member.name] = []
                self.queue.extendleft(self.overlay[child] for child in reversed(children))
                self.queue.append(member)
            else:
                self.planner._unsettled = True
                if member.follows is not None or member.name in self.planner._parents:
                    self.planner._follow(member, None)

    def _is_loose(self, member: Member, parent: NodeName) -> bool:
        if parent not in self.overlay or member.suspected or self.planner.exhausted(member, parent):
            return True
        return self.overlay[parent].suspected and parent != self.planner.root

    def _ground(self, top: NodeName, depth: int) -> None:
        """Count a node and all below it as connected to the root."""
        self.depth[top] = depth
        fresh = deque([top])
        while fresh:
            parent = fresh.popleft()
            for child in self.children[parent]:
                self.depth[child] = self.depth[parent] + 1
                fresh.append(child)

    def _place(self, member: Member) -> NodeName | None:
        """The parent for a loose node: where it has failed least, grandparent, then nearest the root."""
        planner = self.planner
        former = planner._parents.get(member.name)
        prefer = former if member.suspected else planner._parents.get(former) if former is not None else None
        best: NodeName | None = None
        best_key = (True, 0, True, 0)
        for name, depth in self.depth.items():
            if len(self.children[name]) >= planner.degree:
                continue
            usable = planner.usable(member, self.overlay[name], self.now)
            if not usable and name != member.follows:
                continue  # to stay where one is is no new work
            key = (not usable, member.failures.get(name, 0), name != prefer, depth)
            if best is None or key < best_key:
                best, best_key = name, key
        return best
