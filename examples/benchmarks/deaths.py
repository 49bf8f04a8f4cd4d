"""What a death costs: broadcasts through the command line, undisturbed and with someone killed midway.

Everything runs as a user would run it: a controller, agents that save to folders, and a broadcasting
command, each a process of its own. Somebody gets SIGKILL while the transfer runs; afterwards every file of
the living is compared with the original by SHA-256.

    python -m examples.benchmarks.deaths --kill nobody,receiver
    python -m examples.benchmarks.deaths --kill source-early,source-late,controller --mechanisms cornet
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

import orchestra
from orchestra.units import parse_size

MECHANISMS = ("chain", "tree", "hdfs", "cornet", "auto")
VICTIMS = ("nobody", "receiver", "source-early", "source-late", "controller")
POLL_S = 0.02
STEP_TIMEOUT_S = 120.0
"""For any one command; it must end by itself long before."""
MOMENTS = {"receiver": 0.5, "controller": 0.5, "source-early": 0.15, "source-late": 0.99}
"""Share of all bytes that has arrived when the victim dies. Early, the source still holds blocks that nobody
else has; late, it does not (in a chain of 8 the last receiver is some 14 blocks behind the first)."""


@dataclass
class Cluster:
    """Processes of one cluster."""

    folder: Path
    address: str = ""
    controller: "subprocess.Popen[str] | None" = None
    agents: dict[str, "subprocess.Popen[str]"] = field(default_factory=dict)

    def saved(self, name: str) -> Path:
        """Where an agent saves."""
        return self.folder / name


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Start a command."""
    return subprocess.Popen(
        [sys.executable, "-m", "orchestra", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: "subprocess.Popen[str]") -> str:
    """Wait for the line that says that a server is up."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        assert process.stderr is not None
        raise RuntimeError(f"a process ended before it was up: {process.stderr.read().strip()}")
    return line


@contextmanager
def cluster(agents: int, port_rate: str | None) -> Iterator[Cluster]:
    """A controller and agents, ended again with everything they saved."""
    with tempfile.TemporaryDirectory(prefix="orchestra-deaths-") as folder:
        made = Cluster(Path(folder))
        try:
            options = [] if port_rate is None else ["--port-rate", port_rate]
            made.controller = start("controller", "--listen", "127.0.0.1:0", *options)
            made.address = first_line(made.controller).removeprefix("listening on ")
            for number in range(1, agents + 1):
                name = f"n{number}"
                made.agents[name] = start(
                    *("agent", "--controller", made.address, "--name", name),
                    *("--save", str(made.saved(name)), "--no-share"),
                )
            for process in made.agents.values():
                first_line(process)
            yield made
        finally:
            started = list(made.agents.values())
            started += [] if made.controller is None else [made.controller]
            for process in started:
                process.kill()
                process.communicate()


async def wait_state(address: str, transfer: str, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask the controller about a transfer until the answer is as wished; the answer."""
    async with orchestra.join(address, receives=False, share=False) as node:
        with trio.fail_after(STEP_TIMEOUT_S):
            while True:
                told = json.loads(await node.status())["transfers"].get(transfer)
                if told is not None and ready(told):
                    return dict(told)
                await trio.sleep(POLL_S)


def kill(victim: str, made: Cluster, command: "subprocess.Popen[str]", transfer: str) -> str:
    """Kill somebody at the right moment; the name of the agent that died, if one did."""
    if victim == "nobody":
        return ""
    share = MOMENTS[victim]
    trio.run(wait_state, made.address, transfer, lambda told: told["progress"] >= share)
    if victim.startswith("source"):
        command.send_signal(signal.SIGKILL)
    elif victim == "controller":
        assert made.controller is not None
        made.controller.send_signal(signal.SIGKILL)
    else:
        name = list(made.agents)[len(made.agents) // 2]
        made.agents[name].send_signal(signal.SIGKILL)
        return name
    return ""


def digest(path: Path) -> str:
    """SHA-256 of a file, or why there is none."""
    if not path.exists():
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(victim: str, mechanism: str, made: Cluster, source: Path, original: str) -> None:
    """One broadcast and what became of it, printed."""
    transfer = f"{mechanism}-{victim}"
    began = time.monotonic()
    command = start(
        *("broadcast", "--controller", made.address, "--file", str(source), "--transfer", transfer),
        *("--mechanism", mechanism, "--json"),
    )
    dead = kill(victim, made, command, transfer)
    killed = time.monotonic()
    stdout, stderr = command.communicate(timeout=STEP_TIMEOUT_S)
    line = f"{mechanism:7} {victim:12} "
    if stdout.strip():
        told = json.loads(stdout)
        print(line + f"status {command.returncode}, {told['completion_s']:.2f} s, failed {told['failed']}")
    else:
        print(line + f"status {command.returncode} after {killed - began:.2f} s; {stderr.strip()}")
    if victim.startswith("source"):
        tell_fate(made, transfer, killed)
    if victim == "controller":
        for name, agent in made.agents.items():
            _, said = agent.communicate(timeout=STEP_TIMEOUT_S)
            print(f"  {name} ended with {agent.returncode} {time.monotonic() - killed:.1f} s later: "
                  f"{said.strip().splitlines()[-1]}")  # fmt: skip
        return
    equal = [name for name in made.agents if digest(made.saved(name) / transfer) == original]
    living = [name for name in made.agents if name != dead]
    print(f"  {len(equal)} of {len(living)} living hold the same {source.stat().st_size} bytes")


def tell_fate(made: Cluster, transfer: str, since: float) -> None:
    """What the controller says became of a transfer whose command has died."""
    told = trio.run(wait_state, made.address, transfer, lambda told: told["state"] != "active")
    reasons = sorted(set(told["failed"].values()))
    print(f"  {told['state']} {time.monotonic() - since:.2f} s after the death; {'; '.join(reasons)}")


def main() -> None:
    """Parse the arguments and run every combination."""
    parser = argparse.ArgumentParser(description="broadcasts with somebody killed midway")
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--size", type=parse_size, default=parse_size("200MB"))
    parser.add_argument("--port-rate", default=None, help="for example 400Mbit; none by default")
    parser.add_argument("--kill", default="nobody,receiver", help=f"any of {','.join(VICTIMS)}")
    parser.add_argument("--mechanisms", default=",".join(MECHANISMS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orchestra-source-") as folder:
        source = Path(folder) / "random.bin"
        source.write_bytes(os.urandom(options.size))
        original = digest(source)
        for mechanism in options.mechanisms.split(","):
            for victim in options.kill.split(","):
                with cluster(options.agents, options.port_rate) as made:
                    run(victim, mechanism, made, source, original)


if __name__ == "__main__":
    main()
