"""The inter-transfer controller: which transfer may move how much through each port, and when that changes.

Owns when the policy is asked, what it is shown, and what nodes are told of its answer. Must not know the
policy's reasons (`schedulers`), nor how nodes keep what they are told (`transfers.net.limits`). Pure.

Theory of operation. One snapshot of all transfers goes in and one allocation comes out: at arrivals,
completions, failures, pauses and changes of policy at once; when more of a shuffle is put or a part of it is
through, soon; when the answer runs out; and when what moves has left the plan by more than a share
(`orchestra.controller.standing_plan`). What it costs to decide grows with the number of flows, and so does
the time between two decisions.

Budgets are ceilings, so nobody is held back who need not be. Where no rate was told for all ports: under
``fair`` only weighted shuffles are, since the rest is what TCP does by itself; nor is a broadcast or a
shuffle with equal flows that is alone; nor that which goes first in the policy's order, but for a weighted
shuffle, whose flows are held in proportion. Now and then that is not either, to see what ports carry
(`orchestra.controller.trial`). Where nothing is believed of any port, nobody can be.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from orchestra.controller import budgets
from orchestra.controller.capacities import Capacities, Port
from orchestra.controller.demands import NodeFlow, PortNumbers
from orchestra.controller.members import address_behind
from orchestra.controller.standing_plan import (
    FILLED,
    TEST_INTERVAL_S,
    FlowId,
    FlowState,
    PlannedFlow,
    StandingPlan,
    learn,
    planned_flow,
    reckon_left,
)
from orchestra.controller.traffic import Traffic
from orchestra.controller.transfer import Cluster, TransferController
from orchestra.controller.trial import Trial
from orchestra.messages import Budget
from schedulers import POLICIES, Allocation, Demand, Share, Shuffle, Snapshot
from transfers.ids import NodeName, TransferName

SOON_S = 0.03
"""Between decisions where only parts of transfers come or go (a guess: what a control message takes beside
bulk)."""
COST_S_PER_FLOW = 4e-5
"""Time to the next decision for each flow or port in the last (measured: a decision about 1,560 flows takes
12 ms in all, of which the policy itself is the lesser part; so that at most a fifth of a core is spent on
it)."""


class Enforcement(Enum):
    """How the rates of flows are kept."""

    AUTO = "auto"
    """By pacing, where all senders of a transfer can; else by connections."""
    PACING = "pacing"
    CONNECTIONS = "connections"


@dataclass(frozen=True, slots=True)
class _Going:
    """One transfer that has something to move, at one decision; of a shuffle, how far its flows are."""

    transfer: TransferController
    demand: Demand
    left_bytes: Mapping[NodeFlow, float]

    @property
    def mappers(self) -> Iterable[NodeName]:
        """Who sends, of a shuffle."""
        return (mapper for mapper, _ in self.left_bytes)


@dataclass(frozen=True, slots=True)
class _Case:
    """What was decided for it; ``freed``: it is not capped only because there is a trial."""

    going: _Going
    share: Share
    rank: int
    capped: bool
    freed: bool

    @property
    def granted_bytes_per_s(self) -> float | None:
        """What it may send in all; None where it is not held back."""
        if not self.capped:
            return None
        demand, rates = self.share.demand, self.share.port_rates
        sent = rates[: len(demand.egress)] if isinstance(demand, Shuffle) else rates[demand.ports % 2 == 0]
        total = float(sent.sum())
        return total if math.isfinite(total) else None


class InterTransferController:
    """Shares ports among all transfers.

    Args:
        cluster: who is there, and the way to them.
        policy: by its name.
        told_bytes_per_s: what each node may send, and what it may receive; None is no limit.
        enforcement: how flows are kept to their rates.

    Attributes:
        policy: the one that is asked now.
        decisions: how often it has been asked.

    Raises:
        ValueError: for a policy that is none.
    """

    def __init__(
        self,
        cluster: Cluster,
        policy: str,
        told_bytes_per_s: float | None,
        enforcement: Enforcement = Enforcement.AUTO,
    ) -> None:
        self._cluster = cluster
        self._told_rate = told_bytes_per_s
        self._enforcement = enforcement
        self._capacities = Capacities(cluster.measured, told_bytes_per_s)
        self._active: dict[TransferName, TransferController] = {}
        self._told: dict[TransferName, dict[NodeName, Budget]] = {}
        self._plan: StandingPlan | None = None
        self._urgent, self._due = False, False
        self._decided_at_s, self._gap_s, self._holds_until_s = -math.inf, 0.0, math.inf
        self._trial = Trial()
        self.policy = ""
        self._traffic = Traffic()
        self.decisions = 0
        self.change_policy(policy)

    # -- what others tell it -------------------------------------------------------------------

    def change_policy(self, name: str) -> None:
        """Ask another policy from now on; ValueError for one that is none."""
        if name not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {name!r}")
        self.policy = name
        self._urgent = True

    def note(self, transfer: TransferController, *, urgent: bool = False) -> None:
        """Something of a transfer has come or gone; ``urgent``: it has itself, or is paused or goes on."""
        if transfer.gone:
            self._active.pop(transfer.name, None)
            self._told.pop(transfer.name, None)  # nodes forget it with the transfer
        else:
            self._active[transfer.name] = transfer
        self._due = True
        self._urgent = self._urgent or urgent

    def forget_node(self, node: NodeName) -> None:
        """A node is gone, or has come anew: it knows no budgets. What is believed of its card is forgotten
        unless another node is there to speak for it."""
        for told in self._told.values():
            told.pop(node, None)
        if not self._cluster.members.has_mates(node):
            self._capacities.forget(self._cluster.members.card_of(node))
        self._due = True

    def moved(self, source: NodeName, to: NodeName, count_bytes: int) -> None:
        """Bytes have come from one node to another."""
        self._traffic.note(
            self._cluster.members.card_of(source), self._cluster.members.card_of(to), count_bytes
        )

    @property
    def budgets(self) -> int:
        """How many budgets, of one transfer at one node each, hold just now."""
        return sum(map(len, self._told.values()))

    # -- when ----------------------------------------------------------------------------------

    def review(self, now: float) -> None:
        """After every word of a node: decide, if there is reason to and it is time."""
        if not (self._due or self._urgent):
            return
        gap_s = self._gap_s + (0.0 if self._urgent else SOON_S)
        if now - self._decided_at_s >= gap_s:
            self._decide(now)

    def tick(self, now: float) -> None:
        """Time has passed: perhaps the answer has run out, or is not kept."""
        if now >= self._holds_until_s:
            self._due = True
        plan = self._plan
        if plan is not None and now - plan.tested_at_s >= TEST_INTERVAL_S:
            self._test(plan, now)
        if self._trial.expires(now):
            self._due = True
        self.review(now)

    def _test(self, plan: StandingPlan, now: float) -> None:
        states: dict[FlowId, FlowState] = {}
        for name, transfer in self._active.items():
            states.update({(name, *flow): state for flow, state in transfer.flows().items()})
        verdict = plan.test(states, self._traffic, now)
        if learn(self._capacities, self._trial, verdict, address_behind) or verdict.deviates:
            self._due = True

    # -- what ----------------------------------------------------------------------------------

    def _decide(self, now: float) -> None:
        self._due = self._urgent = False
        self._decided_at_s = now
        self._holds_until_s = math.inf
        ports = PortNumbers(self._cluster.members.card_of)
        going: list[_Going] = []
        for name, transfer in list(self._active.items()):
            if not transfer.moving:
                del self._active[name]
                transfer.granted_bytes_per_s = None
            elif transfer.paused:
                transfer.granted_bytes_per_s = 0.0
                self._tell(transfer, budgets.paused(name, transfer.participants()))
            else:
                left_bytes = self._reckon_left(transfer, now)
                demand = transfer.demand(ports, left_bytes)
                if demand is None:
                    self._let_go(transfer)
                else:
                    going.append(_Going(transfer, demand, left_bytes))
        cases: list[_Case] = []
        demands = [its.demand for its in going]
        capacities = np.empty(0)
        if self._is_left_to_tcp(demands):
            for its in going:
                self._let_go(its.transfer)
        else:
            capacities = self._capacities_of(ports)
            allocation = POLICIES[self.policy].allocate(Snapshot(capacities, demands))
            self.decisions += 1
            self._holds_until_s = now + allocation.holds_s
            cases = self._cases(going, allocation)
            for case in cases:
                case.going.transfer.granted_bytes_per_s = case.granted_bytes_per_s
                self._tell(case.going.transfer, self._budgets_for(case, ports))
        self._gap_s = COST_S_PER_FLOW * sum(_size(demand) for demand in demands)
        self._plan = self._standing(going, cases, capacities, ports, now)
        self._trial.decided(freed=self._plan is not None and bool(self._plan.freed), now=now)

    def _reckon_left(self, transfer: TransferController, now: float) -> dict[NodeFlow, float]:
        planned = {} if self._plan is None else self._plan.flows
        return {
            flow: reckon_left(state, planned.get((transfer.name, *flow)), now)
            for flow, state in transfer.flows().items()
        }

    def _let_go(self, transfer: TransferController) -> None:
        """Hold nobody of it back."""
        transfer.granted_bytes_per_s = None
        self._tell(transfer, budgets.unlimited(transfer.name, transfer.participants()))

    def _is_left_to_tcp(self, demands: list[Demand]) -> bool:
        """Whether nobody would be held back, whatever the policy says."""
        if self._told_rate is not None:
            return not demands
        weighted = any(isinstance(demand, Shuffle) and demand.weighted for demand in demands)
        return not weighted and (self.policy == "fair" or len(demands) <= 1)

    def _capacities_of(self, ports: PortNumbers) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        cards = map(ports.port, range(2 * len(ports.cards)))
        return np.array([self._capacities.of(port, address_behind(port[0])) for port in cards])

    def _cases(self, going: list[_Going], allocation: Allocation) -> list[_Case]:
        order = [place for place in allocation.order if allocation.shares[place].demand.port_bytes.any()]
        ranks = {place: rank for rank, place in enumerate(order)}
        cases = []
        for place, (its, share) in enumerate(zip(going, allocation.shares, strict=True)):
            weighted = isinstance(its.demand, Shuffle) and its.demand.weighted
            rank = ranks.get(place, 0)
            first = bool(order) and rank == 0
            free = self._told_rate is None and (self.policy == "fair" or len(going) == 1 or first)
            freed = free and weighted and self._trial.frees and not self._by_connections(its.mappers)
            cases.append(_Case(its, share, rank, not free or (weighted and not freed), freed))
        return cases

    def _budgets_for(self, case: _Case, ports: PortNumbers) -> dict[NodeName, Budget]:
        transfer, share = case.going.transfer, case.share
        nodes = transfer.participants()
        if not case.capped:
            return budgets.unlimited(transfer.name, nodes, case.rank)
        if not isinstance(share.demand, Shuffle):
            return budgets.broadcast_budgets(transfer.name, share, nodes, case.rank)
        who = budgets.ShuffleNodes(nodes, transfer.places(), case.going.left_bytes)
        if self._by_connections(case.going.mappers):
            keep_sums = self._told_rate is not None or case.rank > 0
            return budgets.connection_budgets(
                transfer.name, share, ports, who, case.rank, keep_sums=keep_sums
            )
        others = None if case.rank == 0 else 0.0
        return budgets.shuffle_budgets(transfer.name, share, ports, who, case.rank, others)

    def _by_connections(self, mappers: Iterable[NodeName]) -> bool:
        if self._enforcement is not Enforcement.AUTO:
            return self._enforcement is Enforcement.CONNECTIONS
        senders = map(self._cluster.members.get, mappers)
        return not all(node is None or node.join.paces for node in senders)

    def _tell(self, transfer: TransferController, wanted: dict[NodeName, Budget]) -> None:
        """Tell nodes what has changed; who was never told is not limited."""
        told = self._told.setdefault(transfer.name, {})
        free = Budget(transfer.name, None, None)
        for node, budget in wanted.items():
            if budgets.differ(told.get(node, free), budget):
                told[node] = budget
                self._cluster.send(node, budget)
        for node in [node for node in told if node not in wanted]:
            del told[node]
        if not told:
            del self._told[transfer.name]

    def _standing(
        self,
        going: list[_Going],
        cases: list[_Case],
        capacities: "np.ndarray[tuple[int], np.dtype[np.float64]]",
        ports: PortNumbers,
        now: float,
    ) -> StandingPlan | None:
        """What to hold against what comes; None where nothing moves.

        ``capacities`` are those that were planned with, by the ports' numbers.
        """
        if not going:
            self._capacities.begin_window()
            return None
        card_of = self._cluster.members.card_of
        loads: dict[Port, float] = {}
        for its in going if not cases else ():
            loads.update(dict.fromkeys(map(ports.port, its.demand.ports.tolist()), math.inf))
        shares = {case.going.transfer.name: case.share for case in cases if case.capped}
        for case in cases:
            share = case.share
            for port, rate in zip(share.demand.ports.tolist(), share.port_rates.tolist(), strict=True):
                loads[ports.port(port)] = loads.get(ports.port(port), 0.0) + rate
        filled = frozenset(
            port
            for port, capacity in zip(
                map(ports.port, range(len(capacities))), capacities.tolist(), strict=True
            )
            if port in loads and FILLED * capacity <= loads[port] < math.inf
        )
        flows: dict[FlowId, PlannedFlow] = {}
        before = {} if self._plan is None else self._plan.flows
        for its in going:
            name, left, share_of = its.transfer.name, its.left_bytes, shares.get(its.transfer.name)
            rates: dict[NodeFlow, float] = dict.fromkeys(left, math.inf)
            if share_of is not None:
                rates = budgets.node_rates(share_of, ports, left)
            for flow, rate in rates.items():
                if rate > 0:
                    ends = (card_of(flow[0]), True), (card_of(flow[1]), False)
                    which = (name, *flow)
                    flows[which] = planned_flow(ends, rate, left[flow], before.get(which), now)
        free = {case.going.transfer.name for case in cases if case.freed}
        freed = frozenset(flow for flow in flows if flow[0] in free)
        return StandingPlan(flows, loads, filled, freed, now, Counter(self._traffic.moved_bytes))


def _size(demand: Demand) -> int:
    """How much work it is to decide about it."""
    return len(demand.egress) * len(demand.ingress) if isinstance(demand, Shuffle) else len(demand.ports)
