"""Distributed K-Means equals scikit-learn's: a table over two data sets and several numbers of workers.

    python examples/kmeans_equality.py
    python examples/kmeans_equality.py --data digits --workers 1 2 4

Both start from the first K points and make the same iterations. The columns say how far the prototypes are
apart, relative to the largest coordinate, and the inertias, relative to scikit-learn's. Exit status 1 if
either is above 1e-9 anywhere.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
import numpy.typing as npt
import trio
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from orchestra.kmeans import kmeans

LIMIT = 1e-9
"""Largest difference that rounding may make; what is seen is nearer to 1e-15."""

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """One data set: its points, K, and iterations at most."""

    points: Points
    clusters: int
    iterations: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a run is from scikit-learn's."""

    prototypes: float
    inertia: float
    iterations: int
    took_s: float


def digits() -> Case:
    """1,797 handwritten digits of 64 pixels, each standardised, until nothing changes."""
    return Case(StandardScaler().fit_transform(load_digits().data), clusters=10, iterations=300)


def uniform() -> Case:
    """100,000 points of 50 uniform coordinates."""
    return Case(np.random.default_rng(0).random((100_000, 50)), clusters=100, iterations=10)


DATA: dict[str, Callable[[], Case]] = {"digits": digits, "uniform": uniform}


def reference(case: Case) -> KMeans:
    """What scikit-learn finds."""
    start = case.points[: case.clusters]
    return KMeans(
        case.clusters, init=start, n_init=1, algorithm="lloyd", tol=0, max_iter=case.iterations
    ).fit(case.points)


def difference(case: Case, expected: KMeans, workers: int) -> Difference:
    """Run it with so many workers and look how far it is from ``expected``."""
    started_s = perf_counter()
    result = trio.run(
        partial(kmeans, case.points, case.clusters, case.iterations, workers, initial="first", labels=False)
    )
    took_s = perf_counter() - started_s
    apart = np.abs(result.prototypes - expected.cluster_centers_).max()
    return Difference(
        prototypes=float(apart / np.abs(expected.cluster_centers_).max()),
        inertia=abs(result.inertia / expected.inertia_ - 1),
        iterations=len(result.history),
        took_s=took_s,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a difference is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4, 9])
    options = parser.parse_args(arguments)
    row = "{:<8} {:>8} {:>4} {:>4} {:>8} {:>11} {:>11} {:>11} {:>8}  {}"
    print(row.format("data", "N", "d", "K", "workers", "iterations", "prototypes", "inertia", "seconds", ""))
    equal = True
    for name in options.data:
        case = DATA[name]()
        expected = reference(case)
        for workers in options.workers:
            found = difference(case, expected, workers)
            within = max(found.prototypes, found.inertia) <= LIMIT
            equal = equal and within
            print(
                row.format(
                    *(name, len(case.points), case.points.shape[1], case.clusters, workers),
                    *(found.iterations, f"{found.prototypes:.1e}", f"{found.inertia:.1e}"),
                    *(f"{found.took_s:.1f}", "equal" if within else "DIFFERENT"),
                ),
                flush=True,
            )
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
