"""Watches that links carry no more than they can, and hosts no more than they may.

Owns two sums that are made here anew, not by those who compute rates: the load of every link after every
computation, and what each host has sent and received under a port rate. Must not know transfers.
"""

from collections.abc import Callable, Iterable
from enum import Enum

from orchestra.simulation.fabric import Fabric
from orchestra.simulation.fluid import Fluid

_ROUNDING = 1e-6
"""Loads may exceed capacities by this share: a thousand times the slack that the filling allows itself."""


class Side(Enum):
    """Which side of a host."""

    SENT = "sent"
    RECEIVED = "received"


class LinkWatch:
    """Compares loads with capacities.

    Args:
        fabric: hosts and links.
        complain: who hears of what must not be.
    """

    def __init__(self, fabric: Fabric, complain: Callable[[str], None]) -> None:
        self._fabric = fabric
        self._complain = complain
        self.looks = 0

    def settled(self, fluid: Fluid) -> None:
        """Rates have been computed: every flow within its cap, every link within its capacity."""
        self.looks += 1
        loads: dict[int, float] = {}
        for flow, sender, receiver in fluid.flows():
            rate = fluid.rate(flow)
            if not rate:
                continue
            if rate < 0 or rate > fluid.cap(flow) * (1 + _ROUNDING):
                self._complain(
                    f"host {sender} to host {receiver}: {rate:.0f} bytes/s, its cap is {fluid.cap(flow):.0f}"
                )
            if not self._fabric.passes(sender, receiver):
                self._complain(f"host {sender} to host {receiver}: {rate:.0f} bytes/s where nothing passes")
            for link in self._crossed(sender, receiver):
                loads[link] = loads.get(link, 0.0) + rate
        for link, load in loads.items():
            capacity = float(self._fabric.capacities[link])
            if load > capacity * (1 + _ROUNDING):
                self._complain(f"{self._called(link)} carries {load:.0f} bytes/s of {capacity:.0f}")

    def _crossed(self, sender: int, receiver: int) -> Iterable[int]:
        """Links between two hosts: the sender's egress, the uplinks of the racks between, the ingress."""
        if sender == receiver:
            return
        hosts, racks = self._fabric.hosts, self._fabric.racks
        yield sender
        yield hosts + receiver
        low, high = sorted((racks[sender], racks[receiver]))
        for between in range(low, high):
            yield 2 * hosts + 2 * between + (racks[sender] > racks[receiver])

    def _called(self, link: int) -> str:
        hosts = self._fabric.hosts
        if link < hosts:
            return f"egress of host {link}"
        if link < 2 * hosts:
            return f"ingress of host {link - hosts}"
        return f"uplink {link - 2 * hosts}"


class RateWatch:
    """Holds what each host sends and receives against a rate, over every window at once.

    What has moved within any window of T seconds is at most ``rate · T + burst`` exactly if a bucket that
    leaks at the rate never holds more than the burst.

    Args:
        rate_bytes_per_s: of each host, each way.
        complain: who hears of what must not be; once for each side of a host.

    Attributes:
        burst_bytes: most that may move at once, on each side.
        highest: the fullest that any host's bucket has been, on each side.
    """

    def __init__(self, rate_bytes_per_s: float, complain: Callable[[str], None]) -> None:
        self._rate = rate_bytes_per_s
        self.burst_bytes = dict.fromkeys(Side, 0.0)
        self._complain = complain
        self._level: dict[tuple[int, Side], tuple[float, float]] = {}
        self._told: set[tuple[int, Side]] = set()
        self.highest = dict.fromkeys(Side, 0.0)

    def moved(self, host: int, side: Side, count_bytes: int, now_s: float) -> None:
        """Bytes have gone from a host, or come to it."""
        level, at_s = self._level.get((host, side), (0.0, now_s))
        level = max(0.0, level - self._rate * (now_s - at_s)) + count_bytes
        self._level[host, side] = (level, now_s)
        self.highest[side] = max(self.highest[side], level)
        if level > self.burst_bytes[side] and (host, side) not in self._told:
            self._told.add((host, side))
            self._complain(
                f"host {host} has {side.value} {level:.0f} bytes more than {self._rate:.0f} bytes/s allow; "
                f"{self.burst_bytes[side]:.0f} may come at once"
            )
