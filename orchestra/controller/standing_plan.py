"""What was decided last for all transfers, and whether what moves keeps to it.

Owns the comparison, and the question which port is to blame where flows are slower than planned. Must not
know how a plan is made. Pure: time is passed in.

Theory of operation. A plan gives flows of shuffles rates and ports loads. Now and then both are held against
what has come since. How fast a flow is, its receiver tells by its own clock, so that reports may be late. A
flow that is slower than planned is held up by the one of its two ports that keeps less of its plan: of a slow
port all flows are slow, of the ports at their other ends only some. A port that most of its planned bytes
blame has less than was believed (`orchestra.controller.capacities`). Flows that have come to be far from
where they should be, whichever way, ask for a new plan, by what they have left now. Flows of which nothing
was heard for a while are left out: nothing can be said of them.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestra.controller.capacities import KEPT, SHORT, Capacities, Passed, Port
from orchestra.controller.members import Card
from orchestra.controller.traffic import Traffic
from orchestra.controller.trial import Trial
from transfers.ids import NodeName, TransferName

TEST_INTERVAL_S = 0.5
"""Between two tests of a plan (a guess: five reports of each flow)."""
GRAIN_BYTES = 128 << 10
"""In such steps a receiver hears of what has come: so uncertain it is at any moment how far a flow is."""
GRAIN_S = 0.05
"""Or after that time, whichever is sooner."""
LATE_S = 0.2
"""So old what was told of a flow that goes on is at most (a guess: twice the time between two reports)."""
LEAST_LEFT_BYTES = 1 << 14
"""Left of a flow that should have ended and has not (a guess: far less than is uncertain)."""
SETTLES_S = 0.5
"""After a flow was given another rate it is not judged: what senders' kernels held by then still comes (a
guess: 4 MB at 10 MB/s). One without a limit is judged at once: it shows at least what it shows."""
LEAST_BYTES, LEAST_S, LONGEST_S = 4 * GRAIN_BYTES, 0.8, 3.0
"""Flows are judged when so much is due of each since they were last, or, of those without a limit, after the
second, and after the third in any case (guesses: so that most rates are known to an eighth)."""
DEVIATION = 0.01
"""Share of what a flow should have moved since it was given its rate by which it may differ, beside one
grain, before there is a new plan (a guess: half of what pacing differs by)."""
ALIKE = 0.05
"""Rates of one flow in two plans that differ by no more than this share are alike (a guess)."""
SILENT_S = 1.0
"""Of flows of which nothing was heard for so long a test says nothing (a guess: ten times what is usual
between two reports)."""
COMMON_SHARE = 0.7
"""Of the time in which flows were judged, what must have been the same for all before their rates add up (a
guess: receivers tell ten times a second, and flows are judged by a second)."""
FILLED = 0.9
"""Share of what a port is believed to carry from which on a plan fills it (a guess)."""

FlowId = tuple[TransferName, NodeName, NodeName]
"""A flow: its transfer, and the nodes at its ends."""


class FlowState(NamedTuple):
    """How far a flow is.

    Attributes:
        left_bytes: what it has left.
        moved_bytes: what has come of it.
        at_s: when that was so, by the receiver's clock; minus infinity while it has told nothing.
        heard_at_s: when it was told.
    """

    left_bytes: int
    moved_bytes: int
    at_s: float
    heard_at_s: float


_UNTOLD = FlowState(0, 0, -math.inf, -math.inf)


@dataclass(slots=True)
class PlannedFlow:
    """One flow of a shuffle.

    Attributes:
        ports: that it crosses.
        rate_bytes_per_s: as planned; infinity where it was not limited.
        left_bytes: what was reckoned to be left when the plan was made.
        made_at_s: when that was.
        settles_at_s: what is told before is not held against the plan.
        tested: how far it was at the last test, as told.
    """

    ports: tuple[Port, Port]
    rate_bytes_per_s: float
    left_bytes: float
    made_at_s: float
    settles_at_s: float
    tested: FlowState


@dataclass(slots=True)
class Verdict:
    """What a test has found.

    Attributes:
        deviates: whether flows are far from where they should be.
        short: ports that carried less than was planned, with what they carried, bytes/s.
        full: ports that carried all of a plan that filled them.
        carried: what ports carried of flows at least, bytes/s.
        shows: whether that tells what ports carry whose flows have gone free for a trial.
        filled: what has passed ports that the plan fills.
        tested: ports of which this says something.
    """

    deviates: bool = False
    short: dict[Port, float] = field(default_factory=dict)
    full: list[Port] = field(default_factory=list)
    carried: dict[Port, float] = field(default_factory=dict)
    shows: bool = False
    filled: dict[Port, Passed] = field(default_factory=dict)
    tested: set[Port] = field(default_factory=set)


def planned_flow(
    ports: tuple[Port, Port],
    rate_bytes_per_s: float,
    left_bytes: float,
    before: PlannedFlow | None,
    now: float,
) -> PlannedFlow:
    """A flow in a new plan. Where the one before gave it about as much, it goes on being judged by that
    time."""
    if before is not None and _alike(before.rate_bytes_per_s, rate_bytes_per_s):
        return PlannedFlow(ports, rate_bytes_per_s, left_bytes, now, before.settles_at_s, before.tested)
    settles_at_s = now + SETTLES_S if math.isfinite(rate_bytes_per_s) else now
    return PlannedFlow(ports, rate_bytes_per_s, left_bytes, now, settles_at_s, _UNTOLD)


def _alike(one: float, other: float) -> bool:
    return one == other or (math.isfinite(other) and abs(one - other) <= ALIKE * other)


def _grain_bytes(rate_bytes_per_s: float) -> float:
    """How uncertain it is how far a flow is."""
    return min(GRAIN_BYTES, rate_bytes_per_s * GRAIN_S)


def reckon_left(state: FlowState, planned: PlannedFlow | None, now: float) -> float:
    """What a flow has left now, bytes: what the plan says, as far as that agrees with what was told.

    Args:
        state: as told.
        planned: in the last plan; None where it is not in it.
        now: on the clock by which the plan was made.
    """
    if planned is None or math.isinf(planned.rate_bytes_per_s):
        return state.left_bytes
    rate = planned.rate_bytes_per_s
    reckoned = planned.left_bytes - rate * (now - planned.made_at_s)
    if state.heard_at_s > planned.made_at_s:
        most = state.left_bytes - rate * min(now - state.heard_at_s, LATE_S)
        least = most - _grain_bytes(rate)
        reckoned = min(most, max(least, reckoned))
    return min(state.left_bytes, max(LEAST_LEFT_BYTES, reckoned))


@dataclass(slots=True)
class StandingPlan:
    """One plan.

    Attributes:
        flows: of shuffles, those that may move.
        loads: bytes/s that are planned for each port.
        filled: the ports that this fills.
        freed: flows that would have been held to a rate, but for a trial.
        tested_at_s: when it was tested last, or made.
        moved_bytes: what broadcasts had moved through each port by then.
    """

    flows: dict[FlowId, PlannedFlow]
    loads: dict[Port, float]
    filled: frozenset[Port]
    freed: frozenset[FlowId]
    tested_at_s: float
    moved_bytes: Counter[Port]

    def test(self, states: Mapping[FlowId, FlowState], traffic: Traffic, now: float) -> Verdict:
        """Hold it against what has come.

        Args:
            states: how far each flow is that may move; one that is not in it has ended.
            traffic: what broadcasts have moved through each port.
            now: seconds, as `FlowState.heard_at_s`.
        """
        verdict = Verdict()
        judged = self._going(states, now)
        going = list(judged.values())
        verdict.deviates = any(_is_far(planned, state) for planned, state in going)
        if not all(_is_ready(planned, state) for planned, state in going):
            return verdict
        verdict.carried = _carried(going)
        freed = [flow for flow in self.freed if flow in judged]
        verdict.shows = bool(freed) and not any(
            self._is_waited_for(flow, states.get(flow), now) for flow in self.freed - judged.keys()
        )
        due, moved, blamed, due_bytes, moved_bytes = (defaultdict[Port, float](float) for _ in range(5))
        rates = [_rate(planned, state) for planned, state in going]
        for (planned, state), rate in zip(going, rates, strict=True):
            for port in planned.ports:
                moved[port] += rate
                due[port] += planned.rate_bytes_per_s
                moved_bytes[port] += rate * _elapsed_s(planned, state)
                due_bytes[port] += planned.rate_bytes_per_s * _elapsed_s(planned, state)
        for (planned, state), rate in zip(going, rates, strict=True):
            if rate < SHORT * planned.rate_bytes_per_s - _doubt(planned, state) < math.inf:
                out, into = planned.ports
                worse = out if moved[out] * due[into] < moved[into] * due[out] else into
                blamed[worse] += planned.rate_bytes_per_s
        # Where some flows are not limited, those beside them may be slower than planned, at both their ends.
        unclear = {
            port
            for planned, _ in going
            for port in planned.ports
            if any(math.isinf(due[end]) for end in planned.ports)
        }
        since_s = now - self.tested_at_s
        for port in self.loads:
            others = max(0, traffic.moved_bytes[port] - self.moved_bytes[port]) / since_s
            if not due[port] > 0 or port in unclear:
                continue
            verdict.tested.add(port)
            if port in self.filled and due[port] >= FILLED * self.loads[port]:  # not by others beside
                seconds = due_bytes[port] / due[port]
                verdict.filled[port] = Passed(moved_bytes[port], due_bytes[port], seconds)
            if blamed[port] >= due[port] / 2 and moved[port] < SHORT * due[port]:
                verdict.short[port] = moved[port] + others
            elif moved[port] >= KEPT * due[port] and port in self.filled:
                verdict.full.append(port)
        for planned, state in going:
            planned.tested = state
        self.tested_at_s = now
        self.moved_bytes = Counter(traffic.moved_bytes)
        return verdict

    def _going(
        self, states: Mapping[FlowId, FlowState], now: float
    ) -> dict[FlowId, tuple[PlannedFlow, FlowState]]:
        """Flows that have not ended and of which something was told before and after."""
        found = {}
        for flow, planned in self.flows.items():
            state = states.get(flow)
            if state is None or not state.left_bytes or state.heard_at_s < planned.settles_at_s:
                continue
            if now - state.heard_at_s > SILENT_S:
                planned.tested = _UNTOLD  # if it goes on, it is judged from there
            elif math.isinf(planned.tested.at_s):
                planned.tested = state
            elif state.at_s > planned.tested.at_s:
                found[flow] = planned, state
        return found

    def _is_waited_for(self, flow: FlowId, state: FlowState | None, now: float) -> bool:
        """Whether one that could not be judged yet can be soon: it is neither silent nor through."""
        if state is None or not state.left_bytes:
            return False
        return now - max(state.heard_at_s, self.flows[flow].settles_at_s) <= SILENT_S


def _carried(going: Iterable[tuple[PlannedFlow, FlowState]]) -> dict[Port, float]:
    """What each port carried of flows at least, bytes/s."""
    by_port = defaultdict[Port, list[tuple[PlannedFlow, FlowState]]](list)
    for planned, state in going:
        for port in planned.ports:
            by_port[port].append((planned, state))
    return {port: _least_carried(flows) for port, flows in by_port.items()}


def _least_carried(flows: list[tuple[PlannedFlow, FlowState]]) -> float:
    """What they had together at least. Their rates add up where they were judged for about the same time; if
    not, each may have had all of the port for its own time, and all bytes count by the time of all. Receivers
    have clocks of their own, so that is by when they were heard."""
    began = [planned.tested.heard_at_s for planned, _ in flows]
    ended = [state.heard_at_s for _, state in flows]
    doubt = math.hypot(*(_doubt(planned, state) for planned, state in flows))
    rates = [_rate(planned, state) for planned, state in flows]
    least = sum(rates) - doubt
    whole_s = max(ended) - min(began)
    if min(ended) - max(began) < COMMON_SHARE * whole_s:  # so that is above 0
        moved = (rate * _elapsed_s(*flow) for rate, flow in zip(rates, flows, strict=True))
        least = sum(moved) / whole_s - doubt
    return max(0.0, least)


def _elapsed_s(planned: PlannedFlow, state: FlowState) -> float:
    """Since it was judged last."""
    return state.at_s - planned.tested.at_s


def _is_ready(planned: PlannedFlow, state: FlowState) -> bool:
    """Whether enough of a flow was due, or should have been."""
    elapsed_s = _elapsed_s(planned, state)
    if math.isinf(planned.rate_bytes_per_s):
        return elapsed_s >= LEAST_S
    return planned.rate_bytes_per_s * elapsed_s >= LEAST_BYTES or elapsed_s >= LONGEST_S


def _rate(planned: PlannedFlow, state: FlowState) -> float:
    """How fast a flow was since it was judged last, bytes/s."""
    return max(0, state.moved_bytes - planned.tested.moved_bytes) / _elapsed_s(planned, state)


def _doubt(planned: PlannedFlow, state: FlowState) -> float:
    """How far off that may be, bytes/s."""
    elapsed_s = _elapsed_s(planned, state)
    rate = _rate(planned, state) if math.isinf(planned.rate_bytes_per_s) else planned.rate_bytes_per_s
    return _grain_bytes(rate) / elapsed_s


def _is_far(planned: PlannedFlow, state: FlowState) -> bool:
    """Whether a flow is far from where it should be."""
    due = planned.rate_bytes_per_s * (state.heard_at_s - planned.made_at_s)
    if not math.isfinite(due):
        return False
    off = abs(planned.left_bytes - due - state.left_bytes)
    return off > _grain_bytes(planned.rate_bytes_per_s) + DEVIATION * due


def learn(capacities: Capacities, trial: Trial, verdict: Verdict, address_of: Callable[[Card], str]) -> bool:
    """Let beliefs follow a verdict, and trials; whether that asks for a new plan."""
    changed = capacities.see(verdict.carried)
    if verdict.shows:
        trial.judged(news=changed)
        changed = True
    elif (kept := capacities.how_kept(verdict.filled, address_of)) is not None:
        changed |= capacities.adapt(kept)
        if kept.whole:
            changed |= trial.kept()
        else:
            trial.not_kept()
    capacities.unsuspect(verdict.tested - verdict.short.keys())
    for port, carried in verdict.short.items():
        changed |= capacities.fell_short(port, address_of(port[0]), carried)
    for port in verdict.full:
        changed |= capacities.was_full(port)
    return changed
