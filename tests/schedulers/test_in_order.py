"""FIFO, FIFO+ and priority classes on one port, where everything is seen at once; and the weighted
shuffle."""

import numpy as np
import pytest
from hypothesis import assume, given
from scipy.optimize import linprog  # type: ignore[import-untyped]

from schedulers import Fifo, FifoPlus, Policy, Priority, Shuffle, Snapshot, Standing, TransferId
from tests.schedulers.strategies import shuffles


def on_one_port(policy: Policy, *priorities: int) -> list[float]:
    """The parts of a port that transfers get, who came first first."""
    demands = [
        Shuffle.of(
            Standing(TransferId(f"t{number}"), float(number), priority),
            np.array([0]),
            np.array([1]),
            np.ones((1, 1)),
        )
        for number, priority in enumerate(priorities)
    ]
    shares = policy.allocate(Snapshot(np.ones(2), demands)).shares
    return [float(share.port_rates[0]) for share in shares]


def test_who_came_first_has_all_it_can_use() -> None:
    assert on_one_port(Fifo(), 0, 5, 0) == [1, 0, 0]


def test_what_the_first_cannot_use_goes_to_the_next() -> None:
    first = Shuffle.of(Standing(TransferId("1"), 0.0), np.array([0]), np.array([2]), np.ones((1, 1)))
    second = Shuffle.of(Standing(TransferId("2"), 1.0), np.array([0, 1]), np.array([3]), np.ones((2, 1)))
    shares = Fifo().allocate(Snapshot(np.array([1.0, 1.0, 0.25, 1.0]), [first, second])).shares
    assert shares[0].port_rates == pytest.approx(np.array([0.25, 0.25]))
    assert shares[1].port_rates[-1] == pytest.approx(1.0)


def test_with_fifo_plus_each_other_one_has_three_percent() -> None:
    assert on_one_port(FifoPlus(), 0, 0, 0) == pytest.approx([0.94, 0.03, 0.03])
    assert on_one_port(FifoPlus(0.1), 0, 0) == pytest.approx([0.9, 0.1])


def test_with_very_many_fifo_plus_shares_alike() -> None:
    assert on_one_port(FifoPlus(), *[0] * 50) == pytest.approx([0.02] * 50)


def test_the_highest_class_goes_first_and_the_first_of_each_lower_one_goes_on() -> None:
    assert on_one_port(Priority(), 1, 7, 1, 7, 2) == pytest.approx([0.03, 0.94, 0, 0, 0.03])
    assert on_one_port(Priority(0.2), 0, 1) == pytest.approx([0.2, 0.8])
    assert on_one_port(Priority(0.0), 0, 1) == [0, 1]


def test_priorities_that_hardly_differ_are_different_classes() -> None:
    assert on_one_port(Priority(0.1), 10**9, 10**9 + 1) == pytest.approx([0.1, 0.9])


@pytest.mark.parametrize("part", [-0.1, 1.1, float("nan")])
def test_a_part_that_is_none_is_refused(part: float) -> None:
    with pytest.raises(ValueError, match="others_part must be 0 to 1"):
        FifoPlus(part)
    with pytest.raises(ValueError, match="lower_part must be 0 to 1"):
        Priority(part)


@given(shuffles())
def test_a_shuffle_alone_is_through_as_soon_as_a_linear_program_can_be(shuffle: Shuffle) -> None:
    """T*: variables are the flows' rates and the pace; each rate is at least pace times bytes."""
    capacities = np.arange(1.0, 9.0)
    sizes = shuffle.left_bytes[shuffle.live]
    assume(sizes.size and shuffle.weighted)
    rows = np.zeros((len(capacities), sizes.size + 1))
    for flow, (mapper, reducer) in enumerate(zip(*np.nonzero(shuffle.live), strict=True)):
        rows[[shuffle.egress[mapper], shuffle.ingress[reducer]], flow] = 1.0
    keep_up = np.hstack([-np.eye(sizes.size), sizes[:, None]])
    best = linprog(
        np.append(np.zeros(sizes.size), -1.0),
        A_ub=np.vstack([rows, keep_up]),
        b_ub=np.append(capacities, np.zeros(sizes.size)),
        method="highs",
    ).x[-1]
    share = Fifo().allocate(Snapshot(capacities, [shuffle])).shares[0]
    assert share.pace == pytest.approx(best, rel=1e-6)
    assert share.flow_rates is not None
    assert (share.flow_rates[shuffle.live] >= sizes * best * (1 - 1e-6)).all()
