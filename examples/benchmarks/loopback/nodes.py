"""Orchestra on plain loopback: a controller and nodes, each a process of its own.

Owns what is run and what of it is counted. Must not know the yardsticks.

How it is set: nodes share no memory (``share=False``), so every byte goes through TCP; checksums are on, as
always; the first broadcast, which nobody counts, and its release leave memory behind each store that is
faulted in already. The object's bytes change between broadcasts, and what arrives is compared, outside of
what is timed, by another function than the library's checksum.

What is counted: a run's seconds are from the call of `broadcast` to the last return from `receive`; they
include the copy into the source's store and the checksums taken there. ``completion_s`` is the library's own,
from accepting the transfer to the last receiver's verified last byte. CPU time is split at the moment when
the transfer is accepted: before it the source copies and checksums (``put_cpu_s``), after it bytes move.
"""

import re
import time
from contextlib import ExitStack

from examples.benchmarks.loopback.processes import ANSWER_S, PeerFailed, Run, Talker, python
from examples.benchmarks.process_usage import cpu_s


class OrchestraNodes:
    """A cluster of ``receivers`` nodes and a source, up and joined.

    Args:
        stack: what it ends with.
        size_bytes: of the object.
        receivers: how many.
    """

    def __init__(self, stack: ExitStack, size_bytes: int, receivers: int) -> None:
        self._size_bytes = size_bytes
        self._turns = 0
        command = python("orchestra", "controller", "--listen", "127.0.0.1:0")
        self._controller = stack.enter_context(Talker("controller", command, ends_with_input=False))
        said = self._controller.line(time.monotonic() + ANSWER_S).decode()
        listening = re.fullmatch(r"listening on (\S+)", said)
        if listening is None:
            raise PeerFailed(f"the controller said {said!r}")
        module = "examples.benchmarks.loopback.children.node"
        names = [("source", "source"), *((f"n{number + 1}", "receiver") for number in range(receivers))]
        self._nodes = [
            stack.enter_context(
                Talker(name, python(module, listening[1], name, str(size_bytes), role)),
            )
            for name, role in names
        ]
        for node in self._nodes:
            node.hear()

    @property
    def pids(self) -> dict[str, int]:
        """Of every process, by its name: for profilers."""
        return {each.name: each.pid for each in (self._controller, *self._nodes)}

    def broadcast(self, mechanism: str = "auto") -> Run:
        """Send the object once.

        Raises:
            PeerFailed: when a part of it fails, or other bytes arrive than were sent.
        """
        source, receivers = self._nodes[0], self._nodes[1:]
        name = f"turn-{self._turns}"
        self._turns += 1
        digest = source.ask(do="change")["digest"]
        warm = all(node.ask(do="warm")["bytes"] >= self._size_bytes for node in receivers)
        for node in receivers:
            node.tell(do="receive", name=name)
            node.hear()
        before = self._used()
        source.tell(do="send", name=name, receivers=len(receivers), mechanism=mechanism)
        accepted = source.hear()
        sent, received = source.hear(), [node.hear() for node in receivers]
        after = self._used()
        put_s = accepted["used_s"] - before["source"]
        if sent["receivers"] != len(receivers):
            raise PeerFailed(f"{sent['receivers']} of {len(receivers)} receivers got the object")
        for node in receivers:
            if node.ask(do="digest", name=name)["digest"] != digest:
                raise PeerFailed(f"{node.name} got other bytes")
        source.ask(do="release", name=name)
        self._settle()
        ended_s = max(each["ended_s"] for each in received)
        used_s = {who: after[who] - before[who] for who in after}
        used_s["source"] -= put_s
        more = {
            "completion_s": sent["completion_s"],
            "put_s": accepted["accepted_s"] - sent["began_s"],
            "put_cpu_s": put_s,
            "warm": float(warm),
        }
        return Run(ended_s - sent["began_s"], used_s, more)

    def _used(self) -> dict[str, float]:
        return {who: cpu_s(pid) for who, pid in self.pids.items()}

    def _settle(self) -> None:
        """Wait until the receivers have let the object go, so that the next finds its memory."""
        give_up_at_s = time.monotonic() + ANSWER_S
        for node in self._nodes:
            while node.ask(do="warm")["bytes"] < self._size_bytes:
                if time.monotonic() > give_up_at_s:
                    raise PeerFailed(f"{node.name} keeps no memory for the next broadcast")
                time.sleep(0.01)
