"""One Orchestra node of a loopback benchmark, a process of its own; told and answering in lines of JSON.

    python -m examples.benchmarks.loopback.children.node CONTROLLER NAME SIZE_BYTES source|receiver

    {"do": "send", "name": N, "receivers": R, "mechanism": M}   source: when accepted, then the outcome
    {"do": "receive", "name": N}    receiver: {"waiting": N}, then, when it holds N, when that was
    {"do": "change"}                source: other bytes from now on; their digest
    {"do": "digest", "name": N}     receiver: of what came; lets go of its view
    {"do": "release", "name": N}    source
    {"do": "warm"}                  both: free bytes of the store with memory behind them

The digest is by another function than the library's checksum. The end of standard input ends the node.
"""

import json
import resource
import sys
import time
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import trio

import orchestra
from orchestra.node.node import Node

STORES_PER_OBJECT = 8
"""Limit of the store over the object's size; a quarter of it is kept warm, so that two objects fit."""
TIMEOUT_S = 100.0
"""For a broadcast (a guess: below what the benchmark itself waits)."""


class Worker:
    """What a node of the benchmark does."""

    def __init__(self, node: Node, data: npt.NDArray[np.uint8]) -> None:
        self._node = node
        self._object = data
        self._views: dict[str, orchestra.ObjectView] = {}

    async def do(self, told: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command; the answer to it."""
        name = str(told.get("name", ""))
        match told["do"]:
            case "send":
                return await self._send(name, told)
            case "receive":
                say({"waiting": name})
                self._views[name] = await self._node.receive(name, TIMEOUT_S)
                return {"ended_s": time.monotonic(), "used_s": used_s()}
            case "change":
                return {"digest": await trio.to_thread.run_sync(self._change)}
            case "digest":
                return {"digest": await trio.to_thread.run_sync(zlib.crc32, self._views.pop(name).buffer)}
            case "release":
                await self._node.release(name)
                return {}
            case "warm":
                return {"bytes": self._node.objects.store.statistics().recycled_bytes}
            case unknown:
                raise ValueError(f"no such command: {unknown!r}")

    def _change(self) -> int:
        self._object += 1
        return zlib.crc32(self._object.data)

    async def _send(self, name: str, told: dict[str, Any]) -> dict[str, Any]:
        began_s = time.monotonic()
        transfer = await self._node.broadcast(
            self._object, name, mechanism=told["mechanism"], wait_for=told["receivers"], timeout=TIMEOUT_S
        )
        say({"accepted_s": time.monotonic(), "used_s": used_s()})
        outcome = await transfer.wait()
        return {
            "began_s": began_s,
            "used_s": used_s(),
            "completion_s": outcome.completion_s,
            "receivers": len(outcome.node_completion_s),
            "reason": transfer.reason,
        }


def used_s() -> float:
    """CPU time of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def say(message: dict[str, Any]) -> None:
    """A line on standard output."""
    print(json.dumps(message), flush=True)


async def main(controller: str, name: str, size_bytes: int, role: str) -> None:
    """Join, and serve until standard input ends."""
    drawn = np.random.default_rng(size_bytes)
    data = drawn.integers(0, 256, size_bytes if role == "source" else 0, dtype=np.uint8)
    limit_bytes = STORES_PER_OBJECT * size_bytes
    async with orchestra.join(
        controller, name=name, share=False, receives=role == "receiver", store_limit=limit_bytes
    ) as node:
        worker = Worker(node, data)
        say({"joined": name})
        buffer = b""
        async for more in trio.lowlevel.FdStream(sys.stdin.fileno()):
            buffer += more
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                say(await worker.do(json.loads(line)))


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
