"""Max-min fair rates: progressive filling, all bottlenecks of a round at once.

Owns the one algorithm by which flows share links here. Must not know whose flows they are: policies ask it
for plans, the simulated network asks it what links would do by themselves.

Theory of operation. Filling raises all rates together until a link is full, freezes the flows of that link,
and goes on with the rest (Bertsekas and Gallager, Data Networks, 1992, section 6.5.2). One link at a time
takes as many rounds as there are bottlenecks. Here a round freezes every *local* bottleneck: a link whose
equal share is the least that any of its own flows meets on its way. What happens elsewhere can only leave
more room on the other links of such a flow, never less, so the link stays the flow's bottleneck and the
result is the same; the number of rounds is the length of the longest chain of bottlenecks, not their count.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]

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
