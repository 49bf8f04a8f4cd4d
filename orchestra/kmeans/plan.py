"""Who does what in a distributed K-Means: names of nodes and transfers, rows of points, groups.

Must not know processes or transfers. Pure: head and workers compute the same plan from the same numbers.

Theory of operation. M workers stand in ⌈√M⌉ groups of neighbours, and the first of each group is its
partial reducer, so that no one merges more than about √M versions (Durut and Rossi 2011). The head, who
holds the starting prototypes and answers to the caller, is the final reducer and publishes the shared
version. It publishes it once, not once a group as there: a broadcast spreads the load by itself.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts in one run.

    Attributes:
        workers: M, from 1.
        run: what names begin with where several runs share a cluster.
    """

    workers: int
    run: str = ""

    @property
    def head(self) -> str:
        """The node of the process that called `kmeans`."""
        return f"{self.run}head"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all workers, who are the mappers of every iteration."""
        return tuple(self._worker(index) for index in range(self.workers))

    @property
    def mean(self) -> str:
        """The broadcast of the points' mean."""
        return f"{self.run}mean"

    @property
    def points(self) -> str:
        """The shuffle of the points to the workers."""
        return f"{self.run}points"

    @property
    def labels(self) -> str:
        """The shuffle of the labels to the head."""
        return f"{self.run}labels"

    def prototypes(self, version: int) -> str:
        """The broadcast of a shared version; 0 is the start."""
        return f"{self.run}prototypes/{version}"

    def local(self, version: int) -> str:
        """The shuffle of the workers' local prototypes to the partial reducers."""
        return f"{self.run}local/{version}"

    def merged(self, version: int) -> str:
        """The shuffle of the partial reducers' merged prototypes to the head."""
        return f"{self.run}merged/{version}"

    def _worker(self, index: int) -> str:
        return f"{self.run}worker-{index}"

    @property
    def groups(self) -> int:
        """⌈√M⌉, without a detour over floats."""
        return math.isqrt(self.workers - 1) + 1

    @property
    def reducers(self) -> tuple[str, ...]:
        """The partial reducers: the first worker of each group."""
        firsts = dict.fromkeys(self.reducer_of(index) for index in range(self.workers))
        return tuple(firsts)

    def reducer_of(self, worker: int) -> str:
        """The partial reducer of one worker."""
        group = worker * self.groups // self.workers
        return self._worker(-(-group * self.workers // self.groups))

    def rows_of(self, worker: int, rows: int) -> slice:
        """The rows of one worker: N/M of them, give or take one."""
        return slice(rows * worker // self.workers, rows * (worker + 1) // self.workers)
