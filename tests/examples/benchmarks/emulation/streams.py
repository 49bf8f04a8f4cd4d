"""Plain TCP streams between emulated hosts, for tests of the shaping."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.benchmarks.emulation import EmulatedHost

TIMEOUT_S = 30.0
"""For a single step; many times what any takes."""
_SCRIPT = Path(__file__).with_name("stream_end.py")


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes to send from one host to another; a host takes several on ports of their own."""

    source: EmulatedHost
    target: EmulatedHost
    size_bytes: int
    port: int = 5000


def run_streams(streams: Sequence[Stream]) -> float:
    """Send all at once; seconds from the first byte of any to the last of all."""
    receivers = [_start(stream.target, "receive", stream.port, stream.size_bytes) for stream in streams]
    for receiver in receivers:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
    senders = [
        _start(stream.source, "send", stream.target.address, stream.port, stream.size_bytes)
        for stream in streams
    ]
    begins_s = [float(sender.communicate(timeout=TIMEOUT_S)[0]) for sender in senders]
    ends_s = [float(receiver.communicate(timeout=TIMEOUT_S)[0]) for receiver in receivers]
    return max(ends_s) - min(begins_s)


def _start(host: EmulatedHost, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-I", "-S", str(_SCRIPT), *map(str, arguments)]
    return host.popen(command, stdout=subprocess.PIPE, text=True)
