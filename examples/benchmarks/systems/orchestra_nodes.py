"""Orchestra's processes on the hosts of a benchmark, and one broadcast at a time among them.

Owns the processes and what is asked of them. Must not know what is compared, nor what the hosts are:
emulated ones, or processes of this machine (`examples.benchmarks.systems.loopback`).

Theory of operation. A broadcast has three steps, so that a benchmark can do something between them: `prepare`
(the source draws its object, every receiver waits in `receive`), `send`, and `finish` (all have it, the bytes
are compared, the object is released). Only what lies between the call of the library's `broadcast` and the
last return from `receive` is timed.
"""

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from examples.benchmarks.systems.contained import Child, Host, PeerFailed

if TYPE_CHECKING:
    from examples.benchmarks.systems.orchestra import Orchestra

STARTING_S = 60.0
"""For all nodes to join: a guess, many times what it takes."""
ANSWER_S = 30.0
"""For what is local to a process: drawing an object, a digest (a guess: 1 GB takes 1 to 2 s, eight processes
on two cores four times that)."""
PORT = 7000
"""The controller's, on hosts of its own."""
ROOT = Path(__file__).resolve().parents[3]
"""From where children import this package and the library."""
_NODE = (sys.executable, "-m", "examples.benchmarks.systems.children.orchestra_node")


class Hosts(Protocol):
    """What processes can be laid over: the first is the source's."""

    @property
    def hosts(self) -> Sequence[Host]: ...

    def drain_all(self) -> None:
        """Empty the buckets of the hosts' links, if there are links."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One broadcast.

    Attributes:
        elapsed_s: from the call of `broadcast` to the last return from `receive`.
        completion_s: the library's own figure.
        reason: why it went as it did.
        began_s: CLOCK_MONOTONIC at the call.
        mechanism: by which it went.
        block_size_bytes: of the blocks.
        node_completion_s: the library's figure for each receiver that holds the object.
        failed: receivers that do not, with the reason.
        received_s: CLOCK_MONOTONIC at each return from `receive`.
    """

    elapsed_s: float
    completion_s: float
    reason: str
    began_s: float
    mechanism: str
    block_size_bytes: int
    node_completion_s: Mapping[str, float]
    failed: Mapping[str, str]
    received_s: Mapping[str, float]


class OrchestraNodes:
    """A controller and a node on every host, up and joined; they end with ``stack``.

    Args:
        cluster: the hosts; the controller runs on the first, which is the source as well.
        stack: what the processes end with.
        options: of ``orchestra controller``.
        port: the controller's.
        contained: whether each process gets a machine's worth of its own (`Child`).
        share: whether receivers map each other's memory; the source never does.

    Attributes:
        cluster: as given.
    """

    def __init__(
        self,
        cluster: Hosts,
        stack: ExitStack,
        options: Sequence[str] = (),
        *,
        port: int = PORT,
        contained: bool = True,
        share: bool = False,
    ) -> None:
        self._env = {
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        }
        self.cluster = cluster
        self._stack = stack
        self._contained = contained
        self._receiver_options = ("receiver", "share") if share else ("receiver",)
        self._turns = 0
        self._hosts = {host.name: host for host in cluster.hosts}
        head = cluster.hosts[0]
        self._address = f"{head.address}:{port}"
        controller = [sys.executable, "-m", "orchestra", "controller", "--listen", self._address]
        self._controller = self._start(head, [*controller, "--insecure", *options])
        self.source = self._start_node(head, "source")
        self.receivers = {
            host.name: self._start_node(host, *self._receiver_options) for host in cluster.hosts[1:]
        }
        ready_by_s = time.monotonic() + STARTING_S
        for node in [self.source, *self.receivers.values()]:
            node.hear(ready_by_s)

    def broadcast(
        self,
        name: str,
        how: "Orchestra",
        size_bytes: int,
        timeout_s: float,
        to: Collection[str] | None = None,
    ) -> Timing:
        """Broadcast fresh random bytes once, check what every receiver holds, and let go of it.

        The buckets of the links are emptied right before it is sent. Arguments as for `prepare`.

        Raises:
            PeerFailed: when anything fails, takes too long, or arrives changed.
        """
        ongoing = self.prepare(name, size_bytes, timeout_s, to)
        self.cluster.drain_all()
        ongoing.send(how)
        return ongoing.finish()

    def prepare(
        self, name: str, size_bytes: int, timeout_s: float, to: Collection[str] | None = None
    ) -> "OngoingBroadcast":
        """Draw fresh random bytes at the source, and have receivers wait for them.

        Args:
            name: of the transfer.
            size_bytes: of the object.
            timeout_s: for all that follows until everyone has it.
            to: the receivers, in the order in which they join; None is all that live, as they joined the
                cluster.
        """
        self._turns += 1
        told = ask(self.source, ANSWER_S, do="make", size_bytes=size_bytes, seed=self._turns)
        receivers = {node: self.receivers[node] for node in (self.receivers if to is None else to)}
        ends_by_s = time.monotonic() + ANSWER_S + timeout_s
        for node in receivers.values():
            node.tell(do="receive", name=name, timeout_s=timeout_s)
        for node in receivers.values():
            node.hear(ends_by_s)
        return OngoingBroadcast(self, name, receivers, told["digest"], timeout_s, named=to is not None)

    def status(self) -> dict[str, Any]:
        """As ``orchestra status --json`` has it."""
        told: dict[str, Any] = ask(self.source, ANSWER_S, do="status")["status"]
        return told

    def said(self, begins: str) -> list[str]:
        """What the controller has logged so far: of each line that has it, what ``begins`` so.

        A controller logs little unless its options have ``--verbose``.
        """
        lines = self._controller.said().splitlines()
        return [line[line.index(begins) :] for line in lines if begins in line]

    def kill(self, name: str) -> None:
        """End a receiver's process by SIGKILL."""
        self.receivers.pop(name).close()

    def restart(self, name: str) -> None:
        """Put a new process in the place of a killed one; returns when it has joined."""
        node = self._start_node(self._hosts[name], *self._receiver_options)
        node.hear(time.monotonic() + STARTING_S)
        self.receivers[name] = node

    def _start_node(self, host: Host, *how: str) -> Child:
        return self._start(host, [*_NODE, self._address, host.name, *how])

    def _start(self, host: Host, argv: Sequence[str]) -> Child:
        return self._stack.enter_context(Child(host, argv, self._env, contained=self._contained))


class OngoingBroadcast:
    """One broadcast between its preparation and its end. Made by `OrchestraNodes.prepare`."""

    def __init__(
        self,
        nodes: OrchestraNodes,
        name: str,
        receivers: Mapping[str, Child],
        digest: str,
        timeout_s: float,
        *,
        named: bool,
    ) -> None:
        self._nodes = nodes
        self._name = name
        self._receivers = dict(receivers)
        self._digest = digest
        self._timeout_s = timeout_s
        self._named = named
        self._ends_by_s = 0.0
        self._received_s: dict[str, float] = {}

    def send(self, how: "Orchestra") -> None:
        """Have the source call `broadcast`; does not wait."""
        self._ends_by_s = time.monotonic() + ANSWER_S + self._timeout_s
        self._nodes.source.tell(
            do="send",
            name=self._name,
            mechanism=how.mechanism,
            block_size_bytes=how.block_size_bytes,
            receivers=len(self._receivers),
            to=list(self._receivers) if self._named else None,
            timeout_s=self._timeout_s,
        )

    def wait_received(self, names: Collection[str]) -> None:
        """Wait until these receivers hold the object; PeerFailed if one ends instead, or takes too long."""
        for name in names:
            if name not in self._received_s:
                self._received_s[name] = self._receivers[name].hear(self._ends_by_s)["at_s"]

    def wait_until(self, ready: Callable[[], bool], poll_s: float) -> None:
        """Wait for something besides; PeerFailed if the broadcast would be over by then."""
        while not ready():
            if time.monotonic() > self._ends_by_s:
                raise PeerFailed(f"{self._name}: what was waited for did not come")
            time.sleep(poll_s)

    def finish(self) -> Timing:
        """Wait until all living receivers have it, compare what they hold, and let go of it.

        Raises:
            PeerFailed: when anything fails, takes too long, or arrives changed, or others failed than those
                that were killed.
        """
        living = [name for name in self._receivers if name in self._nodes.receivers]
        self.wait_received(living)
        sent = self._nodes.source.hear(self._ends_by_s)
        for name in living:
            self._receivers[name].tell(do="digest", name=self._name)
        within_s = time.monotonic() + ANSWER_S
        arrived = {name: self._receivers[name].hear(within_s)["digest"] for name in living}
        wrong = [name for name, its in arrived.items() if its != self._digest]
        if wrong or sorted(sent["node_completion_s"]) != sorted(living):
            raise PeerFailed(
                f"{self._name}: {len(sent['node_completion_s'])} of {len(living)} received, failed "
                f"{sent['failed']}, {sent['wrong'] or 'nothing else was wrong'}, other bytes on {wrong}"
            )
        ask(self._nodes.source, ANSWER_S, do="release", name=self._name)
        last_s = max(self._received_s.values())
        return Timing(
            elapsed_s=last_s - sent["began_s"],
            completion_s=sent["completion_s"],
            reason=sent["reason"],
            began_s=sent["began_s"],
            mechanism=sent["mechanism"],
            block_size_bytes=sent["block_size_bytes"],
            node_completion_s=sent["node_completion_s"],
            failed=sent["failed"],
            received_s=self._received_s,
        )


def ask(node: Child, within_s: float, **message: object) -> dict[str, Any]:
    """Say something to a child and hear its answer."""
    node.tell(**message)
    return node.hear(time.monotonic() + within_s)
