"""Predictions of small objects; those of the mechanisms are tested with the choice that they are made for."""

from dataclasses import replace

import pytest

from orchestra.costs import predict_small_s
from orchestra.estimate import LinkEstimate

LINK = LinkEstimate(rate_bytes_per_s=1e6, latency_s=0.001, small_start_s=0.01)


def test_inside_messages_each_receiver_costs_its_bytes() -> None:
    assert predict_small_s(1000, 16, True, LINK) == pytest.approx(0.01 + 0.016 + 0.001)


@pytest.mark.parametrize(("receivers", "levels"), [(1, 0), (2, 1), (3, 1), (4, 2), (16, 4), (31, 4), (32, 5)])
def test_pushed_a_level_costs_a_step_to_each_child(receivers: int, levels: int) -> None:
    took_s = predict_small_s(64_000, receivers, False, LINK)
    assert took_s == pytest.approx(0.01 + 0.064 + levels * (2 * 8192 / 1e6 + 0.001))


def test_what_ports_let_through_at_once_takes_no_time() -> None:
    deep = replace(LINK, burst_bytes=1e6)
    assert predict_small_s(64_000, 16, False, deep) == pytest.approx(0.01 + 4 * 0.001)
    assert predict_small_s(1000, 16, True, deep) == pytest.approx(0.011)


def test_a_slow_source_takes_its_time() -> None:
    slow = replace(LINK, source_rate_bytes_per_s=1e5)
    assert predict_small_s(64_000, 1, False, slow) == pytest.approx(0.01 + 0.64)
