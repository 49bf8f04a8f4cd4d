"""SEBF, BSSI and D-CLAS on examples small enough to work out by hand."""

import numpy as np
import pytest

from schedulers import Bssi, Dclas, Demand, Sebf, Shuffle, Snapshot, Standing, TransferId, broadcast
from schedulers.bssi import bssi_order


def flow(name: str, arrival: float, size: float, egress: int = 0, ingress: int = 9, **rank: float) -> Shuffle:
    """A shuffle of one flow."""
    standing = Standing(
        TransferId(name), arrival, weight=rank.get("weight", 1.0), sent_bytes=rank.get("sent_bytes", 0.0)
    )
    return Shuffle.of(standing, np.array([egress]), np.array([ingress]), np.array([[size]]))


def snapshot(*demands: Demand) -> Snapshot:
    return Snapshot(np.ones(10), demands)


# -- SEBF ------------------------------------------------------------------------------------------


def test_the_smallest_bottleneck_goes_first_and_the_oldest_keeps_a_hundredth() -> None:
    shares = Sebf().allocate(snapshot(flow("large", 0.0, 9.0), flow("small", 1.0, 2.0))).shares
    assert [share.port_rates[0] for share in shares] == pytest.approx([0.01, 0.99])


def test_it_is_the_bottleneck_that_counts_and_not_the_bytes() -> None:
    """Six bytes spread over three ports are through before three at one."""
    wide = Shuffle.of(Standing(TransferId("wide"), 1.0), np.arange(3), np.arange(7, 10), np.eye(3) * 2)
    shares = Sebf(0.0).allocate(snapshot(flow("narrow", 0.0, 3.0), wide)).shares
    assert not shares[0].moves
    assert shares[1].port_rates == pytest.approx(np.ones(6))


def test_a_transfer_gets_just_the_rates_by_which_its_flows_end_together() -> None:
    """MADD: two flows of 1 and 3 bytes out of ports of their own into one: 1/4 and 3/4 of it."""
    shuffle = Shuffle.of(
        Standing(TransferId("s"), 0.0), np.array([0, 1]), np.array([9]), np.array([[1.0], [3.0]])
    )
    rates = Sebf().allocate(snapshot(shuffle)).shares[0].flow_rates
    assert rates == pytest.approx(np.array([[0.25], [0.75]]))


@pytest.mark.parametrize("unit", [1.0, 1.041, 3.3e7])
def test_equal_bottlenecks_are_equal_in_any_unit(unit: float) -> None:
    """Five and one into a port are as much as three times two, also where rounding says otherwise."""
    first, second = (
        Shuffle.of(
            Standing(TransferId(str(sizes)), arrival),
            np.arange(len(sizes)),
            np.array([9]),
            np.array([[size * unit] for size in sizes]),
        )
        for arrival, sizes in enumerate(([5.0, 1.0], [2.0, 2.0, 2.0]))
    )
    shares = Sebf().allocate(snapshot(second, first)).shares
    assert [share.port_rates[-1] for share in shares] == pytest.approx([0, 1])


# -- BSSI ------------------------------------------------------------------------------------------


def names(shown: Snapshot) -> list[str]:
    return [shown.demands[transfer].standing.transfer for transfer in bssi_order(shown)]


def test_on_one_port_the_least_for_its_weight_goes_first() -> None:
    """Smith's rule: by size over weight."""
    assert names(snapshot(flow("a", 0, 4.0), flow("b", 1, 1.0), flow("c", 2, 6.0, weight=3.0))) == [
        "b",
        "c",
        "a",
    ]


def test_weights_are_taken_off_as_the_last_is_placed() -> None:
    """Worked out by hand. Port 1 is the busiest (3 + 4). There "both" costs 1/3 of weight a byte, "long" 1/4:
    last is "long", and "both" keeps 1 - 3/4. Then port 0 is (2 + 3): "short" costs 1/2, "both" 1/12 and goes
    second."""
    both = Shuffle.of(Standing(TransferId("both"), 0.0), np.array([0, 1]), np.array([8, 9]), np.eye(2) * 3)
    shown = snapshot(both, flow("short", 1.0, 2.0, 0, 7), flow("long", 2.0, 4.0, 1, 6))
    assert names(shown) == ["short", "both", "long"]


def test_of_equals_who_came_first_goes_first() -> None:
    assert names(snapshot(flow("b", 1.0, 2.0), flow("c", 2.0, 2.0), flow("a", 0.0, 2.0))) == ["a", "b", "c"]


def test_who_has_nothing_left_is_placed_whatever_rounding_leaves_of_loads() -> None:
    """All ports are used by others, whose times do not add up exactly."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        sizes = rng.choice([0.1, 0.2, 0.3, 0.7, 0.9, 1.1, 1e-17], 5)
        demands = [flow(f"f{at}", float(at), size, 0, 1) for at, size in enumerate(sizes)]
        shown = Snapshot(np.ones(2), [*demands, flow("through", 9.0, 0.0, 0, 1)])
        assert sorted(bssi_order(shown)) == list(range(6))


@pytest.mark.parametrize("unit", [1.0, 1.041, 7.7e-3])
def test_where_weights_are_in_proportion_to_sizes_who_came_first_goes_first(unit: float) -> None:
    """Taking weights off leaves nothing for the others, in whatever unit: all are equal."""
    demands = [
        flow(name, at, unit * size, weight=size)
        for at, (name, size) in enumerate([("a", 0.3), ("b", 0.7), ("c", 1.1)])
    ]
    assert names(snapshot(*reversed(demands))) == ["a", "b", "c"]


def test_very_many_equal_shuffles_are_ordered_as_they_came() -> None:
    ports = np.arange(40)
    demands = [
        Shuffle.of(Standing(TransferId(str(at)), float(at)), ports, ports + 40, np.ones((40, 40)))
        for at in range(200)
    ]
    assert list(bssi_order(Snapshot(np.ones(80), demands))) == list(range(200))


def test_each_level_takes_what_those_before_it_leave() -> None:
    first, second = flow("first", 0.0, 1.0), flow("second", 1.0, 2.0)
    beside = flow("beside", 2.0, 50.0, 1, 8)
    shares = Bssi(0.0).allocate(snapshot(first, second, beside)).shares
    assert [share.port_rates[0] for share in shares] == [1, 0, 1]


# -- D-CLAS ----------------------------------------------------------------------------------------


def test_higher_queues_go_first_inside_one_the_first_and_the_oldest_keeps_a_hundredth() -> None:
    old, young = flow("old", 0.0, 1e9, sent_bytes=2e7), flow("young", 1.0, 1e9)
    younger, last = flow("younger", 2.0, 1.0), flow("last", 3.0, 1.0, sent_bytes=1e30)
    shares = Dclas().allocate(snapshot(old, young, younger, last)).shares
    assert [share.port_rates[0] for share in shares] == pytest.approx([0.01, 0.99, 0, 0])
    through = Dclas(oldest_part=0.0).allocate(snapshot(flow("young", 1.0, 0.0), old, last)).shares
    assert [share.port_rates[0] for share in through] == pytest.approx([0, 1, 0])


def test_no_size_is_looked_at() -> None:
    few, many = (
        Dclas().allocate(snapshot(flow("a", 0.0, left), flow("b", 1.0, 1.0))).shares for left in (1.0, 1e12)
    )
    assert [share.port_rates[0] for share in few] == [share.port_rates[0] for share in many]


def test_flows_inside_are_equal_whatever_they_have_left() -> None:
    shuffle = Shuffle.of(
        Standing(TransferId("s"), 0.0), np.array([0, 1]), np.array([9]), np.array([[1.0], [3.0]])
    )
    assert Dclas().allocate(snapshot(shuffle)).shares[0].flow_rates == pytest.approx(np.full((2, 1), 0.5))


def test_the_answer_holds_until_the_first_sinks_into_the_next_queue() -> None:
    alone = Dclas(first_bytes=10.0).allocate(snapshot(flow("a", 0.0, 99.0, sent_bytes=4.0)))
    assert alone.holds_s == pytest.approx(6.0)
    spread = broadcast(Standing(TransferId("b"), 0.0), 0, (7, 8), (1, 2), 30.0)
    assert Dclas(first_bytes=10.0).allocate(snapshot(spread)).holds_s == pytest.approx(5.0), (
        "two receive at once"
    )
    sunk = Dclas(queues=1).allocate(snapshot(flow("a", 0.0, 99.0)))
    assert sunk.holds_s == float("inf"), "there is no next queue"


@pytest.mark.parametrize(
    ("named", "wrong"),
    [("queues", {"queues": 0}), ("first_bytes", {"first_bytes": 0.0}), ("factor", {"factor": 1.0})],
)
def test_queues_that_cannot_be_are_refused(named: str, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=named):
        Dclas(**wrong)  # type: ignore[arg-type]


def test_parts_that_cannot_be_are_refused() -> None:
    for policy in (Sebf, Bssi, Dclas):
        with pytest.raises(ValueError, match="oldest_part must be 0 to 1"):
            policy(oldest_part=2.0)
