"""What happens when, on a grid of time: the event queue of the plain planner loop.

Owns the order of events. Must not know what they are. Pure: time is a number.

Theory of operation. An event due between two points of the grid happens at the later one, together with all
others due there, in the order in which they were put down. So one step of the loop moves the fluid once for
all of them, and a queue costs a list's append instead of a heap's push for each event.
"""

import heapq
import math
from collections.abc import Callable
from typing import Any

_SLACK = 1e-6
"""Of a step: a moment that is on the grid but for rounding is on it."""


class Agenda:
    """Events on a grid.

    Args:
        resolution_s: distance of the grid's points.

    Raises:
        ValueError: for a resolution that is not above 0 and finite.
    """

    def __init__(self, resolution_s: float) -> None:
        if not (math.isfinite(resolution_s) and resolution_s > 0):
            raise ValueError(f"resolution_s must be above 0 and finite, got {resolution_s}")
        self.resolution_s = resolution_s
        self.now_s = 0.0
        self._step = 0
        self._steps: list[int] = []
        self._due: dict[int, list[tuple[Callable[..., object], tuple[Any, ...]]]] = {}

    def at(self, when_s: float, what: Callable[..., object], *arguments: object) -> None:
        """Call ``what`` at the first point of the grid that is not before ``when_s``, nor now before."""
        step = max(self._step, math.ceil(when_s / self.resolution_s - _SLACK))
        due = self._due.get(step)
        if due is None:
            due = self._due[step] = []
            heapq.heappush(self._steps, step)
        due.append((what, arguments))

    def go_on(self, other_s: float) -> float:
        """Move to the next point at which anything is due, here or at ``other_s``; that time.

        Infinity, and no movement, where nothing is due at all.
        """
        step: float = self._steps[0] if self._steps else math.inf
        if other_s < math.inf:
            other = math.ceil(other_s / self.resolution_s)
            if other * self.resolution_s < other_s:  # rounded down: whoever waits would find it is too early
                other += 1
            step = min(step, max(other, self._step))
        if step == math.inf:
            return math.inf
        self._step = int(step)
        self.now_s = max(self.now_s, self._step * self.resolution_s)
        return self.now_s

    def happen(self) -> None:
        """Call everything that is due now, and what that puts down for now."""
        while self._steps and self._steps[0] <= self._step:
            # Grows while it is walked: what is put down for now is called in this walk.
            for what, arguments in self._due[self._steps[0]]:
                what(*arguments)
            del self._due[heapq.heappop(self._steps)]
