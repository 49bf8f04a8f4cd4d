"""Max-min fair rates: progressive filling, all bottlenecks of a round at once.

Owns the algorithm by which flows share links here, in two forms: `max_min_rates` for single flows over a few
links each, as the simulated network has them, and `port_levels` for very many flows between ports, as
policies have them. Must not know whose flows they are.

Theory of operation. Filling raises all rates together until a link is full, freezes the flows of that link,
and goes on with the rest (Bertsekas and Gallager, Data Networks, 1992, section 6.5.2). One link at a time
takes as many rounds as there are bottlenecks. Here a round freezes every *local* bottleneck: a link whose
equal share is the least that any of its own flows meets on its way. What happens elsewhere can only leave
more room on the other links of such a flow, never less, so the link stays the flow's bottleneck and the
result is the same; the number of rounds is the length of the longest chain of bottlenecks, not their count.

A flow has the level at which the first of its links froze, and that is the least of its links' levels, since
who freezes later has no less. So it is enough to know the level of each port: rates of flows need not be
written down, and a round over a shuffle of m by r flows that all have something left takes m + r steps.
Nothing in this asks that a level uses the same of every link: a transfer may use its ports by any multiples
of its level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]
Bools: TypeAlias = NDArray[np.bool_]

_SLACK = 1e-9
"""Shares that differ by less than this, relatively, are equal: a rounding error must not cost a round."""


def max_min_rates(paths: Indices, capacities: Floats, caps: Floats | None = None) -> Floats:
    """The max-min fair rates of flows over links, each flow at most at its own cap.

    Args:
        paths: shape (flows, hops): the links of each flow, by index; shorter paths are padded by the index of
            a link of infinite capacity.
        capacities: shape (links,): units/s, not negative; infinity for a link that limits nobody.
        caps: shape (flows,): most that each flow may have; None is none.

    Returns:
        Shape (flows,): units/s. Infinity for a flow without a cap over infinite links only.
    """
    flows, hops = paths.shape
    rates = np.zeros(flows)
    if not flows:
        return rates
    links = len(capacities)
    left = np.array(capacities, dtype=np.float64)
    endless = np.isinf(left)
    limits = np.full(flows, np.inf) if caps is None else np.asarray(caps, dtype=np.float64)
    active = np.arange(flows)
    while active.size:
        way = paths[active]
        flat = way.ravel()
        crossing = np.bincount(flat, minlength=links)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where((crossing > 0) & ~endless, left / crossing, np.inf)
        tight = share[way].min(axis=1)
        cap = limits[active]
        level = np.minimum(tight, cap)
        lowest = np.full(links, np.inf)
        np.minimum.at(lowest, flat, np.repeat(level, hops))
        full = (lowest >= share * (1 - _SLACK)) & ~endless
        frozen = full[way].any(axis=1) | (cap <= tight)
        frozen |= np.isinf(level)
        given = level[frozen]
        rates[active[frozen]] = given
        used = np.bincount(
            way[frozen].ravel(),
            weights=np.repeat(np.where(np.isinf(given), 0.0, given), hops),
            minlength=links,
        )
        left = np.where(endless, np.inf, np.maximum(left - np.where(endless, 0.0, used), 0.0))
        active = active[~frozen]
    return rates


class Users(Protocol):
    """Who uses which ports; all are through where a port of theirs has frozen. Shapes are (ports,)."""

    def used(self, still_open: Floats) -> Floats:
        """What those who are not through use of each port, for a level of 1; 1 is open, 0 is frozen."""
        ...

    def held(self, shares: Floats, still_open: Floats) -> Bools:
        """Whether somebody who crosses a port is not through, and meets a smaller share elsewhere.

        Args:
            shares: of the ports that are open, used and limited; infinity elsewhere.
            still_open: as for `used`.
        """
        ...

    def taken(self, given: Floats, still_open: Floats) -> Floats:
        """What is given of each port to those who are through by now, and were not before.

        Args:
            given: the levels of the ports that froze just now, else 0.
            still_open: as it was before.
        """
        ...


def port_levels(capacities: Floats, users: Sequence[Users]) -> tuple[Floats, Floats]:
    """The levels at which ports are full, max-min fair among all who use them.

    Args:
        capacities: shape (ports,): units/s, not negative; infinity for a port that limits nobody.
        users: of the ports.

    Returns:
        Shape (ports,): the level of each; infinity where a port limits nobody, since it has no limit, or all
        who use it are held elsewhere. A user has the least of its ports' levels. And what is left of each
        port.
    """
    left = np.array(capacities, dtype=np.float64)
    finite = np.isfinite(left)
    levels = np.full(len(left), np.inf)
    still_open = np.ones(len(left))
    while True:
        used = _total([each.used(still_open) for each in users], len(left))
        limited = (still_open > 0) & (used > 0) & finite
        if not limited.any():
            return levels, left
        shares = np.full(len(left), np.inf)
        np.divide(left, used, out=shares, where=limited)
        full = limited.copy()
        for each in users:
            full &= ~each.held(shares, still_open)
        levels[full] = shares[full]
        taken = _total([each.taken(np.where(full, shares, 0.0), still_open) for each in users], len(left))
        left = np.maximum(left - taken, 0.0)
        left[full] = 0.0
        still_open[full] = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Flows from egress to ingress ports.

    Attributes:
        ports: of how many ports in all.
        egress: the places of egress ports among them, shape (m,), none twice.
        ingress: the places of ingress ports, shape (r,), none twice, none that is an egress port's.
        weights: shape (m, r), not below 0: how many flows, or parts of one, there are; None is one
            everywhere.
    """

    ports: int
    egress: Indices
    ingress: Indices
    weights: Floats | None = None

    def used(self, still_open: Floats) -> Floats:
        """As `Users.used`."""
        out, into = still_open[self.egress], still_open[self.ingress]
        return self._by_port(out * self._into_rows(into), into * self._into_columns(out))

    def held(self, shares: Floats, still_open: Floats) -> Bools:
        """As `Users.held`. Those who are through meet no smaller share: a frozen port has none."""
        out, into = shares[self.egress], shares[self.ingress]
        held = np.zeros(self.ports, dtype=bool)
        if self.weights is None:
            held[self.egress] = into.min() < out * (1 - _SLACK)
            held[self.ingress] = out.min() < into * (1 - _SLACK)
        else:
            flows = self.weights > 0
            held[self.egress] = (flows & (into < out[:, None] * (1 - _SLACK))).any(axis=1)
            held[self.ingress] = (flows & (out[:, None] < into * (1 - _SLACK))).any(axis=0)
        return held

    def taken(self, given: Floats, still_open: Floats) -> Floats:
        """As `Users.taken`."""
        out, into = still_open[self.egress], still_open[self.ingress]
        rows, columns = given[self.egress] * out, given[self.ingress] * into
        return self._by_port(out * self._into_rows(columns), into * self._into_columns(rows))

    def _into_rows(self, by_column: Floats) -> Floats:
        if self.weights is None:
            return np.full(len(self.egress), by_column.sum())
        sums: Floats = self.weights @ by_column
        return sums

    def _into_columns(self, by_row: Floats) -> Floats:
        if self.weights is None:
            return np.full(len(self.ingress), by_row.sum())
        sums: Floats = by_row @ self.weights
        return sums

    def _by_port(self, rows: Floats, columns: Floats) -> Floats:
        total = np.zeros(self.ports)
        total[self.egress], total[self.ingress] = rows, columns
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Bundles:
    """Transfers that use any number of ports, each port by a multiple of their level.

    Attributes:
        ports: of how many ports in all.
        crossings: shape (crossings,): the places of each one's ports, one's after the other's.
        bounds: shape (bundles + 1,): those of bundle i are ``crossings[bounds[i]:bounds[i + 1]]``, at least
            one.
        usage: shape (crossings,), above 0: what one unit of level uses of that port.
    """

    ports: int
    crossings: Indices
    bounds: Indices
    usage: Floats

    def used(self, still_open: Floats) -> Floats:
        """As `Users.used`."""
        return self._by_port(self.usage * self._spread(self._going(still_open)))

    def held(self, shares: Floats, still_open: Floats) -> Bools:
        """As `Users.held`."""
        levels = np.where(self._going(still_open) > 0, self.least(shares), np.inf)
        below = self._spread(levels) < shares[self.crossings] * (1 - _SLACK)
        return self._by_port(below) > 0

    def taken(self, given: Floats, still_open: Floats) -> Floats:
        """As `Users.taken`."""
        levels = self.least(np.where(given > 0, given, np.inf))
        going = self._going(still_open) * np.isfinite(levels)
        return self._by_port(self.usage * self._spread(np.where(going > 0, levels, 0.0)))

    def least(self, by_port: Floats) -> Floats:
        """Shape (bundles,): the least that each meets on its ports."""
        least: Floats = np.minimum.reduceat(by_port[self.crossings], self.bounds[:-1])
        return least

    def _going(self, still_open: Floats) -> Floats:
        return self.least(still_open)

    def _spread(self, by_bundle: Floats) -> Floats:
        return np.repeat(by_bundle, np.diff(self.bounds))

    def _by_port(self, by_crossing: Floats | Bools) -> Floats:
        counted = np.bincount(self.crossings, weights=by_crossing, minlength=self.ports)
        return counted.astype(np.float64)


def _total(parts: Sequence[Floats], ports: int) -> Floats:
    return parts[0] if len(parts) == 1 else sum(parts, np.zeros(ports))
