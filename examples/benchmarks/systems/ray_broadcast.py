"""Ray: `ray.put` on the head, and its reference handed to an actor on every other node.

Owns how a Ray cluster is laid over emulated hosts. Must not know what else it is compared with.

How it is set, and why that is to its advantage (https://docs.ray.io/en/latest/ray-core/objects.html,
https://docs.ray.io/en/latest/ray-core/patterns/pass-large-arg-by-value.html):

- put once and passed by reference, as its documentation tells; it has no call for broadcasting an object;
- actors, placed on their nodes and called once before the time begins, so that no worker has to start in
  it;
- numpy arrays, which are read in the store without a copy; every node has an object store of its own in
  memory that holds several objects, so that nothing is spilled;
- no dashboard, no log monitor, no statistics of use;
- `object_manager_pull_timeout_ms` (`RAY_…` in the environment: one of Ray's internal settings) is high: by
  the default, 10 s, whoever is served slowly asks a second time, is sent the object twice, and everybody
  takes longer (measured: twice as long at 16 receivers of 32 MB and 50 Mbit/s);
- so are the times after which Ray gives up workers, agents and nodes that are slow to start on few cores.

A node fetches the whole object from one holder, drawn from those that hold all of it. "Ray" calls all
actors at once, as its users do: they all draw the head. "Ray, waves" calls as many at a time as there are
holders, which is what a user can do about it.

To be started by hand: several processes a host take minutes to come up.
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

STARTING_S = 600.0
"""For all nodes to come up: a guess, several times what 17 hosts took on two cores."""
CHECKING_S = 60.0
"""Beside the broadcast itself: for making the array and the digests of all copies, a guess."""
MIN_STORE_BYTES = 100_000_000
"""Ray refuses less than 75 MB."""
COPIES = 4
"""How many objects a store holds: a guess; Ray lets go of the last one only after a while."""
_SETTINGS = {
    "RAY_DEDUP_LOGS": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    "RAY_health_check_timeout_ms": "120000",
    "RAY_object_manager_pull_timeout_ms": "600000",
}


@dataclass(frozen=True, slots=True)
class Ray:
    """A broadcast by Ray's object store.

    Attributes:
        waves: whether as many actors at a time are called as there are holders, or all at once.
    """

    name: str
    how: str
    waves: bool
    heavy: bool = True

    def missing(self) -> str | None:
        """Why it cannot run here; None if it can."""
        return missing_module("ray", "numpy")

    def broadcast(
        self, cluster: "EmulatedCluster", size_bytes: int, repeats: int, timeout_s: float
    ) -> list[float]:
        """See `System.broadcast`."""
        seeds = random.Random(size_bytes)
        completions_s: list[float] = []
        with ExitStack() as stack:
            driver = self._start(cluster, max(MIN_STORE_BYTES, COPIES * size_bytes), stack)
            for _ in range(1 + repeats):
                cluster.drain_all()
                driver.tell(seed=seeds.randrange(1 << 32), size=size_bytes, within=timeout_s)
                answer = driver.hear(time.monotonic() + timeout_s + CHECKING_S)
                if not answer["same"]:
                    raise PeerFailed("Ray delivered other bytes")
                completions_s.append(float(answer["seconds"]))
        return completions_s[1:]

    def _start(self, cluster: "EmulatedCluster", store_bytes: int, stack: ExitStack) -> Child:
        """Bring up head, nodes and actors; the driver, on the head."""
        head, *others = cluster.hosts
        env = {**_SETTINGS, "PYTHONPATH": str(ROOT)}
        module = "examples.benchmarks.systems.children.ray_"
        command = [sys.executable, "-m", f"{module}driver", head.address, str(len(others)), str(store_bytes)]
        command.append("waves" if self.waves else "at-once")
        driver = stack.enter_context(Child(head, command, env))
        deadline_s = time.monotonic() + STARTING_S
        driver.hear(deadline_s)
        for host in others:
            command = [sys.executable, "-m", f"{module}node", host.address, head.address, str(store_bytes)]
            stack.enter_context(Child(host, command, env))
            driver.hear(deadline_s)  # one at a time: all at once, they run into each other's time limits
        driver.hear(deadline_s)
        return driver


SYSTEMS = (
    Ray(
        "Ray",
        "ray.put, its reference to one warm actor a node, all called at once; nothing spilled",
        waves=False,
    ),
    Ray("Ray, waves", "as Ray, but as many actors called at a time as there are holders", waves=True),
)
