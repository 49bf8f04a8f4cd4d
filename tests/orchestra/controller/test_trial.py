"""When trials are wanted, on, and over."""

import pytest

from orchestra.controller.trial import FIRST_WAIT, LONGEST_S, LONGEST_WAIT, Trial


def kept_until_wanted(trial: Trial) -> int:
    """How many tests it took."""
    tests = 1
    while not trial.kept():
        tests += 1
    assert trial.frees
    return tests


def begun(trial: Trial, now: float = 0.0) -> int:
    """As `kept_until_wanted`; and a decision lets flows go."""
    tests = kept_until_wanted(trial)
    trial.decided(freed=True, now=now)
    assert trial.frees
    return tests


def test_the_first_plan_that_is_kept_leads_to_a_trial_and_further_ones_come_later_and_later() -> None:
    trial, waits = Trial(), []
    for _ in range(6):
        waits.append(begun(trial))
        trial.judged(news=False)
        assert not trial.frees
    assert waits == [1, FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, LONGEST_WAIT, LONGEST_WAIT]


def test_one_that_was_news_is_followed_by_another() -> None:
    trial = Trial()
    for _ in range(3):
        begun(trial)
        trial.judged(news=False)
    begun(trial)
    trial.judged(news=True)
    assert begun(trial) == 1


def test_a_plan_that_is_not_kept_puts_it_off() -> None:
    trial = Trial()
    begun(trial)
    trial.judged(news=False)
    assert not any(trial.kept() for _ in range(FIRST_WAIT - 1))
    trial.not_kept()
    assert kept_until_wanted(trial) == FIRST_WAIT


def test_it_stays_wanted_until_a_decision_has_somebody_to_let_go() -> None:
    trial = Trial()
    kept_until_wanted(trial)
    for now in range(100):
        trial.decided(freed=False, now=float(now))
        assert not trial.expires(float(now))
        assert not trial.kept(), "one plan is enough"
        assert trial.frees


def test_it_ends_with_those_it_has_let_go_and_that_changes_nothing() -> None:
    trial = Trial()
    for wait in (1, FIRST_WAIT):
        assert begun(trial) == wait
        trial.decided(freed=False, now=1.0)
        assert not trial.frees
        assert begun(trial) == wait
        trial.judged(news=False)


@pytest.mark.parametrize("again_at_s", [[], [1.0, 4.9]])
def test_one_that_tells_nothing_ends_after_the_longest_time(again_at_s: list[float]) -> None:
    """However often there is a new plan meanwhile."""
    trial = Trial()
    begun(trial)
    for now in again_at_s:
        trial.decided(freed=True, now=now)
    assert not trial.expires(LONGEST_S - 0.01)
    assert trial.expires(LONGEST_S)
    assert not trial.frees
    assert not trial.expires(LONGEST_S)
    assert begun(trial) == FIRST_WAIT
    trial.expires(LONGEST_S)
    assert begun(trial) == 2 * FIRST_WAIT


def test_what_is_told_after_it_has_ended_counts_no_more() -> None:
    trial = Trial()
    begun(trial)
    trial.judged(news=False)
    for news in (True, False):
        trial.judged(news=news)
    assert begun(trial) == FIRST_WAIT
