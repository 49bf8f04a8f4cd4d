"""Processes on emulated hosts: begun, talked to, and gone afterwards with all that they began.

Owns how a host's processes are closed in, and the lines that the benchmark and its children say to each
other. Must not know any system.

Theory of operation. Systems start daemons that fork further, so dying with the parent is not enough: each
child runs in a PID namespace of its own, whose first process dies with the benchmark; the kernel then ends
all others of it. A child's host has a name and a /dev/shm of its own as well, so that no system takes two
emulated hosts for one machine and shares memory between them. Otherwise the file system is the machine's.

Benchmark and child speak in JSON objects, one a line, over the child's standard input and output; these are
pipes, so nothing of it crosses the emulated network. A line that is no object is the system's own talk: it
is kept, with standard error, for the message of a failure, or for who asks what was said.
"""

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

LINE_LIMIT_BYTES = 1 << 24
"""Of one message: a guess, many times the largest one, a torrent's list of checksums."""
TALK_LIMIT_BYTES = 4000
"""As much of a failed child's last words as is shown: a guess, a screenful."""
ENDING_S = 10.0
"""Patience with a killed process: a guess far above what the kernel takes."""

_CLOSED_IN = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc")
_BECOME = """
printf %s "$1" > /proc/sys/kernel/hostname && mount -t tmpfs tmpfs /dev/shm && shift && exec "$@"
"""


class Host(Protocol):
    """Where a child runs: an `EmulatedHost`, or another place that can start processes.

    Attributes:
        name: of the host.
        address: by which others reach it.
    """

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    def popen(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> "subprocess.Popen[Any]":
        """Start a command there, as `subprocess.Popen` does; it dies with this process."""
        ...


class PeerFailed(RuntimeError):
    """A child ended early, was silent for too long or delivered other bytes; says which, and what it said."""


class Child:
    """A process on an emulated host that answers in lines; ends, with all that it began, when closed.

    Args:
        host: where; errors call the child by its name.
        argv: the command.
        env: added to this process's own environment.
        contained: whether it is closed in as told above, which needs root. Else only what it is itself ends.
    """

    def __init__(
        self,
        host: Host,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        contained: bool = True,
    ) -> None:
        self.name = host.name
        self._talk = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._buffer = bytearray()
        self._process = host.popen(
            [*_CLOSED_IN, "sh", "-c", _BECOME, "sh", host.name, *argv] if contained else argv,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._talk,
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tell(self, **message: object) -> None:
        """Say something to the child; PeerFailed if it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(self._last_words("ended early")) from None

    def hear(self, deadline_s: float) -> dict[str, Any]:
        """The child's next message.

        Raises:
            PeerFailed: when it says ``{"error": …}``, ends, or is silent until ``time.monotonic()`` reaches
                the deadline.
        """
        while True:
            line = self._line(deadline_s)
            if line.startswith(b"{"):
                message: dict[str, Any] = json.loads(line)
                if "error" in message:
                    raise PeerFailed(f"{self.name}: {message['error']}")
                return message
            self._talk.write(line + b"\n")

    def wait_line(self, begins: str, deadline_s: float) -> None:
        """Wait for a line of plain text that begins so; raises as `hear`."""
        while not (line := self._line(deadline_s)).startswith(begins.encode()):
            self._talk.write(line + b"\n")

    def said(self) -> str:
        """What it has said so far on standard error, and of its standard output all talk that was heard."""
        self._talk.flush()
        descriptor = self._talk.fileno()  # whose place in the file the child shares
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal to the command itself, behind what closes it in."""
        os.kill(self.pid, number)

    @property
    def pid(self) -> int:
        """Of the command itself, seen from here; `PeerFailed` where it has ended."""
        pid = self._process.pid
        while True:
            try:
                begun = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                raise PeerFailed(self._last_words("ended early")) from None
            if not begun:
                return pid
            pid = int(begun[0])

    def close(self) -> None:
        """End the child and all that it began. May be called twice."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(ENDING_S)
        for pipe in (self._process.stdin, self._process.stdout, self._talk):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _line(self, deadline_s: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LINE_LIMIT_BYTES:
                raise PeerFailed(f"{self.name}: a line of more than {LINE_LIMIT_BYTES} bytes")
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
                raise PeerFailed(self._last_words("was silent for too long"))
            more = os.read(descriptor, 1 << 16)
            if not more:
                raise PeerFailed(self._last_words("ended early"))
            self._buffer += more
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _last_words(self, what: str) -> str:
        size = self._talk.seek(0, os.SEEK_END)
        self._talk.seek(max(0, size - TALK_LIMIT_BYTES))
        said = self._talk.read().decode(errors="replace").strip()
        return f"{self.name} {what}" + (f"; it said: {said}" if said else "")
