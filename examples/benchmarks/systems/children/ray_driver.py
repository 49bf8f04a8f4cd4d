"""The driver of the Ray benchmark, and the head of its cluster, which must share a host's memory with it.

    ray_driver ADDRESS NODES STORE_BYTES WAVES

It starts Ray's head on ADDRESS, waits for NODES more nodes and puts an actor on each. The talk, one JSON
object a line each way: {"head": true} once nodes can join, {"joined": K} for each that has, {"ready": true}
once all have, and then

    {"seed": N, "size": S, "within": T}  ->  {"seconds": s, "same": bool}

The time runs from before `ray.put`, with the array in memory, to the latest moment at which an actor's
method that has its reference for an argument begins, which is when it has the array. All actors are called
at once, or, where WAVES is "waves", as many at a time as there are holders.
"""

import hashlib
import json
import logging
import subprocess
import sys
import time
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from examples.benchmarks.systems.children.ray_node import start_command

POLL_S = 0.2
"""Between looks at who has joined; a guess."""
STARTING_S = 600.0
"""For all actors to come up: a guess, as long as the benchmark waits."""


class Taker:
    """Sits on a node and takes arrays."""

    def take(self, array: Any) -> float:
        """The moment at which the array is here."""
        return time.monotonic()

    def digest(self, array: Any) -> str:
        """Of the array as it lies in this node's store."""
        return hashlib.blake2b(array).hexdigest()


def say(**message: object) -> None:
    """Answer the benchmark."""
    print(json.dumps(message), flush=True)


def broadcast(takers: list[Any], array: Any, within_s: float, waves: bool) -> tuple[float, bool]:
    """Seconds of one broadcast, and whether every node has the same bytes."""
    began_s = time.monotonic()
    reference = ray.put(array)
    taken_at_s: list[float] = []
    while len(taken_at_s) < len(takers):
        # As many as hold it by now, the head among them; else all at once.
        wave = takers[len(taken_at_s) :][: 1 + len(taken_at_s) if waves else None]
        taken_at_s += ray.get([taker.take.remote(reference) for taker in wave], timeout=within_s)
    ended_s = max(taken_at_s)
    digests = ray.get([taker.digest.remote(reference) for taker in takers], timeout=within_s)
    return ended_s - began_s, set(digests) == {hashlib.blake2b(array).hexdigest()}


def main(address: str, nodes: int, store_bytes: int, waves: bool) -> None:
    """Do as told until the input ends."""
    subprocess.run(start_command(address, None, store_bytes), check=True, stdout=sys.stderr)
    say(head=True)
    ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
    own = ray.get_runtime_context().get_node_id()
    others: list[str] = []
    for joined in range(1, nodes + 1):
        while len(others) < joined:
            time.sleep(POLL_S)
            others = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != own]
        say(joined=joined)
    actor = ray.remote(num_cpus=0)(Taker)
    takers = [
        actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
        for node in others
    ]
    broadcast(takers, np.zeros(1, dtype=np.uint8), STARTING_S, waves)
    say(ready=True)
    for line in sys.stdin:
        told = json.loads(line)
        array = np.random.default_rng(told["seed"]).integers(0, 256, told["size"], dtype=np.uint8)
        took_s, same = broadcast(takers, array, told["within"], waves)
        say(seconds=took_s, same=same)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "waves")
