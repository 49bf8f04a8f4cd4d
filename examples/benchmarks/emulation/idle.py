"""How much CPU was left over: a figure measured where none was is the CPU's, not the network's."""

import math
import threading
from types import TracebackType
from typing import Self

import psutil

from examples.benchmarks.emulation.cluster import EmulatedCluster

SAMPLE_S = 0.2
"""Between two looks at traffic and CPU (a guess: the kernel counts CPU in 10 ms, a look takes under 1 ms)."""
MOVING_SHARE = 0.1
"""Share of one host's rate from which on a cluster is taken to be moving an object (a guess: more than
heartbeats, less than any broadcast)."""


class IdleCpu:
    """The machine's idle CPU while a block runs.

    Attributes:
        share: of all cores' time, 0 to 1; what a hypervisor took away counts as used. NaN until the block
            has ended, and after one that was too short to tell (the kernel counts in 10 ms).
    """

    def __init__(self) -> None:
        self.share = math.nan
        self._before = (0.0, 0.0)

    def __enter__(self) -> Self:
        self._before = _idle_and_all_s()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        idle_s, all_s = _idle_and_all_s()
        self.share = _share(idle_s - self._before[0], all_s - self._before[1])


class IdleWhileMoving:
    """The machine's idle CPU during those parts of a block in which a cluster moves bytes.

    Starting a system keeps every core busy and says nothing about its broadcasts, whose beginning and end
    only the system knows. The traffic shows them.

    Attributes:
        share: as that of `IdleCpu`; NaN until the block has ended, and if nothing moved.
    """

    def __init__(self, cluster: EmulatedCluster) -> None:
        self.share = math.nan
        self._cluster = cluster
        self._least_bytes = cluster.hosts[0].rate_bytes_per_s * SAMPLE_S * MOVING_SHARE
        self._idle_s = 0.0
        self._all_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="idle CPU")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self.share = _share(self._idle_s, self._all_s)

    def _watch(self) -> None:
        before = (self._cluster.moved_bytes(), *_idle_and_all_s())
        while not self._over.wait(SAMPLE_S):
            now = (self._cluster.moved_bytes(), *_idle_and_all_s())
            if now[0] - before[0] >= self._least_bytes:
                self._idle_s += now[1] - before[1]
                self._all_s += now[2] - before[2]
            before = now


def _share(idle_s: float, all_s: float) -> float:
    return min(1.0, max(0.0, idle_s / all_s)) if all_s > 0 else math.nan


def _idle_and_all_s() -> tuple[float, float]:
    times = psutil.cpu_times()
    idle_s = times.idle + times.iowait
    # guest and guest_nice are contained in user and nice
    return idle_s, idle_s + times.user + times.nice + times.system + times.irq + times.softirq + times.steal
