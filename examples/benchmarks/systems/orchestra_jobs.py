"""Orchestra on emulated hosts, for transfers that are asked for at given times.

Owns the processes: a controller on a host of its own, the first, and an agent on every other. Whoever asks is
one more node on the controller's host, and one on any agent's host from which broadcasts are to come.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field

from examples.benchmarks.emulation import EmulatedCluster
from examples.benchmarks.jobs import Done, Job, Sample
from examples.benchmarks.systems.contained import Child, PeerFailed
from examples.benchmarks.systems.orchestra_nodes import PORT, ROOT, STARTING_S

READY_S = 0.2
"""From telling askers to the beginning (a guess: they all have it by then)."""
_ASKER = (sys.executable, "-m", "examples.benchmarks.systems.children.orchestra_asker")
ASKS = "asks"


@dataclass(frozen=True, slots=True)
class KMeansRun:
    """One run of K-Means on made-up points, one worker an agent.

    Attributes:
        points, dimensions, clusters: N, d and K.
        iterations: so many, whether or not anything changes.
        priority: of its transfers.
    """

    points: int
    dimensions: int
    clusters: int
    iterations: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Jobs that were begun.

    Attributes:
        begin_s: when their times begin, by `time.monotonic`.
        askers: who was told.
        samples: how far they were, once they have been waited for.
    """

    begin_s: float
    askers: tuple[str, ...]
    samples: list[Sample] = field(default_factory=list)


class JobCluster:
    """A controller and agents, up and joined; they end with ``stack``.

    Args:
        cluster: the hosts; agents are called as their hosts, ``h1`` and so on.
        stack: what the processes end with.
        options: of ``orchestra controller``.
        agent_options: of every ``orchestra agent``.
        senders: agents beside whom a node is to stand that broadcasts; it is called ``h1-sends`` and so on.

    Attributes:
        agents: their names.
        children: their processes, by name.
    """

    def __init__(
        self,
        cluster: EmulatedCluster,
        stack: ExitStack,
        options: Sequence[str] = (),
        *,
        agent_options: Sequence[str] = (),
        senders: Sequence[str] = (),
    ) -> None:
        self._env = {
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        }
        self._stack = stack
        self._hosts = {host.name: host for host in cluster.hosts}
        head, *others = cluster.hosts
        self._head = head.name
        self._address = f"{head.address}:{PORT}"
        self._agent_options = list(agent_options)
        orchestra = [sys.executable, "-m", "orchestra"]
        self._controller = self._start(
            head.name, [*orchestra, "controller", "--listen", self._address, "--insecure", *options]
        )
        self.agents = [host.name for host in others]
        self.children = {name: self._start_agent(name) for name in self.agents}
        self._askers = {ASKS: self._start(head.name, [*_ASKER, self._address, ASKS])}
        for sender in senders:
            name = f"{sender}-sends"
            self._askers[name] = self._start(sender, [*_ASKER, self._address, name])
        ready_by_s = time.monotonic() + STARTING_S
        for child in self.children.values():
            child.wait_line("joined as", ready_by_s)
        for child in self._askers.values():
            child.hear(ready_by_s)

    def run(
        self, jobs: Sequence[Job], timeout_s: float, *, by: Mapping[str, Sequence[Job]] | None = None
    ) -> dict[str, Done]:
        """Run jobs to their ends.

        Args:
            jobs: of the asker on the controller's host.
            timeout_s: for all of them.
            by: jobs of other askers, by their names.

        Raises:
            PeerFailed: when an asker ends or takes too long, or a job fails.
        """
        return self.wait(self.begin(jobs, by=by), timeout_s)

    def begin(
        self,
        jobs: Sequence[Job],
        *,
        by: Mapping[str, Sequence[Job]] | None = None,
        sample_s: float | None = None,
    ) -> "UnderWay":
        """Have jobs begin, as `run`; they are to be waited for before anything else is asked for.

        Args:
            jobs, by: as `run`.
            sample_s: how often to ask how far they are; None for never.
        """
        begin_s = time.monotonic() + READY_S
        told = {ASKS: jobs, **(by or {})}
        for name, its in told.items():
            every_s = sample_s if name == ASKS else None
            self._askers[name].tell(
                do="run", jobs=[job.as_dict() for job in its], begin_s=begin_s, sample_s=every_s
            )
        return UnderWay(begin_s, tuple(told))

    def wait(self, under_way: "UnderWay", timeout_s: float) -> dict[str, Done]:
        """Wait for the ends of jobs; raises as `run`."""
        found: dict[str, Done] = {}
        for name in under_way.askers:
            answer = self._askers[name].hear(under_way.begin_s + timeout_s)
            found |= {each["name"]: Done(**each) for each in answer["done"]}
            under_way.samples.extend(Sample(*each) for each in answer["samples"])
        for done in found.values():
            if done.failed or done.reason:
                raise PeerFailed(f"{done.name} failed: {done.reason} {dict(done.failed)}")
        return found

    def kmeans(self, run: KMeansRun, timeout_s: float) -> list[float]:
        """Run K-Means, its head on the controller's host, a worker on each agent's; raises as `run`.

        Returns:
            When each iteration ended, by `time.monotonic`; before them, when the first began.
        """
        launch = [["nsenter", f"--net={self._hosts[name].namespace_path}"] for name in self.agents]
        argv = [sys.executable, "-m", "examples.benchmarks.systems.children.kmeans_head", self._address]
        with Child(self._hosts[self._head], argv, self._env, contained=False) as head:
            head.tell(launch=launch, **asdict(run))
            answer = head.hear(time.monotonic() + timeout_s)
        return [float(each) for each in answer["times_s"]]

    def revive(self, name: str) -> None:
        """Start an agent that was killed once more; returns when it has joined."""
        self.children[name].close()
        self.children[name] = self._start_agent(name)
        self.children[name].wait_line("joined as", time.monotonic() + STARTING_S)

    def status(self) -> dict[str, object]:
        """As ``orchestra status --json`` has it."""
        self._askers[ASKS].tell(do="status")
        found: dict[str, object] = self._askers[ASKS].hear(time.monotonic() + STARTING_S)["status"]
        return found

    def _start_agent(self, name: str) -> Child:
        agent = [sys.executable, "-m", "orchestra", "agent", "--controller", self._address, "--insecure"]
        return self._start(name, [*agent, "--no-share", "--name", name, *self._agent_options])

    def _start(self, host: str, argv: Sequence[str]) -> Child:
        return self._stack.enter_context(Child(self._hosts[host], argv, self._env))
