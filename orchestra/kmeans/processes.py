"""The worker processes of a K-Means: started, watched, and ended whatever happens.

Owns the processes and the question which of them is to blame. Must not know what they compute.

Theory of operation. Settings go in by standard input, which stays open as the worker's lifeline, so that no
secret stands on a command line and no worker outlives its head. Workers form a process group of their own:
Ctrl-C reaches the head alone, which ends them. When a worker dies, transfers fail at the others too and these
end with a status that says so; whoever ended otherwise is named.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import trio

from orchestra.groups import collapsed
from orchestra.kmeans.cluster import RunningCluster
from orchestra.kmeans.settings import EXIT_TRANSFER, WorkerSettings
from transfers.errors import NodeLost, OrchestraError

BLAME_GRACE_S = 1.0
"""From the first failure to the verdict: whoever died first may be reaped a moment later (a guess)."""
STOP_TIMEOUT_S = 5.0
"""From the request to end until a process is killed (a guess)."""
MAX_SHOWN_BYTES = 2000
"""Of a dead worker's last words (a guess: a line or two is what one reads)."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_COMMAND = [sys.executable, "-P", "-m", "orchestra.kmeans.worker"]
_LIBRARY = Path(__file__).resolve().parents[2]
_INSTALLED = ("site-packages", "dist-packages")
"""Folders that every interpreter finds by itself; they must not come before its standard library."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """One running worker.

    Attributes:
        name: of its node.
        process: the process; its standard input is its lifeline.
        said: what it writes to standard error.
    """

    name: str
    process: trio.Process
    said: IO[bytes]

    def ending(self) -> str:
        """How it ended, with its last line if it left one."""
        status = self.process.returncode
        if status is not None and status < 0:
            text = f"process {self.process.pid} was ended by {_signal_name(-status)}"
        else:
            text = f"process {self.process.pid} ended with status {status}"
        self.said.seek(0, os.SEEK_END)
        self.said.seek(max(0, self.said.tell() - MAX_SHOWN_BYTES))
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return f"{text}: {lines[-1]}" if lines else text


class WorkerProcesses:
    """All workers of one run; made by `worker_processes`."""

    def __init__(self, workers: Sequence[WorkerProcess]) -> None:
        self._workers = workers
        self._bystanders: list[WorkerProcess] = []
        self._culprit: WorkerProcess | None = None
        self._found = trio.Event()

    async def guard(self, main: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Run ``main`` while the workers live; when one dies, end it.

        Raises:
            NodeLost: naming the worker that ended too soon.
            OrchestraError: as ``main`` raises it, when all workers live.
        """
        results: list[ResultT] = []
        failure: OrchestraError | None = None
        with collapsed():
            async with trio.open_nursery() as nursery:
                for worker in self._workers:
                    nursery.start_soon(self._watch, worker, nursery.cancel_scope)
                try:
                    results.append(await main())
                except OrchestraError as failed:
                    failure = failed
                    with trio.move_on_after(BLAME_GRACE_S):
                        await self._found.wait()
                nursery.cancel_scope.cancel()
        if results:
            return results[0]
        if self._culprit is not None:
            raise NodeLost(self._culprit.name, self._culprit.ending()) from failure
        if failure is not None:
            raise failure
        raise NodeLost(self._bystanders[0].name, self._bystanders[0].ending())

    async def wait_ended(self) -> None:
        """Wait until all have ended by themselves, for at most `STOP_TIMEOUT_S`."""
        with trio.move_on_after(STOP_TIMEOUT_S):
            for worker in self._workers:
                await worker.process.wait()

    async def _watch(self, worker: WorkerProcess, scope: trio.CancelScope) -> None:
        status = await worker.process.wait()
        if status == 0:
            return
        if status == EXIT_TRANSFER:
            self._bystanders.append(worker)
            await trio.sleep(BLAME_GRACE_S)
        elif self._culprit is None:
            self._culprit = worker
            self._found.set()
        scope.cancel()


@asynccontextmanager
async def worker_processes(
    names: Sequence[str], settings: Sequence[WorkerSettings], cluster: RunningCluster
) -> AsyncIterator[WorkerProcesses]:
    """Run one worker for each name while the block runs; none is left when it ends.

    Args:
        names: of their nodes.
        settings: of each.
        cluster: on whose machines they run.

    Raises:
        OSError: when a process cannot be started.
    """
    workers: list[WorkerProcess] = []
    environment = _environment(len(names))
    with ExitStack() as files:
        try:
            for name, its in zip(names, settings, strict=True):
                said = files.enter_context(tempfile.TemporaryFile())
                command = cluster.command(its.index, _COMMAND)
                workers.append(WorkerProcess(name, await _start(command, environment, said), said))
                await _tell(workers[-1].process, its.to_line())
            yield WorkerProcesses(workers)
        finally:
            with trio.CancelScope(shield=True):
                await _stop([worker.process for worker in workers])


async def _start(command: Sequence[str], environment: dict[str, str], said: IO[bytes]) -> trio.Process:
    return await trio.lowlevel.open_process(
        command,
        stdin=subprocess.PIPE,
        stdout=said,
        stderr=said,
        env=environment,
        process_group=0,
    )


async def _tell(process: trio.Process, line: bytes) -> None:
    assert process.stdin is not None
    try:
        await process.stdin.send_all(line)
    except trio.BrokenResourceError:
        return  # it is dead already: whoever watches it will say so


async def _stop(processes: Sequence[trio.Process]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    with trio.move_on_after(STOP_TIMEOUT_S):
        for process in processes:
            await process.wait()
    for process in processes:
        if process.poll() is None:
            process.kill()
        await process.wait()
        if process.stdin is not None:
            await process.stdin.aclose()


def _environment(workers: int) -> dict[str, str]:
    """This process's, with the cores divided among the workers' linear algebra and this very library."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, cores // workers))
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, threads)}
    if _LIBRARY.name not in _INSTALLED:
        paths = [str(_LIBRARY), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
