"""The client of the Dask benchmark: scatters random arrays and times it.

    dask_driver SCHEDULER WORKERS LOCAL BRANCHING

It waits for WORKERS workers at SCHEDULER. With BRANCHING 0 a broadcast is `Client.scatter(array,
broadcast=True)`. Otherwise the worker at address LOCAL gets the array first, untimed, and the broadcast is
`Client.replicate` with that branching factor. The talk, one JSON object a line each way, after {"ready":
true}:

    {"seed": N, "size": S, "within": T}  ->  {"seconds": s, "same": bool}
"""

import hashlib
import json
import sys
import time
from typing import Any

import numpy as np
from distributed import Client, Worker

STARTING_S = 120.0
"""For all workers to join: a guess, many times what they take."""


def digest(key: str, dask_worker: Worker) -> str:
    """Of an object as it lies in a worker's memory; Dask passes the worker by the argument's name."""
    return hashlib.blake2b(dask_worker.data[key]).hexdigest()


def broadcast(client: Client, array: Any, local: str, branching: int, within_s: float) -> tuple[float, bool]:
    """Seconds of one broadcast, and whether every worker holds it."""
    if branching:
        future = client.scatter(array, workers=[local], direct=True, hash=False)
        began_s = time.monotonic()
        client.replicate([future], branching_factor=branching)
    else:
        began_s = time.monotonic()
        future = client.scatter(array, broadcast=True, hash=False, timeout=within_s)
    took_s = time.monotonic() - began_s
    expected = hashlib.blake2b(array).hexdigest()
    same = all(each == expected for each in client.run(digest, future.key).values())
    return took_s, same


def main(scheduler: str, workers: int, local: str, branching: int) -> None:
    """Do as told until the input ends."""
    with Client(scheduler, timeout=STARTING_S) as client:
        client.wait_for_workers(workers, timeout=STARTING_S)
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            told = json.loads(line)
            array = np.random.default_rng(told["seed"]).integers(0, 256, told["size"], dtype=np.uint8)
            took_s, same = broadcast(client, array, local, branching, told["within"])
            print(json.dumps({"seconds": took_s, "same": same}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
