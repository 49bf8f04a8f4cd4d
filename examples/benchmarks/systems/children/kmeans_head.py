"""The head of one run of K-Means in a cluster that is there, a process of its own.

    python -m examples.benchmarks.systems.children.kmeans_head CONTROLLER

It is told one line of JSON, a `KMeansRun` with ``launch``, by which workers are started on their hosts, and
answers with one: {"times_s": […]}, by CLOCK_MONOTONIC when the first iteration began and when each ended.
"""

import json
import sys
import time
from collections.abc import Sequence

import numpy as np
import trio

from examples.benchmarks.systems.children.orchestra_node import say
from orchestra.kmeans import IterationRecord, RunningCluster, kmeans


async def main(
    controller: str,
    *,
    points: int,
    dimensions: int,
    clusters: int,
    iterations: int,
    priority: int,
    launch: Sequence[Sequence[str]],
) -> None:
    """Run it; the times of its iterations."""
    times_s: list[float] = []

    def note(record: IterationRecord) -> None:
        now_s = time.monotonic()
        if not times_s:
            times_s.append(now_s - record.compute_s - record.move_s)
        times_s.append(now_s)

    await kmeans(
        np.random.default_rng(0).normal(size=(points, dimensions)),
        clusters,
        iterations,
        len(launch),
        initial="first",
        stop_when_settled=False,
        labels=False,
        share=False,
        progress=note,
        priority=priority,
        cluster=RunningCluster(controller, insecure=True, launch=launch),
    )
    say({"times_s": times_s})


if __name__ == "__main__":
    told = json.loads(sys.stdin.readline())

    async def run() -> None:
        """With what was told."""
        await main(sys.argv[1], **told)

    trio.run(run)
