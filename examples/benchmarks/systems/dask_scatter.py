"""Dask: an array scattered to all workers, as its users do it, and by what its documentation allows beyond.

Owns how a Dask cluster is laid over emulated hosts. Must not know what else it is compared with.

How it is set, and why that is to its advantage
(https://docs.dask.org/en/stable/configuration-reference.html,
https://distributed.dask.org/en/stable/api.html, /active_memory_manager.html, /worker-memory.html):

- the active memory manager is off: it drops copies which nobody has asked for, every 2 s, so that a
  broadcast whose single copies take longer never ends. Spilling, pausing and ending of workers by their
  memory are off as well;
- one worker of one thread a host, on a fixed port, without the nanny, the profiler and the dashboard; no
  compression; no hash of the object (`hash=False`); an array of numpy, which Dask sends without copying it;
- `worker.connections.incoming` is 1, so that a holder serves one at a time and turns others away, to idle
  holders; by the default, 10, those that drew the same holder share its link, and the whole round waits
  for them;
- scheduler and client run on the source's host.

"scatter" is `Client.scatter(array, broadcast=True)`: the scheduler gives it to one worker, then has two
more fetch it for each that holds it, from a holder at random, and waits for all of them before the next
round. The source's host runs no worker, so that no bytes go back to it.

"replicate" is as well as we got it: the source's host runs a worker that has the array already (that is not
timed), and `Client.replicate(branching_factor=1)` copies it from there: the number of holders doubles in
each round.

A broadcast ends when the call returns, which is when the scheduler has heard from all workers.
"""

import random
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.benchmarks.systems.base import missing_module
from examples.benchmarks.systems.contained import Child, PeerFailed
from examples.benchmarks.systems.orchestra_nodes import ROOT

if TYPE_CHECKING:
    from examples.benchmarks.emulation import EmulatedCluster

STARTING_S = 120.0
"""For scheduler, workers and client to come up: a guess, many times what it takes on few cores."""
CHECKING_S = 60.0
"""Beside the broadcast itself: for making the array and the digests of all copies, a guess."""
SCHEDULER_PORT, WORKER_PORT = 8786, 8790
"""Not 8787, on which the scheduler serves HTTP."""

_SETTINGS = {
    "SCHEDULER__ACTIVE_MEMORY_MANAGER__START": "False",
    "SCHEDULER__WORK_STEALING": "False",
    "WORKER__MEMORY__TARGET": "False",
    "WORKER__MEMORY__SPILL": "False",
    "WORKER__MEMORY__PAUSE": "False",
    "WORKER__MEMORY__TERMINATE": "False",
    "WORKER__MEMORY__TRANSFER": "False",
    "WORKER__PROFILE__ENABLED": "False",
    "WORKER__CONNECTIONS__INCOMING": "1",
    "COMM__COMPRESSION": "False",
    "COMM__TIMEOUTS__CONNECT": "120s",
    "COMM__TIMEOUTS__TCP": "120s",
}


@dataclass(frozen=True, slots=True)
class Dask:
    """A broadcast by Dask.

    Attributes:
        branching: 0 for `Client.scatter(broadcast=True)`, else the branching factor of `Client.replicate`.
    """

    name: str
    how: str
    branching: int

    def missing(self) -> str | None:
        """Why it cannot run here; None if it can."""
        return missing_module("distributed", "numpy")

    def broadcast(
        self, cluster: "EmulatedCluster", size_bytes: int, repeats: int, timeout_s: float
    ) -> list[float]:
        """See `System.broadcast`."""
        seeds = random.Random(size_bytes)
        completions_s: list[float] = []
        with ExitStack() as stack:
            client = self._start(cluster, stack)
            client.hear(time.monotonic() + STARTING_S)
            for _ in range(1 + repeats):
                cluster.drain_all()
                client.tell(seed=seeds.randrange(1 << 32), size=size_bytes, within=timeout_s)
                answer = client.hear(time.monotonic() + timeout_s + CHECKING_S)
                if not answer["same"]:
                    raise PeerFailed("Dask delivered other bytes, or not to every worker")
                if answer["seconds"] > timeout_s:
                    raise PeerFailed(f"a broadcast took {answer['seconds']} s")
                completions_s.append(float(answer["seconds"]))
        return completions_s[1:]

    def _start(self, cluster: "EmulatedCluster", stack: ExitStack) -> Child:
        """Bring up scheduler, workers and client; the client."""
        env = {f"DASK_DISTRIBUTED__{key}": value for key, value in _SETTINGS.items()}
        env["PYTHONPATH"] = str(ROOT)
        source = cluster.hosts[0]
        scheduler = f"tcp://{source.address}:{SCHEDULER_PORT}"
        dask = [sys.executable, "-m", "dask"]
        command = [
            *dask,
            "scheduler",
            "--host",
            source.address,
            "--port",
            str(SCHEDULER_PORT),
            "--no-dashboard",
        ]
        stack.enter_context(Child(source, command, env))
        workers = cluster.hosts if self.branching else cluster.hosts[1:]
        for host in workers:
            command = [*dask, "worker", scheduler, "--host", host.address, "--worker-port", str(WORKER_PORT)]
            command += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
            command += ["--local-directory", "/dev/shm", "--death-timeout", str(STARTING_S)]
            stack.enter_context(Child(host, command, env))
        command = [sys.executable, "-m", "examples.benchmarks.systems.children.dask_driver", scheduler]
        command += [str(len(workers)), f"tcp://{source.address}:{WORKER_PORT}", str(self.branching)]
        return stack.enter_context(Child(source, command, env))


SYSTEMS = (
    Dask(
        "Dask, scatter",
        "Client.scatter(array, broadcast=True), no memory manager, one served at a time",
        branching=0,
    ),
    Dask(
        "Dask, replicate",
        "Client.replicate, branching_factor=1, from the source's worker; as scatter otherwise",
        branching=1,
    ),
)
