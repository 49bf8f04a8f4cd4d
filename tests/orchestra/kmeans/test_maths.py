"""The arithmetic against sums written out, and its exactness under splitting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.kmeans import maths
from orchestra.kmeans.maths import (
    FloatArray,
    LocalPrototypes,
    assign,
    centred,
    local_prototypes,
    merge,
    updated,
)

seeds = st.integers(0, 2**32 - 1)


def brute_force(points: FloatArray, prototypes: FloatArray) -> FloatArray:
    """All squared distances, (n, K), one by one."""
    return np.array([[((point - prototype) ** 2).sum() for prototype in prototypes] for point in points])


@given(seed=seeds, n=st.integers(1, 60), count=st.integers(1, 9), dimensions=st.integers(1, 5))
def test_every_point_gets_its_nearest_prototype(seed: int, n: int, count: int, dimensions: int) -> None:
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(n, dimensions))
    prototypes = generator.normal(size=(count, dimensions))
    distances = brute_force(points, prototypes)
    labels, inertia = assign(points, prototypes)
    assert labels.dtype == np.int32
    chosen = distances[np.arange(n), labels]
    np.testing.assert_allclose(chosen, distances.min(axis=1), rtol=1e-9, atol=1e-12)
    assert inertia == pytest.approx(distances.min(axis=1).sum(), rel=1e-9, abs=1e-12)


@given(seed=seeds, n=st.integers(1, 80), count=st.integers(1, 9), dimensions=st.integers(1, 5))
def test_local_prototypes_are_the_averages_of_what_was_assigned(
    seed: int, n: int, count: int, dimensions: int
) -> None:
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(n, dimensions))
    prototypes = generator.normal(size=(count, dimensions))
    labels, local = local_prototypes(points, prototypes, None)
    for cluster in range(count):
        members = points[labels == cluster]
        assert local.counts[cluster] == len(members)
        expected = members.mean(axis=0) if len(members) else np.zeros(dimensions)
        np.testing.assert_allclose(local.averages[cluster], expected, rtol=1e-12, atol=1e-14)
    assert local.changed == n
    assert local_prototypes(points, prototypes, labels)[1].changed == 0


@given(seed=seeds, cuts=st.lists(st.integers(1, 99), max_size=5, unique=True))
def test_merged_parts_are_the_whole(seed: int, cuts: list[int]) -> None:
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(100, 3))
    prototypes = generator.normal(size=(12, 3))
    whole = local_prototypes(points, prototypes, None)[1]
    merged = merge([local_prototypes(p, prototypes, None)[1] for p in np.split(points, sorted(cuts))])
    np.testing.assert_array_equal(merged.counts, whole.counts)
    np.testing.assert_allclose(merged.averages, whole.averages, rtol=1e-12, atol=1e-14)
    assert merged.inertia == pytest.approx(whole.inertia, rel=1e-12)
    assert merged.changed == whole.changed


def test_many_blocks_of_rows_are_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(5)
    points, prototypes = generator.normal(size=(500, 4)), generator.normal(size=(7, 4))
    labels, local = local_prototypes(points, prototypes, None)
    monkeypatch.setattr(maths, "SCORES_BYTES", 8 * 7 * 3)
    monkeypatch.setattr(maths, "SUMMED_BYTES", 1)
    again, local_again = local_prototypes(points, prototypes, None)
    np.testing.assert_array_equal(again, labels)
    np.testing.assert_allclose(local_again.averages, local.averages, rtol=1e-12, atol=1e-14)
    assert local_again.inertia == pytest.approx(local.inertia, rel=1e-12)


def test_of_equally_near_prototypes_the_first_is_taken() -> None:
    points = np.array([[0.0], [1.0]])
    labels, _ = assign(points, np.array([[1.0], [-1.0], [1.0]]))
    assert labels.tolist() == [0, 0]


def test_a_large_common_offset_costs_no_digits() -> None:
    # 1e8 + 0.5 is exact in float64; its square, 1e16 + 1e8 + 0.25, is not.
    points = np.array([[1e8], [1e8 + 0.5], [1e8 + 2.0]])
    mean = points.mean(axis=0)
    moved = centred(points, mean)
    labels, inertia = assign(moved, np.array([[1e8], [1e8 + 2.0]]) - mean)
    assert labels.tolist() == [0, 0, 1]
    assert inertia == pytest.approx(0.25, rel=1e-6)


def test_centring_makes_floats_of_integers_and_copies() -> None:
    points = np.array([[0, 255], [2, 1]], np.uint8)
    moved = centred(points, np.array([1.0, 128.0]))
    assert moved.tolist() == [[-1.0, 127.0], [1.0, -127.0]]
    assert points.tolist() == [[0, 255], [2, 1]]


def test_an_empty_cluster_keeps_its_prototype() -> None:
    prototypes = np.array([[0.0, 0.0], [9.0, 9.0]])
    merged = LocalPrototypes(np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([3.0, 0.0]), 1.0, 0)
    moved, empty = updated(prototypes, merged)
    assert moved.tolist() == [[1.0, 2.0], [9.0, 9.0]]
    assert empty == (1,)


def test_merging_takes_the_longest_time_since_the_others_wait() -> None:
    parts = [LocalPrototypes(np.zeros((1, 1)), np.zeros(1), 0.0, 0, seconds) for seconds in (0.1, 0.7, 0.3)]
    assert merge(parts).compute_s == 0.7


def test_nothing_to_merge_is_refused() -> None:
    with pytest.raises(ValueError, match="parts"):
        merge([])
