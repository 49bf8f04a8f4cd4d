"""Overlays that mend themselves: a tree for each stripe of blocks, in which every node follows its parent.

Owns how loose nodes are hung. Must not know which places a mechanism likes: it ranks them (`Rank`).

Theory of operation. The overlay is a tree at any time. A node without a parent (just joined, or its parent is
gone, silent or cannot be reached) is *loose*; it is hung on a node that is connected to a root, which is
never one below itself. A suspected node is hung last and offers no place, so it ends as a leaf. A loose node
that finds no place lets go of its children, so that they are not held up, and tries again at a tick.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transfers.ids import NodeName
from transfers.planners.base import BroadcastPlanner, Member


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

    def run(self, rank: "Rank") -> None:
        """Hang what is loose, each where ``rank`` is least."""
        for root in self._roots:
            if root in self._overlay:
                self._ground(root, 0)
        while self._loose:
            member = self._loose.popleft()
            parent = self._place(member, rank)
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

    def _place(self, member: Member, rank: "Rank") -> NodeName | None:
        best: NodeName | None = None
        best_key: Any = None
        for name in self.depth:
            key = rank(self, member, self._overlay[name])
            if key is not None and (best is None or key < best_key):
                best, best_key = name, key
        return best


Rank = Callable[[Hanging, Member, Member], Any]
"""How good a place is for a loose member: told of the mending, the member, and who would be its parent; the
least is best, None is none at all. All that one function gives must compare."""
