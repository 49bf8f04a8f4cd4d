"""Bad arguments are named, with their value, before anything is started."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.kmeans import kmeans
from orchestra.kmeans.checks import checked_points, starting_prototypes

GOOD = np.arange(12.0).reshape(6, 2)


def with_value(value: float) -> "np.ndarray[Any, np.dtype[np.float64]]":
    points = GOOD.copy()
    points[4, 1] = value
    return points


BAD_POINTS = {
    "NaN": (with_value(np.nan), "points must be finite, got nan in row 4, column 1"),
    "infinity": (with_value(-np.inf), "points must be finite, got -inf in row 4, column 1"),
    "overflowing squares": (with_value(1e200), "points must stay below .* got 1e[+]200"),
    "one dimension": (GOOD[0], r"points must be two-dimensional, .* got shape \(2,\)"),
    "three dimensions": (GOOD[np.newaxis], r"two-dimensional, .* got shape \(1, 6, 2\)"),
    "no columns": (np.zeros((3, 0)), r"two-dimensional, .* got shape \(3, 0\)"),
    "objects": (GOOD.astype(object), "points must be real numbers, got dtype object"),
    "texts": (GOOD.astype(str), "points must be real numbers, got dtype <U"),
    "complex": (GOOD.astype(complex), "points must be real numbers, got dtype complex128"),
    "ragged": ([[1.0, 2.0], [3.0]], "points must be a table of numbers"),
    "masked": (np.ma.masked_less(GOOD, 3), "points must not be masked"),
}


@pytest.mark.parametrize("case", BAD_POINTS)
async def test_bad_points_are_refused(case: str) -> None:
    points, message = BAD_POINTS[case]
    with pytest.raises(ValueError, match=message):
        await kmeans(points, 2, 1, 1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"k": 7}, "k must not be above the number of points, got 7 for 6 points"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"k": 2.5}, "k must be an integer, got 2.5"),
        ({"iterations": -1}, "iterations must be at least 0, got -1"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"workers": 7}, "workers must not be above the number of points, got 7 for 6 points"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"timeout": 0}, "timeout must be above 0 and finite, got 0"),
        ({"timeout": float("nan")}, "timeout must be above 0 and finite, got nan"),
        ({"mechanism": "magic"}, "mechanism must be one of .* got 'magic'"),
        ({"initial": "last"}, "initial must be None, 'first' or an array, got 'last'"),
        ({"initial": GOOD}, r"initial must have the shape \(2, 2\), got \(6, 2\)"),
        ({"initial": [[1.0, np.nan], [0.0, 0.0]]}, "initial must be finite, got nan in row 0, column 1"),
    ],
)
async def test_bad_arguments_are_refused(bad: dict[str, Any], message: str) -> None:
    arguments = {"k": 2, "iterations": 1, "workers": 1, **bad}
    with pytest.raises(ValueError, match=message):
        await partial(kmeans, GOOD)(**arguments)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32, ">f8"])
def test_every_kind_of_real_number_is_taken(dtype: Any) -> None:
    points = np.eye(3).astype(dtype)
    assert checked_points(points) is points


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 20))
def test_drawn_starts_are_distinct_points_and_repeat_with_their_seed(seed: int, count: int) -> None:
    points = np.arange(80).reshape(40, 2)
    start = starting_prototypes(points, count, None, seed)
    assert start.dtype == np.float64
    assert len({tuple(row) for row in start.tolist()}) == count
    assert all(row in points.tolist() for row in start.tolist())
    np.testing.assert_array_equal(start, starting_prototypes(points, count, None, seed))


def test_equal_points_are_drawn_twice_only_where_there_are_no_others() -> None:
    points = np.array([[1], [1], [1], [2], [1], [1]])
    assert sorted(starting_prototypes(points, 3, None, 0).ravel().tolist()) == [1.0, 1.0, 2.0]


def test_the_first_points_are_a_start() -> None:
    assert starting_prototypes(GOOD, 2, "first", 0).tolist() == GOOD[:2].tolist()


def test_a_given_start_is_not_changed() -> None:
    given_start = np.zeros((2, 2))
    starting_prototypes(GOOD, 2, given_start, 0)[:] = 5.0
    assert not given_start.any()
