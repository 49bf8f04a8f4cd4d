"""What happens when, on a grid of time."""

import math

import pytest

from orchestra.simulation.agenda import Agenda


def run(agenda: Agenda) -> None:
    while agenda.go_on(math.inf) < math.inf:
        agenda.happen()


def test_things_happen_at_the_first_point_that_is_not_before_them() -> None:
    agenda = Agenda(0.1)
    seen: list[tuple[str, float]] = []
    for name, when_s in [("late", 0.25), ("early", 0.01), ("on the grid", 0.2)]:
        agenda.at(when_s, lambda name=name: seen.append((name, agenda.now_s)))
    run(agenda)
    assert [name for name, _ in seen] == ["early", "on the grid", "late"]
    assert [when_s for _, when_s in seen] == pytest.approx([0.1, 0.2, 0.3])


def test_things_of_one_point_happen_in_the_order_in_which_they_were_put_down() -> None:
    agenda = Agenda(1.0)
    seen: list[float] = []
    for due_s in (0.9, 0.1, 0.5):
        agenda.at(due_s, seen.append, due_s)
    run(agenda)
    assert seen == [0.9, 0.1, 0.5]


def test_what_is_due_before_now_happens_now_in_the_same_walk() -> None:
    agenda = Agenda(1.0)
    seen: list[float] = []
    agenda.at(5.0, lambda: agenda.at(2.0, lambda: seen.append(agenda.now_s)))
    assert agenda.go_on(math.inf) == 5.0
    agenda.happen()
    assert seen == [5.0]
    assert agenda.go_on(math.inf) == math.inf


def test_what_others_wait_for_counts_too_and_is_never_met_early() -> None:
    agenda = Agenda(0.001)
    agenda.at(1.0, int)
    for other_s in (0.0123, 0.0007 * 3, 0.3 + 1e-12):
        fresh = Agenda(0.001)
        fresh.at(1.0, int)
        assert other_s <= fresh.go_on(other_s) < other_s + 0.001 + 1e-9
    assert agenda.go_on(7.0) == 1.0


def test_time_does_not_go_back() -> None:
    agenda = Agenda(0.5)
    assert agenda.go_on(3.0) == 3.0
    assert agenda.go_on(1.0) == 3.0


def test_nothing_is_never() -> None:
    agenda = Agenda(0.5)
    assert agenda.go_on(math.inf) == math.inf
    assert agenda.now_s == 0.0
    agenda.happen()


@pytest.mark.parametrize("resolution_s", [0.0, -1.0, math.inf, math.nan])
def test_a_grid_that_is_none_is_named(resolution_s: float) -> None:
    with pytest.raises(ValueError, match=f"resolution_s .* got {resolution_s}"):
        Agenda(resolution_s)
