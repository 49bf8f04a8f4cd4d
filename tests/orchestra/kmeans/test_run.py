"""Whole runs with real worker processes."""

import os
import re
import signal
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import trio
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from orchestra.kmeans import EmptyClusterWarning, IterationRecord, kmeans
from transfers.errors import NodeLost

Points = npt.NDArray[np.float64]


def worker_pids() -> list[int]:
    """Of this process's children that are K-Means workers, in the order of their start."""
    children = psutil.Process().children()
    return [child.pid for child in children if "orchestra.kmeans.worker" in child.cmdline()]


@pytest.fixture(scope="module")
def digits() -> Points:
    points: Points = StandardScaler().fit_transform(load_digits().data)
    return points


@pytest.fixture(scope="module")
def blobs() -> Points:
    return np.random.default_rng(3).normal(size=(600, 5))


@pytest.fixture(autouse=True)
def _nobody_is_left() -> None:
    assert worker_pids() == []


@pytest.mark.parametrize("workers", [1, 2, 4])
async def test_the_result_is_that_of_sequential_kmeans(digits: Points, workers: int) -> None:
    expected = KMeans(10, init=digits[:10], n_init=1, algorithm="lloyd", tol=0, max_iter=300).fit(digits)
    result = await kmeans(digits, 10, 300, workers, initial="first")
    apart = np.abs(result.prototypes - expected.cluster_centers_).max()
    assert apart <= 1e-9 * np.abs(expected.cluster_centers_).max()
    assert result.inertia == pytest.approx(expected.inertia_, rel=1e-9)
    np.testing.assert_array_equal(result.labels, expected.labels_)
    np.testing.assert_array_equal(result.counts, np.bincount(expected.labels_, minlength=10))
    assert result.converged
    assert len(result.history) == expected.n_iter_
    assert result.notes == (f"no assignment changed in iteration {expected.n_iter_}: stopped before 300",)
    assert worker_pids() == []


async def test_sent_over_sockets_it_is_the_same_to_the_last_bit(blobs: Points) -> None:
    mapped = await kmeans(blobs, 4, 3, 2, labels=False)
    sent = await kmeans(blobs, 4, 3, 2, share=False, mechanism="chain")
    np.testing.assert_array_equal(mapped.prototypes, sent.prototypes)
    assert mapped.labels is None
    assert sent.labels is not None
    assert mapped.inertia == sent.inertia


async def test_each_iteration_is_reported_and_inertia_never_grows(blobs: Points) -> None:
    seen: list[IterationRecord] = []
    result = await kmeans(blobs, 5, 6, 2, progress=seen.append, stop_when_settled=False)
    assert tuple(seen) == result.history
    assert [record.iteration for record in seen] == [1, 2, 3, 4, 5, 6]
    inertias = [record.inertia for record in seen] + [result.inertia]
    assert inertias == sorted(inertias, reverse=True)
    assert seen[0].changed == len(blobs)
    assert all(record.compute_s > 0 and record.move_s > 0 for record in seen)


async def test_no_iterations_assign_points_to_the_start() -> None:
    points = np.array([[0], [1], [9], [10]], np.uint8)
    start = np.array([[0.1], [9.7]])
    result = await kmeans(points, 2, 0, 2, initial=start)
    np.testing.assert_array_equal(result.prototypes, start)
    assert result.labels is not None
    assert result.labels.tolist() == [0, 0, 1, 1]
    assert result.inertia == pytest.approx(0.01 + 0.81 + 0.49 + 0.09)
    assert result.history == ()


async def test_a_cluster_that_runs_empty_keeps_its_prototype_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    points = np.array([[0.0], [1.0], [9.0], [10.0]])
    start = np.array([[0.1], [77.7], [9.0]])
    with pytest.warns(
        EmptyClusterWarning, match="1 clusters ran empty and kept their prototypes: 1"
    ) as caught:
        result = await kmeans(points, 3, 2, 2, initial=start)
    assert [str(each.filename) for each in caught] == [__file__]
    assert result.prototypes.tolist() == [[0.5], [77.7], [9.5]]
    assert result.counts.tolist() == [2, 0, 2]
    assert [record.empty for record in result.history] == [(1,), (1,)]
    assert result.notes[-1] == "cluster 1 ran empty in 2 iterations, first in 1, and kept its prototype"
    assert "ran empty" in caplog.text


def test_the_warning_of_an_empty_cluster_points_at_who_hands_it_to_trio() -> None:
    points = np.array([[0.0], [1.0], [9.0], [10.0]])
    start = np.array([[0.1], [77.7], [9.0]])
    with pytest.warns(EmptyClusterWarning) as caught:
        trio.run(partial(kmeans, points, 3, 1, 1, initial=start))
    assert [each.filename for each in caught] == [__file__]


@pytest.mark.parametrize("victim", [0, 3])
async def test_a_worker_that_dies_is_named_and_nobody_is_left(blobs: Points, victim: int) -> None:
    killed: list[int] = []

    def kill(record: IterationRecord) -> None:
        if record.iteration == 2:
            killed.append(worker_pids()[victim])
            os.kill(killed[0], signal.SIGKILL)

    with trio.fail_after(30), pytest.raises(NodeLost) as caught:
        await kmeans(blobs, 5, 100_000, 4, progress=kill, stop_when_settled=False)
    assert caught.value.node == f"worker-{victim}"
    assert caught.value.reason == f"process {killed[0]} was ended by SIGKILL"
    assert worker_pids() == []


def raise_interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def raise_own() -> None:
    raise LookupError("the caller's own")


@pytest.mark.parametrize(
    ("end", "expected"), [(raise_interrupt, KeyboardInterrupt), (raise_own, LookupError)]
)
def test_an_interruption_ends_all_workers(
    blobs: Points, end: Callable[[], None], expected: type[BaseException]
) -> None:
    def interrupt(record: IterationRecord) -> None:
        if record.iteration == 2:
            assert len(worker_pids()) == 2
            end()

    async def main() -> None:
        with trio.fail_after(30):
            await kmeans(blobs, 5, 100_000, 2, progress=interrupt, stop_when_settled=False)

    with pytest.raises(expected):
        trio.run(main)
    assert worker_pids() == []


async def test_cancelling_ends_all_workers(blobs: Points) -> None:
    with trio.CancelScope() as scope:
        await kmeans(blobs, 5, 100_000, 2, progress=lambda _: scope.cancel(), stop_when_settled=False)
    assert scope.cancelled_caught
    assert worker_pids() == []


async def test_the_secret_is_not_on_a_command_line_nor_in_the_environment(blobs: Points) -> None:
    seen: list[str] = []

    def look(_: IterationRecord) -> None:
        process = psutil.Process(worker_pids()[0])
        seen.append(" ".join([*process.cmdline(), *process.environ().values()]))
        assert process.environ()["OPENBLAS_NUM_THREADS"] == str(max(1, len(os.sched_getaffinity(0)) // 2))

    await kmeans(blobs, 2, 1, 2, progress=look)
    assert re.search("[0-9a-f]{64}", seen[0]) is None  # its form: 32 bytes in hexadecimal
