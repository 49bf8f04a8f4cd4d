"""Processes of this machine in the place of hosts: they reach each other over plain loopback.

Owns how such a process is started, so that it dies with the benchmark. There are no links to be shaped and no
namespaces, so neither root nor pyroute2 is needed.
"""

import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ADDRESS = "127.0.0.1"
_DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


@dataclass(frozen=True, slots=True)
class LoopbackHost:
    """A place for processes.

    Attributes:
        name: ``"h0"``, ``"h1"``, …
        address: loopback's.
    """

    name: str
    address: str = ADDRESS

    def popen(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> "subprocess.Popen[Any]":
        """Start a command; it gets SIGKILL when this process dies."""
        return subprocess.Popen(
            [*_DIES_WITH_PARENT, *argv],
            env=None if env is None else dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )


class LoopbackHosts:
    """As many places as a benchmark wants; ``hosts[0]`` is the source's.

    Raises:
        ValueError: for less than one.
    """

    def __init__(self, hosts: int) -> None:
        if hosts < 1:
            raise ValueError(f"hosts must be at least 1, got {hosts}")
        self.hosts = tuple(LoopbackHost(f"h{number}") for number in range(hosts))

    def drain_all(self) -> None:
        """Does nothing: there are no links, so no buckets that could be full."""


def free_port() -> int:
    """A port of loopback that nobody listens on just now."""
    with socket.create_server((ADDRESS, 0)) as server:
        return int(server.getsockname()[1])
