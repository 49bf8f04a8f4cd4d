"""Orchestra itself: each mechanism, and its own choice among them.

Owns how an Orchestra cluster is laid over emulated hosts. Must not know what else it is compared with.

How it is set. `orchestra controller` runs on the source's host, as where it is embedded, and shares that
host's link. For its own choice it is told the rate of the links (`--port-rate`), as its administrator would:
nothing measures them yet, and without it links are taken for loopback's, for which blocks of 4 MiB are right,
and at 50 Mbit/s far too large. Single mechanisms get their block size instead, and no limits. Every host runs
one node that shares no memory with others (`share=False`). The source hands over an array in its memory, and
every receiver waits in `receive`; the time is from the call of `broadcast` to the last return from `receive`.
That is some hundredths of a second more than the library's own ``completion_s``: the proposal and the
source's checksums before, the hand-over after. Blocks are verified within that time.
"""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from examples.benchmarks.systems.contained import Child, PeerFailed
from orchestra.units import BITS_PER_BYTE, format_block_size

if TYPE_CHECKING:
    from examples.benchmarks.emulation import EmulatedCluster

STARTING_S = 60.0
"""For all nodes to join: a guess, many times what it takes."""
ANSWER_S = 30.0
"""For what is local to a process: drawing an object, a digest (a guess)."""
PORT = 7000
"""The controller's."""
ROOT = Path(__file__).resolve().parents[3]
"""From where children import this package and the library."""


@dataclass(frozen=True, slots=True)
class Orchestra:
    """Orchestra by one mechanism.

    Attributes:
        mechanism: as `Node.broadcast` takes it.
        block_size_bytes: None for the library's choice.
    """

    mechanism: str
    block_size_bytes: int | None = None

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"Orchestra, {self.mechanism}"

    @property
    def how(self) -> str:
        """How it is set."""
        size = self.block_size_bytes
        blocks = "blocks as it chooses" if size is None else f"blocks of {format_block_size(size)}"
        chosen = "its own choice of mechanism" if self.mechanism == "auto" else f"mechanism {self.mechanism}"
        told = (
            "is told the links' rate, which it does not measure" if size is None else "knows nothing of links"
        )
        return f"{chosen}, {blocks}; the controller {told}"

    def missing(self) -> str | None:
        """Never: it is this project."""
        return None

    def broadcast(
        self, cluster: "EmulatedCluster", size_bytes: int, repeats: int, timeout_s: float
    ) -> list[float]:
        """See `System.broadcast`."""
        with ExitStack() as stack:
            rate_bytes_per_s = max(host.rate_bytes_per_s for host in cluster.hosts)
            told = ["--port-rate", f"{rate_bytes_per_s * BITS_PER_BYTE:.0f}bit"]
            options = told if self.block_size_bytes is None else []
            nodes = OrchestraNodes(cluster, stack, options)
            return [
                nodes.broadcast(f"round-{turn}", self, size_bytes, timeout_s).elapsed_s
                for turn in range(repeats + 1)
            ][1:]


@dataclass(frozen=True, slots=True)
class Timing:
    """One broadcast.

    Attributes:
        elapsed_s: from the call of `broadcast` to the last return from `receive`.
        completion_s: the library's own figure.
        reason: why it went as it did.
    """

    elapsed_s: float
    completion_s: float
    reason: str


class OrchestraNodes:
    """A controller and a node on every host, up and joined; they end with ``stack``.

    Args:
        cluster: the hosts; the controller runs on the first, which is the source as well.
        stack: what the processes end with.
        options: of ``orchestra controller``.
    """

    def __init__(self, cluster: "EmulatedCluster", stack: ExitStack, options: Sequence[str] = ()) -> None:
        env = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
        head = cluster.hosts[0]
        address = f"{head.address}:{PORT}"
        self._turns = 0
        controller = [sys.executable, "-m", "orchestra", "controller", "--listen", address, "--insecure"]
        stack.enter_context(Child(head, [*controller, *options], env))
        module = [sys.executable, "-m", "examples.benchmarks.systems.children.orchestra_node"]
        self._nodes = [
            stack.enter_context(
                Child(host, [*module, address, host.name, "receiver" if host is not head else "source"], env)
            )
            for host in cluster.hosts
        ]
        ready_by_s = time.monotonic() + STARTING_S
        for node in self._nodes:
            node.hear(ready_by_s)

    def broadcast(self, name: str, how: Orchestra, size_bytes: int, timeout_s: float) -> Timing:
        """Broadcast fresh random bytes once, check what every receiver holds, and let go of it.

        Raises:
            PeerFailed: when anything fails, takes too long, or arrives changed.
        """
        source, *receivers = self._nodes
        self._turns += 1
        original = self._ask(source, ANSWER_S, do="make", size_bytes=size_bytes, seed=self._turns)["digest"]
        ends_by_s = time.monotonic() + ANSWER_S + timeout_s
        for node in receivers:
            node.tell(do="receive", name=name, timeout_s=timeout_s)
        for node in receivers:
            node.hear(ends_by_s)
        sent = self._ask(
            source,
            timeout_s,
            do="send",
            name=name,
            mechanism=how.mechanism,
            block_size_bytes=how.block_size_bytes,
            receivers=len(receivers),
            timeout_s=timeout_s,
        )
        last_s = max(node.hear(ends_by_s)["at_s"] for node in receivers)
        for node in receivers:
            node.tell(do="digest", name=name)
        arrived = [node.hear(time.monotonic() + ANSWER_S)["digest"] for node in receivers]
        wrong = [node.name for node, its in zip(receivers, arrived, strict=True) if its != original]
        if wrong or sent["receivers"] != len(receivers):
            raise PeerFailed(f"{name}: {sent['receivers']} received, other bytes on {wrong}")
        self._ask(source, ANSWER_S, do="release", name=name)
        return Timing(last_s - sent["began_s"], sent["completion_s"], sent["reason"])

    @staticmethod
    def _ask(node: Child, within_s: float, **message: object) -> dict[str, Any]:
        node.tell(**message)
        return node.hear(time.monotonic() + within_s)


BLOCK_BYTES = {"cornet": 128 << 10, "chain": 128 << 10, "tree": 128 << 10, "hdfs": 256 << 10}
"""For single mechanisms: what Open MPI's chain is given, too; twice that where each block costs a round trip
to the controller."""

SYSTEMS = (
    *(Orchestra(mechanism, block_size_bytes) for mechanism, block_size_bytes in BLOCK_BYTES.items()),
    Orchestra("auto"),
)
