"""Shuffles under a policy, as fluids: when each would be through.

Owns how far every flow has come while a policy shares the ports. Must not know the policy's reasons. Pure:
time is computed, not read.

Theory of operation. Between two decisions all rates are constant. A policy decides at every arrival, whenever
flows end, and when its own answer runs out. Flows that end within ``merge_s`` of the first one end at their
own time, but what they leave is given away only after the last of them: one decision in place of many. So
ports are idle for ``merge_s`` at most, and only where several flows end so close together.

While a shuffle moves in proportion, only the part of it that is left changes, and no flow is looked at.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from schedulers import Allocation, Policy, Share, Shuffle, Snapshot, Standing, TransferId
from schedulers.filling import Floats, Indices
from schedulers.snapshot import port_sums

MERGE_S = 0.01
"""Flows that end within so much of the first one cost one decision (docs/scheduling.md has the error)."""

_TOGETHER = 1e-9
"""A flow that ends so little after a step, relatively, ends with it: or rounding would leave less than
nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Coflow:
    """A shuffle that comes at some time.

    Attributes:
        name: of the transfer.
        arrival_s: when it comes.
        egress: shape (m,): ports of its mappers.
        ingress: shape (r,): ports of its reducers.
        size_bytes: shape (m, r): of each flow; at least one is above 0.
        priority, weight, weighted: as `Standing` and `Shuffle` have them.

    Raises:
        ValueError: for an arrival that is not finite, or sizes of another shape, below 0, all 0 or not
        finite.
    """

    name: TransferId
    arrival_s: float
    egress: Indices
    ingress: Indices
    size_bytes: Floats
    priority: int = 0
    weight: float = 1.0
    weighted: bool = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.arrival_s):
            raise ValueError(f"arrival_s of coflow {self.name} must be finite, got {self.arrival_s}")
        shape = (len(self.egress), len(self.ingress))
        if self.size_bytes.shape != shape:
            raise ValueError(f"size_bytes of coflow {self.name} must have shape {shape}")
        least, most = self.size_bytes.min(initial=0.0), self.size_bytes.max(initial=0.0)
        if not (least >= 0 and 0 < most < math.inf):
            raise ValueError(
                f"size_bytes of coflow {self.name} must be finite, not below 0, and one above it"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What came of it.

    Attributes:
        completions_s: shape (coflows,): from each one's arrival to the end of its last flow, in the order
            given.
        decisions: how often the policy was asked.
    """

    completions_s: Floats
    decisions: int


class Stuck(RuntimeError):
    """A policy gave nothing to anybody while there was something to move."""


class _Running:
    """A coflow on its way: ``part`` of ``_base`` is left."""

    def __init__(self, number: int, coflow: Coflow) -> None:
        self.number = number
        self.coflow = coflow
        self._total_bytes = float(coflow.size_bytes.sum())
        self._quickness: Floats | None = None
        self._set_base(coflow.size_bytes)

    def _set_base(self, left: Floats, *, ended: bool = True) -> None:
        self._base, self._part = left, 1.0
        self._port_bytes = port_sums(left)
        if ended:
            self._port_flows = port_sums((left > 0).astype(np.float64))

    @property
    def left(self) -> Floats:
        """Shape (m, r), bytes."""
        return self._base * self._part

    def demand(self) -> Shuffle:
        """As a policy sees it."""
        coflow, part, base = self.coflow, self._part, self._base
        port_bytes = self._port_bytes * part
        sent_bytes = max(0.0, self._total_bytes - float(port_bytes[: len(coflow.egress)].sum()))
        standing = Standing(coflow.name, coflow.arrival_s, coflow.priority, coflow.weight, sent_bytes)
        return Shuffle(
            standing,
            coflow.egress,
            coflow.ingress,
            port_bytes,
            self._port_flows,
            lambda: base * part,
            coflow.weighted,
        )

    def first_end_s(self, share: Share) -> float:
        """How long until one of its flows ends, at these rates."""
        self._quickness = None
        if not share.moves:
            return math.inf
        if _in_proportion(share):
            return 1 / share.pace
        assert share.flow_rates is not None, "it moves"
        # The part of what is left that passes in a second: who has ended or stands still is no special case.
        self._quickness = share.flow_rates / np.maximum(self.left, np.finfo(np.float64).tiny)
        return 1 / float(self._quickness.max())

    def last_end_s(self, share: Share, within_s: float) -> float:
        """How long until the last of its flows ends that end so soon; 0 for none."""
        if not share.moves:
            return 0.0
        if self._quickness is None:
            return 1 / share.pace if 1 / share.pace <= within_s else 0.0
        soon = self._quickness[self._quickness * within_s >= 1]
        return 1 / float(soon.min()) if soon.size else 0.0

    def move(self, share: Share, step_s: float) -> float | None:
        """Let time pass; how long until its last flow ended, if that has."""
        if not share.moves:
            return None
        if self._quickness is None:
            if share.pace * step_s * (1 + _TOGETHER) >= 1:
                return 1 / share.pace
            self._part *= 1 - share.pace * step_s
            return None
        assert share.flow_rates is not None, "it moves"
        ended = self._quickness * (step_s * (1 + _TOGETHER)) >= 1
        left = self.left - share.flow_rates * step_s
        left[ended] = 0.0
        if not left.any():
            return 1 / float(self._quickness[ended].min())
        self._set_base(left, ended=bool(ended.any()))
        return None


def _in_proportion(share: Share) -> bool:
    """Whether all flows of a shuffle move in proportion to what they have left."""
    return share.in_bytes and share.beside is None


def replay(
    coflows: Sequence[Coflow],
    capacities: Floats,
    policy: Policy,
    *,
    merge_s: float = MERGE_S,
    watch: Callable[[float, float, Snapshot, Allocation], None] | None = None,
    on_end: Callable[[], object] = lambda: None,
) -> Replay:
    """Run coflows to their ends under a policy.

    Args:
        coflows: in any order of arrival.
        capacities: shape (ports,), bytes/s, finite.
        policy: who decides.
        merge_s: flows that end within so much of the first one cost one decision; 0 for one each.
        watch: called after each decision: from when, for how long, for whom, and what.
        on_end: called whenever a coflow is through.

    Raises:
        ValueError: for a port without a limit, or ``merge_s`` below 0.
        Stuck: when the policy gives nothing to anybody.
    """
    if not merge_s >= 0:
        raise ValueError(f"merge_s must not be below 0, got {merge_s}")
    if not np.isfinite(capacities).all():
        raise ValueError("capacities must be finite: without limits nothing takes time")
    to_come = sorted(range(len(coflows)), key=lambda number: coflows[number].arrival_s, reverse=True)
    completions_s = np.zeros(len(coflows))
    running: list[_Running] = []
    now, decisions = 0.0, 0
    while running or to_come:
        if not running:
            now = coflows[to_come[-1]].arrival_s
        while to_come and coflows[to_come[-1]].arrival_s <= now:
            number = to_come.pop()
            running.append(_Running(number, coflows[number]))
        snapshot = Snapshot(capacities, [one.demand() for one in running])
        allocation = policy.allocate(snapshot)
        decisions += 1
        shares = list(zip(running, allocation.shares, strict=True))
        first_s = min(one.first_end_s(share) for one, share in shares)
        arrival_s = coflows[to_come[-1]].arrival_s if to_come else math.inf
        changes_s = min(allocation.holds_s, arrival_s - now)
        step_s = min(first_s, changes_s)
        if math.isinf(step_s):
            raise Stuck(f"at {now:g} s nobody may move, of {len(running)} transfers")
        if first_s < changes_s and merge_s > 0:
            step_s = min(changes_s, max(one.last_end_s(share, first_s + merge_s) for one, share in shares))
        if watch is not None:
            watch(now, step_s, snapshot, allocation)
        still: list[_Running] = []
        for one, share in shares:
            ended_s = one.move(share, step_s)
            if ended_s is None:
                still.append(one)
            else:
                completions_s[one.number] = now + ended_s - one.coflow.arrival_s
                on_end()
        running = still
        now = arrival_s if step_s == arrival_s - now else now + step_s
    return Replay(completions_s, decisions)
