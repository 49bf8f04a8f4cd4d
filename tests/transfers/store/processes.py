"""Starting `store_process` and talking to it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("store_process.py")
ROOT = PROGRAM.parents[3]


class StoreProcess:
    """A running process with a served store."""

    def __init__(self, limit_bytes: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(limit_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.address: str = self._answer()

    def do(self, command: str, *args: object) -> Any:
        """Run one command there and give its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([command, *args]) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Let it end by itself, or make it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(timeout=10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.kill()
        finally:
            self.process.stdout.close()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process with the store has ended"
        return json.loads(line)


@contextmanager
def store_process(limit_bytes: int) -> Iterator[StoreProcess]:
    """A process with a store, ended afterwards."""
    made = StoreProcess(limit_bytes)
    try:
        yield made
    finally:
        made.end()
