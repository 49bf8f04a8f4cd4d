"""Transfers that are asked for at given times, and what became of them.

Owns the plain data of it, and the one way of running it: on nodes that have joined, whatever carries their
bytes. Must not know where the nodes are: on emulated hosts (`examples.benchmarks.systems.orchestra_jobs`), or
in a simulation (`examples.benchmarks.simulated_jobs`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import trio

from orchestra.node.node import Node

TOLD_SHARE = 0.98
"""Of a link's rate, what the controller is told that ports carry: headers take the rest, 1 % of jumbo frames,
and where sums stay a little below what a port carries its queue stays empty."""


@dataclass(frozen=True, slots=True)
class Job:
    """One transfer.

    Attributes:
        name: of the transfer.
        at_s: when it is asked for, from the beginning, or from the end of ``after``.
        after: the name of another job of the same node; None for none.
        matrix: bytes to shuffle, by mapper, then by reducer; empty for a broadcast.
        size_bytes, to: of a broadcast.
        scheduling, priority, weight, replaceable: as `orchestra.Node.run_shuffle` has them.
    """

    name: str
    at_s: float = 0.0
    after: str | None = None
    matrix: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    size_bytes: int = 0
    to: Sequence[str] = ()
    scheduling: str = "weighted"
    priority: int = 0
    weight: float = 1.0
    replaceable: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For a message."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Setting:
    """How the controller is set, and how shuffles are asked for.

    Attributes:
        label: in tables and pictures.
        policy: between transfers.
        scheduling: inside each.
        told: whether the controller is told what ports carry.
        enforcement: how flows are kept to their rates.
        color: in pictures.
    """

    label: str
    policy: str
    scheduling: str
    told: bool = True
    enforcement: str = "auto"
    color: str = "black"

    def options(self, rate_bytes_per_s: float) -> list[str]:
        """Of ``orchestra controller``, where links have this rate."""
        given = ["--policy", self.policy, "--enforcement", self.enforcement]
        if self.told:
            given += ["--port-rate", f"{TOLD_SHARE * rate_bytes_per_s * 8 / 1e6:g}Mbit"]
        return given


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a job; times in seconds from the beginning.

    Attributes:
        asked_s: when it was asked for.
        ended_s: when its outcome was known to who had asked.
        completion_s: the library's own figure, from its acceptance to the last byte.
        flow_completion_s: of a shuffle, the same for each flow.
        node_completion_s: the same for each receiver.
        failed, reason: who failed, and why it did as a whole.
        replaced: who took whose place.
    """

    name: str
    asked_s: float
    ended_s: float
    completion_s: float
    flow_completion_s: Mapping[str, Mapping[str, float]]
    node_completion_s: Mapping[str, float]
    failed: Mapping[str, str]
    reason: str
    replaced: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For a message."""
        return asdict(self)

    @property
    def accepted_s(self) -> float:
        """About when it was accepted: at its end less what it took."""
        return self.ended_s - self.completion_s


class Sample(NamedTuple):
    """How far transfers were at one time.

    Attributes:
        at_s: from the beginning.
        progress: of each transfer that was not complete, 0 to 1, by name.
    """

    at_s: float
    progress: dict[str, float]


async def sample(node: Node, begin_s: float, every_s: float, samples: list[Sample]) -> None:
    """Ask how far transfers are, for ever.

    Args:
        node: who asks.
        begin_s: when times begin, by `trio.current_time`.
        every_s: between two questions.
        samples: to which answers are added.
    """
    while True:
        known = json.loads(await node.status())["transfers"]
        progress = {name: its["progress"] for name, its in known.items() if its["progress"] < 1.0}
        samples.append(Sample(trio.current_time() - begin_s, progress))
        await trio.sleep(every_s)


async def run_sampled(
    node: Node, jobs: Sequence[Job], begin_s: float, every_s: float
) -> tuple[list[Done], list[Sample]]:
    """As `run_jobs`, with how far transfers were every so many seconds."""
    samples: list[Sample] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sample, node, begin_s, every_s, samples)
        done = await run_jobs(node, jobs, begin_s)
        nursery.cancel_scope.cancel()
    return done, samples


async def run_jobs(node: Node, jobs: Sequence[Job], begin_s: float) -> list[Done]:
    """Ask for every job at its time, wait for all of them.

    Args:
        node: who asks, and is the source of broadcasts.
        jobs: what for.
        begin_s: when times begin, by `trio.current_time`.
    """
    ended = {job.name: trio.Event() for job in jobs}
    done: dict[str, Done] = {}

    async def run(job: Job) -> None:
        if job.after is not None:
            await ended[job.after].wait()
            await trio.sleep(job.at_s)
        else:
            await trio.sleep_until(begin_s + job.at_s)
        done[job.name] = await _run(node, job, begin_s)
        ended[job.name].set()

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(run, job)
    return [done[job.name] for job in jobs]


async def _run(node: Node, job: Job, begin_s: float) -> Done:
    data = np.random.default_rng(0).integers(0, 256, job.size_bytes, dtype=np.uint8)
    asked_s = trio.current_time() - begin_s
    if job.matrix:
        transfer = await node.run_shuffle(
            job.matrix,
            job.name,
            scheduling=job.scheduling,
            priority=job.priority,
            weight=job.weight,
            replaceable=job.replaceable,
        )
    else:
        transfer = await node.broadcast(data, job.name, to=job.to, priority=job.priority, weight=job.weight)
    outcome = await transfer.wait_outcome()
    ended_s = trio.current_time() - begin_s
    if not job.matrix:
        await node.release(job.name)
    return Done(
        *(job.name, asked_s, ended_s, outcome.completion_s),
        {mapper: dict(row) for mapper, row in outcome.flow_completion_s.items()},
        dict(outcome.node_completion_s),
        dict(outcome.failed),
        outcome.reason,
        dict(outcome.replaced),
    )
