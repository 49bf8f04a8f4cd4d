"""Racks inferred from block times: which are found, which are not, and what is made of odd times."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from orchestra.topology import (
    SURE,
    Floats,
    as_groups,
    complete,
    in_order,
    infer,
    least_criterion,
    mixture,
    nearest_order,
    project,
    symmetric_distances,
)


def drawn(
    racks: Sequence[int], seed: int, *, apart: float = 8.0, noise: float = 0.2, unseen: float = 0.3
) -> tuple[Floats, list[int]]:
    """Times between nodes of racks of these sizes, in a line; and the rack of each node."""
    rng = np.random.default_rng(seed)
    truth = [rack for rack, size in enumerate(racks) for _ in range(size)]
    at = np.array(truth)
    times = np.where(at[:, None] == at[None, :], 1.0, apart * (1 + 0.3 * np.abs(at[:, None] - at[None, :])))
    times = times * np.exp(noise * rng.standard_normal(times.shape))
    hidden = np.triu(rng.random(times.shape) < unseen)
    times[hidden | hidden.T] = np.nan
    return times, truth


@pytest.mark.parametrize("racks", [(10, 10, 10), (3, 9), (4, 6, 8, 5, 7), (25, 25), (8,) * 10])
def test_racks_are_found_through_noise_and_with_pairs_unseen(racks: tuple[int, ...]) -> None:
    for seed in range(3):
        times, truth = drawn(racks, seed, unseen=0.2)
        found = infer(times, seed)
        assert list(found.racks) == truth
        assert found.confidence > 0.6
        assert found.count == len(racks)
        assert found.positions.shape == (len(truth), 2)


def test_nodes_that_cannot_be_told_apart_are_one_rack() -> None:
    for seed in range(5):
        times, truth = drawn((20,), seed, noise=0.3)
        found = infer(times, seed)
        assert list(found.racks) == truth
        assert found.confidence > 0.6


def test_racks_that_are_hardly_apart_are_one() -> None:
    times, _ = drawn((8, 8), 1, apart=1.05, noise=0.2)
    assert set(infer(times).racks) == {0}


def test_the_same_seed_gives_the_same_racks_and_places() -> None:
    times, _ = drawn((6, 6), 3)
    one, other = infer(times, 5), infer(times, 5)
    assert one.racks == other.racks
    assert (one.positions == other.positions).all()


def test_racks_do_not_depend_on_the_order_of_nodes_nor_on_the_unit() -> None:
    times, truth = drawn((7, 5, 6), 2)
    order = np.random.default_rng(1).permutation(len(truth))
    found = infer(1e-6 * times[np.ix_(order, order)])
    assert list(found.racks) == list(in_order(np.array(truth)[order]))


def test_a_straggler_is_not_a_rack() -> None:
    times, truth = drawn((8, 8), 4)
    times[3, :] *= 10
    times[:, 3] *= 10
    found = infer(times)
    assert found.count == 2
    assert [rack for node, rack in enumerate(found.racks) if node != 3] == truth[:3] + truth[4:]
    assert found.confidence > 0.6


@pytest.mark.parametrize("racks", [(2, 2), (2, 2, 2), (3, 2, 2)])
def test_racks_of_two_are_racks(racks: tuple[int, ...]) -> None:
    times, truth = drawn(racks, 3, noise=0.1, unseen=0.0)
    assert list(infer(times).racks) == truth


def test_nodes_that_were_seen_only_with_those_that_were_hardly_seen_tell_nothing() -> None:
    times = np.full((12, 12), np.nan)
    for pair in range(4):
        middle = 3 * pair + 1
        times[middle, middle - 1] = times[middle + 1, middle] = 1.0
    found = infer(times)
    assert found.racks == (-1,) * 12
    assert found.confidence == 0.0


def test_a_node_not_seen_with_its_own_is_placed_by_exclusion_or_not_at_all() -> None:
    times, truth = drawn((8, 8, 8), 5, unseen=0.0)
    times[0, 1:8] = times[1:8, 0] = np.nan
    assert list(infer(times).racks) == truth
    times[0, 8:16] = times[8:16, 0] = np.nan
    found = infer(times)
    assert found.racks[0] == -1
    assert found.likeliest[0] in (found.racks[1], found.racks[8])
    assert found.likeliest[1:] == found.racks[1:]
    assert found.count == 3


def test_racks_that_may_as_well_be_one_are_joined_so_that_the_rest_is_sure() -> None:
    times, _ = drawn((8, 8, 8), 5, unseen=0.0)
    seen = times[8, 16]
    times[8:16, 16:] = times[16:, 8:16] = np.nan
    assert list(infer(times).racks) == [0] * 8 + [1] * 16
    assert infer(times).confidence > SURE
    times[8, 16:] = seen
    assert infer(times).confidence > SURE


def test_it_is_said_between_which_racks_it_is_not_sure() -> None:
    times, _ = drawn((1, 8, 8), 5, unseen=0.0)
    assert infer(times).confidence > SURE
    times[1, 2:16] = times[2:16, 1] = 1.0  # it is near to seven of either
    times[1, 16] = times[16, 1] = np.nan
    found = infer(times)
    assert found.confidence < SURE
    assert found.count == 2, "who is alone is no rack"
    assert found.between == (1, 0)


def test_single_times_that_are_far_off_change_nothing() -> None:
    times, truth = drawn((8, 8), 5, unseen=0.1)
    rng = np.random.default_rng(0)
    for _ in range(10):
        times[rng.integers(16), rng.integers(16)] = 50.0
    assert list(infer(times).racks) == truth


def test_one_direction_is_enough() -> None:
    times, truth = drawn((8, 8), 6, unseen=0.0)
    times[np.tril_indices(16)] = np.nan
    assert list(infer(times).racks) == truth


def test_who_was_hardly_seen_has_no_rack() -> None:
    times, truth = drawn((6, 6), 7, unseen=0.0)
    times[5, :] = times[:, 5] = np.nan
    times[5, 0] = 1.0
    found = infer(times)
    assert found.racks[5] == -1
    assert [rack for node, rack in enumerate(found.racks) if node != 5] == truth[:5] + truth[6:]


def test_names_are_grouped_by_rack_in_the_order_of_their_numbers() -> None:
    assert as_groups({"d": 3, "a": 1, "b": None, "c": 1}) == [["a", "c"], ["d"]]


@pytest.mark.parametrize("nodes", [0, 1, 2, 3])
def test_so_few_nodes_tell_nothing(nodes: int) -> None:
    found = infer(np.ones((nodes, nodes)))
    assert found.confidence == 0.0
    assert found.count == 1
    assert len(found.racks) == nodes


def test_what_was_never_seen_tells_nothing() -> None:
    found = infer(np.full((6, 6), np.nan))
    assert found.racks == (-1,) * 6
    assert found.confidence == 0.0


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.ones((2, 3)), "n x n"),
        (np.ones(4), "n x n"),
        (np.zeros((4, 4)), "above 0"),
        (-np.ones((4, 4)), "above 0"),
    ],
)
def test_wrong_times_are_refused(times: Floats, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        infer(times)


def test_a_direction_that_was_not_seen_is_as_the_other() -> None:
    times = np.full((4, 4), np.nan)
    times[0, 1], times[1, 0], times[2, 3] = math.e, math.e**3, math.e
    distances = symmetric_distances(times)
    assert distances[0, 1] == distances[1, 0] == pytest.approx(2.0)
    assert distances[3, 2] == pytest.approx(1.0)
    assert np.isnan(distances[0, 2])


def test_what_was_seen_stays_and_the_rest_is_filled_in_by_likeness() -> None:
    times, truth = drawn((10, 10), 8, noise=0.05, unseen=0.5)
    distances = symmetric_distances(times)
    full = complete(distances)
    seen = ~np.isnan(distances)
    assert np.allclose(full[seen], distances[seen])
    assert not np.isnan(full).any()
    assert np.allclose(full, full.T)
    at = np.array(truth)
    guessed = ~seen & ~np.eye(20, dtype=bool)
    near, far = guessed & (at[:, None] == at), guessed & (at[:, None] != at)
    assert full[near].max() < full[far].min()


def test_the_plane_keeps_racks_apart() -> None:
    times, truth = drawn((8, 8, 8), 9, unseen=0.0)
    plane = project(symmetric_distances(np.where(np.isnan(times), 1.0, times)))
    labels, _ = mixture(plane, 3)
    assert list(labels) == truth
    assert list(least_criterion(plane)) == truth


def test_a_walk_goes_to_the_nearest_rack_that_is_left() -> None:
    distances = np.array([[1, 2, 9, 5], [2, 1, 3, 9], [9, 3, 1, 2], [5, 9, 2, 1.0]])
    assert nearest_order(distances, 0) == [0, 1, 2, 3]
    assert nearest_order(distances, 3) == [3, 2, 1, 0]
    assert nearest_order(np.ones((1, 1)), 0) == [0]
