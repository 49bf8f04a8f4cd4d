"""Hypothesis strategies for what policies are shown."""

import math

import numpy as np
from hypothesis import strategies as st

from schedulers import Broadcast, Demand, Shuffle, Snapshot, Standing, TransferId

NODES = 4
"""Each with an egress port, by its number, and an ingress port, `NODES` higher."""

sizes = st.sampled_from([0.0, 1.0, 2.0, 5.0]) | st.floats(0.5, 50.0)
some_nodes = st.lists(st.integers(0, NODES - 1), unique=True, min_size=1, max_size=NODES)


def _standing(draw: st.DrawFn, number: int) -> Standing:
    return Standing(
        TransferId(f"t{number}"),
        arrival=float(number),
        priority=draw(st.integers(0, 2)),
        weight=draw(st.sampled_from([0.5, 1.0, 3.0])),
        sent_bytes=draw(st.sampled_from([0.0, 5e6, 2e7, 3e8, 1e20])),
    )


@st.composite
def shuffles(draw: st.DrawFn, number: int = 0, weighted: bool | None = None) -> Shuffle:
    """Up to four mappers and reducers; some flows have nothing left, and now and then none has."""
    egress, ingress = draw(some_nodes), draw(some_nodes)
    left = draw(st.lists(sizes, min_size=len(egress) * len(ingress), max_size=len(egress) * len(ingress)))
    return Shuffle.of(
        _standing(draw, number),
        np.array(egress, dtype=np.intp),
        np.array(ingress, dtype=np.intp) + NODES,
        np.array(left).reshape(len(egress), len(ingress)),
        weighted=draw(st.booleans()) if weighted is None else weighted,
    )


@st.composite
def broadcasts(draw: st.DrawFn, number: int = 0) -> Broadcast:
    """On any ports; some of them have nothing to carry any more."""
    ports = draw(st.lists(st.integers(0, 2 * NODES - 1), unique=True, min_size=1, max_size=2 * NODES))
    left = draw(st.lists(sizes, min_size=len(ports), max_size=len(ports)))
    return Broadcast(_standing(draw, number), np.array(ports, dtype=np.intp), np.array(left))


@st.composite
def snapshots(
    draw: st.DrawFn, *, with_broadcasts: bool = True, least: int = 0, weighted: bool | None = None
) -> Snapshot:
    """Up to five transfers over eight ports, some of which have no limit."""
    capacity = st.sampled_from([1.0, 2.0, math.inf]) | st.floats(0.5, 100.0)
    capacities = np.array(draw(st.lists(capacity, min_size=2 * NODES, max_size=2 * NODES)))
    demands: list[Demand] = []
    for number in range(draw(st.integers(least, 5))):
        kinds = shuffles(number, weighted)
        demands.append(draw(st.one_of(kinds, broadcasts(number)) if with_broadcasts else kinds))
    return Snapshot(capacities, demands)
