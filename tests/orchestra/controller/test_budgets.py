"""What nodes are told of what a policy has given."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.controller.budgets import (
    MOST_CONNECTIONS,
    ShuffleNodes,
    broadcast_budgets,
    connection_budgets,
    differ,
    node_rates,
    paused,
    shuffle_budgets,
    unlimited,
)
from orchestra.controller.demands import NodeFlow, PortNumbers, broadcast_demand, shuffle_demand
from orchestra.controller.members import Card
from orchestra.messages import Budget
from schedulers import Broadcast, Share, Shuffle, Standing, TransferId
from schedulers.allocation import Levels
from transfers.ids import NodeName, TransferName

ONE = Standing(TransferId("t"), 0.0)
T = TransferName("t")
S, A, B, C = (NodeName(name) for name in "sabc")
NODES = [S, A, B, C]


def own_card(node: NodeName) -> Card:
    return Card(node)


def one_host(node: NodeName) -> Card:
    """Nodes whose names begin alike are on one host."""
    return Card(node[0])


def own_places(*nodes: NodeName) -> dict[NodeName, Sequence[NodeName]]:
    return {node: [node] for node in nodes}


def shuffle_of(ports: PortNumbers, left: Mapping[NodeFlow, float]) -> Shuffle:
    demand = shuffle_demand(ONE, ports, left, weighted=True)
    assert demand is not None
    return demand


def broadcast_of(ports: PortNumbers, lacking: Mapping[NodeName, int]) -> Broadcast:
    demand = broadcast_demand(ONE, ports, lacking, [S])
    assert demand is not None
    return demand


# -- all or nothing --------------------------------------------------------------------------------


def test_who_is_not_held_back_has_no_number() -> None:
    assert unlimited(T, [A, B], 2) == {node: Budget(T, None, None, 2) for node in (A, B)}


def test_who_is_paused_sends_nothing_and_nobody_is_blamed_for_it() -> None:
    budget = paused(T, [A])[A]
    assert budget.egress_bytes_per_s == 0
    assert budget.other_flows_bytes_per_s == 0
    assert budget.slowest_bytes_per_s == 0
    assert not budget.flows_bytes_per_s


# -- broadcasts ------------------------------------------------------------------------------------


def test_each_node_of_a_broadcast_has_the_pace_of_its_busiest_port() -> None:
    demand = Broadcast(ONE, np.array([0, 1, 3]), np.array([8.0, 4.0, 2.0]))
    budgets = broadcast_budgets(T, Share(demand, 5.0), [S, A], 1)
    for budget in (budgets[S], budgets[A]):
        assert (budget.egress_bytes_per_s, budget.ingress_bytes_per_s, budget.rank) == (40, 40, 1)
        assert budget.slowest_bytes_per_s is not None
        assert 0 < budget.slowest_bytes_per_s < 40, "several streams share it"
        assert not budget.flows_bytes_per_s
        assert budget.other_flows_bytes_per_s is None


def test_a_broadcast_that_may_not_move_is_paused_and_one_without_limit_is_free() -> None:
    demand = broadcast_of(PortNumbers(own_card), {A: 10, B: 10})
    assert broadcast_budgets(T, Share(demand, 0.0), NODES, 3) == paused(T, NODES, 3)
    assert broadcast_budgets(T, Share(demand, math.inf), NODES, 3) == unlimited(T, NODES, 3)


# -- rates of shuffles -----------------------------------------------------------------------------


def test_a_mapper_is_told_the_rate_of_each_flow_by_its_reducers_places() -> None:
    ports = PortNumbers(own_card)
    left: dict[NodeFlow, float] = {(A, B): 10.0, (A, C): 30.0, (S, C): 20.0}
    places = {B: [B], C: [C, NodeName("lost one")]}
    who = ShuffleNodes(NODES, places, left)
    budgets = shuffle_budgets(T, Share(shuffle_of(ports, left), 2.0), ports, who, 1, 0.0)
    assert budgets[A].flows_bytes_per_s == {B: 20, C: 60, "lost one": 60}
    assert budgets[S].flows_bytes_per_s == {C: 40, "lost one": 40}
    assert budgets[B].flows_bytes_per_s == {}
    assert {budget.other_flows_bytes_per_s for budget in budgets.values()} == {0.0}
    assert {budget.rank for budget in budgets.values()} == {1}


def test_a_reducer_is_told_the_slowest_flow_to_it() -> None:
    ports = PortNumbers(own_card)
    left: dict[NodeFlow, float] = {(A, B): 10.0, (S, C): 20.0, (A, C): 30.0}
    who = ShuffleNodes(NODES, own_places(B, C), left)
    budgets = shuffle_budgets(T, Share(shuffle_of(ports, left), 2.0), ports, who, 0, None)
    assert [budgets[node].slowest_bytes_per_s for node in NODES] == [None, None, 20, 40]


def test_a_shuffle_that_may_not_move_is_paused() -> None:
    ports = PortNumbers(own_card)
    left: dict[NodeFlow, float] = {(A, B): 10.0}
    who, share = ShuffleNodes(NODES, own_places(B), left), Share(shuffle_of(ports, left), 0.0)
    assert shuffle_budgets(T, share, ports, who, 1, 0.0) == paused(T, NODES, 1)
    assert connection_budgets(T, share, ports, who, 1, keep_sums=True) == paused(T, NODES, 1)


def test_flows_without_a_limit_are_not_named_and_others_not_held_then() -> None:
    ports = PortNumbers(own_card)
    left: dict[NodeFlow, float] = {(A, B): 10.0}
    who = ShuffleNodes(NODES, own_places(B), left)
    budgets = shuffle_budgets(T, Share(shuffle_of(ports, left), math.inf), ports, who, 0, 0.0)
    assert budgets == unlimited(T, NODES)


def test_flows_between_the_same_two_cards_share_by_what_they_have_left() -> None:
    ports = PortNumbers(one_host)
    g1, g2, h1, h2 = (NodeName(name) for name in ("g1", "g2", "h1", "h2"))
    left: dict[NodeFlow, float] = {(g1, h1): 10.0, (g2, h2): 30.0}
    rates = node_rates(Share(shuffle_of(ports, left), 3.0, in_bytes=False), ports, left)
    assert rates == pytest.approx({(g1, h1): 0.75, (g2, h2): 2.25})


def test_broadcasts_and_who_may_not_move_have_no_rates_of_flows() -> None:
    ports = PortNumbers(own_card)
    left: dict[NodeFlow, float] = {(A, B): 10.0}
    assert node_rates(Share(shuffle_of(ports, left), 0.0), ports, left) == {}
    assert node_rates(Share(broadcast_of(ports, {A: 5}), 1.0), ports, left) == {}


HOSTS = [NodeName(name) for name in ("g1", "g2", "h1", "h2", "i1")]
FLOWS = st.tuples(st.sampled_from(HOSTS), st.sampled_from(HOSTS)).filter(lambda ends: ends[0] != ends[1])


@given(
    left=st.dictionaries(FLOWS, st.floats(1.0, 1e9), min_size=1),
    pace=st.floats(1e-3, 1e3),
    in_bytes=st.booleans(),
)
def test_what_nodes_send_in_all_is_what_their_cards_were_given(
    left: dict[NodeFlow, float], pace: float, in_bytes: bool
) -> None:
    ports = PortNumbers(one_host)
    share = Share(shuffle_of(ports, left), pace, in_bytes)
    rates = node_rates(share, ports, left)
    assert rates.keys() == left.keys()
    found: dict[int, float] = {}
    for (mapper, reducer), rate in rates.items():
        for port in (ports.egress(mapper), ports.ingress(reducer)):
            found[port] = found.get(port, 0.0) + rate
    given_ = dict(zip(share.demand.ports.tolist(), share.port_rates.tolist(), strict=True))
    assert found == pytest.approx(given_)


# -- connections -----------------------------------------------------------------------------------


def connections(
    left: Mapping[NodeFlow, float], *, keep_sums: bool = False, pace: float = 1.0
) -> dict[NodeName, Budget]:
    ports = PortNumbers(own_card)
    who = ShuffleNodes(NODES, own_places(*NODES), left)
    return connection_budgets(T, Share(shuffle_of(ports, left), pace), ports, who, 0, keep_sums=keep_sums)


def test_connections_are_in_proportion_to_rates_and_at_least_one() -> None:
    left: dict[NodeFlow, float] = {(S, C): 80.0, (A, C): 40.0, (B, C): 0.5, (S, A): 10.0}
    budgets = connections(left)
    assert budgets[C].connections == {S: MOST_CONNECTIONS, A: MOST_CONNECTIONS // 2, B: 1}
    assert budgets[A].connections == {S: 1}
    assert not any(budget.flows_bytes_per_s for budget in budgets.values())


@given(
    sizes=st.lists(st.floats(1.0, 1e6), min_size=3, max_size=3),
    factor=st.sampled_from([1.0, 0.125, 1024.0]),
)
def test_numbers_of_connections_follow_proportions_whatever_the_rates(
    sizes: list[float], factor: float
) -> None:
    left: dict[NodeFlow, float] = dict(zip([(S, C), (A, C), (B, C)], sizes, strict=True))
    counts = connections(left, pace=factor)[C].connections
    assert counts == connections(left)[C].connections
    assert max(counts.values()) == MOST_CONNECTIONS
    for (mapper, _), size in left.items():
        exact = MOST_CONNECTIONS * size / max(sizes)
        assert counts[mapper] == pytest.approx(max(1.0, exact), abs=0.5 + 1e-9)


@pytest.mark.parametrize("keep_sums", [True, False])
def test_sums_of_ports_are_kept_only_where_it_is_said(keep_sums: bool) -> None:
    budgets = connections({(S, C): 80.0, (A, C): 40.0, (S, B): 10.0}, keep_sums=keep_sums, pace=2.0)
    sums = {name: (each.egress_bytes_per_s, each.ingress_bytes_per_s) for name, each in budgets.items()}
    kept = {S: (180, None), A: (80, None), B: (None, 20), C: (None, 240)}
    assert sums == (kept if keep_sums else dict.fromkeys(NODES, (None, None)))


def test_a_flow_that_may_not_move_is_stopped_where_others_of_its_shuffle_move() -> None:
    ports = PortNumbers(own_card)
    left: dict[NodeFlow, float] = {(S, C): 80.0, (A, B): 40.0}

    share = Share(shuffle_of(ports, left), 0.0, beside=Levels(np.array([7.0, 0.0]), np.array([9.0, 9.0])))
    who = ShuffleNodes(NODES, own_places(*NODES), left)
    budgets = connection_budgets(T, share, ports, who, 0, keep_sums=False)
    assert budgets[A].flows_bytes_per_s == {B: 0}
    assert budgets[B].slowest_bytes_per_s == 0, "who waits for it is not to blame it"
    assert budgets[B].connections == {}
    assert budgets[C].connections == {S: MOST_CONNECTIONS}
    assert budgets[C].slowest_bytes_per_s is None


# -- what is worth telling -------------------------------------------------------------------------

BASE = Budget(T, 100.0, 100.0, 1, {A: 50.0}, 10.0, 5.0, {B: 2})


def changed(**fields: object) -> Budget:
    """The same but for some fields."""
    before = {name: getattr(BASE, name) for name in Budget.__dataclass_fields__}
    return Budget(**{**before, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"egress_bytes_per_s": 101.9},
        {"ingress_bytes_per_s": 98.1},
        {"flows_bytes_per_s": {A: 50.9}},
        {"other_flows_bytes_per_s": 10.1},
        {"slowest_bytes_per_s": 4.95},
    ],
)
def test_what_hardly_differs_is_not_told_again(fields: dict[str, object]) -> None:
    assert not differ(BASE, changed(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"egress_bytes_per_s": 102.1},
        {"ingress_bytes_per_s": 97.9},
        {"egress_bytes_per_s": None},
        {"ingress_bytes_per_s": 0.0},
        {"rank": 2},
        {"flows_bytes_per_s": {A: 52.0}},
        {"flows_bytes_per_s": {}},
        {"flows_bytes_per_s": {A: 50.0, B: 1.0}},
        {"other_flows_bytes_per_s": None},
        {"slowest_bytes_per_s": 6.0},
        {"connections": {B: 3}},
    ],
)
def test_what_differs_is_told(fields: dict[str, object]) -> None:
    assert differ(BASE, changed(**fields))


def test_who_was_told_nothing_is_told() -> None:
    assert differ(None, unlimited(T, [A])[A])


@pytest.mark.parametrize("rate", [None, 1e-3, 1e9])
def test_a_pause_and_its_end_are_always_told(rate: float | None) -> None:
    held, going = paused(T, [A], 1)[A], Budget(T, rate, rate, 1)
    assert differ(held, going)
    assert differ(going, held)
