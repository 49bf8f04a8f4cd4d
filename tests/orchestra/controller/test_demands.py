"""Nodes and what they lack, as policies are shown them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.controller.demands import NodeFlow, PortNumbers, broadcast_demand, shuffle_demand
from orchestra.controller.members import Card
from schedulers import Standing, TransferId
from transfers.ids import NodeName

ONE = Standing(TransferId("one"), 0.0)
S, A, B, C = (NodeName(name) for name in "sabc")


def own_card(node: NodeName) -> Card:
    return Card(f"card of {node}")


def first_letter(node: NodeName) -> Card:
    """Nodes whose names begin alike are on one host."""
    return Card(node[0])


def by_port(
    ports: PortNumbers, numbers: "np.ndarray[tuple[int], np.dtype[np.intp]]", values: object
) -> object:
    """Values by card and direction."""
    return dict(zip(map(ports.port, numbers.tolist()), np.asarray(values).tolist(), strict=True))


# -- numbers ---------------------------------------------------------------------------------------


def test_a_card_has_two_ports_which_keep_their_numbers() -> None:
    ports = PortNumbers(own_card)
    numbers = [ports.egress(A), ports.ingress(A), ports.ingress(B), ports.egress(B)]
    assert sorted(numbers) == [0, 1, 2, 3], "none is left out: capacities are an array"
    assert [ports.egress(A), ports.ingress(A), ports.ingress(B), ports.egress(B)] == numbers
    assert [ports.port(number) for number in numbers] == [
        (own_card(A), True), (own_card(A), False), (own_card(B), False), (own_card(B), True),
    ]  # fmt: skip


def test_nodes_of_one_host_have_the_same_ports() -> None:
    ports = PortNumbers(first_letter)
    assert ports.egress(NodeName("h1")) == ports.egress(NodeName("h2")) != ports.egress(NodeName("g1"))
    assert len(ports.cards) == 2


# -- broadcasts ------------------------------------------------------------------------------------


def test_all_receivers_have_the_pace_of_the_one_that_lacks_most() -> None:
    ports = PortNumbers(own_card)
    demand = broadcast_demand(ONE, ports, {A: 10, B: 40}, [S])
    assert demand is not None
    assert by_port(ports, demand.ports, demand.port_bytes) == {
        (own_card(A), False): 40, (own_card(A), True): 40,
        (own_card(B), False): 40, (own_card(B), True): 40,
        (own_card(S), True): 40,
    }  # fmt: skip


def test_a_single_receiver_passes_nothing_on() -> None:
    ports = PortNumbers(own_card)
    demand = broadcast_demand(ONE, ports, {A: 10}, [S])
    assert demand is not None
    assert by_port(ports, demand.ports, demand.port_bytes) == {
        (own_card(A), False): 10,
        (own_card(S), True): 10,
    }


def test_what_is_missing_comes_from_all_who_hold_everything() -> None:
    ports = PortNumbers(own_card)
    demand = broadcast_demand(ONE, ports, {A: 12, B: 0}, [S, B, C])
    assert demand is not None
    assert by_port(ports, demand.ports, demand.port_bytes) == {
        (own_card(A), False): 12, (own_card(S), True): 4, (own_card(B), True): 4, (own_card(C), True): 4,
    }  # fmt: skip


@pytest.mark.parametrize(("lacking", "complete"), [({}, [S]), ({A: 0}, [S]), ({A: 5}, []), ({A: 5}, [A])])
def test_a_broadcast_that_cannot_move_has_no_demand(
    lacking: dict[NodeName, int], complete: list[NodeName]
) -> None:
    assert broadcast_demand(ONE, PortNumbers(own_card), lacking, complete) is None


@given(
    lacking=st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 100), min_size=1),
    complete=st.lists(st.sampled_from([S, NodeName("t"), NodeName("u")]), min_size=1, unique=True),
)
def test_no_port_of_a_broadcast_is_busier_than_the_receiver_that_lacks_most(
    lacking: dict[NodeName, int], complete: list[NodeName]
) -> None:
    demand = broadcast_demand(ONE, PortNumbers(own_card), lacking, complete)
    assert (demand is None) == (not any(lacking.values()))
    if demand is not None:
        assert demand.port_bytes.max() == max(lacking.values())
        assert (demand.port_bytes > 0).all()
        assert len(set(demand.ports.tolist())) == len(demand.ports)


# -- shuffles --------------------------------------------------------------------------------------


def test_flows_of_nodes_on_the_same_cards_are_added_up() -> None:
    ports = PortNumbers(first_letter)
    left: dict[NodeFlow, float] = {
        (NodeName("g1"), NodeName("h1")): 1.0,
        (NodeName("g2"), NodeName("h2")): 2.0,
        (NodeName("g2"), NodeName("i1")): 4.0,
    }
    demand = shuffle_demand(ONE, ports, left, weighted=True)
    assert demand is not None
    assert by_port(ports, demand.ports, demand.port_bytes) == {
        (Card("g"), True): 7, (Card("h"), False): 3, (Card("i"), False): 4,
    }  # fmt: skip


@pytest.mark.parametrize("weighted", [True, False])
def test_a_shuffle_says_whether_its_flows_are_to_end_together(weighted: bool) -> None:
    demand = shuffle_demand(ONE, PortNumbers(own_card), {(A, B): 1.0}, weighted)
    assert demand is not None
    assert (demand.standing, demand.weighted) == (ONE, weighted)


@pytest.mark.parametrize("left", [{}, {(A, B): 0.0}])
def test_a_shuffle_with_nothing_left_has_no_demand(left: dict[NodeFlow, float]) -> None:
    assert shuffle_demand(ONE, PortNumbers(own_card), left, weighted=True) is None


NODES = [NodeName(name) for name in ("g1", "g2", "h1", "h2", "i1")]
FLOWS = st.tuples(st.sampled_from(NODES), st.sampled_from(NODES)).filter(lambda ends: ends[0] != ends[1])


@given(left=st.dictionaries(FLOWS, st.integers(0, 50)))
def test_every_port_carries_what_the_nodes_behind_it_send_or_receive(left: dict[NodeFlow, int]) -> None:
    ports = PortNumbers(first_letter)
    demand = shuffle_demand(ONE, ports, dict(left), weighted=True)
    expected: dict[object, int] = {}
    for (mapper, reducer), count in left.items():
        for port in ((first_letter(mapper), True), (first_letter(reducer), False)):
            expected[port] = expected.get(port, 0) + count
    expected = {port: count for port, count in expected.items() if count}
    assert (demand is None) == (not expected)
    if demand is not None:
        assert by_port(ports, demand.ports, demand.port_bytes) == expected
