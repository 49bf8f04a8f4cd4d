"""What broadcasts have moved, by port."""

import pytest

from orchestra.controller import traffic
from orchestra.controller.members import Card
from orchestra.controller.traffic import Traffic

A, B, C = Card("a"), Card("b"), Card("c")


def test_bytes_count_where_they_leave_and_where_they_arrive() -> None:
    its = Traffic()
    its.note(A, B, 5)
    its.note(A, C, 7)
    its.note(B, A, 1)
    assert its.moved_bytes == {
        (A, True): 12, (B, False): 5, (C, False): 7, (B, True): 1, (A, False): 1,
    }  # fmt: skip


def test_a_port_that_moved_nothing_has_moved_none() -> None:
    assert Traffic().moved_bytes[A, True] == 0


def test_of_too_many_ports_sums_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MOST_PORTS", 10)
    its = Traffic()
    for at in range(1000):
        its.note(Card(f"{at}"), Card(f"{at}"), 1)
        assert len(its.moved_bytes) <= 12
    assert its.moved_bytes[Card("999"), True] == 1
