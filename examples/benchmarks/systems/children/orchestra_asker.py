"""One Orchestra node of a benchmark that asks for transfers at given times, a process of its own.

    python -m examples.benchmarks.systems.children.orchestra_asker CONTROLLER NAME

What it is told, and answers, in lines of JSON:

    {"do": "run", "jobs": [{…}, …], "begin_s": …, "sample_s": …}    {"done": [{…}, …], "samples": [[…], …]}
    {"do": "status"}                                                {"status": {…}}

See `examples.benchmarks.jobs`. ``begin_s`` is a moment of CLOCK_MONOTONIC; without ``sample_s`` there are no
samples. The end of standard input ends the node.
"""

import json
import sys
import time
from typing import Any

import trio

import orchestra
from examples.benchmarks.jobs import Job, Sample, run_jobs, run_sampled
from examples.benchmarks.systems.children.orchestra_node import say
from orchestra.node.node import Node


async def do(node: Node, command: dict[str, Any]) -> dict[str, Any]:
    """Carry out a command; the answer to it."""
    match command["do"]:
        case "run":
            begin_s = trio.current_time() + command["begin_s"] - time.monotonic()
            jobs = [Job(**each) for each in command["jobs"]]
            samples: list[Sample] = []
            if command["sample_s"] is None:
                done = await run_jobs(node, jobs, begin_s)
            else:
                done, samples = await run_sampled(node, jobs, begin_s, command["sample_s"])
            return {"done": [each.as_dict() for each in done], "samples": samples}
        case "status":
            return {"status": json.loads(await node.status())}
        case unknown:
            raise ValueError(f"no such command: {unknown!r}")


async def main(controller: str, name: str) -> None:
    """Join, and serve until standard input ends."""
    async with orchestra.join(controller, name=name, insecure=True, share=False, receives=False) as node:
        say({"joined": name})
        buffer = b""
        async for more in trio.lowlevel.FdStream(sys.stdin.fileno()):
            buffer += more
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                say(await do(node, json.loads(line)))


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
