"""What ports are believed to carry, after tests made up for known ports."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.controller.capacities import (
    LEARNT_SHARE,
    LEAST_SHARE,
    MEASURED_SHARE,
    RISE,
    SLACK,
    STEP,
    WHOLE,
    WINDOW_S,
    Capacities,
    Kept,
    Passed,
    Port,
)
from orchestra.controller.members import Card
from tests.orchestra.controller.links import KnownLinks, port

A_OUT, A_IN, B_IN = port("a", egress=True), port("a", egress=False), port("b", egress=False)
SOME = port("z", egress=True)
ALONE = Card("node a"), True
RATE = 100e6


def believed(capacities: Capacities, of: Port = A_OUT) -> float:
    return capacities.of(of, f"{of[0]}:7001")


def seen(rate: float = RATE) -> Capacities:
    """Some port has carried so much."""
    capacities = Capacities(KnownLinks(), None)
    capacities.see({SOME: rate})
    return capacities


def adapt(capacities: Capacities, share: float, ports: int = 2) -> bool:
    """Plans were kept like this."""
    return capacities.adapt(Kept(share, ports))


def fall_short(capacities: Capacities, moved: float, of: Port = A_OUT) -> bool:
    return capacities.fell_short(of, f"{of[0]}:7001", moved)


# -- what is usual ---------------------------------------------------------------------------------


def test_where_nothing_is_known_no_port_is_a_limit() -> None:
    assert believed(Capacities(KnownLinks(), None)) == math.inf


@pytest.mark.parametrize("address", ["a:7001", "127.0.0.1:7001"])
def test_what_was_told_is_believed_exactly_whatever_was_measured_or_seen(address: str) -> None:
    capacities = Capacities(KnownLinks(9e6, {("a", True): 1e6}), 5e6)
    assert not capacities.see({SOME: 8e6})
    assert capacities.of(A_OUT, address) == 5e6


@pytest.mark.parametrize(
    ("carried", "measured", "usual"),
    [
        (80e6, None, 80e6),
        (0.0, 60e6, MEASURED_SHARE * 60e6),
        (80e6, 60e6, 80e6),
        (5e6, 60e6, MEASURED_SHARE * 60e6),
    ],
)
def test_usual_is_the_most_that_was_carried_or_what_is_sure_of_the_median_measured_whichever_is_more(
    carried: float, measured: float | None, usual: float
) -> None:
    capacities = Capacities(KnownLinks(measured), None)
    capacities.see({SOME: carried})
    assert believed(capacities) == pytest.approx(LEARNT_SHARE * usual)


def test_what_one_port_has_carried_is_believed_of_all_and_less_does_not_undo_it() -> None:
    capacities = seen(80e6)
    capacities.see({SOME: 30e6})
    assert believed(capacities, A_OUT) == believed(capacities, B_IN) == pytest.approx(LEARNT_SHARE * 80e6)


@pytest.mark.parametrize(("measured", "rate"), [(49e6, 49e6), (50e6, RATE), (87e6, RATE), (300e6, RATE)])
def test_only_a_port_measured_below_half_of_the_usual_is_slower(measured: float, rate: float) -> None:
    capacities = Capacities(KnownLinks(RATE, {("a", True): measured}), None)
    capacities.see({SOME: RATE})
    assert believed(capacities, A_OUT) == pytest.approx(LEARNT_SHARE * rate)
    assert believed(capacities, A_IN) == pytest.approx(LEARNT_SHARE * RATE)


def test_a_port_that_was_measured_slow_and_has_carried_more_is_believed_that() -> None:
    capacities = Capacities(KnownLinks(RATE, {("a", True): 0.2 * RATE, ("b", False): 0.2 * RATE}), None)
    capacities.see({A_OUT: 0.4 * RATE, B_IN: 0.6 * RATE, SOME: RATE})
    assert believed(capacities, A_OUT) == pytest.approx(LEARNT_SHARE * 0.4 * RATE)
    assert believed(capacities, B_IN) == pytest.approx(LEARNT_SHARE * RATE)
    capacities.see({A_OUT: 0.1 * RATE})
    assert believed(capacities, A_OUT) == pytest.approx(LEARNT_SHARE * 0.4 * RATE), "less does not undo it"
    capacities.forget(A_OUT[0])
    assert believed(capacities, A_OUT) == pytest.approx(LEARNT_SHARE * 0.2 * RATE)


def test_on_loopback_nothing_is_believed() -> None:
    assert seen().of(ALONE, "127.0.0.1:7001") == math.inf


def test_it_is_news_only_where_more_was_carried_than_is_usual_by_more_than_a_little() -> None:
    capacities = seen()
    assert not capacities.see({SOME: RATE * 1.04})
    assert capacities.see({SOME: RATE * 1.2})
    assert not capacities.see({SOME: RATE * 1.2})


# -- less and more of what is usual ----------------------------------------------------------------


def test_where_no_port_keeps_a_plan_that_fills_it_less_is_usual_of_all() -> None:
    capacities = seen()
    assert adapt(capacities, 0.8)
    assert (
        believed(capacities, A_OUT)
        == believed(capacities, B_IN)
        == pytest.approx(LEARNT_SHARE**2 * RATE * 0.8)
    )


def test_one_port_that_does_not_keep_its_plan_says_nothing_of_others() -> None:
    capacities = seen()
    assert not adapt(capacities, 0.5, ports=1)
    assert believed(capacities) == pytest.approx(LEARNT_SHARE * RATE)


def how_kept(capacities: Capacities, filled: Mapping[Port, Passed]) -> Kept | None:
    return capacities.how_kept(filled, lambda card: f"{card}:7001")


def passed(share: float, seconds: float = WINDOW_S / 4) -> Passed:
    return Passed(share * RATE * seconds, RATE * seconds, seconds)


def test_how_plans_are_kept_is_told_of_the_best_port_after_long_enough() -> None:
    capacities = seen()
    for _ in range(3):
        assert how_kept(capacities, {A_IN: passed(0.8), B_IN: passed(0.7)}) is None
        assert how_kept(capacities, {}) is None
    kept = how_kept(capacities, {A_IN: passed(0.9), B_IN: passed(0.7)})
    assert kept == pytest.approx(((3 * 0.8 + 0.9) / 4, 2))
    assert how_kept(capacities, {A_OUT: passed(1.0)}) is None, "from the beginning again"


def test_ports_of_which_little_is_known_yet_do_not_count() -> None:
    kept = how_kept(seen(), {A_OUT: passed(0.8, WINDOW_S), B_IN: passed(1.0, WINDOW_S / 4)})
    assert kept == pytest.approx((0.8, 1))


@pytest.mark.parametrize("measured", [False, True])
def test_ports_that_are_believed_to_be_slow_count_only_where_there_is_no_other(measured: bool) -> None:
    for others, kept in (({B_IN: passed(0.8, WINDOW_S)}, (0.8, 1)), ({}, (1.0, 0))):
        capacities = Capacities(KnownLinks(RATE, {("a", True): 0.2 * RATE} if measured else {}), None)
        capacities.see({SOME: RATE})
        for _ in range(0 if measured else 2):
            fall_short(capacities, 0.3 * RATE)
        assert how_kept(capacities, {A_OUT: passed(1.0, WINDOW_S), **others}) == pytest.approx(kept)


def test_slow_ports_alone_lower_nothing_of_what_is_usual() -> None:
    capacities = seen()
    for at in (A_OUT, A_IN, B_IN):
        for _ in range(2):
            fall_short(capacities, 0.3 * RATE, at)
    kept = how_kept(capacities, dict.fromkeys([A_OUT, A_IN, B_IN], passed(0.95, WINDOW_S)))
    assert kept is not None
    assert not kept.whole
    assert not capacities.adapt(kept)
    assert believed(capacities, SOME) == pytest.approx(LEARNT_SHARE * RATE)


def test_the_two_ports_of_one_flow_are_its_own_affair() -> None:
    capacities = seen()
    kept = how_kept(capacities, {A_OUT: passed(0.95, WINDOW_S), B_IN: passed(0.95, WINDOW_S)})
    assert kept == pytest.approx((0.95, 1))


def test_what_was_before_counts_no_more_where_more_has_been_seen() -> None:
    capacities = seen()
    assert how_kept(capacities, {A_OUT: passed(0.5, 0.9 * WINDOW_S)}) is None
    assert capacities.see({SOME: 2 * RATE})
    assert how_kept(capacities, {A_OUT: passed(1.0, 0.9 * WINDOW_S)}) is None


def test_small_steps_ask_for_a_plan_when_they_have_come_to_something() -> None:
    capacities = seen()
    adapt(capacities, 0.98)
    changes = [adapt(capacities, 1.0) for _ in range(10)]
    assert any(changes)
    assert not all(changes)


def test_where_a_rate_was_told_nobody_asks_how_plans_are_kept() -> None:
    capacities = Capacities(KnownLinks(), RATE)
    assert all(how_kept(capacities, {A_OUT: passed(0.5)}) is None for _ in range(100))


def test_a_plan_that_is_kept_leaves_what_is_usual() -> None:
    capacities = seen()
    adapt(capacities, WHOLE)
    assert believed(capacities) == pytest.approx(LEARNT_SHARE * RATE)


def test_what_is_usual_is_approached_again_by_steps_and_not_passed() -> None:
    capacities = seen()
    adapt(capacities, 0.7)
    lowered = believed(capacities)
    assert adapt(capacities, 1.0), "a plan is to be made by it"
    assert believed(capacities) == pytest.approx(lowered + STEP * (LEARNT_SHARE * RATE - lowered))
    for _ in range(120):
        adapt(capacities, 1.0)
        assert believed(capacities) <= LEARNT_SHARE * RATE
    assert believed(capacities) == pytest.approx(LEARNT_SHARE * RATE, rel=1e-5)
    assert not adapt(capacities, 1.0), "it is there"


def test_who_carries_more_than_the_lowered_usual_proves_that_much_at_once() -> None:
    capacities = seen()
    adapt(capacities, 0.5)
    assert capacities.see({SOME: 0.8 * RATE})
    assert believed(capacities) == pytest.approx(LEARNT_SHARE * 0.8 * RATE)


# -- single ports ----------------------------------------------------------------------------------


def test_to_fall_short_once_changes_nothing() -> None:
    capacities = seen()
    assert not fall_short(capacities, 0.3 * RATE)
    assert believed(capacities) == pytest.approx(LEARNT_SHARE * RATE)


def test_a_port_that_falls_short_twice_in_a_row_has_little_more_than_it_carried() -> None:
    capacities = seen()
    fall_short(capacities, 0.3 * RATE)
    assert fall_short(capacities, 0.3 * RATE)
    assert believed(capacities) == pytest.approx(SLACK * 0.3 * RATE)
    assert believed(capacities, A_IN) == pytest.approx(LEARNT_SHARE * RATE), "only this direction"


def test_a_port_that_kept_its_plan_in_between_has_to_fall_short_twice_anew() -> None:
    capacities = seen()
    fall_short(capacities, 0.3 * RATE)
    capacities.unsuspect([A_OUT])
    assert not fall_short(capacities, 0.3 * RATE)
    assert believed(capacities) == pytest.approx(LEARNT_SHARE * RATE)


def test_two_ports_that_fall_short_once_each_are_not_one_that_does_twice() -> None:
    capacities = seen()
    assert not fall_short(capacities, 0.3 * RATE, A_OUT)
    assert not fall_short(capacities, 0.3 * RATE, A_IN)


def test_a_told_rate_too_is_not_believed_of_a_port_that_falls_short() -> None:
    capacities = Capacities(KnownLinks(), 10e6)
    for _ in range(2):
        fall_short(capacities, 2e6)
    assert believed(capacities) == pytest.approx(SLACK * 2e6)


def test_who_falls_short_is_never_believed_to_have_more_for_it() -> None:
    capacities = seen()
    for _ in range(2):
        fall_short(capacities, 0.3 * RATE)
    before = believed(capacities)
    assert not fall_short(capacities, 0.6 * RATE)
    assert believed(capacities) == before


def test_a_port_that_has_stopped_is_left_a_little() -> None:
    capacities = seen()
    for _ in range(2):
        fall_short(capacities, 0.0)
    assert believed(capacities) == pytest.approx(LEAST_SHARE * LEARNT_SHARE * RATE)


def test_a_full_port_rises_step_by_step_to_what_is_usual() -> None:
    capacities = seen()
    for _ in range(2):
        fall_short(capacities, 0.0)
    rates = [believed(capacities)]
    while capacities.was_full(A_OUT):
        rates.append(believed(capacities))
    assert rates[1] == pytest.approx(rates[0] * RISE)
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(LEARNT_SHARE * RATE)
    assert len(rates) <= 13
    assert not capacities.was_full(A_OUT)


def test_nothing_is_held_against_a_card_that_comes_anew() -> None:
    capacities = seen()
    for _ in range(2):
        fall_short(capacities, 0.3 * RATE, A_OUT)
        fall_short(capacities, 0.3 * RATE, B_IN)
    fall_short(capacities, 0.3 * RATE, A_IN)
    capacities.forget(Card("a"))
    assert believed(capacities, A_OUT) == pytest.approx(LEARNT_SHARE * RATE)
    assert not fall_short(capacities, 0.3 * RATE, A_IN)
    assert believed(capacities, B_IN) == pytest.approx(SLACK * 0.3 * RATE)


RATES = st.floats(1.0, 1e9)
STEPS = st.one_of(
    st.tuples(st.just("see"), RATES),
    st.tuples(st.just("keep"), st.floats(0.1, 1.1)),
    st.tuples(st.just("short"), st.just(0.0) | RATES),
    st.tuples(st.just("full"), st.just(0.0)),
    st.tuples(st.just("well"), st.just(0.0)),
)


@given(first=RATES, steps=st.lists(STEPS, max_size=30))
def test_whatever_happens_something_is_believed_and_never_more_than_was_seen(
    first: float, steps: list[tuple[str, float]]
) -> None:
    capacities, most = seen(first), first
    for step, value in steps:
        before = believed(capacities)
        match step:
            case "see":
                capacities.see({SOME: value})
                most = max(most, value)
            case "keep":
                changed = adapt(capacities, value)
                assert not changed or believed(capacities) != before
                assert believed(capacities) <= before or value >= WHOLE
            case "short":
                changed = fall_short(capacities, value)
                assert (believed(capacities) < before) == changed
            case "full":
                changed = capacities.was_full(A_OUT)
                assert (believed(capacities) > before) == changed
            case "well":
                capacities.unsuspect([A_OUT])
                assert believed(capacities) == before
        assert 0 < believed(capacities) <= LEARNT_SHARE * most * (1 + 1e-9)


def test_a_port_of_which_nothing_is_believed_cannot_fall_short() -> None:
    capacities = Capacities(KnownLinks(), None)
    told = [capacities.fell_short(A_OUT, "127.0.0.1:7001", 5.0) for _ in range(3)]
    assert not any(told)
    capacities.see({SOME: RATE})
    assert believed(capacities) == pytest.approx(LEARNT_SHARE * RATE)
