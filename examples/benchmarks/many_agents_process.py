"""Many agents in one process, for `examples.benchmarks.many_agents`: they join, and do as they are told.

    python -m examples.benchmarks.many_agents_process CONTROLLER FIRST COUNT STORE_BYTES

Agents are named ``a<number>`` and do not share: every block of every agent crosses the wire. A line of JSON
comes out once all have joined, and one for every line that comes in:

    {"joined": 125}
    "digests NAME"      {"digests": {"a0": "…", …}}    of the bytes as they lie in each agent's store
    "usage"             {"cpu_s": 12.3, "rss_bytes": …}

The end of standard input ends them all.
"""

import hashlib
import json
import os
import sys
import time
from contextlib import AsyncExitStack

import trio

import orchestra
from examples.benchmarks.process_usage import raise_descriptor_limit, resident_bytes
from orchestra.node.node import Node

JOINING_AT_A_TIME = 16
"""Agents of one process that are joining (a guess: a process answers each handshake in milliseconds)."""
RECEIVE_TIMEOUT_S = 60.0
"""For an object that is there already."""
NICENESS = 15
"""By how much agents are less urgent than the controller, as if it had a host of its own (a guess)."""
CONNECT_TIMEOUT_S = 60.0
"""For one agent to join while a thousand do (a guess)."""


async def _join_all(
    nodes: dict[str, Node], controller: str, first: int, count: int, store_bytes: int, over: trio.Event
) -> None:
    """Have all agents join, and stay until ``over``."""
    turn = trio.CapacityLimiter(JOINING_AT_A_TIME)
    left = count
    joined = trio.Event()

    async def one(name: str) -> None:
        nonlocal left
        async with AsyncExitStack() as stack:
            async with turn:
                nodes[name] = await stack.enter_async_context(
                    orchestra.join(
                        controller,
                        name=name,
                        insecure=True,
                        share=False,
                        store_limit=store_bytes,
                        connect_timeout=CONNECT_TIMEOUT_S,
                    )
                )
            left -= 1
            if not left:
                joined.set()
            await over.wait()

    async with trio.open_nursery() as nursery:
        for number in range(first, first + count):
            nursery.start_soon(one, f"a{number}")
        await joined.wait()
        _say({"joined": count})
        await over.wait()


async def _digests(nodes: dict[str, Node], transfer: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, node in nodes.items():
        view = await node.receive(transfer, timeout=RECEIVE_TIMEOUT_S)
        found[name] = hashlib.blake2b(view.buffer, digest_size=16).hexdigest()
    return found


def _say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


async def main(controller: str, first: int, count: int, store_bytes: int) -> None:
    """Join with all, then obey until standard input ends."""
    nodes: dict[str, Node] = {}
    over = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_join_all, nodes, controller, first, count, store_bytes, over)
        buffer = b""
        async for more in trio.lowlevel.FdStream(sys.stdin.fileno()):
            buffer += more
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                match line.decode().split(" ", 1):
                    case ["digests", transfer]:
                        _say({"digests": await _digests(nodes, transfer)})
                    case ["usage"]:
                        _say({"cpu_s": time.process_time(), "rss_bytes": resident_bytes("self")})
                    case unknown:
                        raise ValueError(f"no such command: {unknown}")
        over.set()
        nursery.cancel_scope.cancel()  # some may not have joined yet


if __name__ == "__main__":
    raise_descriptor_limit()
    os.nice(NICENESS)
    trio.run(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
