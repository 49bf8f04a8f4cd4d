"""Child processes that are told things in lines of JSON.

Owns pipes and patience. Must not know what is measured.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANSWER_S = 120.0
"""For any answer, a broadcast among them (a guess far above what one takes)."""
ENDING_S = 10.0
"""From the request to end until a process is killed (a guess)."""
ROOT = Path(__file__).resolve().parents[3]
"""From where children import this package and the library."""


class PeerFailed(RuntimeError):
    """A process ended early, was silent for too long, or moved other bytes; says which."""


@dataclass(frozen=True, slots=True)
class Run:
    """One object moved once.

    Attributes:
        seconds: by the clock that the ratio is taken of.
        cpu_s: user and system time in that while, by process or part, without what ``more`` tells apart;
            empty where nobody knows.
        more: other figures, in seconds, by name.
    """

    seconds: float
    cpu_s: Mapping[str, float]
    more: Mapping[str, float]


class Talker:
    """A child process; ends when closed.

    Args:
        name: for errors.
        argv: the command.
        ends_with_input: whether it ends by itself when its standard input does; else it is told by a signal.
    """

    def __init__(self, name: str, argv: Sequence[str], ends_with_input: bool = True) -> None:
        self.name = name
        self._ends_with_input = ends_with_input
        path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
        )
        self._buffer = bytearray()

    def __enter__(self) -> "Talker":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if not self._ends_with_input:
            self._process.terminate()
        try:
            self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def tell(self, **message: object) -> None:
        """Say something; PeerFailed if the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(f"{self.name} has ended") from None

    def hear(self, limit_s: float = ANSWER_S) -> dict[str, Any]:
        """The next line that is a JSON object; PeerFailed where none comes within ``limit_s``."""
        deadline_s = time.monotonic() + limit_s
        while True:
            line = self.line(deadline_s)
            if line.startswith(b"{"):
                answer: dict[str, Any] = json.loads(line)
                return answer

    def ask(self, **message: object) -> dict[str, Any]:
        """Tell, and hear."""
        self.tell(**message)
        return self.hear()

    def line(self, deadline_s: float) -> bytes:
        """The next line; PeerFailed where none comes until ``time.monotonic()`` reaches the deadline."""
        assert self._process.stdout is not None
        while (end := self._buffer.find(b"\n")) < 0:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
                raise PeerFailed(f"{self.name} was silent for too long")
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            if not more:
                raise PeerFailed(f"{self.name} ended early with status {self._process.wait(ENDING_S)}")
            self._buffer += more
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of these benchmarks."""
    return [sys.executable, "-m", module, *arguments]
