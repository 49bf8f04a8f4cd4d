"""Bytes as a fluid: flows that share the links of a fabric, and when the next of them gets somewhere.

Owns how far every flow has come. Must not know what the bytes are, or who waits for them. Pure: time is
passed in. Both the simulated network under trio and the plain planner loop run on it.

Theory of operation. A flow has a goal, in bytes since its start, and a mark on the way that somebody wants to
hear of. Between two changes every rate is constant, so all flows advance by one multiplication of
arrays, and the next event is the least of the times to their marks. Rates are max-min fair under the caps of
flows (`schedulers.filling`). They are computed anew when a flow has begun, ended, or got another cap, but
not before ``settle_s`` have passed since the last time: real connections need a moment, too, and changes of
one moment cost one computation. Until then a flow that has begun stands still and what an ended one
left is unused, so time comes out rather too long than too short.
"""

import math
from collections.abc import Iterable

import numpy as np

from orchestra.simulation.fabric import LOOPBACK_BYTES_PER_S, Fabric
from schedulers.filling import Floats, Indices, max_min_rates

_CLOSE_BYTES = 1e-3
"""A mark that is nearer than this has been reached: rounding must not leave a thousandth of a byte."""


class Fluid:
    """The flows of a fabric.

    Args:
        fabric: whose links they share.
        settle_s: least time between two computations of rates.
    """

    def __init__(self, fabric: Fabric, settle_s: float = 0.0) -> None:
        self.fabric = fabric
        self.settle_s = settle_s
        self.now_s = 0.0
        self.settlings = 0
        self._size = 0
        self._free: list[int] = []
        self._paths: Indices = np.empty((0, fabric.hops), dtype=np.intp)
        self._moved: Floats = np.empty(0)
        self._goal: Floats = np.empty(0)
        self._mark: Floats = np.empty(0)
        self._rate: Floats = np.empty(0)
        self._cap: Floats = np.empty(0)
        self._live: np.ndarray[tuple[int], np.dtype[np.bool_]] = np.empty(0, dtype=bool)
        self._ends: list[tuple[int, int]] = []
        self._settle_at_s = math.inf
        self._settled_at_s = -math.inf
        self._next_mark_s = math.inf  # no mark is reached before this

    # -- flows -----------------------------------------------------------------------------------

    def start(self, sender: int, receiver: int, size_bytes: float, cap_bytes_per_s: float = math.inf) -> int:
        """A flow begins; its number, which is used again after `stop`."""
        if not self._free:
            self._grow()
        flow = self._free.pop()
        self._ends[flow] = (sender, receiver)
        self._paths[flow] = self.fabric.path(sender, receiver)
        self._moved[flow] = 0.0
        self._goal[flow] = self._mark[flow] = size_bytes
        self._rate[flow] = 0.0
        self._cap[flow] = cap_bytes_per_s
        self._live[flow] = True
        self._unsettle()
        return flow

    def stop(self, flow: int) -> None:
        """A flow ends, whether it has got to its goal or not."""
        self._live[flow] = False
        self._rate[flow] = 0.0
        self._mark[flow] = math.inf
        self._free.append(flow)
        self._unsettle()

    def extend(self, flow: int, goal_bytes: float) -> None:
        """Its goal lies farther away now; the mark stays where it is."""
        self._goal[flow] = goal_bytes

    def watch(self, flow: int, mark_bytes: float) -> None:
        """The next event of a flow is at this many bytes, or at its goal if that is nearer."""
        mark = self._mark[flow] = min(mark_bytes, float(self._goal[flow]))
        rate = self._rate[flow]
        if rate > 0:
            reached_s = self.now_s + max(0.0, float((mark - self._moved[flow]) / rate))
            self._next_mark_s = min(self._next_mark_s, reached_s)

    def set_cap(self, flow: int, cap_bytes_per_s: float) -> None:
        """It may not be faster than this from now on."""
        if self._cap[flow] != cap_bytes_per_s:
            self._cap[flow] = cap_bytes_per_s
            self._unsettle()

    def unsettle(self) -> None:
        """The fabric has changed: flows may go another way now, or have another rate."""
        for flow in np.flatnonzero(self._live):
            self._paths[flow] = self.fabric.path(*self._ends[flow])
        self._unsettle()

    def moved(self, flow: int) -> float:
        """Bytes that a flow has carried by now."""
        return float(self._moved[flow])

    def rate(self, flow: int) -> float:
        """Bytes/s of a flow just now."""
        return float(self._rate[flow])

    def rates_and_caps(self, flows: Indices) -> tuple[Floats, Floats]:
        """Bytes/s of some flows just now, and the most that each may have."""
        return self._rate[flows], self._cap[flows]

    @property
    def live(self) -> int:
        """How many flows there are."""
        return self._size - len(self._free)

    # -- time ------------------------------------------------------------------------------------

    def next_event_s(self) -> float:
        """Before when nothing will happen if nothing changes; infinity for never."""
        return min(self._settle_at_s, self._next_mark_s)

    def advance(self, now_s: float) -> list[int]:
        """Move everything to ``now_s``; the flows that are at their marks, or past them."""
        step_s = now_s - self.now_s
        if step_s > 0:
            self._moved += self._rate * step_s
            np.minimum(self._moved, self._goal, out=self._moved)
        self.now_s = now_s
        if now_s >= self._settle_at_s:
            self._settle()
        elif now_s < self._next_mark_s:
            return []
        reached = np.flatnonzero(self._moved >= self._mark - _CLOSE_BYTES)
        self._find_next_mark(reached)
        return [int(flow) for flow in reached]

    def loads(self) -> Floats:
        """Bytes/s on every link just now, in the order of the fabric's capacities."""
        live = self._live[: self._size]
        paths = self._paths[: self._size][live]
        weights = np.repeat(self._rate[: self._size][live], self.fabric.hops)
        loads: Floats = np.bincount(
            paths.ravel(), weights=weights, minlength=len(self.fabric.capacities)
        ).astype(np.float64)
        return loads

    def flows(self) -> Iterable[tuple[int, int, int]]:
        """Each live flow with its sender and receiver."""
        return ((int(flow), *self._ends[flow]) for flow in np.flatnonzero(self._live))

    # -- inside ----------------------------------------------------------------------------------

    def _unsettle(self) -> None:
        self._settle_at_s = min(self._settle_at_s, max(self.now_s, self._settled_at_s + self.settle_s))

    def _find_next_mark(self, but: Indices) -> None:
        """The next event, apart from those that are told of just now and get new marks."""
        running = self._rate > 0
        running[but] = False
        left = self._mark[running] - self._moved[running]
        if left.size:
            self._next_mark_s = self.now_s + max(0.0, float((left / self._rate[running]).min()))
        else:
            self._next_mark_s = math.inf

    def _settle(self) -> None:
        self._settle_at_s = math.inf
        self._settled_at_s = self.now_s
        self.settlings += 1
        live = np.flatnonzero(self._live)
        caps = np.minimum(self._cap[live], LOOPBACK_BYTES_PER_S)
        if self.fabric.obstructed:
            for at, flow in enumerate(live):
                if not self.fabric.passes(*self._ends[flow]):
                    caps[at] = 0.0
        self._rate[live] = max_min_rates(self._paths[live], self.fabric.capacities, caps)

    def _grow(self) -> None:
        more = max(64, self._size)
        self._paths = np.concatenate([self._paths, np.zeros((more, self.fabric.hops), dtype=np.intp)])
        for name, fill in (
            ("_moved", 0.0),
            ("_goal", 0.0),
            ("_mark", math.inf),
            ("_rate", 0.0),
            ("_cap", 0.0),
        ):
            setattr(self, name, np.concatenate([getattr(self, name), np.full(more, fill)]))
        self._live = np.concatenate([self._live, np.zeros(more, dtype=bool)])
        self._ends += [(0, 0)] * more
        self._free += reversed(range(self._size, self._size + more))
        self._size += more
