"""One emulated host: processes in it, the rate of its link, its counters."""

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from examples.benchmarks.emulation import links
from examples.benchmarks.emulation.namespaces import inside

_ENTER = Path(__file__).with_name("enter.py")
_NO_BRIDGE_FORWARDS = bytes.fromhex("0180c200000e")
"""A destination that bridges must not pass on (IEEE 802.1Q, table 8-1: nearest bridge)."""
_EXPERIMENTAL = bytes.fromhex("88b5")
"""An ethertype that nobody listens to (IEEE 802, local experimental)."""
_FRAME_BYTES = 9000
"""As long as frames get here; an Ethernet header counts."""

_Stream = int | IO[Any] | None


class EmulatedHost:
    """A host of an `EmulatedCluster`.

    Attributes:
        name: ``"h0"``, ``"h1"``, …
        address: of its one interface, ``"10.77.0.1"`` and so on.
        rate_bytes_per_s: of its link, in each direction.
        namespace_path: by which other programs of this machine enter it (``nsenter --net=…``), as long as
            the process that holds the cluster lives.
    """

    def __init__(
        self,
        name: str,
        address: str,
        rate_bytes_per_s: float,
        namespace: int,
        switches: int,
        started: Callable[["subprocess.Popen[Any]"], None],
        burst_bytes: int = links.BURST_BYTES,
    ) -> None:
        self.name = name
        self.address = address
        self.rate_bytes_per_s = rate_bytes_per_s
        self.namespace_path = f"/proc/{os.getpid()}/fd/{namespace}"
        self._namespace = namespace
        self._switches = switches
        self._started = started
        self._burst_bytes = burst_bytes
        self._drains: tuple[socket.socket, ...] = ()

    def __repr__(self) -> str:
        return f"<EmulatedHost {self.name} {self.address}>"

    def popen(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stdin: _Stream = None,
        stdout: _Stream = None,
        stderr: _Stream = None,
        text: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> "subprocess.Popen[Any]":
        """Start a command in this host, as `subprocess.Popen` does.

        It has a session of its own (a Ctrl-C is for the benchmark, which then ends it), gets SIGKILL when
        this process dies, and is killed when the cluster is left, with all it has started.

        Raises:
            ValueError: for no command at all.
            FileNotFoundError: when there is no such command.
            RuntimeError: outside the main thread: the kernel kills the child when the *thread* that started
                it ends.
        """
        if not argv:
            raise ValueError("argv must name a command, got none")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("hosts start processes from the main thread only: they die with its thread")
        command = [str(each) for each in argv]
        path = (os.environ if env is None else env).get("PATH", os.defpath)
        if shutil.which(command[0], path=path) is None and not _is_command(command[0], cwd):
            raise FileNotFoundError(f"no command {command[0]!r}")
        process: subprocess.Popen[Any] = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_ENTER), str(self._namespace), str(os.getpid()), *command],
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=text,
            pass_fds=(self._namespace, *pass_fds),
            start_new_session=True,
        )
        self._started(process)
        return process

    def set_rate(self, rate_bytes_per_s: float) -> None:
        """Change the rate of its link, in both directions, while anything runs. Both buckets are full then.

        Raises:
            ValueError: for a rate that is not above 0.
        """
        check_rate("rate_bytes_per_s", rate_bytes_per_s)
        shape_link(self._namespace, links.INTERFACE, rate_bytes_per_s, self._burst_bytes)
        shape_link(self._switches, self.name, rate_bytes_per_s, self._burst_bytes)
        self.rate_bytes_per_s = rate_bytes_per_s

    def drain(self) -> None:
        """Empty the token buckets of both directions by frames that nobody takes.

        A full bucket lets `links.BURST_BYTES` through at once. It fills again in burst / rate seconds (12 ms
        at 50 Mbit/s), so this only helps what begins right afterwards. The frames are counted as sent and
        received. What sends them stays open: to open it takes the kernel longer than the buckets to fill.
        """
        if not self._drains:
            self._drains = (
                inside(self._switches, lambda: _frame_socket(self.name)),
                inside(self._namespace, lambda: _frame_socket(links.INTERFACE)),
            )
        for interface in self._drains:
            _send_frames(interface, self._burst_bytes)

    def close(self) -> None:
        """Let go of what `drain` has opened. May be called twice."""
        for interface in self._drains:
            interface.close()
        self._drains = ()

    def received_bytes(self) -> int:
        """What its interface has received, frames' headers included."""
        return self._counters()[0]

    def sent_bytes(self) -> int:
        """What its interface has sent, frames' headers included."""
        return self._counters()[1]

    def _counters(self) -> tuple[int, int]:
        return inside(self._namespace, links.received_and_sent_bytes)[links.INTERFACE]


def shape_link(namespace: int, interface: str, rate_bytes_per_s: float, burst_bytes: int) -> None:
    """Limit what leaves by an interface of a namespace."""

    def shape() -> None:
        with links.netlink() as ip:
            links.shape(ip, interface, rate_bytes_per_s, burst_bytes)

    inside(namespace, shape)


def check_rate(argument: str, rate_bytes_per_s: float) -> None:
    """Refuse a rate that the kernel's shaper cannot hold."""
    if not MIN_RATE_BYTES_PER_S <= rate_bytes_per_s <= MAX_RATE_BYTES_PER_S:
        raise ValueError(
            f"{argument} must be from {MIN_RATE_BYTES_PER_S:g} to {MAX_RATE_BYTES_PER_S:g}, "
            f"got {rate_bytes_per_s}"
        )


MIN_RATE_BYTES_PER_S = 1e3
"""Below it a bucket's depth, held in time, overflows (a guess: 72 s for the bucket)."""
MAX_RATE_BYTES_PER_S = 4e9
"""The shaper's older field for rates has 32 bits; far above what a machine can emulate."""


def _is_command(command: str, cwd: str | Path | None) -> bool:
    """Whether a relative path names a program as seen from the folder in which it is to run."""
    return os.sep in command and os.access(Path(cwd or ".") / command, os.X_OK)


def _frame_socket(interface: str) -> socket.socket:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        packets.bind((interface, 0))
    except BaseException:
        packets.close()
        raise
    return packets


def _send_frames(packets: socket.socket, burst_bytes: int) -> None:
    frame = _NO_BRIDGE_FORWARDS + bytes.fromhex("020000000001") + _EXPERIMENTAL
    frame += bytes(_FRAME_BYTES - len(frame))
    for _ in range(-(-burst_bytes // _FRAME_BYTES)):
        try:
            packets.send(frame)
        except OSError as refused:
            if refused.errno != errno.ENOBUFS:
                raise
            return  # what is queued there already empties the bucket
