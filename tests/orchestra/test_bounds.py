"""What no broadcast can beat, in cases that can be counted by hand."""

import pytest

from orchestra.bounds import broadcast_s, passed_on_s, uneven_broadcast_s


def test_one_receiver_takes_what_the_link_takes() -> None:
    assert broadcast_s(1000, 1, 10, 100.0) == 10.0


def test_one_block_doubles_in_each_round() -> None:
    # 1, 2, 4, 8 holders after 0, 1, 2, 3 rounds of 10 s: 7 receivers need 3 rounds.
    assert broadcast_s(1000, 7, 1000, 100.0) == 30.0


def test_many_blocks_pay_for_the_doubling_once() -> None:
    assert broadcast_s(1000, 16, 10, 100.0) == pytest.approx(10.0 * (1 + 4 / 100))


def test_a_short_last_block_counts_as_a_block() -> None:
    assert broadcast_s(1001, 2, 100, 100.0) == pytest.approx(10.01 * (1 + 1 / 11))


def test_an_empty_object_takes_no_time() -> None:
    assert broadcast_s(0, 3, 10, 100.0) == 0.0


def test_the_slowest_of_source_receiver_and_all_together_decides() -> None:
    assert uneven_broadcast_s(100, 5.0, [10.0, 10.0]) == 20.0
    assert uneven_broadcast_s(100, 10.0, [10.0, 2.0]) == 50.0
    assert uneven_broadcast_s(100, 10.0, [10.0] * 3) == 10.0
    assert uneven_broadcast_s(100, 100.0, [50.0] * 4) == 2.0


@pytest.mark.parametrize("bad", [(1, 0, 1, 1.0), (1, 1, 0, 1.0), (-1, 1, 1, 1.0), (1, 1, 1, 0.0)])
def test_what_makes_no_sense_is_refused(bad: tuple[int, int, int, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        broadcast_s(*bad)


@pytest.mark.parametrize("bad", [(0.0, [1.0]), (1.0, [0.0]), (1.0, [])])
def test_rates_that_make_no_sense_are_refused(bad: tuple[float, list[float]]) -> None:
    with pytest.raises(ValueError, match="rates must be above 0"):
        uneven_broadcast_s(1, *bad)


def test_passed_on_in_parts_a_block_is_as_good_as_smaller_ones() -> None:
    block, part = 1 << 18, 1 << 15
    assert passed_on_s(10 * block, 16, block, 1e6) == broadcast_s(10 * block, 16, part, 1e6)
    assert passed_on_s(1000, 16, block, 1e6) == broadcast_s(1000, 16, 1000, 1e6)
    assert passed_on_s(0, 16, block, 1e6) == 0.0
