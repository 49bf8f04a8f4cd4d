"""Plans held against flows that move as said."""

import math
from collections import Counter
from collections.abc import Collection, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.controller.capacities import (
    LEARNT_SHARE,
    MEASURED_SHARE,
    SHORT,
    SLACK,
    WINDOW_S,
    Capacities,
    Passed,
    Port,
)
from orchestra.controller.members import Card
from orchestra.controller.standing_plan import (
    ALIKE,
    GRAIN_BYTES,
    GRAIN_S,
    LATE_S,
    LEAST_LEFT_BYTES,
    LONGEST_S,
    SETTLES_S,
    FlowId,
    FlowState,
    PlannedFlow,
    StandingPlan,
    Verdict,
    learn,
    planned_flow,
    reckon_left,
)
from orchestra.controller.traffic import Traffic
from orchestra.controller.trial import LONGEST_WAIT, Trial
from tests.orchestra.controller.links import KnownLinks, port
from transfers.ids import NodeName, TransferName

T = TransferName("t")
A, B, C, D = (NodeName(name) for name in "abcd")
RATE = 1e6
SIZE = 50_000_000
A_OUT, B_OUT = port("a", egress=True), port("b", egress=True)
C_IN, D_IN = port("c", egress=False), port("d", egress=False)
BOTH_TO_BOTH: dict[tuple[NodeName, NodeName], float] = dict.fromkeys([(A, C), (A, D), (B, C), (B, D)], RATE)


OTHER_CLOCK_S = 1e5
"""By which d's clock is ahead of c's: each counts from when it likes."""


class Moving:
    """A plan made at 0 s, and its flows, which move from then on.

    Args:
        planned: rates by the flows' ends.
        actual: how fast those are that do not keep to it.
        unfilled: ports that the plan does not fill; it fills all others that have a limit.
        freed: flows that are free for a trial.
    """

    def __init__(
        self,
        planned: Mapping[tuple[NodeName, NodeName], float],
        actual: Mapping[tuple[NodeName, NodeName], float] | None = None,
        *,
        unfilled: Collection[Port] = (),
        freed: Collection[tuple[NodeName, NodeName]] = (),
    ) -> None:
        self.actual = {**planned, **(actual or {})}
        self.traffic = Traffic()
        flows: dict[FlowId, PlannedFlow] = {}
        loads: dict[Port, float] = {}
        for (mapper, reducer), rate in planned.items():
            ports = (Card(mapper), True), (Card(reducer), False)
            flows[T, mapper, reducer] = planned_flow(ports, rate, SIZE, None, 0.0)
            for each in ports:
                loads[each] = loads.get(each, 0.0) + rate
        filled = frozenset(at for at, load in loads.items() if at not in unfilled and math.isfinite(load))
        trial = frozenset((T, *ends) for ends in freed)
        self.plan = StandingPlan(flows, loads, filled, trial, 0.0, Counter())

    def states(self, now: float) -> dict[FlowId, FlowState]:
        """How far all are."""
        found: dict[FlowId, FlowState] = {}
        for (mapper, reducer), rate in self.actual.items():
            moved = int(rate * now)
            at_s = now + (OTHER_CLOCK_S if reducer == D else 0.0)
            found[T, mapper, reducer] = FlowState(SIZE - moved, moved, at_s, now)
        return found

    def test(self, now: float, states: Mapping[FlowId, FlowState] | None = None) -> Verdict:
        """One test."""
        return self.plan.test(self.states(now) if states is None else states, self.traffic, now)

    def verdict(self) -> Verdict:
        """Of two seconds, after it has settled."""
        self.test(1.0)
        return self.test(3.0)


# -- who is to blame -------------------------------------------------------------------------------


def test_a_plan_that_is_kept_blames_nobody_and_its_ports_are_full() -> None:
    verdict = Moving(BOTH_TO_BOTH).verdict()
    assert not verdict.short
    assert set(verdict.full) == verdict.tested == {A_OUT, B_OUT, C_IN, D_IN}
    assert not verdict.deviates
    assert verdict.filled.keys() == {A_OUT, B_OUT, C_IN, D_IN}
    for passed in verdict.filled.values():
        assert passed == pytest.approx((4 * RATE, 4 * RATE, 2.0))


def test_a_slow_receiver_is_blamed_and_not_those_who_send_to_it() -> None:
    verdict = Moving(BOTH_TO_BOTH, {(A, D): 0.3 * RATE, (B, D): 0.3 * RATE}).verdict()
    assert verdict.short == pytest.approx({D_IN: 0.6 * RATE})
    assert verdict.full == [C_IN]


def test_a_slow_sender_is_blamed_and_not_those_who_receive_from_it() -> None:
    verdict = Moving(BOTH_TO_BOTH, {(A, C): 0.3 * RATE, (A, D): 0.3 * RATE}).verdict()
    assert verdict.short == pytest.approx({A_OUT: 0.6 * RATE})
    assert verdict.full == [B_OUT]


def test_a_port_that_is_a_little_slow_is_neither_short_nor_full() -> None:
    verdict = Moving(BOTH_TO_BOTH, {(A, D): 0.93 * RATE, (B, D): 0.93 * RATE}).verdict()
    assert not verdict.short
    assert verdict.full == [C_IN]


def test_a_port_that_the_plan_does_not_fill_is_tested_but_not_full() -> None:
    verdict = Moving(BOTH_TO_BOTH, unfilled=[C_IN]).verdict()
    assert C_IN in verdict.tested
    assert set(verdict.full) == {A_OUT, B_OUT, D_IN}


def test_what_has_passed_filled_ports_is_told_and_of_no_others() -> None:
    slow = {(A, C): 0.7, (B, C): 0.7, (A, D): 0.5, (B, D): 0.5}
    actual = {flow: part * RATE for flow, part in slow.items()}
    verdict = Moving(BOTH_TO_BOTH, actual, unfilled=[A_OUT, B_OUT]).verdict()
    assert {at: passed.moved_bytes for at, passed in verdict.filled.items()} == pytest.approx(
        {C_IN: 2 * 1.4 * RATE, D_IN: 2 * 1.0 * RATE}
    )


def test_what_broadcasts_move_beside_it_a_short_port_carries_as_well() -> None:
    moving = Moving(BOTH_TO_BOTH, {(A, D): 0.3 * RATE, (B, D): 0.3 * RATE})
    moving.traffic.note(Card("x"), Card("d"), 5_000_000)
    moving.test(1.0)
    moving.traffic.note(Card("x"), Card("d"), 1_000_000)
    assert moving.test(3.0).short == pytest.approx({D_IN: 0.6 * RATE + 0.5e6})


def test_flows_without_a_limit_blame_nobody_and_show_what_a_port_carries() -> None:
    free = dict.fromkeys(BOTH_TO_BOTH, math.inf)
    verdict = Moving(free, dict.fromkeys(BOTH_TO_BOTH, 4 * RATE)).verdict()
    assert not verdict.short
    assert not verdict.full
    assert not verdict.deviates
    assert verdict.carried.keys() == {A_OUT, B_OUT, C_IN, D_IN}
    assert all(0.9 * 8 * RATE < rate <= 8 * RATE for rate in verdict.carried.values())


def test_flows_that_take_turns_at_a_port_show_no_more_than_it_has_carried() -> None:
    """One moves until 2 s, the other after it; each is judged by a time in which it had all of the port."""
    moving = Moving({(A, C): math.inf, (A, D): math.inf}, freed=[(A, C), (A, D)])

    def states(first_s: float, second_s: float) -> dict[FlowId, FlowState]:
        moved = [int(RATE * min(first_s, 2.0)), int(RATE * max(0.0, second_s - 2.0))]
        return {
            (T, A, C): FlowState(SIZE - moved[0], moved[0], first_s, first_s),
            (T, A, D): FlowState(SIZE - moved[1], moved[1], OTHER_CLOCK_S + second_s, second_s),
        }

    moving.test(2.0, states(1.0, 2.0))
    verdict = moving.test(3.0, states(2.0, 3.0))
    assert verdict.shows
    assert verdict.carried[A_OUT] <= RATE


@given(actual=st.lists(st.floats(0.0, 2.0), min_size=4, max_size=4))
def test_nobody_is_blamed_who_carried_what_was_planned(actual: list[float]) -> None:
    parts = dict(zip(BOTH_TO_BOTH, actual, strict=True))
    verdict = Moving(BOTH_TO_BOTH, {flow: part * RATE for flow, part in parts.items()}).verdict()
    for at in (A_OUT, B_OUT, C_IN, D_IN):
        kept = sum(part for ends, part in parts.items() if at[0] in map(Card, ends)) / 2
        assert (at in verdict.short) <= (kept < SHORT)
        assert not (at in verdict.short and at in verdict.full)
    assert all(rate <= 4 * RATE for rate in verdict.carried.values())


# -- when flows are judged -------------------------------------------------------------------------


def test_what_comes_before_a_new_rate_has_settled_is_not_held_against_it() -> None:
    """What kernels held, at the rate before."""
    moving = Moving(BOTH_TO_BOTH)
    for now in (0.3, 0.45):
        held = {flow: FlowState(SIZE - 2_000_000, 2_000_000, now, now) for flow in moving.plan.flows}
        verdict = moving.test(now, held)
        assert not verdict.tested
        assert not verdict.deviates
    verdict = moving.verdict()
    assert verdict.tested
    assert not verdict.short


def test_nothing_is_said_before_enough_was_due() -> None:
    moving = Moving(BOTH_TO_BOTH, {(A, D): 0.0, (B, D): 0.0})
    moving.test(1.0)
    assert moving.test(1.3).tested == set()
    assert moving.test(3.0).tested


def test_slow_flows_are_judged_after_the_longest_time() -> None:
    moving = Moving(dict.fromkeys(BOTH_TO_BOTH, 20_000.0))
    moving.test(1.0)
    assert not moving.test(LONGEST_S).tested
    assert moving.test(1.0 + LONGEST_S).tested


def test_each_test_is_of_what_came_since_the_one_before() -> None:
    moving = Moving(BOTH_TO_BOTH, {(A, D): 0.3 * RATE, (B, D): 0.3 * RATE})
    assert moving.verdict().short
    now_fast = {
        flow: FlowState(state.left_bytes - 2_000_000, state.moved_bytes + 2_000_000, state.at_s + 2.0, 5.0)
        for flow, state in moving.states(3.0).items()
    }
    verdict = moving.test(5.0, now_fast)
    assert not verdict.short
    assert D_IN in verdict.full


def test_a_flow_that_has_ended_is_not_judged() -> None:
    moving = Moving(BOTH_TO_BOTH, {(A, D): 0.0, (B, D): 0.0})
    going = [
        {flow: state for flow, state in moving.states(now).items() if D not in flow} for now in (1.0, 3.0)
    ]
    moving.test(1.0, going[0])
    verdict = moving.test(3.0, going[1])
    assert not verdict.short
    assert D_IN not in verdict.tested


@pytest.mark.parametrize("part", [0.9, 1.1])
def test_a_flow_that_is_far_from_where_it_should_be_asks_for_a_new_plan(part: float) -> None:
    moving = Moving(BOTH_TO_BOTH, {(A, D): part * RATE})
    moving.test(1.0)
    assert moving.test(5.0).deviates


@pytest.mark.parametrize("part", [0.995, 1.005])
def test_what_pacing_differs_by_asks_for_no_new_plan(part: float) -> None:
    moving = Moving(BOTH_TO_BOTH, dict.fromkeys(BOTH_TO_BOTH, part * RATE))
    for now in range(1, 40):
        assert not moving.test(float(now)).deviates


# -- from one plan to the next ---------------------------------------------------------------------

PORTS = A_OUT, C_IN
JUDGED = FlowState(5, 6, 7.0, 8.0)
BEFORE = PlannedFlow(PORTS, RATE, 10.0, 0.0, 0.5, JUDGED)


@pytest.mark.parametrize("factor", [1.0, 1 + ALIKE * 0.9, 1 - ALIKE * 0.9])
def test_a_flow_with_about_the_same_rate_goes_on_being_judged(factor: float) -> None:
    flow = planned_flow(PORTS, RATE * factor, 9.0, BEFORE, 20.0)
    assert (flow.tested, flow.settles_at_s) == (JUDGED, 0.5)
    assert (flow.left_bytes, flow.made_at_s, flow.rate_bytes_per_s) == (9.0, 20.0, RATE * factor)


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_a_flow_with_another_rate_is_judged_anew_when_it_has_settled(factor: float) -> None:
    flow = planned_flow(PORTS, RATE * factor, 9.0, BEFORE, 20.0)
    assert flow.settles_at_s == 20.0 + SETTLES_S
    assert flow.tested.at_s == -math.inf


def test_a_flow_that_is_limited_now_is_judged_anew() -> None:
    free = PlannedFlow(PORTS, math.inf, 10.0, 0.0, 0.5, JUDGED)
    assert planned_flow(PORTS, RATE, 9.0, free, 20.0).settles_at_s == 20.0 + SETTLES_S
    assert planned_flow(PORTS, math.inf, 9.0, free, 20.0).settles_at_s == 0.5


# -- what is left ----------------------------------------------------------------------------------


def planned_at(made_at_s: float, left: float, rate: float = RATE) -> PlannedFlow:
    return planned_flow(PORTS, rate, left, None, made_at_s)


def test_of_a_flow_that_was_not_limited_or_planned_what_was_told_is_left() -> None:
    told = FlowState(5_000_000, 0, 1.0, 1.0)
    assert reckon_left(told, None, 3.0) == 5_000_000
    assert reckon_left(told, planned_at(0.0, 9e6, math.inf), 3.0) == 5_000_000


def test_while_it_agrees_with_what_was_told_the_plan_says_what_is_left() -> None:
    """Told 100 ms ago, by a receiver that may not have heard of what came last."""
    told = FlowState(4_140_000, 0, 0.0, 0.9)
    assert reckon_left(told, planned_at(0.0, 5e6), 1.0) == pytest.approx(4e6)


def test_a_flow_that_is_behind_its_plan_has_left_what_was_told_less_what_may_have_come_since() -> None:
    told = FlowState(4_800_000, 0, 0.0, 0.9)
    left = reckon_left(told, planned_at(0.0, 5e6), 1.0)
    assert left == pytest.approx(4_800_000 - 0.1 * RATE - GRAIN_S * RATE)


def test_a_flow_that_is_ahead_of_its_plan_has_left_what_was_told_less_what_must_have_come_since() -> None:
    told = FlowState(3_000_000, 0, 0.0, 0.9)
    assert reckon_left(told, planned_at(0.0, 5e6), 1.0) == pytest.approx(3e6 - 0.1 * RATE)


def test_a_flow_that_should_have_ended_and_has_not_has_a_little_left() -> None:
    told = FlowState(1_000_000, 0, -math.inf, -math.inf)
    assert reckon_left(told, planned_at(0.0, 1e6), 60.0) == LEAST_LEFT_BYTES


@given(
    left=st.integers(1, 10**9),
    planned_left=st.floats(1.0, 1e9),
    rate=st.floats(1.0, 1e9),
    heard_s=st.floats(-5.0, 5.0),
    since_s=st.floats(0.0, 60.0),
)
def test_what_is_left_is_never_more_than_was_told_nor_less_than_may_have_come_since(
    left: int, planned_left: float, rate: float, heard_s: float, since_s: float
) -> None:
    now = max(0.0, heard_s) + since_s
    found = reckon_left(FlowState(left, 0, heard_s, heard_s), planned_at(0.0, planned_left, rate), now)
    assert min(left, LEAST_LEFT_BYTES) <= found <= left
    if heard_s > 0:
        may_have_come = min(now - heard_s, LATE_S) * rate + min(GRAIN_BYTES, GRAIN_S * rate)
        assert found >= left - may_have_come - 1e-9 * left


# -- what is learnt --------------------------------------------------------------------------------


def address_of(card: Card) -> str:
    return f"{card}:7001"


def carried(capacities: Capacities, at: Port) -> float:
    return capacities.of(at, address_of(at[0]))


def verdict_on(short: Mapping[Port, float], *, kept: float | None = None) -> Verdict:
    """``kept``: so much of what was due has passed two filled ports for long enough."""
    tested = [A_OUT, B_OUT, C_IN, D_IN]
    passed = {} if kept is None else dict.fromkeys(tested[2:], Passed(kept * 1e9, 1e9, WINDOW_S))
    return Verdict(short=dict(short), filled=passed, tested=set(tested))


def test_a_port_is_believed_to_have_less_after_two_verdicts_in_a_row() -> None:
    capacities = Capacities(KnownLinks(2 * RATE / MEASURED_SHARE), None)
    assert not learn(capacities, Trial(), verdict_on({D_IN: 0.6 * RATE}), address_of)
    assert learn(capacities, Trial(), verdict_on({D_IN: 0.6 * RATE}), address_of)
    assert carried(capacities, D_IN) == pytest.approx(SLACK * 0.6 * RATE)
    assert carried(capacities, A_OUT) == pytest.approx(LEARNT_SHARE * 2 * RATE)


def test_a_verdict_in_between_that_clears_it_counts() -> None:
    capacities = Capacities(KnownLinks(2 * RATE / MEASURED_SHARE), None)
    for short in ({D_IN: 0.6 * RATE}, {}, {D_IN: 0.6 * RATE}):
        assert not learn(capacities, Trial(), verdict_on(short), address_of)
    assert carried(capacities, D_IN) == carried(capacities, A_OUT)


def test_a_verdict_that_says_nothing_of_a_port_does_not_clear_it() -> None:
    capacities = Capacities(KnownLinks(2 * RATE / MEASURED_SHARE), None)
    learn(capacities, Trial(), verdict_on({D_IN: 0.6 * RATE}), address_of)
    learn(capacities, Trial(), Verdict(tested={A_OUT}), address_of)
    assert learn(capacities, Trial(), verdict_on({D_IN: 0.6 * RATE}), address_of)


def test_who_carries_all_of_a_plan_again_is_believed_more_again() -> None:
    capacities = Capacities(KnownLinks(2 * RATE / MEASURED_SHARE), None)
    for _ in range(2):
        learn(capacities, Trial(), verdict_on({D_IN: 0.6 * RATE}), address_of)
    slow = carried(capacities, D_IN)
    assert learn(capacities, Trial(), Verdict(full=[D_IN], tested={D_IN}), address_of)
    assert carried(capacities, D_IN) > slow


def test_less_is_usual_where_no_filled_port_has_kept_its_plan() -> None:
    capacities = Capacities(KnownLinks(2 * RATE / MEASURED_SHARE), None)
    assert learn(capacities, Trial(), verdict_on({}, kept=0.7), address_of)
    assert carried(capacities, A_OUT) == pytest.approx(0.7 * LEARNT_SHARE**2 * 2 * RATE)


def frees(trial: Trial) -> bool:
    """As it is now."""
    return trial.frees


def test_a_trial_ends_with_the_first_test_that_tells_of_those_who_went_free() -> None:
    capacities, trial = Capacities(KnownLinks(2 * RATE / MEASURED_SHARE), None), Trial()
    assert learn(capacities, trial, verdict_on({}, kept=1.0), address_of)
    assert frees(trial)
    trial.decided(freed=True, now=0.0)
    for foreign in (Verdict(), Verdict(carried={A_OUT: 0.5 * RATE}), verdict_on({}, kept=1.0)):
        assert not learn(capacities, trial, foreign, address_of)
        assert frees(trial)
    assert learn(capacities, trial, Verdict(carried={A_OUT: 0.5 * RATE}, shows=True), address_of)
    assert not frees(trial)
    assert carried(capacities, A_OUT) == pytest.approx(LEARNT_SHARE * 2 * RATE)


def test_what_a_trial_shows_is_believed_and_no_more() -> None:
    capacities, trial = Capacities(KnownLinks(2 * RATE / MEASURED_SHARE), None), Trial()
    for most in (3 * RATE, 5 * RATE, 5 * RATE, 4 * RATE):
        while not trial.frees:
            learn(capacities, trial, verdict_on({}, kept=1.0), address_of)
        trial.decided(freed=True, now=0.0)
        learn(capacities, trial, Verdict(carried={A_OUT: most}, shows=True), address_of)
    assert carried(capacities, A_OUT) == pytest.approx(LEARNT_SHARE * 5 * RATE)


def test_nothing_is_tried_where_a_rate_was_told() -> None:
    capacities, trial = Capacities(KnownLinks(2 * RATE), 2 * RATE), Trial()
    for _ in range(2 * LONGEST_WAIT):
        learn(capacities, trial, verdict_on({}, kept=1.0), address_of)
    assert not trial.frees


FREED = [(A, C), (B, C)]


def in_a_trial(actual: Mapping[tuple[NodeName, NodeName], float] | None = None) -> Moving:
    """Two flows that are free, and one beside them, on ports of its own, that is not."""
    rates = {(A, C): math.inf, (B, C): math.inf, (D, B): RATE}
    return Moving(rates, {(A, C): RATE, (B, C): RATE, **(actual or {})}, freed=FREED)


def test_a_trial_is_not_judged_by_others() -> None:
    moving = in_a_trial()
    for now in (0.6, 1.0, 1.5):  # those who are free have told nothing since they are
        assert not moving.test(now, {(T, D, B): moving.states(now)[T, D, B]}).shows
    held = {
        flow: state._replace(heard_at_s=0.3) if flow[2] == C else state
        for flow, state in moving.states(1.2).items()
    }
    assert not moving.test(1.4, held).shows


def test_a_trial_is_judged_when_all_who_are_free_have_told_enough() -> None:
    moving = in_a_trial()
    assert [moving.test(now).shows for now in (1.0, 1.5, 2.5)] == [False, False, True]


def test_a_trial_is_not_held_up_by_who_is_silent_or_through() -> None:
    moving = in_a_trial()
    moving.test(0.6)
    early = {(T, A, C): moving.states(0.7)[T, A, C]}
    assert moving.test(2.5, {**moving.states(2.5), **early}).shows, "silent"
    moving = in_a_trial()
    moving.test(0.6)
    assert moving.test(
        2.5, {flow: state for flow, state in moving.states(2.5).items() if A not in flow}
    ).shows


def test_a_trial_in_which_all_are_silent_tells_nothing() -> None:
    moving = in_a_trial()
    assert not any(moving.test(now, {}).shows for now in (1.0, 2.0, 3.0, 9.0))


def test_a_port_that_was_slow_and_keeps_its_plan_says_nothing_of_what_is_usual() -> None:
    capacities = Capacities(KnownLinks(2 * RATE / MEASURED_SHARE), None)
    for _ in range(2):
        learn(capacities, Trial(), verdict_on({D_IN: 0.1 * RATE}), address_of)
    for _ in range(20):
        passed = {D_IN: Passed(1e6, 1e6, WINDOW_S)}
        recovers = Verdict(full=[D_IN], filled=passed, carried={D_IN: 0.2 * RATE}, tested={D_IN})
        learn(capacities, Trial(), recovers, address_of)
    assert carried(capacities, A_OUT) == pytest.approx(LEARNT_SHARE * 2 * RATE)


def test_what_unlimited_flows_show_is_believed() -> None:
    capacities = Capacities(KnownLinks(), None)
    assert learn(capacities, Trial(), Verdict(carried={A_OUT: 3 * RATE}), address_of)
    assert carried(capacities, A_OUT) == pytest.approx(LEARNT_SHARE * 3 * RATE)


def test_one_slow_receiver_of_several_costs_the_others_nothing() -> None:
    """Of a whole plan, test after test: ports are believed as they are, or nearly."""
    capacities = Capacities(KnownLinks(2 * RATE / LEARNT_SHARE / MEASURED_SHARE), None)
    moving = Moving(BOTH_TO_BOTH, {(A, D): 0.3 * RATE, (B, D): 0.3 * RATE})
    for now in range(1, 8, 2):
        learn(capacities, Trial(), moving.test(float(now)), address_of)
    assert carried(capacities, D_IN) == pytest.approx(0.6 * RATE * SLACK, rel=0.02)
    assert carried(capacities, C_IN) == pytest.approx(2 * RATE, rel=0.02)


def test_a_flow_whose_limit_is_lifted_is_judged_anew() -> None:
    flow = planned_flow(PORTS, math.inf, 9.0, BEFORE, 20.0)
    assert flow.tested != JUDGED
    assert flow.settles_at_s == 20.0


def test_flows_beside_unlimited_ones_tell_nothing_of_the_ports_at_their_other_ends() -> None:
    verdict = Moving(
        {(A, C): math.inf, (A, D): RATE, (B, D): RATE},
        {(A, C): 3 * RATE, (A, D): 0.2 * RATE},
        unfilled=[B_OUT],
    ).verdict()
    assert verdict.short == {}
    assert not verdict.filled
