"""What broadcasts that keep to racks show against these: who takes long at home, and which links are held up.

Owns what is usual and what is long, of a node, a link and a whole broadcast. Must not know what comes of a
doubt (`orchestra.controller.racks`), nor where racks lie (`orchestra.topology`). Pure.

Theory of operation. All times are over what is usual inside racks in the same broadcast, so that ports of any
rate do. A node that takes long with all of its rack stands elsewhere, or is slow, or was unlucky. If it takes
very long it is doubtful at once. So it is if a link between racks takes long as well, which its streams pass
beside those that should; but then the whole broadcast takes longer, too, since it is not done before they
are, and if it did not, that was chance. (Who never was quick with its rack may have been misplaced from the
beginning: then all broadcasts have been as long, and how long this one took is not asked.) Otherwise a node
is doubtful the second time in a row. Links may be idle one way; so a node from whom all of its rack take long
counts, too, if a link is held up.
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from transfers.ids import NodeName
from transfers.planners.racks import Rack, Racks

DOUBT_FACTOR = 1.6
"""A node is in doubt that takes this many times as long with each of its rack as is usual inside racks (a
guess: streams that share a port unevenly, five to three, stay below; a third stream on a link for two is 1.5,
a fourth 2)."""

SURE_DOUBT_FACTOR = 1.8
"""So many times as long is enough for once (a guess: that fourth stream, less a tenth)."""

HELD_UP = 1.3
"""A link between racks is held up if its streams take this many times as long as they have taken at least,
and as is usual inside racks (measured: in 200 emulated broadcasts to 15 hosts no link took more than 1.26,
and in 80 others, on a busier machine, two more than this; a third stream is 1.5 until planners move it)."""

LONG_BESIDE = 1.3
"""Beside a link that is held up, a node is in doubt that takes this many times as long (measured: in those
200 none took so long with all of its rack)."""

LONG = 1.25
"""Times as long as the quickest of late a broadcast takes that a node and a link have held up (measured:
emulated ones in which a moved host held up a link took 1.3 to 2.2 times as long; those two in which a link
and a node took long by chance, 1.19; two of 40 in which nobody was in doubt, 1.24 and 1.43). The first of its
size counts as long, and so does one that waited for a late or a dead node: then nodes and links alone decide.
Where one slow host decides how long all take, none is long."""

SIZES_ALIKE = 2
"""Times as large as another an object is whose broadcast may be compared with its (a guess: what starting
takes is the less, by the byte, the larger it is)."""

LINKS_SHARE = 0.75
"""Nor is a node in doubt that takes less of what the link takes: who holds it up takes about as long
(measured: where a simulated node had moved to another rack, from 0.82 on; nodes at home, with noisy times, up
to 0.6)."""

LINKS_KEPT = 20
"""Broadcasts over which the least that links have taken is kept (a guess: as long as who is slow is
trusted)."""

LEAST_WITHIN = 4
"""Pairs inside racks that a broadcast must have shown before anyone is doubted (a guess)."""


_Who = TypeVar("_Who", bound=Hashable)
Pair = tuple[NodeName, NodeName]
"""Receiver and sender."""
Link = tuple[Rack, Rack]
"""The rack that receives, and the one that sends."""
Links = Mapping[Link, Mapping[Pair, float]]


@dataclass(frozen=True, slots=True)
class Shown:
    """What one broadcast has shown; all times are over what is usual inside racks.

    Attributes:
        within: of pairs that stand together.
        slow: who took long with all of its rack.
        doubtful: of those, who may well stand elsewhere.
    """

    within: Mapping[Pair, float]
    slow: Collection[NodeName] = ()
    doubtful: Collection[NodeName] = ()


class Doubts:
    """Of one controller.

    Args:
        is_slow: whether a node is known to be just slow.
        was_at_home: whether it has been quick with its rack.
    """

    def __init__(self, is_slow: Callable[[NodeName], bool], was_at_home: Callable[[NodeName], bool]) -> None:
        self._is_slow = is_slow
        self._was_at_home = was_at_home
        self._links: dict[Link, deque[float]] = {}  # how long each took of late
        self._paces: deque[tuple[int, float]] = deque(maxlen=LINKS_KEPT)  # sizes, and seconds a byte
        self._slow: Collection[NodeName] = ()  # in the last broadcast that has shown anything

    def hear(
        self,
        medians: Mapping[Pair, float],
        planned: Racks | None,
        explored: bool,
        size_bytes: int,
        took_s: float,
    ) -> Shown:
        """Take in a broadcast that is done.

        Args:
            medians: seconds a byte, by receiver and sender.
            planned: what its plan knew of racks.
            explored: whether many pairs of nodes were to meet; then nobody is in doubt for it.
            size_bytes: of the object.
            took_s: until all had it, without pauses.
        """
        within, links = _within_and_between(medians, planned)
        if explored or not within:
            return Shown(within)
        takes, was_long = {to for to, _ in medians}, self._was_long(size_bytes, took_s)
        slow = _slow_at_home(
            within,
            takes,
            lambda name: self._held_up(links, name),
            lambda name: was_long or not self._was_at_home(name),
        )
        for link, pairs in links.items():
            self._links.setdefault(link, deque(maxlen=LINKS_KEPT)).append(median(pairs.values()))
        before, self._slow = self._slow, slow.keys()
        return Shown(
            within, slow.keys(), [name for name, is_sure in slow.items() if is_sure or name in before]
        )

    def forget(self) -> None:
        """Racks are others now, which nothing has been shown of."""
        self._links.clear()
        self._paces.clear()
        self._slow = ()

    def _was_long(self, size_bytes: int, took_s: float) -> bool:
        """Whether a broadcast that kept to racks took longer than others of about its size of late; the first
        one did, for all that is known."""
        pace = took_s / size_bytes
        alike = [
            its for size, its in self._paces if max(size, size_bytes) <= SIZES_ALIKE * min(size, size_bytes)
        ]
        self._paces.append((size_bytes, pace))
        return pace >= LONG * min(alike, default=0.0)

    def _held_up(self, links: Links, name: NodeName) -> float:
        """How many times as long as is usual inside racks that link takes that is held up most; 0 if none is.

        A node's own streams do not count, nor those of who is known to be slow. Links that are slower than
        ports are held up by more than they have taken at least of late; of which nothing is known, by more
        than ports take.
        """
        longest = 0.0
        for link, pairs in links.items():
            others = [
                long for pair, long in pairs.items() if name not in pair and not any(map(self._is_slow, pair))
            ]
            least = min(self._links.get(link, ()), default=1.0)
            if others and median(others) >= HELD_UP * max(1.0, least):
                longest = max(longest, median(others))
        return longest


def _within_and_between(
    medians: Mapping[Pair, float], planned: Racks | None
) -> tuple[dict[Pair, float], dict[Link, dict[Pair, float]]]:
    """How many times as long as is usual inside racks blocks took between pairs that stand together, and the
    same of pairs that stand in two racks, by those; none where too few did to tell."""
    if planned is None:
        return {}, {}
    within = {pair: time_s for pair, time_s in medians.items() if planned.together(*pair)}
    if len(within) < LEAST_WITHIN:
        return {}, {}
    usual_s = median(within.values())
    links: dict[Link, dict[Pair, float]] = {}
    for pair, time_s in medians.items():
        here, there = map(planned.of, pair)
        if here is not None and there is not None and here != there:
            links.setdefault((here, there), {})[pair] = time_s / usual_s
    return {pair: time_s / usual_s for pair, time_s in within.items()}, links


def quickest(pairs: Mapping[tuple[_Who, _Who], float]) -> dict[_Who, float]:
    """Of the pairs in which each comes first, the least."""
    least: dict[_Who, float] = {}
    for (name, _), long in pairs.items():
        least[name] = min(long, least.get(name, long))
    return least


def may_be_several(within: Mapping[Pair, float], planned: Racks) -> set[Rack | None]:
    """Racks in which pairs take long of which no one node is in all."""
    long: dict[Rack | None, list[Pair]] = {}
    for pair, times_as_long in within.items():
        if times_as_long >= DOUBT_FACTOR:
            long.setdefault(planned.of(pair[0]), []).append(pair)
    return {rack for rack, pairs in long.items() if not set(pairs[0]).intersection(*pairs)}


def _slow_at_home(
    within: Mapping[Pair, float],
    takes: Collection[NodeName],
    held_up: Callable[[NodeName], float],
    may_hold_up: Callable[[NodeName], bool],
) -> dict[NodeName, bool]:
    """Nodes that take long with everyone of their own rack from whom they took anything, or from whom all
    there took long; and whether that is sure.

    The latter counts of those who receive as well only where a link between racks is held up, since a busy
    port does the same; and receivers that take long from everyone show nothing of who sends to them.

    Args:
        within: by receiver and sender, over what is usual.
        takes: who received anything.
        held_up: but for a node, how many times as long as is usual a link takes that is; 0 if none is.
        may_hold_up: whether it is sure that a node does, for all that the whole broadcast says.
    """
    taken = quickest(within)
    telling = {
        (sender, to): long
        for (to, sender), long in within.items()
        if taken[to] < LONG_BESIDE or sender not in takes
    }
    sent = quickest(telling)
    slow: dict[NodeName, bool] = {}
    for name in dict.fromkeys([*taken, *sent]):
        alone = taken.get(name, sent.get(name, 0.0) if name not in takes else 0.0)
        longest = max(alone, sent.get(name, 0.0))
        link = held_up(name) if longest >= LONG_BESIDE else 0.0
        beside = link > 0 and longest >= max(LONG_BESIDE, LINKS_SHARE * link)
        if beside or alone >= DOUBT_FACTOR:
            slow[name] = alone >= SURE_DOUBT_FACTOR or (beside and may_hold_up(name))
    return slow
