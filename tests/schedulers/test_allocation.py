"""What an answer by totals means for flows."""

import numpy as np
import pytest

from schedulers import Broadcast, Share, Shuffle, Standing, TransferId
from schedulers.allocation import Levels

ONE = Standing(TransferId("one"), 0.0)
SHUFFLE = Shuffle.of(ONE, np.array([0, 1]), np.array([2, 3]), np.array([[4.0, 0.0], [2.0, 6.0]]))


def test_a_pace_is_of_what_is_left_or_of_flows() -> None:
    by_bytes, by_flows = Share(SHUFFLE, 0.5), Share(SHUFFLE, 3.0, in_bytes=False)
    np.testing.assert_array_equal(by_bytes.flow_rates, [[2, 0], [1, 3]])
    np.testing.assert_array_equal(by_bytes.port_rates, [2, 4, 3, 3])
    np.testing.assert_array_equal(by_flows.flow_rates, [[3, 0], [3, 3]])
    np.testing.assert_array_equal(by_flows.port_rates, [3, 6, 6, 3])


def test_beside_it_a_flow_has_the_less_of_its_ports_levels_and_none_where_nothing_is_left() -> None:
    share = Share(SHUFFLE, 0.5, beside=Levels(np.array([5.0, 1.0]), np.array([2.0, np.inf])))
    np.testing.assert_array_equal(share.flow_rates, [[2 + 2, 0], [1 + 1, 3 + 1]])
    np.testing.assert_array_equal(share.port_rates, [4, 6, 6, 4])


def test_who_may_not_move_has_no_rates_and_a_broadcast_none_of_flows() -> None:
    assert Share(SHUFFLE, 0.0).flow_rates is None
    assert not Share(SHUFFLE, 0.0, beside=Levels(np.zeros(2), np.ones(2))).moves
    spread = Share(Broadcast(ONE, np.array([0, 3]), np.array([8.0, 0.0])), np.inf)
    assert spread.flow_rates is None
    np.testing.assert_array_equal(spread.port_rates, [np.inf, 0.0])
    assert Share(Broadcast(ONE, np.array([0, 3]), np.array([8.0, 2.0])), 0.25).port_rates == pytest.approx(
        [2, 0.5]
    )
