"""Very many small broadcasts at once from one source, beside a big one: who starves?

Run by ``python -m examples.benchmarks.small_objects --many N``. Everything is on loopback: the controller and
the source in this process, each receiver in its own. All small broadcasts are asked for at the same moment,
and nothing here holds them back: how many of them are under way at a time is the library's affair. Latency
of each is from its call until the source has heard that all receivers hold it; its release is not counted in
that, but is part of the load.

The big broadcast is measured alone first, then with the small ones beginning when it is under way. If it ends
before they do, they have not cost it all that they could have: so the share of them that was through by
then is told as well.
"""

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import trio
from tqdm import tqdm

from examples.benchmarks.figures import Series, write_json
from orchestra.cluster import LocalCluster, local_cluster
from orchestra.units import format_bytes
from transfers.errors import OrchestraError

SMALL_BYTES = 1024
"""Size of each of the many."""
TIMEOUT_S = 300.0
"""For all of a round together: a guess, a hundred times what it takes."""
POLL_S = 0.002
"""Between two looks at whether the big one is under way (a guess)."""


@dataclass(frozen=True, slots=True)
class Round:
    """Many small ones beside a big one.

    Attributes:
        latencies_s: of each small one that got through.
        lasted_s: from the moment they were asked for to the end of the last.
        beside_s: the big one's completion meanwhile.
        alone_s: and alone, just before.
        overlapped: share of the small ones that were through when the big one was.
        refused: why others did not get through, with how many of them.
    """

    latencies_s: Sequence[float]
    lasted_s: float
    beside_s: float
    alone_s: float
    overlapped: float
    refused: dict[str, int]


class Crowd:
    """The small broadcasts of one round."""

    def __init__(self, cluster: LocalCluster, many: int, bar: "tqdm[Any]") -> None:
        self._cluster = cluster
        self._many = many
        self._bar = bar
        self.latencies_s: list[float] = []
        self.ended_s: list[float] = []
        self.refused: dict[str, int] = {}

    async def run(self) -> None:
        """All of them at once."""
        data = np.random.default_rng(1).integers(0, 256, SMALL_BYTES, dtype=np.uint8)
        async with trio.open_nursery() as nursery:
            for number in range(self._many):
                nursery.start_soon(self._one, data, number)

    async def _one(self, data: npt.NDArray[np.uint8], number: int) -> None:
        began_s = time.monotonic()
        try:
            transfer = await self._cluster.node.broadcast(data, f"small/{number}", to=self._cluster.names)
            await transfer.wait()
            self.ended_s.append(time.monotonic())
            self.latencies_s.append(self.ended_s[-1] - began_s)
            await self._cluster.node.release(transfer.name)
        except OrchestraError as refused:
            told = type(refused).__name__
            if told not in self.refused:
                self._bar.write(f"small/{number}: {told}: {refused}", file=sys.stderr)
            self.refused[told] = self.refused.get(told, 0) + 1
        self._bar.update()


async def big_alone(cluster: LocalCluster, data: npt.NDArray[np.uint8]) -> float:
    """Seconds of the big one."""
    transfer = await cluster.node.broadcast(data, "big", to=cluster.names)
    outcome = await transfer.wait()
    await cluster.node.release("big")
    return outcome.completion_s


async def one_round(cluster: LocalCluster, data: npt.NDArray[np.uint8], many: int, bar: "tqdm[Any]") -> Round:
    """The big one alone, then with the crowd."""
    alone_s = await big_alone(cluster, data)
    crowd = Crowd(cluster, many, bar)
    transfer = await cluster.node.broadcast(data, "big", to=cluster.names)
    while not transfer.progress().done_bytes:
        await trio.sleep(POLL_S)
    began_s = time.monotonic()
    through = 0
    beside_s = math.nan

    async def watch_big() -> None:
        nonlocal through, beside_s
        beside_s = (await transfer.wait()).completion_s
        through = len(crowd.ended_s)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_big)
        nursery.start_soon(crowd.run)
    await cluster.node.release("big")
    lasted_s = max(crowd.ended_s, default=math.nan) - began_s
    return Round(crowd.latencies_s, lasted_s, beside_s, alone_s, through / many, crowd.refused)


async def measure(receivers: int, many: int, big_bytes: int, repeats: int) -> list[Round]:
    """Rounds, after a big broadcast that does not count."""
    data = np.random.default_rng(0).integers(0, 256, big_bytes, dtype=np.uint8)
    rounds = []
    async with local_cluster(receivers, share=False) as cluster:
        await big_alone(cluster, data)
        with tqdm(total=repeats * many, unit="broadcast", file=sys.stderr) as bar:
            for _ in range(repeats):
                with trio.fail_after(TIMEOUT_S):
                    rounds.append(await one_round(cluster, data, many, bar))
    return rounds


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least ``share`` of all do not exceed; NaN of none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan


def summary(rounds: Sequence[Round], many: int) -> dict[str, Any]:
    """The figures: medians over rounds, latencies over all of them together."""
    latencies_s = [latency_s for each in rounds for latency_s in each.latencies_s]
    refused: dict[str, int] = {}
    for each in rounds:
        for why, count in each.refused.items():
            refused[why] = refused.get(why, 0) + count
    return {
        "rate_per_s": Series(tuple(len(each.latencies_s) / each.lasted_s for each in rounds)).as_json(),
        "latency_median_s": percentile(latencies_s, 0.5),
        "latency_p99_s": percentile(latencies_s, 0.99),
        "latency_max_s": max(latencies_s, default=math.nan),
        "big_alone_s": Series(tuple(each.alone_s for each in rounds)).as_json(),
        "big_beside_s": Series(tuple(each.beside_s for each in rounds)).as_json(),
        "overlapped": Series(tuple(each.overlapped for each in rounds)).as_json(),
        "through": len(latencies_s) / (many * len(rounds)),
        "refused": refused,
    }


def told(figures: dict[str, Any], receivers: int, many: int, big_bytes: int, repeats: int) -> str:
    """The figures for people."""
    alone_s, beside_s = figures["big_alone_s"]["median"], figures["big_beside_s"]["median"]
    lines = [
        f"{many} broadcasts of {format_bytes(SMALL_BYTES)} at once to {receivers} processes on loopback, "
        f"beside one of {format_bytes(big_bytes)}; medians of {repeats}, {os.cpu_count()} cores",
        f"small: {figures['rate_per_s']['median']:.0f} a second; latency median "
        f"{figures['latency_median_s']:.3f} s, p99 {figures['latency_p99_s']:.3f} s, longest "
        f"{figures['latency_max_s']:.3f} s",
        f"big: {alone_s:.3f} s alone, {beside_s:.3f} s beside them ({beside_s / alone_s - 1:+.0%}); "
        f"{figures['overlapped']['median']:.0%} of the small ones were through before it",
    ]
    lines += [f"not through: {count} by {why}" for why, count in figures["refused"].items()]
    return "\n".join(lines)


def run(receivers: int, many: int, big_bytes: int, repeats: int, path: Path | None) -> int:
    """Measure and print; the exit status: 1 if any small broadcast did not get through."""
    rounds = trio.run(measure, receivers, many, big_bytes, repeats)
    figures = summary(rounds, many)
    print(told(figures, receivers, many, big_bytes, repeats))
    write_json(path, figures)
    return int(bool(figures["refused"]))
