"""When ports are shared anew, and what nodes are told of it."""

import math
from collections.abc import Mapping, Sequence

import pytest

from orchestra.controller.capacities import MEASURED_SHARE
from orchestra.controller.demands import NodeFlow, PortNumbers, broadcast_demand, shuffle_demand
from orchestra.controller.itc import COST_S_PER_FLOW, SOON_S, Enforcement, InterTransferController
from orchestra.controller.measured import Measured
from orchestra.controller.members import Members, SessionId
from orchestra.controller.racks import FLAT, Topology
from orchestra.controller.standing_plan import FlowState
from orchestra.controller.transfer import TransferController, TransferState
from orchestra.controller.trial import LONGEST_S
from orchestra.messages import Budget, Claim, FetchTrouble, Join, MapFailed, Settled, ToNode
from schedulers import POLICIES, Demand
from tests.orchestra.controller.links import KnownLinks
from transfers.ids import NodeName, TransferName
from transfers.manifest import ObjectKey
from transfers.planners.events import Stored

A, B, C, D = NODES = [NodeName(name) for name in "abcd"]
RATE = 1e6
ENOUGH_S = 0.001
"""More than a decision about a few flows has to be apart from the next."""


class Cluster:
    """Four nodes on hosts of their own, and what they are told."""

    def __init__(
        self,
        policy: str = "fair",
        told: float | None = None,
        enforcement: Enforcement = Enforcement.AUTO,
        *,
        links: Measured | None = None,
        paces: bool = True,
    ) -> None:
        self.members = Members()
        self.measured = links or KnownLinks(RATE / MEASURED_SHARE)
        self.topology = Topology(FLAT, self.members, self.log)
        self.told: list[tuple[NodeName, Budget]] = []
        self.now = 10.0
        self.itc = InterTransferController(self, policy, told, enforcement)
        for at, name in enumerate(NODES, 1):
            join = Join(name, "", f"{name}:7001", f"host of {name}", "", True, False, (), paces)
            self.members.add(SessionId(at), join, self.now)

    def send(self, node: NodeName, message: ToNode) -> None:
        """Nothing but budgets is sent here."""
        assert isinstance(message, Budget)
        self.told.append((node, message))

    def log(self, text: str) -> None:
        """Nobody reads it."""

    def changed(self, transfer: TransferController, *, urgent: bool = False) -> None:
        """As the controller core does."""
        self.itc.note(transfer, urgent=urgent)

    def moved(self, source: NodeName, to: NodeName, count_bytes: int) -> None:
        """As the controller core does."""
        self.itc.moved(source, to, count_bytes)

    def believed(self, node: NodeName) -> float:
        """What a node's host is believed to receive, bytes/s."""
        return self.itc._capacities.of((self.members.card_of(node), False), f"{node}:1")

    def begin(self, *transfers: "Transfer") -> None:
        """They come, and are decided about."""
        for transfer in transfers:
            self.itc.note(transfer, urgent=True)
        self.pass_time(ENOUGH_S)

    def pass_time(self, seconds: float) -> None:
        """And look whether there is something to decide."""
        self.now += seconds
        self.itc.tick(self.now)

    def take_told(self) -> dict[NodeName, Budget]:
        """What each node was told last since the last call."""
        taken, self.told = dict(self.told), []
        return taken

    def rates(self, transfer: "Transfer") -> dict[NodeFlow, float]:
        """As told last, of flows that were told one."""
        last = {(node, budget.transfer): budget for node, budget in self.told}
        return {
            (node, reducer): rate
            for (node, name), budget in last.items()
            if name == transfer.name
            for reducer, rate in budget.flows_bytes_per_s.items()
        }


class Transfer(TransferController):
    """One that moves when its test says so.

    Args:
        left: of each flow of a shuffle; of a broadcast from the first node, what its receivers lack.
        weighted: whether flows of a shuffle are to end together.
        sent_bytes: before.
    """

    kind = "made up"

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        left: Mapping[NodeFlow, int] | Mapping[NodeName, int],
        *,
        weighted: bool = False,
        claim: Claim | None = None,
        at_s: float = 0.0,
        sent_bytes: int = 0,
    ) -> None:
        super().__init__(TransferName(name), cluster, 60.0, claim or Claim(), 0.0)
        self.tally.accepted_at_s = at_s
        self.state = TransferState.ACTIVE
        self.sent_bytes = sent_bytes
        self.weighted = weighted
        self.lacking: dict[NodeName, int] = {}
        self.flow_states: dict[NodeFlow, FlowState] = {}
        for which, count in left.items():
            if isinstance(which, tuple):
                self.flow_states[which] = FlowState(count, 0, -math.inf, -math.inf)
            else:
                self.lacking[which] = count

    def move(self, seconds: float, rates: Mapping[NodeFlow, float], now: float) -> None:
        """Flows go on for so long, and it is told at once."""
        for flow, rate in rates.items():
            before = self.flow_states[flow]
            count = min(before.left_bytes, int(rate * seconds))
            self.flow_states[flow] = FlowState(
                before.left_bytes - count, before.moved_bytes + count, now, now
            )

    def finish(self) -> None:
        """It is over and forgotten."""
        self.state = TransferState.RELEASED
        self.cluster.changed(self, urgent=True)

    def demand(self, ports: PortNumbers, left_bytes: Mapping[NodeFlow, float]) -> Demand | None:
        """As of a broadcast or a shuffle."""
        if self.lacking:
            return broadcast_demand(self.standing(self.sent_bytes), ports, self.lacking, [A])
        return shuffle_demand(self.standing(self.sent_bytes), ports, left_bytes, self.weighted)

    def flows(self) -> Mapping[NodeFlow, FlowState]:
        """Those with something left."""
        return {flow: state for flow, state in self.flow_states.items() if state.left_bytes}

    def places(self) -> Mapping[NodeName, Sequence[NodeName]]:
        """Each node has its own."""
        return {node: [node] for node in NODES}

    @property
    def moving(self) -> bool:
        """Until it is over."""
        return not self.over

    def participants(self) -> list[NodeName]:
        """Whoever is at the end of a flow, or lacks something; and the source."""
        if self.lacking:
            return [A, *self.lacking]
        return list(dict.fromkeys(node for flow in self.flow_states for node in flow))

    @property
    def progress(self) -> float:
        """Nobody asks."""
        return 0.0

    @property
    def method(self) -> str:
        """Nobody asks."""
        return ""

    def blocks_held(self, node: NodeName, key: ObjectKey, records: tuple[Stored, ...], now: float) -> None:
        """Nobody says so."""

    def fetch_failed(self, node: NodeName, trouble: FetchTrouble, now: float) -> None:
        """Nobody says so."""

    def settled(self, node: NodeName, message: Settled, now: float) -> None:
        """Nobody says so."""

    def map_failed(self, node: NodeName, message: MapFailed, now: float) -> None:
        """Nobody says so."""

    def tick(self, now: float) -> None:
        """Nothing to do."""


MUCH = 100_000_000


def two(cluster: Cluster, *, weighted: bool = False) -> tuple[Transfer, Transfer]:
    """Two shuffles out of one node to another, one after the other."""
    first, second = (
        Transfer(cluster, name, {(A, to): MUCH}, weighted=weighted, at_s=at_s)
        for name, to, at_s in (("first", B, 0.0), ("second", C, 1.0))
    )
    return first, second


# -- when ------------------------------------------------------------------------------------------


def test_who_comes_is_decided_about_at_once() -> None:
    cluster = Cluster(told=RATE)
    cluster.itc.note(Transfer(cluster, "t", {(A, B): MUCH}), urgent=True)
    cluster.itc.review(cluster.now)
    assert cluster.itc.decisions == 1
    assert cluster.take_told()[A].flows_bytes_per_s == pytest.approx({B: RATE})


def test_what_is_not_urgent_is_decided_soon() -> None:
    cluster = Cluster(told=RATE)
    transfer = Transfer(cluster, "t", {(A, B): MUCH})
    cluster.begin(transfer)
    began_s = cluster.now
    cluster.itc.note(transfer)
    cluster.itc.review(began_s + 0.5 * SOON_S)
    assert cluster.itc.decisions == 1
    cluster.itc.review(began_s + SOON_S + ENOUGH_S)
    assert cluster.itc.decisions == 2


def test_nothing_is_decided_anew_where_nothing_has_changed() -> None:
    cluster = Cluster("fifo", told=RATE)
    cluster.begin(*two(cluster))
    for _ in range(4):
        cluster.pass_time(0.1)
    assert cluster.itc.decisions == 1


def test_after_a_decision_about_many_flows_even_the_urgent_waits() -> None:
    cluster = Cluster(told=RATE)
    many = [(NodeName(f"m{at}"), NodeName(f"r{to}")) for at in range(50) for to in range(50)]
    transfer = Transfer(cluster, "t", dict.fromkeys(many, MUCH))
    cluster.begin(transfer)
    began_s, gap_s = cluster.now, COST_S_PER_FLOW * len(many)
    cluster.itc.note(transfer, urgent=True)
    cluster.itc.review(began_s + 0.5 * gap_s)
    assert cluster.itc.decisions == 1
    cluster.itc.review(began_s + 1.01 * gap_s)
    assert cluster.itc.decisions == 2


def test_an_answer_that_has_run_out_is_asked_for_anew() -> None:
    """Six million bytes from the end of its queue, at a million a second."""
    cluster = Cluster("dclas", told=RATE)
    transfer = Transfer(cluster, "t", {(A, B): MUCH}, sent_bytes=4_000_000)
    cluster.begin(transfer)
    for _ in range(59):
        transfer.move(0.1, {(A, B): RATE}, cluster.now + 0.1)
        cluster.pass_time(0.1)
    assert cluster.itc.decisions == 1
    transfer.sent_bytes = 10_000_000
    for _ in range(5):
        cluster.pass_time(0.1)
    assert cluster.itc.decisions == 2


def test_flows_that_leave_the_plan_are_planned_anew() -> None:
    """Though not by so much that another rate of the port would be believed."""
    cluster = Cluster(told=RATE)
    transfer = Transfer(cluster, "t", {(A, B): MUCH})
    cluster.begin(transfer)
    for _ in range(20):
        transfer.move(0.1, {(A, B): 0.94 * RATE}, cluster.now + 0.1)
        cluster.pass_time(0.1)
    assert cluster.itc.decisions > 1


# -- who is held back ------------------------------------------------------------------------------


def test_under_fair_flows_that_are_equal_are_left_to_tcp() -> None:
    cluster = Cluster("fair")
    first, second = two(cluster)
    cluster.begin(first, second, Transfer(cluster, "third", {B: MUCH, C: MUCH}))
    assert cluster.itc.decisions == 0
    assert cluster.told == []
    assert first.granted_bytes_per_s is None


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("left", [{(A, B): MUCH, (A, C): MUCH}, {B: MUCH, C: MUCH}])
def test_who_is_alone_is_left_to_tcp(policy: str, left: Mapping[NodeFlow, int]) -> None:
    cluster = Cluster(policy)
    cluster.begin(Transfer(cluster, "t", left))
    assert cluster.itc.decisions == 0
    assert cluster.told == []


@pytest.mark.parametrize("policy", ["fair", "weighted", "fifo", "fifo+", "priority", "sebf"])
def test_flows_of_a_weighted_shuffle_are_held_in_proportion_even_alone(policy: str) -> None:
    cluster = Cluster(policy)
    transfer = Transfer(cluster, "t", {(A, B): 30_000_000, (C, B): 10_000_000}, weighted=True)
    cluster.begin(transfer)
    rates = cluster.rates(transfer)
    assert rates[A, B] == pytest.approx(3 * rates[C, B])
    assert 0.9 * RATE < sum(rates.values()) <= RATE
    assert transfer.granted_bytes_per_s == pytest.approx(sum(rates.values()))


@pytest.mark.parametrize("policy", POLICIES)
def test_where_all_ports_were_told_a_rate_everyone_is_held_to_it(policy: str) -> None:
    cluster = Cluster(policy, told=RATE)
    first, second = two(cluster)
    cluster.begin(first, second)
    rates = [sum(cluster.rates(transfer).values()) for transfer in (first, second)]
    assert sum(rates) == pytest.approx(RATE)
    assert (rates[0] == pytest.approx(rates[1])) == (policy in ("fair", "weighted"))


@pytest.mark.parametrize("policy", ["fifo", "fifo+", "priority", "sebf", "bssi", "dclas"])
def test_the_first_in_order_is_free_and_later_ones_have_what_it_leaves(policy: str) -> None:
    cluster = Cluster(policy)
    first, second = two(cluster)
    cluster.begin(first, second)
    assert first.granted_bytes_per_s is None
    assert second.granted_bytes_per_s is not None
    assert second.granted_bytes_per_s <= 0.05 * RATE
    assert sum(cluster.rates(second).values()) == pytest.approx(second.granted_bytes_per_s)
    assert {budget.transfer for _, budget in cluster.told} == {second.name}
    budget = cluster.take_told()[A]
    assert budget.rank == 1
    assert budget.other_flows_bytes_per_s == 0, "what it begins meanwhile waits as well"


def is_free(transfer: Transfer) -> bool:
    """Whether it is not held back."""
    return transfer.granted_bytes_per_s is None


def keep(cluster: Cluster, transfer: Transfer, seconds: int) -> None:
    """All flows go on as they were told last."""
    for _ in range(seconds):
        rates = {flow: rate for flow, rate in cluster.rates(transfer).items() if math.isfinite(rate)}
        transfer.move(1.0, rates, cluster.now + 1.0)
        cluster.pass_time(1.0)
        if is_free(transfer):
            return


def begun_and_kept(policy: str) -> tuple[Cluster, Transfer]:
    """A weighted shuffle that has kept to its rates until a trial began."""
    cluster = Cluster(policy)
    transfer = Transfer(cluster, "t", {(A, B): MUCH, (C, B): MUCH}, weighted=True)
    cluster.begin(transfer)
    assert not is_free(transfer)
    keep(cluster, transfer, 6)
    assert is_free(transfer)
    return cluster, transfer


@pytest.mark.parametrize("policy", ["fair", "weighted", "fifo"])
def test_in_a_trial_flows_are_free_until_it_is_known_what_ports_carry(policy: str) -> None:
    cluster, transfer = begun_and_kept(policy)
    before = cluster.believed(B)
    tests = 0
    while is_free(transfer):
        transfer.move(1.0, {(A, B): 2 * RATE, (C, B): RATE}, cluster.now + 1.0)
        cluster.pass_time(1.0)
        tests += 1
    assert tests <= 3
    assert cluster.believed(B) == pytest.approx(3 * before, rel=0.1)


def test_a_trial_that_tells_nothing_ends_as_well() -> None:
    cluster, transfer = begun_and_kept("fair")
    before = cluster.believed(B)
    cluster.pass_time(LONGEST_S + 1.0)
    assert transfer.granted_bytes_per_s is not None
    assert cluster.believed(B) == before


def test_a_trial_is_not_at_the_cost_of_who_goes_first() -> None:
    cluster, transfer = begun_and_kept("priority")
    first = Transfer(cluster, "first", {(A, B): MUCH}, claim=Claim(1), at_s=1.0)
    cluster.begin(first)
    assert first.granted_bytes_per_s is None
    assert transfer.granted_bytes_per_s is not None
    assert transfer.granted_bytes_per_s <= 0.05 * RATE


def test_who_is_held_beside_it_does_not_end_a_trial() -> None:
    """It tells enough of itself in every test, but nothing of what others show who have just gone free."""
    cluster = Cluster("fifo")
    first = Transfer(cluster, "first", {(A, B): MUCH, (C, B): MUCH}, weighted=True)
    beside = Transfer(cluster, "beside", {(B, D): MUCH}, at_s=1.0)
    cluster.begin(first, beside)
    while not is_free(first):
        keep(cluster, first, 1)
        beside.move(0.0, {(B, D): RATE}, cluster.now)
    before = cluster.believed(B)
    for _ in range(30):
        flows = {(A, B): 2 * RATE, (C, B): RATE} if is_free(first) else cluster.rates(first)
        for _ in range(5):
            first.move(0.1, flows, cluster.now + 0.1)
            beside.move(0.1, {(B, D): RATE}, cluster.now + 0.1)
            cluster.pass_time(0.1)
    assert cluster.believed(B) == pytest.approx(3 * before, rel=0.1)


def test_two_of_which_neither_goes_first_are_not_let_go_and_the_trial_comes_when_one_is_alone() -> None:
    cluster = Cluster("weighted")
    one, other = (
        Transfer(cluster, name, {(A, B): MUCH, (C, B): MUCH}, weighted=True) for name in ("one", "other")
    )
    cluster.begin(one, other)
    for _ in range(60):
        for transfer in (one, other):
            transfer.move(1.0, cluster.rates(transfer), cluster.now + 1.0)
        cluster.pass_time(1.0)
        assert not is_free(one)
        assert not is_free(other)
    other.finish()
    cluster.pass_time(1.0)
    assert is_free(one), "at once: it has been wanted for long"


def test_a_trial_ends_with_the_last_transfer() -> None:
    cluster, transfer = begun_and_kept("fair")
    transfer.finish()
    cluster.pass_time(0.5)
    following = Transfer(cluster, "following", {(A, B): MUCH, (C, B): MUCH}, weighted=True)
    cluster.begin(following)
    assert not is_free(following)


def begun_and_slowed() -> tuple[Cluster, Transfer]:
    """A trial was no news, and then links were slow: little is believed to be usual."""
    cluster = Cluster()
    transfer = Transfer(cluster, "t", {(A, B): MUCH, (C, D): MUCH}, weighted=True)
    cluster.begin(transfer)
    keep(cluster, transfer, 6)
    assert is_free(transfer)
    for _ in range(12):
        rates = dict.fromkeys(transfer.flow_states, RATE)
        if not is_free(transfer):
            rates = {flow: min(rate, 0.5 * RATE) for flow, rate in cluster.rates(transfer).items()}
        transfer.move(1.0, rates, cluster.now + 1.0)
        cluster.pass_time(1.0)
    assert cluster.believed(B) < 0.7 * RATE
    return cluster, transfer


def test_what_is_usual_rises_again_where_trials_show_more() -> None:
    cluster, transfer = begun_and_slowed()
    for _ in range(60):
        free = dict.fromkeys(transfer.flow_states, RATE)
        transfer.move(1.0, free if is_free(transfer) else cluster.rates(transfer), cluster.now + 1.0)
        cluster.pass_time(1.0)
    assert cluster.believed(B) > 0.9 * RATE


def test_what_is_usual_rises_again_while_a_plan_is_kept() -> None:
    cluster, transfer = begun_and_slowed()
    rates = dict.fromkeys(transfer.flow_states, RATE)
    for _ in range(200):  # and trials show no more
        rates = cluster.rates(transfer) or rates
        transfer.move(1.0, {flow: rate for flow, rate in rates.items() if rate}, cluster.now + 1.0)
        cluster.pass_time(1.0)
    assert cluster.believed(B) > 0.8 * RATE


def test_where_connections_keep_shares_nobody_is_let_go() -> None:
    cluster = Cluster(enforcement=Enforcement.CONNECTIONS)
    transfer = Transfer(cluster, "t", {(A, B): MUCH, (C, B): MUCH // 4}, weighted=True)
    cluster.begin(transfer)
    told = cluster.take_told()[B]
    assert told.connections == {A: 8, C: 2}
    for _ in range(30):
        transfer.move(1.0, {(A, B): 0.8 * RATE, (C, B): 0.2 * RATE}, cluster.now + 1.0)
        cluster.pass_time(1.0)
        assert cluster.take_told().get(B, told).connections


def test_the_next_is_free_when_the_first_has_gone() -> None:
    cluster = Cluster("fifo")
    first, second = two(cluster)
    cluster.begin(first, second)
    cluster.take_told()
    first.finish()
    cluster.pass_time(ENOUGH_S)
    assert cluster.take_told() == {node: Budget(second.name, None, None) for node in (A, C)}
    assert second.granted_bytes_per_s is None


def test_a_later_broadcast_is_held_at_every_node_of_it() -> None:
    cluster = Cluster("fifo+")
    first = Transfer(cluster, "first", {(A, B): MUCH})
    second = Transfer(cluster, "second", {B: MUCH, C: MUCH}, at_s=1.0)
    cluster.begin(first, second)
    told = cluster.take_told()
    assert set(told) == {A, B, C}
    for budget in told.values():
        assert budget.transfer == second.name
        assert budget.egress_bytes_per_s == budget.ingress_bytes_per_s == pytest.approx(0.03 * RATE, rel=0.1)


def test_where_nothing_is_believed_of_ports_nobody_is_held_back() -> None:
    cluster = Cluster("fifo", links=Measured())
    cluster.begin(*two(cluster))
    for budget in cluster.take_told().values():
        assert budget == Budget(budget.transfer, None, None, budget.rank)


def test_priority_and_weight_of_a_transfer_reach_the_policy() -> None:
    cluster = Cluster("priority")
    low = Transfer(cluster, "low", {(A, B): MUCH}, claim=Claim(0), at_s=0.0)
    high = Transfer(cluster, "high", {(A, C): MUCH}, claim=Claim(1), at_s=1.0)
    cluster.begin(low, high)
    assert cluster.rates(high) == {}
    assert cluster.rates(low)[A, B] <= 0.05 * RATE
    cluster = Cluster("weighted")
    light = Transfer(cluster, "light", {(A, B): MUCH}, claim=Claim(weight=1.0))
    heavy = Transfer(cluster, "heavy", {(A, C): MUCH}, claim=Claim(weight=3.0))
    cluster.begin(light, heavy)
    assert cluster.rates(heavy)[A, C] == pytest.approx(3 * cluster.rates(light)[A, B])


# -- pacing or connections -------------------------------------------------------------------------


@pytest.mark.parametrize("told", [None, RATE])
def test_by_connections_who_comes_behind_has_sums_at_its_ports(told: float | None) -> None:
    cluster = Cluster("priority", told=told, enforcement=Enforcement.CONNECTIONS)
    first, second = (
        Transfer(cluster, name, {(A, B): MUCH}, weighted=True, at_s=at_s)
        for name, at_s in (("first", 0.0), ("second", 1.0))
    )
    cluster.begin(first, second)
    budgets = {budget.transfer: budget for node, budget in cluster.told if node == A}
    behind = budgets[second.name].egress_bytes_per_s
    assert behind is not None
    assert behind <= 0.1 * RATE
    if told is None:
        assert first.name not in budgets, "who goes first is not held back"


@pytest.mark.parametrize(
    ("enforcement", "paces", "connections"),
    [
        (Enforcement.AUTO, True, False),
        (Enforcement.AUTO, False, True),
        (Enforcement.PACING, False, False),
        (Enforcement.CONNECTIONS, True, True),
    ],
)
def test_flows_are_kept_by_connections_where_it_is_said_or_senders_cannot_pace(
    enforcement: Enforcement, paces: bool, connections: bool
) -> None:
    cluster = Cluster("fair", None, enforcement, paces=paces)
    transfer = Transfer(cluster, "t", {(A, B): 30_000_000, (C, B): 15_000_000}, weighted=True)
    cluster.begin(transfer)
    told = dict(cluster.told)
    rates, counts = cluster.rates(transfer), told[B].connections
    assert bool(rates) != connections
    assert bool(counts) == connections
    by_sender = counts if connections else {mapper: rate for (mapper, _), rate in rates.items()}
    assert by_sender[A] == pytest.approx(2 * by_sender[C])
    assert told[B].ingress_bytes_per_s is None


def test_a_reducer_that_cannot_pace_does_not_matter() -> None:
    cluster = Cluster("fair")
    join = Join(NodeName("slow kernel"), "", "e:7001", "e", "", True, False, (), False)
    cluster.members.add(SessionId(9), join, 0.0)
    transfer = Transfer(cluster, "t", {(A, join.name): 30_000_000, (C, B): 15_000_000}, weighted=True)
    cluster.begin(transfer)
    assert not any(budget.connections for budget in cluster.take_told().values())


def test_beside_connections_sums_are_kept_where_ports_were_told_a_rate() -> None:
    cluster = Cluster("fair", RATE, Enforcement.CONNECTIONS)
    cluster.begin(Transfer(cluster, "t", {(A, B): 30_000_000, (C, B): 15_000_000}))
    told = cluster.take_told()
    assert told[B].ingress_bytes_per_s == pytest.approx(RATE)
    assert told[A].egress_bytes_per_s == pytest.approx(RATE / 2)


# -- changes ---------------------------------------------------------------------------------------


def test_another_policy_takes_effect_at_once() -> None:
    cluster = Cluster("fifo", told=RATE)
    first, second = two(cluster)
    cluster.begin(first, second)
    cluster.take_told()
    cluster.itc.change_policy("weighted")
    assert cluster.itc.policy == "weighted"
    cluster.itc.review(cluster.now + ENOUGH_S)
    assert cluster.rates(first)[A, B] == pytest.approx(cluster.rates(second)[A, C]) == pytest.approx(RATE / 2)


def test_under_fair_who_was_held_back_is_so_no_more() -> None:
    cluster = Cluster("fifo")
    cluster.begin(*two(cluster))
    cluster.take_told()
    cluster.itc.change_policy("fair")
    cluster.itc.review(cluster.now + ENOUGH_S)
    told = cluster.take_told()
    assert set(told) == {A, C}
    assert all(budget == Budget(budget.transfer, None, None) for budget in told.values())


def test_a_policy_that_is_none_is_refused_and_the_one_before_stays() -> None:
    cluster = Cluster("fifo")
    with pytest.raises(ValueError, match=r"policy must be one of fair, .*got 'none'"):
        cluster.itc.change_policy("none")
    assert cluster.itc.policy == "fifo"
    with pytest.raises(ValueError, match="policy must be one of"):
        Cluster("none")


def test_who_is_paused_moves_nothing_and_leaves_ports_to_others() -> None:
    cluster = Cluster("weighted", told=RATE)
    first, second = two(cluster)
    cluster.begin(first, second)
    first.set_paused(True, cluster.now)
    cluster.pass_time(ENOUGH_S)
    assert first.granted_bytes_per_s == 0
    assert cluster.rates(second)[A, C] == pytest.approx(RATE)
    last = [budget for node, budget in cluster.told if (node, budget.transfer) == (A, first.name)][-1]
    assert (last.egress_bytes_per_s, last.other_flows_bytes_per_s) == (0, 0)
    assert not last.flows_bytes_per_s
    first.set_paused(False, cluster.now)
    cluster.pass_time(ENOUGH_S)
    assert first.granted_bytes_per_s == pytest.approx(RATE / 2)
    assert cluster.rates(first)[A, B] == pytest.approx(RATE / 2)
    last = [budget for node, budget in cluster.told if (node, budget.transfer) == (A, first.name)][-1]
    assert last.egress_bytes_per_s is None


def test_a_pause_is_kept_where_the_rest_is_left_to_tcp() -> None:
    cluster = Cluster("fair")
    first, second = two(cluster)
    cluster.begin(first, second)
    first.set_paused(True, cluster.now)
    cluster.pass_time(ENOUGH_S)
    told = cluster.take_told()
    assert {node: budget.egress_bytes_per_s for node, budget in told.items()} == {A: 0, B: 0}
    first.set_paused(False, cluster.now)
    cluster.pass_time(ENOUGH_S)
    assert cluster.take_told() == {node: Budget(first.name, None, None) for node in (A, B)}


# -- what is told ----------------------------------------------------------------------------------


def test_budgets_that_hardly_change_are_not_told_again() -> None:
    cluster = Cluster("weighted", told=RATE)
    transfer = Transfer(cluster, "t", {(A, B): MUCH, (C, B): MUCH}, weighted=True)
    cluster.begin(transfer)
    assert cluster.take_told()
    transfer.move(1.0, {(A, B): 0.005 * MUCH}, cluster.now)
    cluster.itc.note(transfer, urgent=True)
    cluster.pass_time(ENOUGH_S)
    assert cluster.itc.decisions == 2
    assert cluster.told == []
    transfer.move(1.0, {(A, B): 0.3 * MUCH}, cluster.now)
    cluster.itc.note(transfer, urgent=True)
    cluster.pass_time(ENOUGH_S)
    assert cluster.take_told()


def test_a_node_that_comes_anew_is_told_anew_and_others_are_not() -> None:
    cluster = Cluster("weighted", told=RATE)
    cluster.begin(Transfer(cluster, "t", {(A, B): MUCH, (C, B): MUCH}))
    before = cluster.take_told()
    cluster.itc.forget_node(A)
    cluster.pass_time(2 * SOON_S)
    assert cluster.take_told() == {A: before[A]}


def test_of_who_has_gone_nothing_is_kept() -> None:
    cluster = Cluster("weighted", told=RATE)
    first, second = two(cluster)
    cluster.begin(first, second)
    assert cluster.itc.budgets == 4
    first.finish()
    assert cluster.itc.budgets == 2
    second.finish()
    cluster.pass_time(ENOUGH_S)
    assert cluster.itc.budgets == 0


# -- beliefs ---------------------------------------------------------------------------------------


def run(cluster: Cluster, transfers: Sequence[Transfer], slow: NodeName, most: float, seconds: float) -> None:
    """Flows keep to what they were told last, but one node receives no more than it can."""
    rates: dict[TransferName, dict[NodeFlow, float]] = {transfer.name: {} for transfer in transfers}
    for _ in range(round(seconds / 0.1)):
        for transfer in transfers:
            rates[transfer.name].update(cluster.rates(transfer))
            actual = {
                flow: min(most, rate) if flow[1] == slow else rate
                for flow, rate in rates[transfer.name].items()
            }
            transfer.move(0.1, actual, cluster.now + 0.1)
        cluster.pass_time(0.1)


def test_what_a_slow_receiver_leaves_of_its_senders_port_goes_to_others() -> None:
    cluster = Cluster("weighted", told=RATE)
    first, second = two(cluster)
    cluster.begin(first, second)
    assert cluster.rates(second)[A, C] == pytest.approx(RATE / 2)
    run(cluster, [first, second], B, 0.1 * RATE, 12.0)
    assert cluster.rates(first)[A, B] <= 0.15 * RATE
    assert cluster.rates(second)[A, C] >= 0.8 * RATE


def test_what_was_learnt_of_a_node_is_forgotten_when_it_comes_anew() -> None:
    cluster = Cluster("weighted", told=RATE)
    first, second = two(cluster)
    cluster.begin(first, second)
    run(cluster, [first, second], B, 0.1 * RATE, 12.0)
    cluster.itc.forget_node(B)
    cluster.pass_time(2 * SOON_S)
    assert cluster.rates(first)[A, B] == pytest.approx(RATE / 2, rel=0.05)


def test_one_slow_receiver_tells_nothing_of_other_nodes() -> None:
    cluster = Cluster("weighted")
    transfer = Transfer(cluster, "one", {(A, B): MUCH, (C, B): MUCH}, weighted=True)
    cluster.begin(transfer)
    before = cluster.believed(D)
    run(cluster, [transfer], B, 0.1 * RATE, 12.0)
    assert cluster.believed(D) == before
    assert cluster.believed(B) <= 0.3 * before


def test_a_node_that_comes_and_goes_on_a_card_of_others_changes_no_belief() -> None:
    cluster = Cluster("weighted", told=RATE)
    first, second = two(cluster)
    cluster.begin(first, second)
    run(cluster, [first, second], B, 0.1 * RATE, 12.0)
    believed = cluster.believed(B)
    mate = NodeName("a command on b's host")
    join = Join(mate, "", "b:2", "host of b", "", False, False, (), True)
    cluster.members.add(SessionId(99), join, cluster.now)
    cluster.itc.forget_node(mate)
    assert cluster.believed(B) == believed < 0.5 * RATE
