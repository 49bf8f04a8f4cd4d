"""Racks, as planners know them: who stands where, and from which rack each has its blocks.

Owns the distance between places, and the first plan of Cornet's stripes where there are racks. Must not know
how racks are told or inferred, nor what becomes of the plan when nodes come and go
(`transfers.planners.stripes`).

Theory of operation. Links between racks are scarce, so a block is to cross each but once, in one direction.
All racks hang together in a tree, the source's at the top (`Racks.feeds`): each has its blocks from the one
above it. In every stripe one node of a rack, its *entry*, follows a node of the rack above, and all others of
the rack follow each other. With K stripes a link between racks carries K streams of which each is a K-th of
the object, and there are K entries, so that none is a neck.

As on one switch, each node gives as many streams as it takes, K. A rack of n nodes gives n - 1 streams to its
own in each stripe, and one to each rack below: with one rack below all ports are full, with more there is not
room for all. Some of its leaves then follow nodes of a rack below, which have room: what comes back that way
crosses the link in the direction in which it is idle, and as little as one rack's worth.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from transfers.ids import NodeName

Rack = int
"""A rack's number, as whoever told of them gave it."""


@dataclass(frozen=True, slots=True)
class Racks:
    """What a planner knows of racks.

    Attributes:
        of: the rack of a node; None where it is not known, which is far from everyone.
        feeds: the rack that each has its blocks from; the source's is not among them, and racks stand after
            those that feed them.
    """

    of: Callable[[NodeName], Rack | None]
    feeds: Mapping[Rack, Rack]

    def far(self, node: NodeName, source: NodeName) -> int:
        """How far a node would have its blocks from: 0 its own rack, 1 the one above, 2 any other."""
        return self.between(self.of(node), self.of(source))

    def between(self, here: Rack | None, there: Rack | None) -> int:
        """The same of their racks."""
        if here is None or there is None:
            return 1
        if here == there:
            return 0
        return 1 if self.feeds.get(here) == there else 2

    def together(self, one: NodeName, other: NodeName) -> bool:
        """Whether two nodes are known to stand in one rack."""
        here = self.of(one)
        return here is not None and here == self.of(other)

    def turn(self, node: NodeName) -> tuple[int, Rack]:
        """By which nodes are in the order in which blocks pass their racks, those of one rack side by side.

        It is how many racks lie above a node's, and which it is; who stands in no rack comes last.
        """
        here = rack = self.of(node)
        if here is None or rack is None:
            return len(self.feeds) + 1, -1
        depth = 0
        while rack in self.feeds and depth <= len(self.feeds):
            rack, depth = self.feeds[rack], depth + 1
        return depth, here


def feeds_in_line(racks: Sequence[Rack], first: Rack) -> dict[Rack, Rack]:
    """`Racks.feeds` where each rack has a link to the one before it and the one behind it, and to no other.

    Args:
        racks: in their order.
        first: the source's, one of them.
    """
    at = racks.index(first)
    behind = {rack: before for before, rack in pairwise(racks[at:])}
    before = {rack: behind for behind, rack in pairwise(reversed(racks[: at + 1]))}
    return before | behind


def plan_trees(
    source: NodeName, receivers: Sequence[NodeName], racks: Racks, stripes: int
) -> list[dict[NodeName, NodeName]]:
    """Whom every receiver is to follow in each stripe, so that each block enters each rack once.

    Args:
        source: which gives one stream in each stripe.
        receivers: in any order.
        racks: see there; racks in which nobody receives need not be known to it.
        stripes: K, at least 1.

    Returns:
        For each stripe the node that each receiver follows.
    """
    groups: dict[Rack | None, _Group] = {}
    home = racks.of(source)
    for name in sorted(receivers, key=racks.turn):
        groups.setdefault(racks.of(name), _Group()).names.append(name)
    strays = groups.pop(None, _Group()).names
    below: dict[Rack | None, list[_Group]] = {}
    for rack, group in groups.items():
        if rack is not None and rack != home:
            below.setdefault(_next_above(rack, racks, groups, home), []).append(group)
    if home in groups:
        first: _Group | None = groups[home]
    else:  # the source gives one stream: whoever has that feeds the others
        top = below.pop(home, [])
        first, others = (top[0], top[1:]) if top else (None, [])
        for rack, group in groups.items():
            if group is first:
                below.setdefault(rack, [])[:0] = others
    for rack, group in groups.items():
        group.allot(stripes, below.get(rack, ()))
    trees: list[dict[NodeName, NodeName]] = []
    for stripe in range(stripes):
        tree = _Tree(stripe, source)
        reached: list[_Group] = []
        if first is not None:
            tree.enter(first, source)
            reached.append(first)
        for group in reached:  # grows while it is walked
            tree.fill(group)
            reached += group.below
        rest = [name for group in groups.values() for name in group.names if group not in reached]
        tree.hang_rest(groups.values(), [*rest, *strays])
        trees.append(tree.parents)
    return trees


def _next_above(
    rack: Rack, racks: Racks, there: Mapping[Rack | None, object], home: Rack | None
) -> Rack | None:
    """The nearest rack above in which somebody receives; the source's if there is none."""
    above = racks.feeds.get(rack)
    for _ in range(len(racks.feeds)):
        if above is None or above in there:
            break
        above = racks.feeds.get(above)
    return home if above is None else above


@dataclass(slots=True, eq=False)
class _Group:
    """The receivers of one rack.

    Attributes:
        below: those that it feeds.
        room: by stripe, how many streams each of its nodes has to give.
        helped: streams that its nodes give to nodes of other racks that had no room.
    """

    names: list[NodeName] = field(default_factory=list)
    below: Sequence["_Group"] = ()
    room: list[dict[NodeName, int]] = field(default_factory=list)
    helped: int = 0

    def allot(self, stripes: int, below: Sequence["_Group"]) -> None:
        """Deal out what its nodes have to give: each is inner in one stripe, but for as few as can be."""
        self.below = below
        dealt = [dict.fromkeys(self.names[stripe::stripes], stripes) for stripe in range(stripes)]
        needed = len(self.names) - 1 + len(below)
        while True:
            spare = [sum(room.values()) - needed for room in dealt]
            most, least = spare.index(max(spare)), spare.index(min(spare))
            if spare[least] >= 0 or spare[most] <= 0:
                break
            giver = max(reversed(dealt[most]), key=dealt[most].__getitem__)
            dealt[most][giver] -= 1
            dealt[least][giver] = dealt[least].get(giver, 0) + 1
        self.room = dealt

    def in_order(self, stripe: int) -> list[NodeName]:
        """Who has most to give first."""
        room = self.room[stripe]
        return sorted(self.names, key=lambda name: -room.get(name, 0))


class _Tree:
    """One stripe's tree while it grows."""

    def __init__(self, stripe: int, source: NodeName) -> None:
        self._stripe = stripe
        self.parents: dict[NodeName, NodeName] = {}
        self._depth = {source: 0}
        self._left: list[tuple[_Group, NodeName]] = []
        self._given: dict[NodeName, int] = {}

    def enter(self, group: _Group, parent: NodeName) -> None:
        """A rack's first node follows one outside."""
        self._hang(group.in_order(self._stripe)[0], parent)

    def fill(self, group: _Group) -> None:
        """Hang all others of a rack, and the entries of those below it."""
        room = group.room[self._stripe]
        waiting = [name for name in group.in_order(self._stripe) if name not in self.parents]
        inner = [name for name in waiting if room.get(name)]
        if inner:
            self._hang_within(group, inner.pop(0))
        for other in group.below:
            if inner and self._room_left(group) <= 1:
                self._hang_within(group, inner.pop(0))
            parent = self._shallowest(group.names, room)
            if parent is None:  # whatever it costs its ports
                parent = min((name for name in group.names if name in self._depth), key=self._load)
            else:
                room[parent] -= 1
            self.enter(other, parent)
        for name in [*inner, *(name for name in waiting if not room.get(name))]:
            if name not in self.parents:
                self._hang_within(group, name)

    def hang_rest(self, groups: Iterable[_Group], strays: Sequence[NodeName]) -> None:
        """Those for whom their rack has no room follow nodes of others that have, as do those of no rack."""
        for group, name in self._left:
            self._hang_anywhere(name, group.below, group.names)
        for name in strays:
            self._hang_anywhere(name, list(groups), list(self._depth))

    def _hang_anywhere(self, name: NodeName, groups: Sequence[_Group], else_at: Iterable[NodeName]) -> None:
        for group in sorted(groups, key=lambda group: group.helped):
            for room in (group.room[self._stripe], *group.room):
                parent = self._shallowest(group.names, room)
                if parent is not None:
                    room[parent] -= 1
                    group.helped += 1
                    self._hang(name, parent)
                    return
        self._hang(name, min((at for at in else_at if at in self._depth), key=self._load))

    def _hang_within(self, group: _Group, name: NodeName) -> None:
        room = group.room[self._stripe]
        parent = self._shallowest(group.names, room)
        if parent is None:
            self._left.append((group, name))
            return
        room[parent] -= 1
        self._hang(name, parent)

    def _hang(self, name: NodeName, parent: NodeName) -> None:
        self.parents[name] = parent
        self._depth[name] = self._depth[parent] + 1
        self._given[parent] = self._given.get(parent, 0) + 1

    def _shallowest(self, names: Iterable[NodeName], room: Mapping[NodeName, int]) -> NodeName | None:
        fit = [name for name in names if name in self._depth and room.get(name, 0) > 0]
        return min(fit, key=self._depth.__getitem__, default=None)

    def _room_left(self, group: _Group) -> int:
        room = group.room[self._stripe]
        return sum(left for name, left in room.items() if name in self._depth)

    def _load(self, name: NodeName) -> tuple[int, int]:
        return self._given.get(name, 0), self._depth[name]
