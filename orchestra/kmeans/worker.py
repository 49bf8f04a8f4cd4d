"""The program of one K-Means worker: ``python -m orchestra.kmeans.worker``, started by `processes`.

Owns its rows of the points and their labels. It reads its settings, the secret among them, as one line from
standard input, and lives as long as that stays open: when the head is gone, however it went, so is the
worker. It joins as a node, receives its points, and then does for each shared version what it is told:
assign and average its points, send the local prototypes to its partial reducer, and, if it is one itself,
merge those of its group and send them to the head. After the last version it sends its labels.

Exit status: 0 done, `EXIT_TRANSFER` where a transfer failed, which may well be another's fault, else 1.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from itertools import count
from time import perf_counter

import numpy as np
import trio

from orchestra.groups import collapsed
from orchestra.kmeans.exchange import pack_local, unpack_local, unpack_shared
from orchestra.kmeans.maths import (
    FloatArray,
    LabelArray,
    LocalPrototypes,
    centred,
    local_prototypes,
    merge,
)
from orchestra.kmeans.plan import Plan
from orchestra.kmeans.settings import EXIT_TRANSFER, MAX_SETTINGS_BYTES, WorkerSettings
from orchestra.node.joining import join
from orchestra.node.node import Node
from orchestra.node.shuffle import Shuffle
from transfers.errors import OrchestraError, RemoteProtocolError


class Worker:
    """One worker's part in the iterations.

    Args:
        node: this process's node.
        settings: what to do.
    """

    def __init__(self, node: Node, settings: WorkerSettings) -> None:
        self._node = node
        self._settings = settings
        self._plan = Plan(settings.workers, settings.run)
        self._name = self._plan.names[settings.index]
        self._points: FloatArray = np.empty((0, 0))
        self._labels: LabelArray | None = None

    async def run(self) -> None:
        """Everything, from the points to the labels.

        Raises:
            OrchestraError: when a transfer fails.
        """
        self._points = await self._receive_points()
        for version in count():
            last = await self._iterate(version)
            if last:
                break
        if self._settings.wants_labels:
            async with self._shuffle(self._plan.labels, self._plan.names, [self._plan.head]) as shuffle:
                await shuffle.put({self._plan.head: self._labels})

    def _shuffle(
        self, name: str, mappers: Sequence[str], reducers: Sequence[str]
    ) -> AbstractAsyncContextManager[Shuffle]:
        its = self._settings
        return self._node.shuffle(
            name,
            mappers=mappers,
            reducers=reducers,
            priority=its.priority,
            weight=its.weight,
            timeout=its.timeout_s,
        )

    async def _receive_points(self) -> FloatArray:
        view = await self._node.receive(self._plan.mean, self._settings.timeout_s)
        mean = view.array().astype(np.float64)
        received: FloatArray | None = None
        async with self._shuffle(self._plan.points, [self._plan.head], self._plan.names) as shuffle:
            async for _, view in shuffle.partitions():
                points = view.array()
                if points.ndim != 2 or mean.shape != points.shape[1:]:
                    raise RemoteProtocolError(
                        f"points of shape {points.shape} do not fit a mean of shape {mean.shape}"
                    )
                received = await trio.to_thread.run_sync(centred, points, mean)
        if received is None:
            raise RemoteProtocolError("the head sent no points")
        return received

    async def _iterate(self, version: int) -> bool:
        """Do what one shared version asks for; whether it was the last."""
        size = (self._settings.clusters, self._points.shape[1])
        view = await self._node.receive(self._plan.prototypes(version), self._settings.timeout_s)
        shared = unpack_shared(view.array(), *size)
        local = await trio.to_thread.run_sync(self._compute, shared.prototypes)
        merged = await self._reduce(version, local)
        if merged is not None:
            async with self._shuffle(
                self._plan.merged(version), self._plan.reducers, [self._plan.head]
            ) as shuffle:
                await shuffle.put({self._plan.head: pack_local(merged)})
        return shared.last

    def _compute(self, prototypes: FloatArray) -> LocalPrototypes:
        """In a thread, so that heartbeats go on."""
        started_s = perf_counter()
        self._labels, local = local_prototypes(self._points, prototypes, self._labels)
        return LocalPrototypes(
            local.averages, local.counts, local.inertia, local.changed, perf_counter() - started_s
        )

    async def _reduce(self, version: int, local: LocalPrototypes) -> LocalPrototypes | None:
        """Give local prototypes to the partial reducer; those of the group, merged, if that is here."""
        mine = self._plan.reducer_of(self._settings.index)
        async with self._shuffle(self._plan.local(version), self._plan.names, self._plan.reducers) as shuffle:
            await shuffle.put({mine: pack_local(local)})
            # The other reducers wait to hear that there is nothing for them. It is said here, since a reducer
            # leaves the block only when it has everything itself.
            shuffle.finish()
            if mine != self._name:
                return None
            arrived = {}
            async for mapper, view in shuffle.partitions():
                arrived[mapper] = unpack_local(view.array(), *local.averages.shape)
            return merge([arrived[name] for name in self._plan.names if name in arrived])


async def _work(stdin: trio.lowlevel.FdStream, settings: WorkerSettings) -> None:
    with collapsed():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_with_head, stdin)
            async with join(
                settings.address,
                name=Plan(settings.workers, settings.run).names[settings.index],
                token=settings.token,
                insecure=settings.insecure,
                share=settings.share,
                reconnect=False,
            ) as node:
                await Worker(node, settings).run()
            nursery.cancel_scope.cancel()


async def _end_with_head(stdin: trio.lowlevel.FdStream) -> None:
    while await stdin.receive_some():
        pass
    # Nobody is left to answer to, and a computation in a thread must not keep the process.
    os._exit(EXIT_TRANSFER)


async def _read_settings(stdin: trio.lowlevel.FdStream) -> WorkerSettings | None:
    """The settings, None where the head was gone before it had said them."""
    line = b""
    while not line.endswith(b"\n"):
        received = await stdin.receive_some(MAX_SETTINGS_BYTES)
        line += bytes(received)
        if not received or len(line) > MAX_SETTINGS_BYTES:
            return None
    return WorkerSettings.from_line(line)


async def _main() -> int:
    stdin = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    async with stdin:
        settings = await _read_settings(stdin)
        if settings is None:
            return EXIT_TRANSFER
        try:
            await _work(stdin, settings)
        except OrchestraError as failed:
            sys.stderr.write(f"{type(failed).__name__}: {failed}\n")
            return EXIT_TRANSFER
    return 0


if __name__ == "__main__":
    sys.exit(trio.run(_main))
