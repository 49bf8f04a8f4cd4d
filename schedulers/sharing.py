"""The room that is left at ports, and who has been given what: the steps that policies are made of.

Owns the five ways of giving: a reserve for some, progress for all alike, all of one transfer's flows in
proportion, what one transfer's flows can still take, and what all flows together can still take. Must not
know in which order, or for whose good: that is the policy.

Theory of operation. A transfer that moves in proportion needs one number, its *pace*: how many times a second
all that its ports have left may pass. (Where its flows are to be equal, or sizes are not to be known, a pace
counts flows in place of bytes.) So most is decided by totals a port. At the greatest pace that its ports
allow, a transfer takes as long as its effective bottleneck, and all its flows end together: the weighted
shuffle (Chowdhury et al. 2011, section 5) and the MADD of Varys (Chowdhury, Zhong and Stoica 2014) are this.
It fills one port and leaves room at others. *Filling* gives that room to flows, max-min fair, so that none
stands still without need. What it gives is kept by port: a flow has the less of its two ports' levels.
"""

from collections.abc import Iterator

import numpy as np

from schedulers.allocation import Allocation, Levels, Share
from schedulers.filling import Bundles, Floats, Indices, Pairs, Users, port_levels
from schedulers.snapshot import Broadcast, Demand, Shuffle, Snapshot, pace_usage

_NO_ROOM = 1e-9
"""Of a port, or of a pace: less than this is left by rounding alone."""

_LOOK_AGAIN = 50
"""Transfers after which it is looked anew who may find room (a guess: a look costs what twenty trials do)."""

_CUT_BELOW = 0.5
"""Of a shuffle's flows: if ports with room are between fewer, a smaller matrix of those is made (a guess)."""


class Sharing:
    """One decision in the making.

    Args:
        snapshot: whom to serve.
        sizes_known: whether paces may follow what flows have left; if not, all flows of a shuffle are equal.
    """

    def __init__(self, snapshot: Snapshot, *, sizes_known: bool = True) -> None:
        capacities = snapshot.capacities
        self._demands = snapshot.demands
        self._left: Floats = np.array(capacities, dtype=np.float64)
        self._least: Floats = np.where(np.isinf(capacities), 0.0, capacities * _NO_ROOM)
        self._crossings, self._segments, self._middles = snapshot.crossings, snapshot.bounds, snapshot.middles
        self._in_bytes = [_in_bytes(demand, sizes_known) for demand in self._demands]
        usage = np.concatenate([np.empty(0), *map(pace_usage, self._demands, self._in_bytes)])
        bound = (usage > 0) & np.isfinite(capacities[self._crossings])
        self._ports, self._usage, self._whose = self._crossings[bound], usage[bound], snapshot.whose[bound]
        self._bounds: Indices = np.searchsorted(self._whose, np.arange(len(self._demands) + 1))
        alone_s = np.zeros(len(self._demands))
        np.maximum.at(alone_s, self._whose, self._usage / capacities[self._ports])
        self._paces_alone: Floats = np.divide(1.0, alone_s, out=np.zeros(len(alone_s)), where=alone_s > 0)
        self._paces: Floats = np.zeros(len(self._demands))
        self._beside: dict[int, Levels] = {}

    # -- ways of giving --------------------------------------------------------------------------

    def reserve(self, parts: Floats) -> None:
        """Give each transfer a part of the pace that it would have alone.

        Args:
            parts: shape (transfers,), not below 0, in sum at most 1, so that there is room for all of it.
        """
        self._quicken(parts * self._paces_alone)

    def share_progress(self, weights: Floats) -> None:
        """Raise all paces, as parts of what each would be alone, in proportion to weights, until a port of
        each transfer is full.

        Weighted max-min fairness over transfers, each of which counts by its bottleneck: dominant resource
        fairness (Ghodsi et al. 2011) with ports as resources.
        """
        units = weights * self._paces_alone
        rows = np.flatnonzero(units)
        if not rows.size:
            return
        bounds = np.append(
            self._bounds[rows], self._bounds[-1:]
        )  # those between have no port that limits them
        bundles = Bundles(len(self._left), self._ports, bounds, self._usage * units[self._whose])
        levels, _ = port_levels(self._left, [bundles])
        paces = np.zeros(len(units))
        paces[rows] = bundles.least(levels) * units[rows]
        self._quicken(paces)

    def give_in_proportion(self, order: Indices) -> None:
        """One transfer after the other the greatest pace that is left: all its flows end together."""
        closed = np.bincount(
            self._whose, weights=(self._left <= self._least)[self._ports], minlength=len(self._demands)
        )
        for transfer in order[closed[order] == 0]:
            self._give_pace(transfer)

    def fill(self, order: Indices) -> None:
        """One transfer after the other whatever its flows can still take, max-min fair among them."""
        for transfer in self._with_room(order):
            demand = self._demands[transfer]
            if isinstance(demand, Broadcast):
                self._give_pace(transfer)
            else:
                self._fill_one(transfer, demand)

    def fill_together(self, weights: Floats, *, heed_scheduling: bool = False) -> None:
        """Whatever all flows can still take, max-min fair among them all. Nothing is left to give after it.

        Args:
            weights: shape (transfers,), above 0: of each flow of a transfer, and of a broadcast, which counts
                as one flow that is as fast as its busiest port.
            heed_scheduling: whether flows of a weighted shuffle count by what they have left, and all of them
                together as much as if each counted once.
        """
        room = np.where(self._left > self._least, self._left, 0.0)
        shuffles: list[tuple[int, Shuffle]] = []
        broadcasts: list[int] = []
        for transfer in self._with_room(np.arange(len(self._demands))):
            demand = self._demands[transfer]
            if isinstance(demand, Shuffle):
                shuffles.append((transfer, demand))
            elif self._usage[self._of(transfer)].size:
                broadcasts.append(transfer)
            else:
                self._give_pace(transfer)
        users: list[Users] = []
        if shuffles:
            users.append(_pairs(shuffles, weights, len(room), heed_scheduling))
        units: Floats = np.array([weights[one] / self._usage[self._of(one)].max() for one in broadcasts])
        if broadcasts:
            segments = [self._of(transfer) for transfer in broadcasts]
            usage = [self._usage[segment] * unit for segment, unit in zip(segments, units, strict=True)]
            bounds = np.cumsum([0, *map(len, usage)])
            crossings = np.concatenate([self._ports[segment] for segment in segments])
            bundles = Bundles(len(room), crossings, bounds, np.concatenate(usage))
            users.append(bundles)
        levels, _ = port_levels(room, users)
        for transfer, demand in shuffles:
            weight = float(weights[transfer])
            out, into = levels[demand.egress] * weight, levels[demand.ingress] * weight
            self._beside[transfer] = Levels(out, into, demand.flow_weights if heed_scheduling else None)
        if broadcasts:
            self._paces[broadcasts] += bundles.least(levels) * units

    def allocation(self, order: Indices | None = None) -> Allocation:
        """Who has been given what.

        Args:
            order: shape (transfers,): who went first; None where nobody did.
        """
        return Allocation(
            [
                Share(demand, float(pace), in_bytes, self._beside.get(transfer))
                for transfer, (demand, pace, in_bytes) in enumerate(
                    zip(self._demands, self._paces, self._in_bytes, strict=True)
                )
            ],
            order=() if order is None else tuple(map(int, order)),
        )

    # -- in proportion ---------------------------------------------------------------------------

    def _of(self, transfer: int) -> slice:
        """Its crossings of ports that limit it."""
        return slice(self._bounds[transfer], self._bounds[transfer + 1])

    def _quicken(self, paces: Floats) -> None:
        """Give all transfers at once."""
        self._paces += paces
        used = paces[self._whose] * self._usage
        self._left -= np.bincount(self._ports, weights=used, minlength=len(self._left))
        np.maximum(self._left, 0.0, out=self._left)

    def _give_pace(self, transfer: int) -> None:
        """The greatest for which there is room; infinity for a broadcast that no port limits."""
        crossings = self._of(transfer)
        if crossings.start == crossings.stop:
            demand = self._demands[transfer]
            if isinstance(demand, Broadcast) and demand.port_bytes.any():
                self._paces[transfer] = np.inf
            return
        ports, usage = self._ports[crossings], self._usage[crossings]
        room = self._left[ports]
        pace = float((room / usage).min())
        if pace > self._paces_alone[transfer] * _NO_ROOM:
            self._paces[transfer] += pace
            self._left[ports] = np.maximum(room - pace * usage, 0.0)

    # -- flow by flow ----------------------------------------------------------------------------

    def _with_room(self, order: Indices) -> Iterator[int]:
        """Of some transfers those of which a flow may find room, as far as totals tell."""
        starts, middles, ends = self._segments[:-1], self._middles, self._segments[1:]
        while order.size:
            seen = np.concatenate([[0], np.cumsum((self._left > self._least)[self._crossings])])
            out = seen[middles[order]] > seen[starts[order]]
            into = (seen[ends[order]] > seen[middles[order]]) | (middles[order] == ends[order])
            order = order[out & into]  # for good: room only shrinks
            yield from map(int, order[:_LOOK_AGAIN])
            order = order[_LOOK_AGAIN:]

    def _fill_one(self, transfer: int, demand: Shuffle) -> None:
        """Let a shuffle's flows fill what is left."""
        mappers, reducers = len(demand.egress), len(demand.ingress)
        room = self._left[demand.ports]
        places = np.flatnonzero((room > self._least[demand.ports]) & (demand.port_flows > 0))
        rows, columns = places[places < mappers], places[places >= mappers] - mappers
        if not (rows.size and columns.size):
            return
        if demand.complete:
            weights, shown = None, places
        elif rows.size * columns.size < _CUT_BELOW * mappers * reducers:
            weights, shown = demand.flows[np.ix_(rows, columns)], places
        else:
            weights, shown = demand.flows, np.arange(mappers + reducers)
        if weights is not None and not weights.any():
            return
        capacities = np.zeros(mappers + reducers)
        capacities[places] = room[places]
        here = np.arange(len(shown))
        out = np.count_nonzero(shown < mappers)
        found, left = port_levels(capacities[shown], [Pairs(len(shown), here[:out], here[out:], weights)])
        levels, capacities[shown] = np.zeros(mappers + reducers), left
        levels[shown] = found
        self._beside[transfer] = Levels(levels[:mappers], levels[mappers:])
        self._left[demand.ports[places]] = capacities[places]


def allocate_in_order(snapshot: Snapshot, order: Indices, reserves: Floats | None = None) -> Allocation:
    """One transfer after the other, in proportion first, then flow by flow.

    Args:
        snapshot: whom to serve.
        order: shape (transfers,): who goes first.
        reserves: shape (transfers,): the part of its pace alone that each has beforehand; None is nothing.
    """
    sharing = Sharing(snapshot)
    if reserves is not None:
        sharing.reserve(reserves)
    sharing.give_in_proportion(order)
    sharing.fill(order)
    return sharing.allocation(order)


def _in_bytes(demand: Demand, sizes_known: bool) -> bool:
    """Whether a pace follows what is left."""
    return isinstance(demand, Broadcast) or (sizes_known and demand.weighted)


def _pairs(shuffles: list[tuple[int, Shuffle]], weights: Floats, ports: int, own: bool) -> Pairs:
    """The flows of all shuffles, added up by the pair of ports between which they are; ``own``: by weights of
    their own."""
    egress = np.unique(np.concatenate([shuffle.egress for _, shuffle in shuffles]))
    ingress = np.unique(np.concatenate([shuffle.ingress for _, shuffle in shuffles]))
    place = np.zeros(ports, dtype=np.intp)
    place[egress], place[ingress] = np.arange(len(egress)), np.arange(len(ingress))
    alike = [shuffle.complete and not (own and shuffle.weighted) for _, shuffle in shuffles]
    complete = [one for one, is_alike in zip(shuffles, alike, strict=True) if is_alike]
    out, into = np.zeros((len(complete), len(egress))), np.zeros((len(complete), len(ingress)))
    for row, (transfer, shuffle) in enumerate(complete):
        out[row, place[shuffle.egress]] = weights[transfer]
        into[row, place[shuffle.ingress]] = 1.0
    counts: Floats = out.T @ into
    for (transfer, shuffle), is_alike in zip(shuffles, alike, strict=True):
        if not is_alike:
            flows = shuffle.flow_weights if own and shuffle.weighted else shuffle.flows
            counts[np.ix_(place[shuffle.egress], place[shuffle.ingress])] += flows * weights[transfer]
    return Pairs(ports, egress, ingress, counts)
