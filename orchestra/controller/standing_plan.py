"""What was decided last for all transfers, and whether what moves keeps to it.

Owns the comparison, and the question which port is to blame where flows are slower than planned. Must not
know how a plan is made. Pure: time is passed in.

Theory of operation. A plan gives flows of shuffles rates and ports loads. Now and then both are held against
what has come since. Reports are up to a tenth of a second old, at both ends of the time between, and so much
is allowed for. A flow that is slower than planned is held up by the one of its two ports that keeps less of
its plan; a port that most of its planned bytes blame has less than was believed
(`orchestra.controller.capacities`). Flows that are far from where they should be, whichever way, ask for a
new plan, by what they have left now.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orchestra.controller.capacities import KEPT, SHORT, Capacities, Port
from orchestra.controller.traffic import Traffic
from transfers.ids import NodeName, TransferName

TEST_INTERVAL_S = 1.0
"""Between two tests of a plan (a guess: ten reports of each flow)."""
DEVIATION = 0.1
"""Share of what a flow should have moved since the plan was made by which it may differ before there is a new
one (a guess: several times what pacing differs by)."""
REPORT_AGE_S = 0.15
"""By how long reports may be late, more at one end of the time between tests than at the other (a guess: the
time between two, and some way)."""
LEAST_BYTES = 64 << 10
"""Of a flow, or a port, before anything is said of it (a guess: one packet as hosts hand it to their
cards)."""
FILLED = 0.9
"""Share of what a port is believed to carry from which on a plan fills it (a guess)."""

FlowId = tuple[TransferName, NodeName, NodeName]
"""A flow: its transfer, who sends, who receives."""


@dataclass(slots=True)
class PlannedFlow:
    """One flow of a shuffle.

    Attributes:
        rate_bytes_per_s: as planned.
        left_bytes: what it had left when the plan was made.
        tested_left_bytes: and at the last test.
    """

    rate_bytes_per_s: float
    left_bytes: int
    tested_left_bytes: int


@dataclass(slots=True)
class Verdict:
    """What a test has found.

    Attributes:
        deviates: whether flows are far from where they should be.
        short: ports that carried less than was planned, with what they carried, bytes/s.
        full: ports that carried all of a plan that filled them.
        most_bytes_per_s: what the busiest port carried.
    """

    deviates: bool = False
    short: dict[Port, float] = field(default_factory=dict)
    full: list[Port] = field(default_factory=list)
    most_bytes_per_s: float = 0.0


@dataclass(slots=True)
class StandingPlan:
    """One plan.

    Attributes:
        made_at_s: when.
        flows: of shuffles, those that may move and have a rate.
        loads: bytes/s that are planned for each port.
        tested_at_s: when it was tested last.
        sent_bytes, received_bytes: what had passed each node by then.
    """

    made_at_s: float
    flows: dict[FlowId, PlannedFlow]
    loads: dict[Port, float]
    tested_at_s: float
    sent_bytes: Counter[NodeName]
    received_bytes: Counter[NodeName]

    @classmethod
    def of(
        cls, flows: dict[FlowId, PlannedFlow], loads: dict[Port, float], traffic: Traffic, now: float
    ) -> "StandingPlan":
        """A plan that has just been made."""
        return cls(now, flows, loads, now, Counter(traffic.sent_bytes), Counter(traffic.received_bytes))

    def test(
        self,
        left_bytes: Mapping[FlowId, int],
        traffic: Traffic,
        believed: Callable[[Port], float],
        now: float,
    ) -> Verdict:
        """Hold it against what has come.

        Args:
            left_bytes: what each flow that may move has left now; one that is not in it has ended.
            traffic: what has passed each port.
            believed: what a port is believed to carry, bytes/s.
        """
        verdict = Verdict()
        since_s = now - self.tested_at_s
        going = {flow: planned for flow, planned in self.flows.items() if left_bytes.get(flow, 0) > 0}
        moved, due, blamed = (defaultdict[Port, float](float) for _ in range(3))
        parts: dict[FlowId, tuple[float, float]] = {}
        for flow, planned in going.items():
            its_due = planned.rate_bytes_per_s * since_s
            its_moved = float(planned.tested_left_bytes - left_bytes[flow])
            parts[flow] = (its_moved, its_due)
            for port in _ports(flow):
                moved[port] += its_moved
                due[port] += its_due
            verdict.deviates = verdict.deviates or self._is_far(planned, left_bytes[flow], now)
        for flow, (its_moved, its_due) in parts.items():
            late = going[flow].rate_bytes_per_s * REPORT_AGE_S
            if its_due >= LEAST_BYTES and its_moved < SHORT * its_due - late:
                out, into = _ports(flow)
                worse = out if moved[out] * due[into] < moved[into] * due[out] else into
                blamed[worse] += its_due
        for port, load in self.loads.items():
            carried = self._carried(port, traffic) / since_s
            verdict.most_bytes_per_s = max(verdict.most_bytes_per_s, carried)
            if not (math.isfinite(load) and load * since_s >= LEAST_BYTES):
                continue
            if blamed[port] >= due[port] / 2 > 0 and carried < SHORT * load:
                verdict.short[port] = carried
            elif load >= FILLED * believed(port):
                late = load * REPORT_AGE_S / 2
                if carried * since_s >= KEPT * load * since_s - late:
                    verdict.full.append(port)
        for flow, planned in going.items():
            planned.tested_left_bytes = left_bytes[flow]
        self.tested_at_s = now
        self.sent_bytes, self.received_bytes = Counter(traffic.sent_bytes), Counter(traffic.received_bytes)
        return verdict

    def _is_far(self, planned: PlannedFlow, left_bytes: int, now: float) -> bool:
        due = min(planned.rate_bytes_per_s * (now - self.made_at_s), planned.left_bytes)
        moved = planned.left_bytes - left_bytes
        late = planned.rate_bytes_per_s * REPORT_AGE_S
        return abs(moved - due) > max(LEAST_BYTES, DEVIATION * due + late)

    def _carried(self, port: Port, traffic: Traffic) -> int:
        node, egress = port
        if egress:
            return traffic.sent_bytes[node] - self.sent_bytes[node]
        return traffic.received_bytes[node] - self.received_bytes[node]


def learn(capacities: Capacities, verdict: Verdict, addresses: Mapping[NodeName, str]) -> bool:
    """Let beliefs follow a verdict; whether any has changed."""
    changed = False
    for port, carried in verdict.short.items():
        if port[0] in addresses:
            changed |= capacities.fell_short(port, addresses[port[0]], carried)
    for port in verdict.full:
        changed |= capacities.was_full(port)
    return changed


def _ports(flow: FlowId) -> tuple[Port, Port]:
    _, mapper, reducer = flow
    return (mapper, True), (reducer, False)
