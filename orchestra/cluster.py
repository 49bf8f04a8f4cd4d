"""`local_cluster`: a whole cluster on this machine, for tests, demos and single-host programs.

The controller and one node run in this process; every other node is an agent process of its own,
on loopback, with a secret that is drawn anew for each cluster.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from orchestra.controller.serving import serve_controller
from orchestra.node.joining import join
from orchestra.node.node import Node
from transfers.errors import JoinRefused

START_TIMEOUT_S = 60.0
"""For all agents to join (a guess: a process starts in half a second, on a busy machine in several)."""
POLL_S = 0.02
"""Between two looks at whether the processes have ended (a guess: little beside the tenths of a second that a
process takes to end)."""
STOP_TIMEOUT_S = 5.0
"""From the request to end until a process is killed (a guess)."""


class LocalCluster:
    """A running cluster.

    Attributes:
        address: the controller's.
        token: the cluster's secret.
        token_file: a file that holds it, for commands.
        node: this process's node, named ``head``.
        names: of the agents.
        processes: the agents, in the order of ``names``.
    """

    def __init__(self, address: str, token: str, token_file: Path, node: Node) -> None:
        self.address = address
        self.token = token
        self.token_file = token_file
        self.node = node
        self.names: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A temporary folder; `tempfile.TemporaryDirectory` would have a forked child remove it at its exit."""
    folder = Path(tempfile.mkdtemp(prefix="orchestra-"))
    owner = os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def local_cluster(
    nodes: int = 4,
    *,
    share: bool = True,
    port_rate: float | None = None,
    policy: str = "fair",
    allow_pickle: bool = False,
    store_limit: int | None = None,
) -> AsyncIterator[LocalCluster]:
    """Run a cluster of ``nodes`` agent processes on loopback while the block runs.

    Args:
        nodes: number of agents, named ``n1``, ``n2``, …; this process joins as ``head`` besides.
        share: whether they map each other's store, as nodes of one host do, or send every byte.
        port_rate: cap on each node's two directions, bytes/s.
        policy: by which transfers share ports, as `serve_controller` has it.
        allow_pickle: whether nodes may unpickle what they receive.
        store_limit: bytes that each node's objects may take.

    Raises:
        ValueError: for a negative number of nodes.
        JoinRefused: when an agent does not come up.
    """
    if nodes < 0:
        raise ValueError(f"nodes must not be negative, got {nodes}")
    token = secrets.token_hex(32)
    with _private_folder() as folder:
        token_file = folder / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(token)
        async with (
            serve_controller(
                token=token, policy=policy, port_rate=port_rate, allow_pickle=allow_pickle
            ) as controller,
            join(controller.address, name="head", token=token, share=share, store_limit=store_limit) as head,
        ):
            cluster = LocalCluster(controller.address, token, token_file, head)
            options = [] if share else ["--no-share"]
            options += [] if store_limit is None else ["--store-limit", str(store_limit)]
            try:
                await _start_agents(cluster, nodes, options)
                yield cluster
            finally:
                with trio.CancelScope(shield=True):
                    await _stop_agents(cluster.processes)


def _spawn(cluster: LocalCluster, name: str, options: Sequence[str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "orchestra", "agent", "--controller", cluster.address]
    command += ["--name", name, "--token-file", str(cluster.token_file), "--quiet", *options]
    # A session of its own: Ctrl-C in a terminal is for this process, which then ends its agents.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)


async def _start_agents(cluster: LocalCluster, nodes: int, options: Sequence[str]) -> None:
    for number in range(1, nodes + 1):
        cluster.names.append(f"n{number}")
        cluster.processes.append(_spawn(cluster, cluster.names[-1], options))
    with trio.move_on_after(START_TIMEOUT_S):
        for name, process in zip(cluster.names, cluster.processes, strict=True):
            await trio.to_thread.run_sync(_wait_joined, name, process, abandon_on_cancel=True)
        return
    raise JoinRefused(f"the agents of the local cluster did not all join within {START_TIMEOUT_S:g} s")


def _wait_joined(name: str, process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    if line.strip() != f"joined as {name}".encode():
        raise JoinRefused(f"agent {name} ended with status {process.wait()} before it joined")


async def _stop_agents(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        process.terminate()
    give_up_at_s = trio.current_time() + STOP_TIMEOUT_S
    for process in processes:
        while process.poll() is None and trio.current_time() < give_up_at_s:
            await trio.sleep(POLL_S)  # no event tells of a process's end, and at exit there are no threads
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
