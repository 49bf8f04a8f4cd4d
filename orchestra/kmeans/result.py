"""What a K-Means gives back. Knows nothing of how it came about."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


class EmptyClusterWarning(RuntimeWarning):
    """A cluster ran empty in some iteration and kept its prototype."""


@dataclass(frozen=True, slots=True)
class IterationRecord:
    """One iteration.

    Attributes:
        iteration: from 1.
        inertia: sum of squared distances to the prototypes with which the iteration began.
        changed: points that went to another cluster than in the iteration before (all, in the first).
        compute_s: the longest time that a worker spent on assigning and averaging.
        move_s: the rest of the iteration: broadcast, both shuffles, merging, and the waits at the barriers.
        empty: indices of the clusters that no point was nearest to; they keep their prototypes.
    """

    iteration: int
    inertia: float
    changed: int
    compute_s: float
    move_s: float
    empty: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class KMeansResult:
    """The outcome of `orchestra.kmeans.kmeans`.

    Attributes:
        prototypes: (K, d) float64.
        start: (K, d) float64, the prototypes that the first iteration began with.
        inertia: sum of squared distances of the points to the nearest of ``prototypes``.
        counts: (K,) int64, how many points are nearest to each.
        labels: (N,) int32, which prototype is nearest to each point; None where not asked for.
        history: one record an iteration.
        converged: whether the last iteration changed no assignment: further ones would change nothing.
        distribute_s: seconds until the workers ran and held their points.
        notes: what a reader should know: that it stopped early, which clusters ran empty.
    """

    prototypes: npt.NDArray[np.float64]
    start: npt.NDArray[np.float64]
    inertia: float
    counts: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32] | None
    history: tuple[IterationRecord, ...]
    converged: bool
    distribute_s: float
    notes: tuple[str, ...]
