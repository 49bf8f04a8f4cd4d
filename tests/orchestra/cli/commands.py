"""Running ``orchestra`` as users do: as processes, waiting for what they print and never for time to pass."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 60.0
"""Limit on every wait here; only a failure takes that long."""


def start(*arguments: str, err: int | None = None) -> "subprocess.Popen[str]":
    """Start a command."""
    return subprocess.Popen(
        [sys.executable, "-m", "orchestra", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=err,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """Whoever runs the tests in the background may have Ctrl-C ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    process = start(*arguments, err=subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def first_line(process: "subprocess.Popen[str]") -> str:
    """The line that a server prints when it is there."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    assert ready, f"nothing printed within {PATIENCE_S:g} s"
    return process.stdout.readline().rstrip("\n")


def end(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> int:
    """Tell a process to end, and give its status; a negative one where it had to be killed."""
    process.send_signal(number)
    try:
        status = process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    return status


class Cluster:
    """A controller and agents, each a process.

    Attributes:
        address: the controller's.
        folder: each agent's saved files are in ``folder/NAME``.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.controller = start("controller", "--listen", "127.0.0.1:0", *options)
        self.agents: dict[str, subprocess.Popen[str]] = {}
        try:
            line = first_line(self.controller)
            assert line.startswith("listening on 127.0.0.1:")
        except BaseException:
            end(self.controller, signal.SIGKILL)
            raise
        self.address = line.removeprefix("listening on ")

    def add_agents(self, names: Sequence[str]) -> None:
        """Start agents, and wait until they have joined."""
        for name in names:
            self.agents[name] = start(
                *("agent", "--controller", self.address, "--name", name, "--no-share"),
                *("--save", str(self.folder / name)),
            )
        for name in names:
            assert first_line(self.agents[name]) == f"joined as {name}"

    def run(self, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command on this cluster."""
        return run(command, "--controller", self.address, *arguments)

    def start(self, command: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command on this cluster."""
        return start(command, "--controller", self.address, *arguments, err=subprocess.PIPE)

    def close(self) -> None:
        """End all processes."""
        for process in (*self.agents.values(), self.controller):
            if process.poll() is None:
                end(process)
            elif process.stdout is not None:
                process.stdout.close()


@contextmanager
def cluster(folder: Path, names: Sequence[str], *options: str) -> Iterator[Cluster]:
    """A cluster of processes while the block runs."""
    made = Cluster(folder, *options)
    try:
        made.add_agents(names)
        yield made
    finally:
        made.close()


def one_line(text: str) -> str:
    """What a failing command says on stderr."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]
