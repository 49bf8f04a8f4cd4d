"""Watches that links carry no more than they can, and hosts no more than they may.

Owns two sums that are made here anew, not by those who compute rates: the load of every link after every
computation, and what each host has sent and received under a port rate. Must not know transfers.
"""

from collections.abc import Callable
from enum import Enum

import numpy as np

from orchestra.simulation.fabric import Fabric
from orchestra.simulation.fluid import Fluid
from schedulers.filling import Floats, Indices

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
        self._racks = np.array(fabric.racks, dtype=np.intp)
        self.looks = 0

    def settled(self, fluid: Fluid) -> None:
        """Rates have been computed: every flow within its cap, every link within its capacity."""
        self.looks += 1
        flows = np.array(list(fluid.flows()), dtype=np.intp).reshape(-1, 3)
        rates, caps = fluid.rates_and_caps(flows[:, 0])
        senders, receivers = flows[:, 1], flows[:, 2]
        for at in np.flatnonzero((rates < 0) | (rates > caps * (1 + _ROUNDING))):
            who = f"host {senders[at]} to host {receivers[at]}"
            self._complain(f"{who}: {rates[at]:.0f} bytes/s, its cap is {caps[at]:.0f}")
        if self._fabric.obstructed:
            for at in np.flatnonzero(rates):
                sender, receiver = int(senders[at]), int(receivers[at])
                if not self._fabric.passes(sender, receiver):
                    who = f"host {sender} to host {receiver}"
                    self._complain(f"{who}: {rates[at]:.0f} bytes/s where nothing passes")
        loads = self._loads(senders, receivers, rates)
        capacities = self._fabric.capacities[: len(loads)]
        for link in np.flatnonzero(loads > capacities * (1 + _ROUNDING)):
            told = f"{loads[link]:.0f} bytes/s of {capacities[link]:.0f}"
            self._complain(f"{self._called(int(link))} carries {told}")

    def _loads(self, senders: Indices, receivers: Indices, rates: Floats) -> Floats:
        """Bytes/s on every egress, every ingress, and the uplinks between racks, up and down in turn."""
        hosts = self._fabric.hosts
        away = senders != receivers
        senders, receivers, rates = senders[away], receivers[away], rates[away]
        here, there = self._racks[senders], self._racks[receivers]
        parts = [np.bincount(senders, rates, hosts), np.bincount(receivers, rates, hosts)]
        for between in range(int(self._racks.max())):
            up = rates[(here <= between) & (there > between)].sum()
            down = rates[(there <= between) & (here > between)].sum()
            parts.append(np.array([up, down]))
        return np.concatenate(parts)

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
