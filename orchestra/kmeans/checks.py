"""Arguments of a K-Means: refused by name and value, or made what the arithmetic needs. Pure.

Source of randomness: the seed that is passed in.
"""

import math
import operator

import numpy as np
import numpy.typing as npt

from orchestra.kmeans.maths import FloatArray, NumberArray

FIRST = "first"
"""``initial`` for the first K points."""

CANDIDATES_PER_PROTOTYPE = 8
"""Rows drawn for each starting prototype, of which the first distinct ones are taken (a guess: pictures
repeat colours, but rarely seven times in eight)."""


def checked_whole(name: str, value: object, least: int) -> int:
    """An integer of at least ``least``.

    Raises:
        ValueError: for anything else.
    """
    try:
        whole = operator.index(value)  # type: ignore[arg-type]  # asking is how one finds out
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {value!r}") from None
    if whole < least:
        raise ValueError(f"{name} must be at least {least}, got {whole}")
    return whole


def checked_seconds(name: str, value: float) -> float:
    """A finite time above 0.

    Raises:
        ValueError: for anything else.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
    return float(value)


def checked_points(points: npt.ArrayLike, name: str = "points") -> NumberArray:
    """Points as an array of numbers (N, d), not copied where it is one already.

    Raises:
        ValueError: unless they are real, finite, two-dimensional, at least one column wide, unmasked, and so
            small that the sum of their squares is a float64.
    """
    if isinstance(points, np.ma.MaskedArray):
        raise ValueError(f"{name} must not be masked, got a masked array of shape {points.shape}")
    try:
        array = np.asarray(points)
    except ValueError as ragged:
        raise ValueError(f"{name} must be a table of numbers: {ragged}") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, got dtype {array.dtype}")
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must be two-dimensional, rows by columns, got shape {array.shape}")
    if array.size:
        _check_range(array, name)
    return array


def checked_count(k: object, rows: int) -> int:
    """K, between 1 and the number of points.

    Raises:
        ValueError: for anything else.
    """
    count = checked_whole("k", k, 1)
    if count > rows:
        raise ValueError(f"k must not be above the number of points, got {count} for {rows} points")
    return count


def starting_prototypes(
    points: NumberArray, count: int, initial: npt.ArrayLike | str | None, seed: int
) -> FloatArray:
    """Prototypes (K, d) in float64 to begin with.

    Args:
        points: as `checked_points` gives them.
        initial: ``"first"`` for the first K points, an array (K, d), or None for points drawn with ``seed``,
            no two of the same coordinates if enough others turn up.

    Raises:
        ValueError: for another text, or an array of another shape or with values that are no numbers.
    """
    if initial is None:
        return _drawn(points, count, np.random.default_rng(checked_whole("seed", seed, 0)))
    if isinstance(initial, str):
        if initial != FIRST:
            raise ValueError(f"initial must be None, {FIRST!r} or an array, got {initial!r}")
        return points[:count].astype(np.float64)
    given = checked_points(initial, "initial")
    expected = (count, points.shape[1])
    if given.shape != expected:
        raise ValueError(f"initial must have the shape {expected}, got {given.shape}")
    return given.astype(np.float64)


def _drawn(points: NumberArray, count: int, generator: np.random.Generator) -> FloatArray:
    size = min(len(points), CANDIDATES_PER_PROTOTYPE * count)
    candidates = points[generator.choice(len(points), size=size, replace=False)]
    distinct = np.sort(np.unique(candidates, axis=0, return_index=True)[1])
    repeated = np.setdiff1d(np.arange(size), distinct)
    drawn: FloatArray = candidates[np.concatenate([distinct, repeated])[:count]].astype(np.float64)
    return drawn


def _check_range(array: NumberArray, name: str) -> None:
    """Refuse NaN, infinity and what would overflow; min and max pass NaN on and need no second array."""
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        row, column = np.argwhere(~np.isfinite(array.astype(np.float64)))[0].tolist()
        raise ValueError(f"{name} must be finite, got {array[row, column]} in row {row}, column {column}")
    # A difference is at most twice the largest value; its square is summed over every value.
    largest = math.sqrt(np.finfo(np.float64).max / array.size) / 4
    if max(-low, high) > largest:
        raise ValueError(
            f"{name} must stay below {largest:.3g}, or sums of squares overflow, got {max(-low, high):.3g}"
        )
