"""A cluster that is there already, to run K-Means in, and how its machines are reached. Pure.

Owns what a caller says about it, and how a worker's command is begun on another machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RunningCluster:
    """Where K-Means is to run, beside whatever else is going on there.

    Attributes:
        controller: its address, HOST:PORT.
        token: the cluster's shared secret, if it has one.
        insecure: whether to go beyond loopback without one.
        launch: commands that start a command on a machine, such as ``("ssh", "node1")``; workers are given to
            them in turn, and find the same Python and this library there under the same paths. Their standard
            input must reach the worker: it ends when that does. None: all workers run on this machine.
    """

    controller: str
    token: str | None = field(default=None, repr=False)
    insecure: bool = False
    launch: Sequence[Sequence[str]] = ()

    def command(self, worker: int, command: Sequence[str]) -> list[str]:
        """How a worker's command is started."""
        before = self.launch[worker % len(self.launch)] if self.launch else ()
        return [*before, *command]
