"""Which racks are believed in: none, those that were told, or those that block times show.

Owns the belief, and when it changes. Must not know how racks are inferred (`orchestra.topology`) or used
(`transfers.planners.racks`). Pure: time is passed in, and the inference, which may take seconds, is handed
out as a job.

Theory of operation. Only a broadcast that was planned as if all were equally near shows where racks lie: many
of its blocks cross the links between them at a time. One that keeps to racks loads those links no more than
ports, and then all times are alike. So times of the first kind are kept until others of that kind come. As
long as racks are not known, broadcasts are of that kind.

What is inferred is believed if it is sure, or if it comes out twice in a row. After that a broadcast which
keeps to racks can still contradict them, in two ways.

*A rack may be several.* Links that nothing was held up by before, because others held up what would have
passed them, are full once plans keep to racks: inside a rack all are taken to be equally near. So while a
belief is new, and pairs of a rack take long that have no node in common, the next broadcast *explores inside
racks*, by the swarm, in which a receiver goes on to nodes that it has not met. What that shows is evidence
beside what was seen without racks, and the longer time counts: who stands together is near under any load. It
is forgotten when all have been explored a few times since. Those who move together to one rack are quick with
each other; they are found this way alone, if they are enough to be sure of.

*A node may stand elsewhere* that takes long with all of its own rack; when that puts it in doubt is told in
`orchestra.controller.doubts`. The next broadcast *explores* all: it is planned as if there were no racks, by
that swarm. So is one in which nodes take part that have come since, and the one after a rack was divided: who
was put into it by little evidence may stand in neither part. Who was quick at home before has moved, and what
was seen of it is forgotten; who never was had been misplaced. A link that others hold up does not show by
that, either; so for who was misplaced, or is found where it was, its rack is explored as one with the nearest
ones. Who stays then is just slow, and in doubt no more for a while. But where another of those in doubt has
moved, the rest were held up by that, and are neither trusted nor looked for further.

Where more than two racks are believed but are not sure, nothing has to contradict them: the two between which
they are least sure are explored as one, now and then.

Told racks are believed whatever is seen, but what contradicts them is said.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from orchestra.controller.block_times import BlockTimes, PairTimes
from orchestra.controller.doubts import DOUBT_FACTOR, Doubts, Pair, Shown, may_be_several, quickest
from orchestra.controller.members import Card, Members
from orchestra.racks_file import GivenRacks
from orchestra.topology import LEAST_NODES, SURE, Inferred, as_groups, infer, nearest_order, soonest
from transfers.ids import NodeName
from transfers.planners.racks import Rack, Racks, feeds_in_line

FLAT, INFERRED = "flat", "inferred"

LEAST_SHOWN = 2
"""Broadcasts from which several racks are believed: in trees a node meets four others, and a source two."""

SIDES = 2
"""Racks that a rack is explored as one with: a line has one on each side."""

CALM = 5
"""Broadcasts that keep to racks and show none to be several, after which none is taken to be for `TRUST`
broadcasts (a guess: where the source stands decides which links are full)."""

INSIDE_LASTS = 5
"""Broadcasts that know of no racks, after which what was seen inside racks before counts no more (a guess:
racks that were two have to become one again)."""

EXPLORE_PAUSE = 5
"""Broadcasts between two that explore because nodes are new (a guess: so they cost little even where nodes
come and go)."""

MOST_IN_VAIN = 5
"""Broadcasts that explore one after another, and show something, without anything that can be believed; then
things stay as they were (a guess: each takes several times as long as one that keeps to racks). After as many
that show nothing of racks, what is measured of links counts although they are not known."""

TRUST = 20
"""Broadcasts for which a node is not doubted again that was found where it was, and a belief that is not sure
not looked at again (a guess)."""

MOST_TRIES = 3
"""Broadcasts that explore for a node that no belief places; the inference after them puts it where it is
likeliest to be (a guess)."""

INFER_GROWTH, MOST_PUT_OFF = 1.3, 20
"""How many times more broadcasts have to be seen before the next inference, while nothing new comes of it;
and how many more at most (guesses: an inference of 200 nodes takes seconds; at 1.5, in one simulated draw,
what had come out five times and was not sure was not believed before the tenth broadcast)."""

COMMON_SHARE = 0.8
"""Of all nodes, those that two inferences have to place, both, before they are compared (a guess)."""


@dataclass(frozen=True, slots=True)
class _Belief:
    """Racks that are believed.

    Attributes:
        of: rack of each card that has one.
        inferred: what it was taken from.
        cards: of all that this was inferred of, in its order.
    """

    of: Mapping[Card, Rack]
    inferred: Inferred
    cards: Sequence[Card]

    def agrees(self, other: "_Belief") -> bool:
        """Whether most cards are known to both, and those are together in both or in neither."""
        common = self.of.keys() & other.of.keys()
        if not common or len(common) < COMMON_SHARE * max(len(self.of), len(other.of)):
            return False
        pairs, mine, others = self._counts(other)
        return pairs == mine == others

    def splits(self, other: "_Belief") -> bool:
        """Whether racks of the other are several here, and all else is alike."""
        pairs, mine, others = self._counts(other)
        return pairs == mine > others

    def divides(self, other: "_Belief") -> bool:
        """Whether some stand apart here that stand together there."""
        pairs, _, others = self._counts(other)
        return pairs > others

    def _counts(self, other: "_Belief") -> tuple[int, int, int]:
        """Of cards that both know: pairs of racks in which one stands here and there, and racks of each."""
        pairs = {(self.of[card], other.of[card]) for card in self.of.keys() & other.of.keys()}
        return len(pairs), len({here for here, _ in pairs}), len({there for _, there in pairs})

    def mates(self, card: Card) -> set[Card]:
        """Who else stands in a card's rack."""
        rack = self.of.get(card)
        return {other for other, its in self.of.items() if its == rack and other != card}


class Topology:
    """Of one controller.

    Args:
        told: ``"flat"``, ``"inferred"``, or racks from a file.
        members: who is there.
        log: one line for whoever runs the controller.
        on_divided: to be called when nodes turn out to stand apart that were taken to stand together, or as
            if they did.
        seed: of every inference.
    """

    def __init__(
        self,
        told: str | GivenRacks,
        members: Members,
        log: Callable[[str], None],
        on_divided: Callable[[], None] = lambda: None,
        seed: int = 0,
    ) -> None:
        self.told = told
        self._members = members
        self._log = log
        self._on_divided = on_divided
        self._seed = seed
        self._times = PairTimes()  # of broadcasts that were planned without racks
        self._within = PairTimes()  # of others: times inside racks, over what a node's nearest usually took
        self._belief: _Belief | None = None
        self._candidate: _Belief | None = None
        self._explores = False
        self._explores_inside = False
        self._joined: dict[Rack, Rack] = {}  # racks that are explored inside another, as one with it
        self._at_home: set[Card] = set()  # who has been quick with its rack since it is believed in
        self._calm = 0  # broadcasts that have shown no rack to be several since they are believed in
        self._vain = 0  # inferences since the last that was believed
        self._look_at = 0  # the broadcast from which a belief that is not sure may be looked at again
        self._seen = 0  # broadcasts
        self._explored_at = 0
        self._evident_at = 0  # the last broadcast that has shown anything of racks
        self._clear_at = 0  # the last broadcast after which nobody was in doubt, or sought
        self._shown = 0  # broadcasts without racks that have shown anything
        self._shown_since_inside = 0  # those since the last that explored inside racks
        self._infer_at = 1
        self._running = False
        self._newcomers: dict[Card, int] = {}  # that no belief places, and how often it was tried
        self._doubted: dict[Card, None] = {}
        self._trusted_until: dict[Card, int] = {}
        self._contradicting: dict[NodeName, None] = {}
        self._doubts = Doubts(
            lambda name: self._is_trusted(members.card_of(name)),
            lambda name: told != INFERRED or members.card_of(name) in self._at_home,
        )

    @property
    def learns(self) -> bool:
        """Whether block times matter."""
        return self.told != FLAT

    # -- for plans -------------------------------------------------------------------------------

    def racks_for(self, source: NodeName, explores: bool = False) -> Racks | None:
        """What the plan of a broadcast is to know of racks; None for one that takes all nodes to be equally
        near.

        Args:
            source: of the broadcast.
            explores: whether its plan is to find racks, if that is wanted.
        """
        if isinstance(self.told, GivenRacks):
            return self._given_for(self.told, source)
        belief = self._belief
        if self.told != INFERRED or belief is None or belief.inferred.count < 2 or self._explores_all:
            return None
        joined = self._joined if explores and self._explores_inside else {}

        def rack_of(name: NodeName) -> Rack | None:
            rack = self._rack_in(belief, name)
            return None if rack is None else joined.get(rack, rack)

        home = rack_of(source)
        walk = nearest_order(
            belief.inferred.distances, next(iter(joined.values()), 0) if home is None else home
        )
        order = [rack for rack in walk if rack not in joined]
        return Racks(rack_of, {rack: order[at] for at, rack in enumerate(order[1:])})

    @property
    def explores(self) -> bool:
        """Whether a broadcast is to find racks, or to find out whether they are several: many pairs of nodes
        have to meet."""
        return self._explores_all or self._explores_inside

    @property
    def seeks(self) -> bool:
        """Whether broadcasts may have crossed racks of which nothing is believed yet; not where inference
        comes to nothing, or the last ones have shown nothing."""
        if self.told != INFERRED or self._belief is not None or not self._seen:
            return False
        if self._vain >= MOST_IN_VAIN or self._seen - self._evident_at > MOST_IN_VAIN:
            return False
        return len({node.card for node in self._members if node.present}) >= LEAST_NODES

    @property
    def _explores_all(self) -> bool:
        return self._explores or (self._seen - self._explored_at >= EXPLORE_PAUSE and self._is_any_sought)

    @property
    def _is_any_sought(self) -> bool:
        return any(map(self._is_sought, self._newcomers))

    def _is_sought(self, card: Card) -> bool:
        """Whether it is new and there, and its place may yet be found."""
        if self._newcomers.get(card, MOST_TRIES) >= MOST_TRIES:
            return False
        return any(node.present for node in self._members.at_card(card))

    def shows_links(self, planned: Racks | None, names: Iterable[NodeName]) -> bool:
        """Whether a broadcast that was learnt from shows what ports carry. It does not where links between
        racks held them up: it did not keep to those that are believed in, or somebody is in doubt, or new,
        and broadcasts explore for them. Where one rack is believed in, it is taken to.

        Args:
            planned: what its plan knew of racks.
            names: of those who took part.
        """
        belief = self._belief
        if self.told != INFERRED or belief is None or belief.inferred.count < 2:
            return True
        if planned is None:
            return False
        looked_at = max(self._clear_at, self._evident_at)
        unclear = self._seen - looked_at <= MOST_IN_VAIN  # else nothing explores for them
        if unclear and self._doubted:
            return False
        both: set[tuple[Rack | None, Rack]] = set()
        for name in names:
            rack = self._rack_in(belief, name)
            if rack is not None:
                both.add((planned.of(name), rack))
            elif unclear and self._is_sought(self._members.card_of(name)):
                return False
        apart = len({rack for _, rack in both})
        return len(both) == apart == len({rack for rack, _ in both})

    def _given_for(self, given: GivenRacks, source: NodeName) -> Racks | None:
        if len(given.racks) < 2:
            return None
        home = self._given_rack(given, source)
        feeds = feeds_in_line(range(len(given.racks)), 0 if home is None else home)
        return Racks(lambda name: self._given_rack(given, name), feeds)

    def _given_rack(self, given: GivenRacks, name: NodeName) -> Rack | None:
        """The rack of a node that the file names, or of one on the same card."""
        rack = given.rack_of(name)
        if rack is None:
            mates = (given.rack_of(node.name) for node in self._members.at_card(self._members.card_of(name)))
            rack = next((found for found in mates if found is not None), None)
        return rack

    def _rack_in(self, belief: _Belief, name: NodeName) -> Rack | None:
        return belief.of.get(self._members.card_of(name))

    # -- learning --------------------------------------------------------------------------------

    def learn(
        self, times: BlockTimes, planned: Racks | None, explored: bool, took_s: float, now: float
    ) -> None:
        """Take in a broadcast that is done.

        Args:
            times: of its blocks.
            planned: what its plan knew of racks.
            explored: whether many pairs of nodes were to meet.
            took_s: until all had it, without pauses.
            now: seconds.
        """
        self._seen += 1
        medians = times.medians()
        shown = self._doubts.hear(medians, planned, explored, times.size_bytes, took_s)
        if self.told != INFERRED:
            self._contradict(shown.doubtful)
            return
        by_card = self._by_card(medians)
        if self._belief is not None:
            for card in dict.fromkeys(card for pair in by_card for card in pair):
                if card not in self._belief.of:
                    self._newcomers.setdefault(card, 0)
        if planned is not None:
            if explored:
                takes = {to for to, _ in medians}
                self._learn_inside(
                    {pair: long for pair, long in shown.within.items() if pair[1] in takes}, now
                )
            else:
                self._doubt(shown, planned)
        elif by_card:  # else it has shown nothing
            self._times.add(by_card, now)
            self._explored_at = self._evident_at = self._seen
            self._shown += 1
            self._shown_since_inside += 1
            if self._shown_since_inside >= INSIDE_LASTS:
                self._within = PairTimes()
            if any(card in self._newcomers for pair in by_card for card in pair):
                self._infer_at = min(self._infer_at, self._seen)
        if not self._doubted and not self._is_any_sought:
            self._clear_at = self._seen

    def _learn_inside(self, swarm: Mapping[Pair, float], now: float) -> None:
        """Take in how long pairs inside racks took, of which none has the source, if any are known."""
        by_card = self._by_card(swarm)
        if by_card:
            usual = median(quickest(by_card).values())
            self._within.add({pair: long / usual for pair, long in by_card.items()}, now)
            self._evident_at, self._infer_at = self._seen, min(self._infer_at, self._seen)
            self._shown_since_inside = 0
            self._explores_inside = False
        else:
            self._vain += 1
            if self._vain >= MOST_IN_VAIN:
                self._give_up()

    def _by_card(self, pairs: Mapping[Pair, float]) -> dict[tuple[Card, Card], float]:
        """The same by network cards, but for what passed none."""
        card_of = self._members.card_of
        found = {(card_of(to), card_of(source)): value for (to, source), value in pairs.items()}
        return {pair: value for pair, value in found.items() if pair[0] != pair[1]}

    def _give_up(self) -> None:
        """Exploring came to nothing: things stay as they are."""
        self._explores = self._explores_inside = False
        self._joined = {}
        self._calm = CALM
        self._trust(list(self._doubted))
        self._put_off()

    def _contradict(self, doubtful: Collection[NodeName]) -> None:
        """Say who does not seem to stand where the file says."""
        for name in doubtful:
            if name not in self._contradicting:
                self._log(f"topology: {name} takes long with its rack, and may stand in another")
        self._contradicting = dict.fromkeys(doubtful)

    def _doubt(self, shown: Shown, planned: Racks) -> None:
        """Where several of a rack that is new take long, see whether it is several. Else forget what was seen
        of those who are doubtful."""
        card_of = self._members.card_of
        self._calm = 0 if self._calm >= CALM + TRUST else self._calm
        gone = {name for name in shown.slow if card_of(name) in self._at_home}  # nothing else shows of them
        left = {pair: long for pair, long in shown.within.items() if gone.isdisjoint(pair)}
        several = may_be_several(left, planned)
        if self._calm < CALM and several:
            doubted = [card_of(name) for name in shown.slow if planned.of(name) in several]
            self._doubted |= dict.fromkeys(card for card in doubted if not self._is_trusted(card))
            if not self._explores_inside:  # else that is to come anyway, and it may have been said
                self._log("topology: a rack may be several; the next broadcast explores inside racks")
            self._explores_inside, self._joined, self._vain = True, {}, 0
            return
        self._calm += 1
        quick = {name for pair, long in shown.within.items() if long < DOUBT_FACTOR for name in pair}
        self._at_home |= {card_of(name) for name in quick.difference(shown.slow)}
        moved: list[Card] = []
        misplaced: list[Card] = []
        for name in shown.doubtful:
            card = card_of(name)
            if not self._is_trusted(card):
                if card in self._at_home:  # it has moved
                    self._times.forget(card)
                    self._within.forget(card)
                    moved.append(card)
                else:  # it was misplaced: one node fills no link, so that nothing it took soon says much
                    self._within.forget(card, below=DOUBT_FACTOR)
                    misplaced.append(card)
                self._doubted[card] = None
                self._vain, self._infer_at = 0, self._seen + 1
                self._log(f"topology: {name} takes long with its rack; the next broadcast explores")
        if not (moved or misplaced):
            return
        self._joined = {}  # whatever else was to be explored comes after them
        belief = self._belief
        if belief is not None and not moved and belief.inferred.count > SIDES + 1:
            racks = dict.fromkeys(belief.of[card] for card in misplaced if card in belief.of)
            self._joined = self._with_nearest(racks, belief)
        self._explores_inside = bool(self._joined)
        self._explores = self._explores or not self._explores_inside

    def _is_trusted(self, card: Card) -> bool:
        return self._trusted_until.get(card, 0) >= self._seen

    # -- inference -------------------------------------------------------------------------------

    def take_job(self) -> "Callable[[], Callable[[], None]] | None":
        """An inference that is due: to be called anywhere, and what it returns to be called here."""
        if not self._is_due or self._running:
            return None
        self._running = True
        cards = list(dict.fromkeys(node.card for node in self._members if node.present))
        times, seed = self._evidence(cards), self._seed
        explored, doubted = self._explored_at == self._seen, list(self._doubted)

        def job() -> Callable[[], None]:
            try:
                inferred = infer(times, seed)
            except ValueError as failed:  # of numpy's and scikit-learn's making: it can do without
                reason = str(failed)
                return lambda: self._fail(reason)
            return lambda: self._weigh(cards, inferred, explored, doubted)

        return job

    def _evidence(self, cards: Sequence[Card]) -> NDArray[np.float64]:
        """n x n, seconds a byte to each card from each other, under the load by which it took longest: who
        stands together is near under any."""
        times = self._times.matrix(cards)
        within = self._within.matrix(cards) * soonest(times)
        within = np.where(np.isnan(within), within.T, within)
        longest: NDArray[np.float64] = np.fmax(times, within)
        return longest

    @property
    def _is_due(self) -> bool:
        """Whether there is evidence that no inference has seen, and enough of it."""
        return self.told == INFERRED and 0 < self._infer_at <= self._seen == self._evident_at

    def _fail(self, reason: str) -> None:
        """An inference came to nothing."""
        self._running = False
        self._joined = {}
        self._vain += 1
        if self._vain >= MOST_IN_VAIN:
            self._give_up()
        else:
            self._put_off()
        self._log(f"topology: racks could not be inferred: {reason}")

    def _put_off(self) -> None:
        """The next inference is worth its while later."""
        later = min(int(self._seen * INFER_GROWTH), self._seen + MOST_PUT_OFF)
        self._infer_at = max(self._seen + 1, later)

    def _weigh(
        self, cards: Sequence[Card], inferred: Inferred, explored: bool, doubted: Sequence[Card]
    ) -> None:
        """Believe what was inferred, or wait whether it comes out again, for which the next broadcast
        explores as the last one did: all nodes where that ``explored`` them, else each rack. What is believed
        and not sure is looked at again. Of nodes in doubt those are meant that were so by then."""
        self._running = False
        of: dict[Card, Rack] = {}
        for card, rack, likeliest in zip(cards, inferred.racks, inferred.likeliest, strict=True):
            place = likeliest if self._newcomers.get(card, 0) >= MOST_TRIES else rack
            if place >= 0:
                of[card] = place
        found, belief, candidate = _Belief(of, inferred, cards), self._belief, self._candidate
        self._candidate = found
        same = belief is not None and belief.agrees(found) and belief.of.keys() == of.keys()
        agreed = candidate is not None and candidate.agrees(found)
        if explored:
            self._newcomers = {card: tries + 1 for card, tries in self._newcomers.items()}
        sure = inferred.confidence >= SURE and (inferred.count == 1 or self._shown >= LEAST_SHOWN)
        sure = sure and not (belief is not None and belief.splits(found))
        if not of or not (same or agreed or sure):
            self._vain += 1
            self._explores, self._explores_inside = explored, not explored
            self._infer_at = self._seen + 1
            if self._vain >= MOST_IN_VAIN:
                self._give_up()
            return
        if belief is None or not belief.agrees(found):
            self._calm = 0
            self._at_home.clear()
            self._doubts.forget()
        elif not explored and not self._joined:
            self._calm = CALM
        divided = belief is not None and not explored and found.inferred.count > belief.inferred.count
        later = [card for card in self._doubted if card not in doubted]
        self._explores, self._explores_inside = divided or bool(later), False
        self._joined, self._vain = {}, 0
        self._newcomers = {card: tries for card, tries in self._newcomers.items() if card not in of}
        placed = [card for card in doubted if belief is not None and card in belief.of and card in of]
        stay = [card for card in placed if belief is not None and belief.mates(card) & found.mates(card)]
        if divided or len(stay) < len(placed):  # that, or who moved, was what took long
            stay = []
        elif explored and inferred.count > SIDES + 1:
            self._joined = self._with_nearest(dict.fromkeys(of[card] for card in stay), found)
            self._explores_inside = bool(self._joined)
        looked_for = [card for card in stay if of[card] in {*self._joined, *self._joined.values()}]
        self._trust([card for card in stay if card not in looked_for])
        self._doubted = dict.fromkeys([*looked_for, *later])
        if inferred.confidence < SURE and not self.explores:
            self._look_between(inferred)
        divides = belief is None or belief.inferred.count < 2 or found.divides(belief)
        if found.inferred.count > 1 and divides:
            self._on_divided()
        self._belief, self._infer_at = found, self._seen + 1
        if same:
            self._put_off()
            return
        sizes = ", ".join(str(list(found.of.values()).count(rack)) for rack in range(inferred.count))
        self._log(
            f"topology: {inferred.count} {'rack' if inferred.count == 1 else 'racks'} of {sizes} nodes, "
            f"confidence {inferred.confidence:.2f}"
        )

    def _look_between(self, unsure: Inferred) -> None:
        """Explore the two racks as one between which it is least sure, if that was not done of late; if they
        are all it would show what exploring all does."""
        if unsure.between is not None and unsure.count > 2 and self._look_at <= self._seen:
            self._look_at = self._seen + TRUST
            one, other = sorted(unsure.between)
            self._joined, self._explores_inside = {other: one}, True

    def _with_nearest(self, racks: Iterable[Rack], belief: _Belief) -> dict[Rack, Rack]:
        """These racks as one with the nearest, which are joined to them: in a line, those on both sides. They
        are the nearest as seen without racks, since what was seen inside racks shows those apart that were
        one."""
        times = self._times.matrix(list(belief.of))
        both = np.fmax(times, times.T)
        at = np.array(list(belief.of.values()))
        joined: dict[Rack, Rack] = {}

        def root(rack: Rack) -> Rack:
            return root(joined[rack]) if rack in joined else rack

        for rack in racks:
            between = {
                other: both[np.ix_(at == rack, at == other)] for other in set(belief.of.values()) - {rack}
            }
            far = {
                other: float(np.nanmedian(its)) for other, its in between.items() if not np.isnan(its).all()
            }
            for other in sorted(far, key=far.__getitem__)[:SIDES]:
                if root(other) != root(rack):
                    joined[root(other)] = root(rack)
        return {rack: root(rack) for rack in joined}

    def _trust(self, cards: Sequence[Card]) -> None:
        """These were found where they were: they are just slow. Nobody is in doubt any more."""
        for card in cards:
            self._trusted_until[card] = self._seen + TRUST
        self._doubted.clear()

    # -- for people ------------------------------------------------------------------------------

    def described(self, names: Iterable[NodeName]) -> dict[str, object]:
        """As ``orchestra topology --json`` shows it.

        Args:
            names: of nodes that are there.
        """
        names = list(names)
        if isinstance(self.told, GivenRacks):
            given = self.told
            of: dict[str, Rack | None] = {name: self._given_rack(given, name) for name in names}
            return {
                "racks": as_groups(of),
                "confidence": 1.0,
                "source": "given",
                "not_in_file": [name for name in names if of[name] is None],
                "not_joined": [name for name in given.names if name not in names],
                "contradicting": list(self._contradicting),
            }
        belief = self._belief
        if self.told == FLAT or belief is None:
            return {
                "racks": [names] if names else [],
                "confidence": 0.0,
                "source": self.told,
                "believed": False,
                "broadcasts": self._seen,
                "inferring": self._running or self._is_due,
                "exploring": self.explores,
            }
        of = {name: self._rack_in(belief, name) for name in names}
        position_of = dict(zip(belief.cards, belief.inferred.positions, strict=True))
        return {
            "racks": as_groups(of),
            "confidence": belief.inferred.confidence,
            "source": INFERRED,
            "believed": True,
            "broadcasts": self._seen,
            "inferring": self._running or self._is_due,
            "exploring": self.explores,
            "unplaced": [name for name in names if of[name] is None],
            "positions": {
                name: [float(x) for x in position_of[self._members.card_of(name)]]
                for name in names
                if of[name] is not None
            },
        }
