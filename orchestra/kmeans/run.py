"""`kmeans`: the head of a distributed Batch K-Means, which is the only side its caller sees.

Owns the shared version and the record of the iterations. Each iteration has three barriers: every worker
holds the shared prototypes (broadcast); every partial reducer holds the local ones of its group (shuffle);
the head, the final reducer, holds the merged ones (second shuffle). One more round without an update gives
inertia, counts and labels of the final prototypes.

The algorithm is the distributed cloud Batch K-Means of Durut and Rossi (2011), with transfers in
place of a storage service, the head in place of the final reducer's queue, and centred points.
"""

import logging
import secrets
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import numpy.typing as npt
import trio

from orchestra.controller.serving import serve_controller
from orchestra.kmeans.checks import (
    checked_count,
    checked_points,
    checked_seconds,
    checked_whole,
    starting_prototypes,
)
from orchestra.kmeans.cluster import RunningCluster
from orchestra.kmeans.exchange import SharedVersion, pack_shared, unpack_local
from orchestra.kmeans.maths import FloatArray, LocalPrototypes, NumberArray, merge, updated
from orchestra.kmeans.plan import Plan
from orchestra.kmeans.processes import worker_processes
from orchestra.kmeans.result import EmptyClusterWarning, IterationRecord, KMeansResult
from orchestra.kmeans.settings import WorkerSettings
from orchestra.messages import Claim
from orchestra.node.arguments import parse_claim, parse_mechanism
from orchestra.node.joining import join
from orchestra.node.node import Node
from orchestra.node.shuffle import Shuffle
from transfers.errors import OrchestraError, RemoteProtocolError

DEFAULT_TIMEOUT_S = 300.0
"""Limit on each wait: it holds the computing of one iteration by the slowest worker (a guess: the largest
iteration of the cloud experiments, 500,000 points with K = d = 1000 on one worker, took 2,239 s, so say more
for such a thing)."""
RELEASE_LIMIT_S = 2.0
"""For taking back what a run that has failed had broadcast (a guess: an answer takes a hundredth of that)."""
_NOT_CALLERS = ("orchestra", "trio", "outcome")
"""Packages whose frames lie between a run and who started it."""

log = logging.getLogger(__name__)

Progress = Callable[[IterationRecord], None]


async def kmeans(
    points: npt.ArrayLike,
    k: int,
    iterations: int,
    workers: int,
    *,
    initial: npt.ArrayLike | str | None = None,
    seed: int = 0,
    stop_when_settled: bool = True,
    labels: bool = True,
    progress: Progress | None = None,
    share: bool = True,
    mechanism: str = "auto",
    timeout: float = DEFAULT_TIMEOUT_S,
    priority: int = 0,
    weight: float = 1.0,
    cluster: RunningCluster | None = None,
) -> KMeansResult:
    """Cluster points by Batch K-Means with worker processes, on this machine or in a cluster.

    The result is that of sequential K-Means from the same start, up to rounding, whatever ``workers`` is.

    Args:
        points: (N, d) real numbers; integers are computed with as float64.
        k: number of clusters, 1 to N.
        iterations: how many at most; 0 only assigns the points to the start.
        workers: number of processes, 1 to N.
        initial: the start: None draws points with ``seed``, ``"first"`` takes the first k, an array (k, d)
            is taken as it is.
        seed: of the drawing.
        stop_when_settled: end after an iteration that changed no assignment, since no later one would change
            anything; the result says so.
        labels: whether to bring the points' labels back.
        progress: called after each iteration with its record; what it raises ends the run.
        share: whether workers map this process's memory, as nodes of one host do, or are sent every byte.
        mechanism: of the broadcasts, as in `orchestra.Node.broadcast`.
        timeout: seconds; no wait for a worker is longer. It must leave room for computing an iteration.
        priority, weight: of all its transfers, as `orchestra.Node.broadcast` has them.
        cluster: one that is there already, in which other transfers may be under way, and where workers are
            to run; None starts a controller and all workers here.

    Raises:
        ValueError: for a bad argument, by name and value.
        NodeLost: naming a worker that died.
        TransferFailed: when a transfer failed though every worker lives, naming those that lack something.
        OrchestraError: its other kinds, when joining or moving fails.

    Warns:
        EmptyClusterWarning: once a run, when a cluster ran empty; it keeps its prototype.
    """
    array = checked_points(points)
    count = checked_count(k, len(array))
    limit = checked_whole("iterations", iterations, 0)
    parts = checked_whole("workers", workers, 1)
    if parts > len(array):
        raise ValueError(
            f"workers must not be above the number of points, got {parts} for {len(array)} points"
        )
    checked_seconds("timeout", timeout)
    parse_mechanism(mechanism)
    claim = parse_claim(priority, weight)
    first = starting_prototypes(array, count, initial, seed)

    plan = Plan(parts, "" if cluster is None else _new_run_name())
    async with AsyncExitStack() as stack:
        if cluster is None:
            token = secrets.token_hex(32)
            controller = await stack.enter_async_context(serve_controller(token=token))
            cluster = RunningCluster(controller.address, token)
        to = cluster
        node = await stack.enter_async_context(
            join(
                to.controller,
                name=plan.head,
                token=to.token,
                insecure=to.insecure,
                share=share,
                receives=False,
            )
        )
        settings = [
            WorkerSettings(
                address=to.controller,
                token=to.token,
                insecure=to.insecure,
                run=plan.run,
                index=index,
                workers=parts,
                clusters=count,
                wants_labels=labels,
                share=share,
                timeout_s=timeout,
                priority=claim.priority,
                weight=claim.weight,
            )
            for index in range(parts)
        ]
        head = _Head(node, plan, array, timeout, mechanism, claim)
        async with worker_processes(plan.names, settings, to) as processes:
            result = await processes.guard(
                lambda: head.run(first, limit, stop_when_settled, labels, progress)
            )
            await processes.wait_ended()
    _warn_of_empty(result)
    return result


@dataclass(slots=True)
class _Head:
    """The head's side of one run.

    Args:
        node: the head's node.
        plan: who does what.
        points: all of them, as the caller gave them.
        timeout_s: limit on each wait.
        mechanism: of the broadcasts.
        claim: of all transfers.
    """

    node: Node
    plan: Plan
    points: NumberArray
    timeout_s: float
    mechanism: str
    claim: Claim
    history: list[IterationRecord] = field(default_factory=list)

    async def run(
        self,
        first: FloatArray,
        iterations: int,
        stop_when_settled: bool,
        wants_labels: bool,
        progress: Progress | None,
    ) -> KMeansResult:
        """All iterations and the last look; prototypes are centred while they travel."""
        started_s = perf_counter()
        mean: FloatArray = np.mean(self.points, axis=0, dtype=np.float64)
        await self._distribute(mean)
        distribute_s = perf_counter() - started_s
        prototypes = first - mean
        converged = False
        while len(self.history) < iterations and not (converged and stop_when_settled):
            prototypes, record = await self._iterate(prototypes)
            converged = record.changed == 0
            if progress is not None:
                progress(record)
        final = await self._round(len(self.history), SharedVersion(prototypes, last=True))
        labels = await self._collect_labels() if wants_labels else None
        return KMeansResult(
            prototypes=np.where(_unmoved(self.history, len(first)), first, prototypes + mean),
            start=first,
            inertia=final.inertia,
            counts=final.counts.astype(np.int64),
            labels=labels,
            history=tuple(self.history),
            converged=converged,
            distribute_s=distribute_s,
            notes=_notes(self.history, iterations, converged),
        )

    async def _distribute(self, mean: FloatArray) -> None:
        """The mean to everyone, which waits until all have joined, then to each its rows."""
        async with (
            self._broadcast(self.plan.mean, mean),
            self._shuffle(self.plan.points, [self.plan.head], self.plan.names) as shuffle,
        ):
            for index, name in enumerate(self.plan.names):
                await shuffle.put({name: self.points[self.plan.rows_of(index, len(self.points))]})

    async def _iterate(self, prototypes: FloatArray) -> tuple[FloatArray, IterationRecord]:
        started_s = perf_counter()
        number = len(self.history)
        merged = await self._round(number, SharedVersion(prototypes, last=False))
        moved, empty = updated(prototypes, merged)
        took_s = perf_counter() - started_s
        record = IterationRecord(
            iteration=number + 1,
            inertia=merged.inertia,
            changed=merged.changed,
            compute_s=merged.compute_s,
            move_s=max(0.0, took_s - merged.compute_s),
            empty=empty,
        )
        if empty:
            log.warning("iteration %d: clusters %s ran empty and keep their prototypes", number + 1, empty)
        self.history.append(record)
        return moved, record

    async def _round(self, version: int, shared: SharedVersion) -> LocalPrototypes:
        """Publish one shared version, and merge what comes back."""
        arrived = {}
        async with (
            self._broadcast(self.plan.prototypes(version), pack_shared(shared)),
            self._shuffle(self.plan.merged(version), self.plan.reducers, [self.plan.head]) as shuffle,
        ):
            async for reducer, view in shuffle.partitions():
                arrived[reducer] = unpack_local(view.array(), *shared.prototypes.shape)
        missing = [name for name in self.plan.reducers if name not in arrived]
        if missing:
            raise RemoteProtocolError(f"{', '.join(missing)} sent no merged prototypes")
        return merge([arrived[name] for name in self.plan.reducers])

    @asynccontextmanager
    async def _broadcast(self, name: str, array: FloatArray) -> AsyncIterator[None]:
        """Everyone has it while the block runs; released at its end, however that comes."""
        transfer = await self.node.broadcast(
            array,
            name,
            to=self.plan.names,
            mechanism=self.mechanism,
            priority=self.claim.priority,
            weight=self.claim.weight,
            timeout=self.timeout_s,
        )
        try:
            await transfer.wait()
            yield
        except BaseException:
            with trio.move_on_after(RELEASE_LIMIT_S, shield=True):
                try:
                    await self.node.release(name)
                except OrchestraError as failed:
                    log.debug("%s is not released: %s", name, failed)
            raise
        await self.node.release(name)

    def _shuffle(
        self, name: str, mappers: Sequence[str], reducers: Sequence[str]
    ) -> AbstractAsyncContextManager[Shuffle]:
        return self.node.shuffle(
            name,
            mappers=mappers,
            reducers=reducers,
            priority=self.claim.priority,
            weight=self.claim.weight,
            timeout=self.timeout_s,
        )

    async def _collect_labels(self) -> npt.NDArray[np.int32]:
        labels = np.empty(len(self.points), np.int32)
        rows = {name: self.plan.rows_of(index, len(labels)) for index, name in enumerate(self.plan.names)}
        async with self._shuffle(self.plan.labels, self.plan.names, [self.plan.head]) as shuffle:
            async for mapper, view in shuffle.partitions():
                part = view.array()
                if part.dtype != labels.dtype or part.shape != labels[rows[mapper]].shape:
                    raise RemoteProtocolError(
                        f"labels of {mapper} should be {labels[rows[mapper]].shape} of int32, "
                        f"got {part.shape} of {part.dtype}"
                    )
                labels[rows[mapper]] = part
                del rows[mapper]
        if rows:
            raise RemoteProtocolError(f"{', '.join(rows)} sent no labels")
        return labels


def _new_run_name() -> str:
    """What names of one run begin with, so that several runs share a cluster."""
    return f"kmeans-{secrets.token_hex(4)}-"


def _unmoved(history: list[IterationRecord], count: int) -> npt.NDArray[np.bool_]:
    """Which prototypes (count, 1) are those of the start: taking off the mean and adding it rounds them."""
    still = set(range(count)).intersection(*(record.empty for record in history))
    return np.array([[index in still] for index in range(count)])


def _notes(history: list[IterationRecord], iterations: int, converged: bool) -> tuple[str, ...]:
    notes = []
    if converged:
        settled = next(record.iteration for record in history if record.changed == 0)
        text = f"no assignment changed in iteration {settled}"
        notes.append(f"{text}: stopped before {iterations}" if len(history) < iterations else text)
    empty: dict[int, list[int]] = {}
    for record in history:
        for cluster in record.empty:
            empty.setdefault(cluster, []).append(record.iteration)
    notes += [
        f"cluster {cluster} ran empty in {len(times)} iterations, first in {times[0]}, and kept its prototype"
        for cluster, times in sorted(empty.items())
    ]
    return tuple(notes)


def _warn_of_empty(result: KMeansResult) -> None:
    """One warning a run, at its end, so that turning it into an error leaves no worker behind."""
    clusters = sorted({cluster for record in result.history for cluster in record.empty})
    if clusters:
        shown = ", ".join(map(str, clusters[:10])) + (", …" if len(clusters) > 10 else "")
        warnings.warn(
            f"{len(clusters)} clusters ran empty and kept their prototypes: {shown}",
            EmptyClusterWarning,
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """The ``stacklevel``, for who calls this, of the innermost code that is neither ours nor trio's.

    That is who awaits `kmeans`, or who hands it to ``trio.run``; between those lie frames of trio's own.
    """
    level = 1
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_CALLERS:
        level += 1
        frame = frame.f_back
    return level
