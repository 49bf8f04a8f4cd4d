"""Who goes first, and which policies heed what transfers claim by weight and priority."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedulers import (
    POLICIES,
    Bssi,
    Dclas,
    Demand,
    Fifo,
    FifoPlus,
    Policy,
    Priority,
    Sebf,
    Shuffle,
    Snapshot,
    Standing,
    TransferId,
)
from tests.schedulers.strategies import snapshots

few_of_each = settings(max_examples=40)
CLOSE = 1e-6

ORDERED = ("fifo", "fifo+", "priority", "sebf", "bssi", "dclas")
HEED_WEIGHT = ("weighted", "bssi")
HEED_PRIORITY = ("priority",)


def policies(names: "tuple[str, ...] | list[str]") -> pytest.MarkDecorator:
    """Each of these."""
    return pytest.mark.parametrize("policy", [POLICIES[name] for name in names], ids=list(names))


def all_but(names: tuple[str, ...]) -> list[str]:
    return [name for name in POLICIES if name not in names]


def on_one_port(*standings: Standing, sizes: tuple[float, ...] = ()) -> Snapshot:
    """One flow each, from one port to another."""
    demands = [
        Shuffle.of(standing, np.array([0]), np.array([1]), np.full((1, 1), size))
        for standing, size in itertools.zip_longest(standings, sizes, fillvalue=1.0)
        if isinstance(standing, Standing)
    ]
    return Snapshot(np.ones(2), demands)


def names_in_order(policy: Policy, snapshot: Snapshot) -> list[str]:
    order = policy.allocate(snapshot).order
    return [snapshot.demands[place].standing.transfer for place in order]


def standing(name: str, arrival: float, **claims: float) -> Standing:
    sent_bytes, weight = claims.get("sent_bytes", 0.0), claims.get("weight", 1.0)
    return Standing(TransferId(name), arrival, int(claims.get("priority", 0)), weight, sent_bytes)


# -- order -----------------------------------------------------------------------------------------


@policies(all_but(ORDERED))
@few_of_each
@given(snapshot=snapshots())
def test_where_all_share_nobody_goes_first(policy: Policy, snapshot: Snapshot) -> None:
    assert policy.allocate(snapshot).order == ()


@policies(ORDERED)
@few_of_each
@given(snapshot=snapshots())
def test_every_transfer_has_its_turn_once(policy: Policy, snapshot: Snapshot) -> None:
    assert sorted(policy.allocate(snapshot).order) == list(range(len(snapshot.demands)))


@pytest.mark.parametrize("policy", [Fifo(), FifoPlus()], ids=repr)
def test_with_fifo_the_turn_is_that_of_arrivals(policy: Policy) -> None:
    shown = on_one_port(standing("late", 3.0), standing("early", 1.0), standing("middle", 2.0))
    assert names_in_order(policy, shown) == ["early", "middle", "late"]


def test_with_priorities_it_is_that_of_classes_then_of_arrivals() -> None:
    shown = on_one_port(
        standing("low", 0.0),
        standing("high late", 2.0, priority=5),
        standing("below", -1.0, priority=-1),
        standing("high", 1.0, priority=5),
    )
    assert names_in_order(Priority(), shown) == ["high", "high late", "low", "below"]


def test_with_sebf_it_is_that_of_bottlenecks() -> None:
    shown = on_one_port(standing("9", 0.0), standing("1", 1.0), standing("4", 2.0), sizes=(9.0, 1.0, 4.0))
    assert names_in_order(Sebf(), shown) == ["1", "4", "9"]


def test_with_bssi_it_is_that_of_sizes_by_weights() -> None:
    shown = on_one_port(
        standing("9/9", 0.0, weight=9.0), standing("2/1", 1.0), standing("4/1", 2.0), sizes=(9.0, 2.0, 4.0)
    )
    assert names_in_order(Bssi(), shown) == ["9/9", "2/1", "4/1"]


def test_with_dclas_it_is_that_of_queues_then_of_arrivals() -> None:
    shown = on_one_port(
        standing("sunk", 0.0, sent_bytes=5e7),
        standing("new", 2.0),
        standing("deep", -1.0, sent_bytes=5e8),
        standing("begun", 1.0, sent_bytes=9e6),
    )
    assert names_in_order(Dclas(), shown) == ["begun", "new", "sunk", "deep"]


UNRESERVED = [Fifo(), FifoPlus(0.0), Priority(0.0), Sebf(0.0), Bssi(0.0), Dclas(oldest_part=0.0)]
"""Nothing is kept back for others."""


@pytest.mark.parametrize("policy", UNRESERVED, ids=repr)
@few_of_each
@given(snapshot=snapshots(least=1))
def test_who_goes_first_is_as_fast_as_alone(policy: Policy, snapshot: Snapshot) -> None:
    """Of those with something left; who goes in proportion counts by its pace."""
    found = policy.allocate(snapshot)
    first = next((place for place in found.order if snapshot.unfinished[place]), None)
    if first is not None:
        alone = policy.allocate(Snapshot(snapshot.capacities, [snapshot.demands[first]])).shares[0]
        assert found.shares[first].pace == pytest.approx(alone.pace, rel=CLOSE)
        if isinstance(policy, Bssi | Dclas):
            assert found.shares[first].port_rates == pytest.approx(alone.port_rates, rel=CLOSE)


@pytest.mark.parametrize("policy", UNRESERVED, ids=repr)
def test_on_one_port_all_is_given_to_who_goes_first(policy: Policy) -> None:
    claims = [
        standing(f"{at}", -at, priority=at % 3, weight=1.0 + at, sent_bytes=3e6 * at) for at in range(6)
    ]
    shown = on_one_port(*claims, sizes=(3.0, 1.0, 7.0, 5.0, 9.0, 11.0))
    found = policy.allocate(shown)
    rates = [float(found.shares[place].port_rates[0]) for place in found.order]
    assert rates == pytest.approx([1, 0, 0, 0, 0, 0])


# -- weight and priority ---------------------------------------------------------------------------


def claiming(snapshot: Snapshot, **claims: list[float]) -> Snapshot:
    """The same transfers, with other claims."""
    demands: list[Demand] = []
    for at, demand in enumerate(snapshot.demands):
        its = demand.standing
        weight = claims["weight"][at] if "weight" in claims else its.weight
        priority = int(claims["priority"][at]) if "priority" in claims else its.priority
        demands.append(replace(demand, standing=replace(its, weight=weight, priority=priority)))
    return Snapshot(snapshot.capacities, demands)


def check_same(policy: Policy, one: Snapshot, other: Snapshot) -> None:
    first, second = policy.allocate(one), policy.allocate(other)
    assert first.order == second.order
    for share, again in zip(first.shares, second.shares, strict=True):
        np.testing.assert_array_equal(share.port_rates, again.port_rates)


FIVE = st.lists(st.integers(1, 9).map(float), min_size=5, max_size=5)


@policies(all_but(HEED_WEIGHT))
@few_of_each
@given(snapshot=snapshots(), weight=FIVE)
def test_weights_change_nothing_for_who_does_not_heed_them(
    policy: Policy, snapshot: Snapshot, weight: list[float]
) -> None:
    check_same(policy, snapshot, claiming(snapshot, weight=weight))


@policies(all_but(HEED_PRIORITY))
@few_of_each
@given(snapshot=snapshots(), priority=FIVE)
def test_priorities_change_nothing_for_who_does_not_heed_them(
    policy: Policy, snapshot: Snapshot, priority: list[float]
) -> None:
    check_same(policy, snapshot, claiming(snapshot, priority=priority))


@policies(HEED_WEIGHT)
@given(weight=FIVE, more=st.floats(1.5, 100.0), whose=st.integers(0, 4))
def test_more_weight_is_never_less_of_a_port(
    policy: Policy, weight: list[float], more: float, whose: int
) -> None:
    claims = [standing(f"{at}", at) for at in range(5)]
    before = claiming(on_one_port(*claims, sizes=(1.0, 2.0, 3.0, 4.0, 5.0)), weight=weight)
    after = claiming(before, weight=[each * (more if at == whose else 1) for at, each in enumerate(weight)])
    rates = [policy.allocate(shown).shares[whose].port_rates[0] for shown in (before, after)]
    assert rates[1] >= rates[0] * (1 - CLOSE)


@policies(HEED_WEIGHT)
def test_enough_weight_outweighs_who_came_first(policy: Policy) -> None:
    """And their order, where there is one."""
    first, second = standing("first", 0.0), standing("second", 1.0, weight=20.0)
    rates = [share.port_rates[0] for share in policy.allocate(on_one_port(first, second)).shares]
    assert rates[1] >= 0.95 * sum(rates)


@given(priority=FIVE, whose=st.integers(0, 4))
def test_a_higher_class_is_never_a_later_turn(priority: list[float], whose: int) -> None:
    before = claiming(on_one_port(*(standing(f"{at}", at) for at in range(5))), priority=priority)
    raised = [each + 3 * (at == whose) for at, each in enumerate(priority)]
    after = claiming(before, priority=raised)
    turns = [Priority().allocate(shown).order.index(whose) for shown in (before, after)]
    assert turns[1] <= turns[0]
