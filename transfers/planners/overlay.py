"""Overlays that mend themselves: a tree for each stripe of blocks, in which every node follows its parent.

Owns how loose nodes are hung. Must not know which places a mechanism likes: it ranks them (`Rank`).

Theory of operation. The overlay is a tree at any time. A node without a parent (just joined, or its parent is
gone, silent or cannot be reached) is *loose*; it is hung on a node that is connected to a root, which is
never one below itself. A suspected node is hung last and offers no place, so it ends as a leaf. A loose node
that finds no place lets go of its children, so that they are not held up, and tries again at a tick.

Where places are scarce, the room for a loose node may be below that node itself. Then it takes the place of a
leaf, and the leaf finds one below it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transfers.ids import NodeName
from transfers.planners.base import BroadcastPlanner, Member

LOOK_AT_ALL, ENOUGH, MOST_SEARCHES = 128, 32, 32
"""Up to so many connected nodes every one is looked at for each loose node; beyond, so many places that will
do are enough, and where there are none all are looked at for so many loose nodes (measured: to look at all, a
thousand loose nodes of a thousand took more than 20 s)."""


class Hanging:
    """One mending of the overlay of one stripe: hangs every loose node, or puts it off.

    Args:
        planner: whose members; told by `Hanging.run` whom to follow.
        roots: those that need follow nobody; the first keeps its children even while it is suspected.
        overlay: all that may have a place, the roots among them.
        stripe: whose overlay.
        keep_leaves: whether a suspected leaf stays where it is: right where places are not scarce.

    Attributes:
        children: of each node in the overlay.
        depth: of each node that is connected to a root.
        unhung: nodes for which there was no place.
    """

    def __init__(
        self,
        planner: BroadcastPlanner,
        roots: Iterable[NodeName],
        overlay: Mapping[NodeName, Member],
        stripe: int = 0,
        keep_leaves: bool = False,
    ) -> None:
        self._planner = planner
        self._roots = dict.fromkeys(roots)
        self._overlay = overlay
        self._stripe = stripe
        self.children: dict[NodeName, list[NodeName]] = {name: [] for name in overlay}
        self.depth: dict[NodeName, int] = {}
        self.unhung: list[Member] = []
        followed = {member.follows[stripe] for member in overlay.values() if stripe in member.follows}
        self._keeps = set(overlay) - followed if keep_leaves else set()
        self._displaced: set[NodeName] = set()
        loose = []
        for member in overlay.values():
            if member.name in self._roots:
                continue
            parent = member.follows.get(stripe)
            if parent is None or self._is_loose(member, parent):
                loose.append(member)
            else:
                self.children[parent].append(member.name)
        loose.sort(key=lambda member: member.suspected)
        self._loose = deque(loose)
        self._full: set[NodeName] = set()  # who was no place for somebody; asked only whether it has a name
        self._searches = 0

    def run(self, rank: "Rank", crowded: "Crowded | None" = None) -> None:
        """Hang what is loose, each where ``rank`` is least; in place of a leaf if that is ``crowded``."""
        for root in self._roots:
            if root in self._overlay:
                self._ground(root, 0)
        while self._loose:
            member = self._loose.popleft()
            parent = self._place(member, rank)
            if parent is not None and crowded is not None and crowded(self, parent):
                parent = self._displace_leaf(member, rank, crowded) or parent
            children = self.children[member.name]
            if parent is not None:
                self.children[parent].append(member.name)
                self._ground(member.name, self.depth[parent] + 1)
                if member.follows.get(self._stripe) != parent:
                    self._planner._follow(member, parent, self._stripe)
            elif children:
                self.children[member.name] = []
                self._loose.extendleft(self._overlay[child] for child in reversed(children))
                self._loose.append(member)
            else:
                self.unhung.append(member)

    def _is_loose(self, member: Member, parent: NodeName) -> bool:
        if parent not in self._overlay or self._planner.exhausted(member, parent):
            return True
        if member.suspected and member.name not in self._keeps:
            return True
        return self._overlay[parent].suspected and parent != next(iter(self._roots))

    def _ground(self, top: NodeName, depth: int) -> None:
        """Count a node and all below it as connected to a root."""
        self.depth[top] = depth
        fresh = deque([top])
        while fresh:
            parent = fresh.popleft()
            for child in self.children[parent]:
                self.depth[child] = self.depth[parent] + 1
                fresh.append(child)

    def _displace_leaf(self, member: Member, rank: "Rank", crowded: "Crowded") -> NodeName | None:
        """Make room for a loose member in place of a leaf, if there is room for that one below the member."""
        if len(self.depth) > LOOK_AT_ALL or all(crowded(self, name) for name in self._below(member.name)):
            return None
        best: tuple[Any, NodeName, NodeName] | None = None
        for parent in self.depth:
            siblings = self.children[parent]
            for leaf in siblings:
                if self.children[leaf] or leaf in self._displaced or self._overlay[leaf].suspected:
                    continue
                self.children[parent] = [name for name in siblings if name != leaf]
                key = None if crowded(self, parent) else rank(self, member, self._overlay[parent])
                self.children[parent] = siblings
                if key is not None and (best is None or key < best[0]):
                    best = key, parent, leaf
        if best is None:
            return None
        _, parent, leaf = best
        self.children[parent].remove(leaf)
        del self.depth[leaf]
        self._displaced.add(leaf)
        self._loose.appendleft(self._overlay[leaf])
        return parent

    def _below(self, top: NodeName) -> list[NodeName]:
        """A node and all that hang on it."""
        found = [top]
        for name in found:  # grows while it is walked
            found += self.children[name]
        return found

    def _place(self, member: Member, rank: "Rank") -> NodeName | None:
        """The best place of all; in a large overlay of the first that will do, from the roots on."""
        if len(self.depth) <= LOOK_AT_ALL:
            return self._best(member, rank, self.depth, len(self.depth))
        best = self._best(member, rank, (name for name in self.depth if name not in self._full), ENOUGH)
        if best is None and self._searches < MOST_SEARCHES:  # what is no place for one may be one for another
            self._searches += 1
            best = self._best(member, rank, self.depth, ENOUGH)
        return best

    def _best(self, member: Member, rank: "Rank", among: Iterable[NodeName], enough: int) -> NodeName | None:
        best: NodeName | None = None
        best_key: Any = None
        found = 0
        for name in among:
            key = rank(self, member, self._overlay[name])
            if key is None:
                self._full.add(name)
                continue
            if best is None or key < best_key:
                best, best_key = name, key
            found += 1
            if found == enough:
                break
        return best


Rank = Callable[[Hanging, Member, Member], Any]
"""How good a place is for a loose member: told of the mending, the member, and who would be its parent; the
least is best, None is none at all. All that one function gives must compare."""

Crowded = Callable[[Hanging, NodeName], bool]
"""Whether one more child would be too much for a node, though it could be borne."""
