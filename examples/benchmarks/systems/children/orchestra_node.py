"""One Orchestra node of a benchmark, a process of its own: joins, and does what it is told, by lines of JSON.

    python -m examples.benchmarks.systems.children.orchestra_node CONTROLLER NAME source|receiver [share]

With ``share`` it shares memory with other such nodes of its host. What it is told, and answers:

    {"do": "receive", "name": N}                    {"waiting": N}, and when it holds N: {"at_s": …}
    {"do": "make", "size_bytes": S, "seed": K}      {"digest": …}               the source, in its memory
    {"do": "send", "name": N, "to": [NAME, …], …}   {"began_s": …, "completion_s": …, "failed": {…}, …}
    {"do": "digest", "name": N}                     {"digest": …}               of what was received
    {"do": "release", "name": N}                    {}
    {"do": "status"}                                {"status": {…}}             as the controller tells it

Moments are of CLOCK_MONOTONIC. The digest is taken afterwards, over the bytes as they lie in the receiver's
memory; it is not the library's own checksum. The end of standard input ends the node.
"""

import hashlib
import json
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import trio

import orchestra
from orchestra.node.node import Node

MAX_LINE_BYTES = 1 << 16
"""Of a command; a guess far above what any needs."""


class Worker:
    """What a node of the benchmark can do."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._object: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._views: dict[str, orchestra.ObjectView] = {}

    async def do(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command; the answer to it."""
        name = str(command.get("name", ""))
        match command["do"]:
            case "receive":
                say({"waiting": name})
                view = await self._node.receive(name, command["timeout_s"])
                at_s = time.monotonic()
                self._views[name] = view
                return {"at_s": at_s}
            case "make":
                drawn = np.random.default_rng(command["seed"])
                self._object = drawn.integers(0, 256, command["size_bytes"], dtype=np.uint8)
                return {"digest": digest(self._object.data)}
            case "send":
                return await self._send(name, command)
            case "digest":
                return {"digest": digest(self._views.pop(name).buffer)}
            case "release":
                await self._node.release(name)
                return {}
            case "status":
                return {"status": json.loads(await self._node.status())}
            case unknown:
                raise ValueError(f"no such command: {unknown!r}")

    async def _send(self, name: str, command: dict[str, Any]) -> dict[str, Any]:
        began_s = time.monotonic()
        transfer = await self._node.broadcast(
            self._object,
            name,
            mechanism=command["mechanism"],
            block_size=command["block_size_bytes"],
            to=command["to"],
            wait_for=0 if command["to"] else command["receivers"],
            timeout=command["timeout_s"],
        )
        outcome = await transfer.wait_outcome()  # whether failures were meant is not ours to say
        return {
            "began_s": began_s,
            "completion_s": outcome.completion_s,
            "node_completion_s": dict(outcome.node_completion_s),
            "failed": dict(outcome.failed),
            "wrong": outcome.reason,
            "mechanism": transfer.mechanism.value,
            "block_size_bytes": transfer.block_size_bytes,
            "reason": transfer.reason,
        }


def digest(data: memoryview) -> str:
    """Of the bytes, by another function than the library's checksum."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def say(message: dict[str, Any]) -> None:
    """A line on standard output."""
    print(json.dumps(message), flush=True)


async def main(controller: str, name: str, role: str, share: bool) -> None:
    """Join, and serve until standard input ends."""
    async with orchestra.join(
        controller, name=name, insecure=True, share=share, receives=role == "receiver"
    ) as node:
        worker = Worker(node)
        say({"joined": name})
        commands = trio.lowlevel.FdStream(sys.stdin.fileno())
        buffer = b""
        async for more in commands:
            buffer += more
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                say(await worker.do(json.loads(line)))
            if len(buffer) > MAX_LINE_BYTES:
                raise ValueError(f"a command of more than {MAX_LINE_BYTES} bytes")


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], "share" in sys.argv[4:])
