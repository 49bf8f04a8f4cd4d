"""What a system must do to be measured beside others.

Owns the meaning of a figure. Must not know any system.

A figure is the time of one broadcast, in seconds: it begins when everyone is up and connected and the
source has the object in its memory, and ends when the last receiver has the last byte in its memory.
Hosts share the machine's CLOCK_MONOTONIC, so moments noted in different hosts can be compared.
"""

import importlib.util
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from examples.benchmarks.emulation import EmulatedCluster


class System(Protocol):
    """Something that broadcasts.

    Attributes:
        name: as it stands in the table.
        how: how it is set, and why that is the most favourable setting its documentation allows; one line.

    One whose processes spin while they wait says so by an attribute ``polls`` that is true: the CPU that is
    idle beside it tells nothing. One that takes minutes to come up says so by ``heavy``: it is measured only
    when it is named.
    """

    @property
    def name(self) -> str: ...

    @property
    def how(self) -> str: ...

    def missing(self) -> str | None:
        """Why it cannot run on this machine; None if it can."""
        ...

    def broadcast(
        self, cluster: "EmulatedCluster", size_bytes: int, repeats: int, timeout_s: float
    ) -> list[float]:
        """Seconds of each of ``repeats`` broadcasts of random bytes from ``cluster.hosts[0]`` to all others.

        A broadcast before them warms a system up where it needs that, and does not count. What has arrived is
        checked outside of the time that is reported.

        Args:
            cluster: with nothing running in it; nothing runs in it afterwards.
            size_bytes: of the object.
            repeats: how many.
            timeout_s: for each broadcast.

        Raises:
            RuntimeError: when a part of it fails or takes longer, or the bytes that arrive are others; the
                message says which part and why.
        """
        ...


def heavy(system: System) -> bool:
    """Whether it takes minutes to come up."""
    return bool(getattr(system, "heavy", False))


def missing_module(*modules: str) -> str | None:
    """Why a system cannot run that needs these Python modules; None if they are all here."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed (for Python)"
    return None


def polls(system: System) -> bool:
    """Whether its processes spin while they wait."""
    return bool(getattr(system, "polls", False))
