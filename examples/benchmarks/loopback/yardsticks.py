"""What Orchestra's data path is held against on loopback: iperf3, and plain blocking sockets.

Owns how they are run and what of them is counted. Must not know Orchestra.
"""

import json
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack

from examples.benchmarks.loopback.processes import ANSWER_S, PeerFailed, Run, Talker, python

CONNECTING_S = 5.0
"""For iperf3's server to listen (a guess)."""
_RETRY_S = 0.02


def why_no_iperf3() -> str | None:
    """Why iperf3 cannot run here; None if it can."""
    return None if shutil.which("iperf3") else "iperf3 is not installed (Debian: iperf3)"


def iperf3(size_bytes: int) -> Run:
    """Move ``size_bytes`` once by ``iperf3 -P 1``; seconds are its receiver's, CPU time its own report.

    Raises:
        PeerFailed: when it fails.
    """
    port = _free_port()
    server = subprocess.Popen(
        ["iperf3", "-s", "-1", "-p", str(port), "-B", "127.0.0.1"], stdout=subprocess.DEVNULL
    )
    try:
        client = ["iperf3", "-c", "127.0.0.1", "-p", str(port), "-P", "1", "-n", str(size_bytes), "-J"]
        give_up_at_s = time.monotonic() + CONNECTING_S
        while True:
            done = subprocess.run(client, capture_output=True, text=True, timeout=ANSWER_S)
            # By its exit status alone it did well, too, when nobody listened.
            if done.returncode == 0 and "error" not in json.loads(done.stdout):
                break
            if server.poll() is not None or time.monotonic() > give_up_at_s:
                raise PeerFailed(f"iperf3: {done.stdout[-500:]}{done.stderr[-500:]}")
            time.sleep(_RETRY_S)
    finally:
        server.kill()
        server.wait()
    return parse_iperf3(done.stdout)


def parse_iperf3(report: str) -> Run:
    """What ``iperf3 -J`` says of a run; the CPU shares are of the receiver's seconds."""
    end = json.loads(report)["end"]
    seconds = float(end["sum_received"]["seconds"])
    shares = end["cpu_utilization_percent"]
    cpu_s = {
        "sender": shares["host_total"] / 100 * seconds,
        "receiver": shares["remote_total"] / 100 * seconds,
    }
    return Run(seconds, cpu_s, {})


class PlainSockets:
    """A sender and a receiver, a process each, over blocking sockets.

    Args:
        stack: what they end with.
        buffer_bytes: of each end's one buffer.
    """

    def __init__(self, stack: ExitStack, buffer_bytes: int) -> None:
        module = "examples.benchmarks.loopback.children.socket_end"
        self._ends = [
            stack.enter_context(Talker(f"plain {role}r", python(module, role, str(buffer_bytes))))
            for role in ("send", "receive")
        ]

    def run(self, size_bytes: int) -> Run:
        """Move ``size_bytes`` once."""
        sender, receiver = self._ends
        port = receiver.ask(size_bytes=size_bytes)["port"]
        sender.tell(port=port, size_bytes=size_bytes)
        sent, received = sender.hear(), receiver.hear()
        cpu_s = {"sender": float(sent["cpu_s"]), "receiver": float(received["cpu_s"])}
        return Run(float(received["ended_s"]) - float(sent["began_s"]), cpu_s, {})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
