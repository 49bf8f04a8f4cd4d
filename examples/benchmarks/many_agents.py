"""The controller at scale: a thousand agents on loopback, and what a block event costs its controller.

One controller process as a user runs it, agents many to a process, one source. The agents are spread over
`--processes` (8), which are niced by 15, as if the controller had a host of its own. Nothing is
shared, so each block is sent, stored, verified and reported on every agent by itself. Measured is the
controller: its CPU (user and kernel, from /proc), what it had to handle for it (its own account, `orchestra
status --json`) and its memory.

    python -m examples.benchmarks.many_agents --agents 1000 --blocks 64
    python -m examples.benchmarks.many_agents --agents 100 --mechanism tree --json result.json

No event is lost if the controller's account has every block of every agent, and an event for each of them;
that the bytes are right is checked by digests over what lies in the agents' stores. The rest of the machine
is as busy as the agents make it, so completion times say little here, and CPU times much. Each of `--repeats`
runs has processes of its own; the figures of all are reported, and medians with least and most.
"""

import argparse
import hashlib
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trio

import orchestra
from examples.benchmarks.figures import Series, refuse_wrong, write_json
from examples.benchmarks.process_usage import cpu_s, raise_descriptor_limit, resident_bytes
from orchestra.node.node import Node
from orchestra.units import parse_size
from transfers.planners import Mechanism

MECHANISMS = ("auto", *(each.value for each in Mechanism))
IDLE_S = 2.0
"""How long the controller is watched with all agents joined and nothing to do."""
STEP_TIMEOUT_S = 300.0
"""For a process to answer, and for the transfer to stand still: far above what anything takes."""
STORE_SLACK_BYTES = 1 << 20
"""Of an agent's store, beside the object."""
NAME = "many"


@dataclass(frozen=True, slots=True)
class Result:
    """One run.

    Attributes:
        joining_s, joining_cpu_s: until all had joined, and the controller's CPU for it.
        idle_cpu_share: of a core, the controller's, while all had joined and nothing was sent.
        completion_s: of the broadcast.
        transfer_s, transfer_cpu_s: from proposing to the outcome, and the controller's CPU in that time.
        block_events, reports, heartbeats, messages_in, messages_out: handled by the controller in that time.
        cpu_us_a_block_event: ``transfer_cpu_s`` over ``block_events``: everything counts, heartbeats too.
        cpu_share: of a core, the controller's during the transfer.
        agents_cpu_s: of all agents' processes during the transfer.
        memory_start_bytes, memory_joined_bytes, memory_done_bytes: of the controller, resident.
        memory_a_receiver_bytes: what a joined agent takes there.
        memory_a_receiver_block_bytes: what the transfer took besides, a receiver and block.
        verified: agents whose copy has the source's digest.
        blocks_held: blocks that agents hold by the controller's account; ``agents`` times ``blocks``.
    """

    agents: int
    blocks: int
    block_size_bytes: int
    mechanism: str
    joining_s: float
    joining_cpu_s: float
    idle_cpu_share: float
    completion_s: float
    transfer_s: float
    transfer_cpu_s: float
    block_events: int
    reports: int
    heartbeats: int
    messages_in: int
    messages_out: int
    cpu_us_a_block_event: float
    cpu_share: float
    agents_cpu_s: float
    memory_start_bytes: int
    memory_joined_bytes: int
    memory_done_bytes: int
    memory_a_receiver_bytes: float
    memory_a_receiver_block_bytes: float
    verified: int
    blocks_held: int

    @property
    def complete(self) -> bool:
        """Whether every agent holds the bytes, and no event was lost."""
        due = self.agents * self.blocks
        return self.verified == self.agents and self.blocks_held == due and self.block_events >= due


class AgentProcess:
    """One process with many agents; speaks lines of JSON."""

    def __init__(self, controller: str, first: int, count: int, store_bytes: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "examples.benchmarks.many_agents_process", controller]
            + [str(each) for each in (first, count, store_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> dict[str, Any]:
        """The next line it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of agents has ended; see above")
        return dict(json.loads(line))

    def tell(self, command: str) -> None:
        """Have it do something; `hear` has the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Kill it: there is nothing in it to save."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def controller() -> Iterator[tuple[str, int]]:
    """A controller process: its address and its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestra", "controller", "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a line for every agent that joins
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line.startswith("listening on "):
            raise RuntimeError("the controller did not start")
        yield line.removeprefix("listening on "), process.pid
    finally:
        process.kill()
        process.communicate()


def run(
    agents: int,
    blocks: int,
    size_bytes: int,
    mechanism: str,
    processes: int,
    timeout_s: float = STEP_TIMEOUT_S,
) -> Result:
    """Broadcast once.

    Args:
        agents: receivers.
        blocks: of the object; the last may be shorter.
        size_bytes: of the object.
        mechanism: one of `MECHANISMS`.
        processes: over which the agents are spread.
        timeout_s: longest standstill of the transfer.

    Raises:
        ValueError: for numbers below 1.
        RuntimeError: when a process ends before its time.
        TransferFailed: when some agent does not get the object.
    """
    for name, value in (("agents", agents), ("blocks", blocks), ("processes", processes)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if size_bytes < blocks:
        raise ValueError(f"size_bytes must be at least {blocks}, a byte a block, got {size_bytes}")
    raise_descriptor_limit()
    with controller() as (address, pid), ExitStack() as stack:
        start_bytes, start_cpu_s, began_s = resident_bytes(pid), cpu_s(pid), time.monotonic()
        shares = [len(range(at, agents, processes)) for at in range(processes)]
        started: list[AgentProcess] = []
        for at, share in enumerate(shares):
            process = AgentProcess(address, sum(shares[:at]), share, size_bytes + STORE_SLACK_BYTES)
            stack.callback(process.end)
            started.append(process)
        for process in started:
            process.hear()
            _note(f"{sum(shares[: started.index(process) + 1])} agents have joined")
        joining = time.monotonic() - began_s, cpu_s(pid) - start_cpu_s
        setup = _Setup(address, pid, started, start_bytes, joining)
        return trio.run(_broadcast, setup, agents, blocks, size_bytes, mechanism, timeout_s)


@dataclass(frozen=True, slots=True)
class _Setup:
    """What runs: the controller's address and process, the agents' processes; and what it took to join."""

    address: str
    pid: int
    processes: list[AgentProcess]
    start_bytes: int
    joining: tuple[float, float]

    async def ask_all(self, command: str) -> list[dict[str, Any]]:
        """What all processes of agents answer; the source goes on speaking with the controller meanwhile."""
        for process in self.processes:
            process.tell(command)
        return [await trio.to_thread.run_sync(process.hear) for process in self.processes]

    async def agents_cpu_s(self) -> float:
        """Of all processes of agents so far."""
        return sum(float(answer["cpu_s"]) for answer in await self.ask_all("usage"))


async def _broadcast(
    setup: _Setup, agents: int, blocks: int, size_bytes: int, mechanism: str, timeout_s: float
) -> Result:
    pid = setup.pid
    async with orchestra.join(
        setup.address, name="source", insecure=True, share=False, receives=False,
        store_limit=size_bytes + STORE_SLACK_BYTES,
    ) as node:  # fmt: skip
        data = np.random.default_rng(1).integers(0, 256, size_bytes, dtype=np.uint8)
        idle_from_s = cpu_s(pid)
        await trio.sleep(IDLE_S)
        idle_share = (cpu_s(pid) - idle_from_s) / IDLE_S
        joined_bytes, agents_from_s = resident_bytes(pid), await setup.agents_cpu_s()
        before = await _account(node)
        cpu_from_s, began_s = cpu_s(pid), time.monotonic()
        transfer = await node.broadcast(
            data, NAME, mechanism=mechanism, block_size=math.ceil(size_bytes / blocks), timeout=timeout_s
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell_progress, transfer)
            outcome = await transfer.wait()
            nursery.cancel_scope.cancel()
        transfer_s, transfer_cpu_s = time.monotonic() - began_s, cpu_s(pid) - cpu_from_s
        agents_cpu_s = await setup.agents_cpu_s() - agents_from_s
        after = await _account(node)
        done_bytes = resident_bytes(pid)
        did = {name: after[name] - before[name] for name in after if name != "blocks_held"}
        return Result(
            agents=agents,
            blocks=math.ceil(size_bytes / transfer.block_size_bytes),
            block_size_bytes=transfer.block_size_bytes,
            mechanism=transfer.mechanism.value,
            joining_s=setup.joining[0],
            joining_cpu_s=setup.joining[1],
            idle_cpu_share=idle_share,
            completion_s=outcome.completion_s,
            transfer_s=transfer_s,
            transfer_cpu_s=transfer_cpu_s,
            **{name: did[name] for name in _COUNTED},
            cpu_us_a_block_event=1e6 * transfer_cpu_s / max(1, did["block_events"]),
            cpu_share=transfer_cpu_s / transfer_s,
            agents_cpu_s=agents_cpu_s,
            memory_start_bytes=setup.start_bytes,
            memory_joined_bytes=joined_bytes,
            memory_done_bytes=done_bytes,
            memory_a_receiver_bytes=(joined_bytes - setup.start_bytes) / agents,
            memory_a_receiver_block_bytes=(done_bytes - joined_bytes) / (agents * blocks),
            verified=await _verified(setup, data),
            blocks_held=after["blocks_held"][NAME],
        )


_COUNTED = ("block_events", "reports", "heartbeats", "messages_in", "messages_out")


async def _account(node: Node) -> dict[str, Any]:
    """What the controller says that it has done."""
    return dict(json.loads(await node.status())["controller"])


async def _tell_progress(transfer: orchestra.Transfer) -> None:
    while True:
        await trio.sleep(1.0)
        progress = transfer.progress()
        _note(f"{progress.fraction:.0%}, {progress.receivers_done} of {progress.receivers} agents through")


async def _verified(setup: _Setup, data: "np.typing.NDArray[np.uint8]") -> int:
    """How many agents hold what was sent."""
    right = hashlib.blake2b(data.data, digest_size=16).hexdigest()
    answers = await setup.ask_all(f"digests {NAME}")
    return sum(found == right for answer in answers for found in answer["digests"].values())


def report(result: Result) -> str:
    """The run, for people."""
    each = result.block_events / max(1, result.reports)
    others = result.messages_in - result.reports
    joining_ms = 1e3 * result.joining_cpu_s / result.agents
    due = result.agents * result.blocks
    memory = (result.memory_start_bytes, result.memory_joined_bytes, result.memory_done_bytes)
    start_mb, joined_mb, done_mb = (f"{size / 1e6:.0f} MB" for size in memory)
    lines = {
        "broadcast": f"{result.agents} agents, {result.blocks} blocks of {result.block_size_bytes} bytes, "
        f"{result.mechanism}",
        "joining": f"{result.joining_s:.1f} s, controller's CPU {result.joining_cpu_s:.2f} s "
        f"({joining_ms:.2f} ms an agent)",
        "idle": f"{result.idle_cpu_share:.1%} of a core",
        "completion": f"{result.completion_s:.2f} s; agents' CPU {result.agents_cpu_s:.1f} s",
        "controller": f"CPU {result.transfer_cpu_s:.2f} s in {result.transfer_s:.2f} s: "
        f"{result.cpu_share:.1%} of a core",
        "block events": f"{result.block_events} in {result.reports} reports ({each:.1f} each): "
        f"{result.cpu_us_a_block_event:.0f} µs of CPU a block event",
        "other messages": f"{others} in, {result.heartbeats} of them heartbeats; {result.messages_out} out",
        "memory": f"{start_mb} at the start, {joined_mb} with all joined, {done_mb} at the end",
        "memory each": f"{result.memory_a_receiver_bytes / 1e3:.1f} kB a receiver, "
        f"{result.memory_a_receiver_block_bytes:.0f} bytes a receiver and block",
        "account": f"{due} blocks due: {result.blocks_held} held, {result.block_events} block events; "
        f"{result.verified} copies verified",
    }
    return "\n".join(f"{name:<16} {said}" for name, said in lines.items())


def medians(results: Sequence[Result]) -> str:
    """What a block event costs over all runs, for people."""
    cost = Series(tuple(result.cpu_us_a_block_event for result in results))
    share = Series(tuple(100 * result.cpu_share for result in results))
    return (
        f"medians of {len(results)} (least-most): {cost.median:.0f} µs ({cost.extent(0)}) of CPU a block "
        f"event, {share.median:.1f}% ({share.extent(1)}) of a core"
    )


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    made.add_argument("--agents", type=int, default=1000)
    made.add_argument("--blocks", type=int, default=64)
    made.add_argument("--size", help="of the object; by default 16 KiB a block")
    made.add_argument("--mechanism", choices=MECHANISMS, default="cornet")
    made.add_argument("--processes", type=int, default=8, help="over which the agents are spread")
    made.add_argument("--repeats", type=int, default=5, help="runs, each with processes of its own")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the results of all runs there, too")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report; 0 if in all runs every agent holds the bytes and every event was counted."""
    made = parser()
    asked = made.parse_args(arguments)
    refuse_wrong(made, asked, "repeats")
    # Like Ctrl-C, so that the processes are ended.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    size_bytes = asked.blocks * (16 << 10) if asked.size is None else parse_size(asked.size)
    results: list[Result] = []
    for _ in range(asked.repeats):
        results.append(run(asked.agents, asked.blocks, size_bytes, asked.mechanism, asked.processes))
        print(report(results[-1]), end="\n\n", flush=True)
    print(medians(results))
    write_json(asked.json, {"runs": [asdict(result) for result in results]})
    return 0 if all(result.complete for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
