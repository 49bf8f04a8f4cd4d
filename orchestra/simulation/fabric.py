"""The modelled cluster: hosts, their network cards, racks, and what is wrong with them just now.

Owns capacities and the way from host to host. Must not know flows, blocks or time. Pure.

Theory of operation. A host has an egress and an ingress link; racks have uplinks each way, to their
neighbours or to one switch (`Wiring`). A flow from one host to another crosses the sender's egress, the
uplinks between their racks, and the receiver's ingress. Hosts and their links have indices, so that rates can
be computed on arrays.
"""

import math
from collections.abc import Sequence
from enum import Enum

import numpy as np

from schedulers.filling import Floats, Indices

LOOPBACK_BYTES_PER_S = 1e10
"""Between processes of one host (a guess: memory, not a network)."""


class Wiring(Enum):
    """How racks hang together."""

    LINE = "line"
    """Each is joined to the one before it and to the one behind it."""
    CORE = "core"
    """Each is joined to one switch, which is as fast as need be."""


def rack_of_each_host(receivers: Sequence[int], source_rack: int = 0) -> list[int]:
    """Rack of every host, by its place in the line: host 0 is the source, the others stand rack by rack.

    Args:
        receivers: in each rack.
        source_rack: the source's; it is one more host there.
    """
    return [source_rack, *(rack for rack, count in enumerate(receivers) for _ in range(count))]


class Fabric:
    """Hosts and links.

    Args:
        rates: bytes/s of each host's network card, the same both ways.
        racks: the rack of each host, numbered from 0 along the line; None is one rack.
        uplink_bytes_per_s: of each uplink, the same both ways; None is as much as anyone wants.
        latency_s: one way between any two hosts.
        wiring: of the racks.

    Raises:
        ValueError: for rates that are not above 0 and finite, a negative latency, or racks of another number.
    """

    def __init__(
        self,
        rates: Sequence[float],
        racks: Sequence[int] | None = None,
        uplink_bytes_per_s: float | None = None,
        latency_s: float = 1e-4,
        wiring: Wiring = Wiring.LINE,
    ) -> None:
        for rate in rates:
            if not (math.isfinite(rate) and rate > 0):
                raise ValueError(f"rates must be above 0 and finite, got {rate}")
        uplink = math.inf if uplink_bytes_per_s is None else uplink_bytes_per_s
        if not uplink > 0:
            raise ValueError(f"uplink_bytes_per_s must be above 0, got {uplink_bytes_per_s}")
        if not (math.isfinite(latency_s) and latency_s >= 0):
            raise ValueError(f"latency_s must be finite and not negative, got {latency_s}")
        if racks is not None and (len(racks) != len(rates) or any(rack < 0 for rack in racks)):
            raise ValueError(f"racks must give a number from 0 for each of {len(rates)} hosts, got {racks}")
        self.hosts = len(rates)
        self.racks = [0] * len(rates) if racks is None else list(racks)
        self.latency_s = latency_s
        self._rack_count = max(self.racks, default=0) + 1
        self._wiring = wiring
        line = wiring is Wiring.LINE
        uplinks = self._rack_count - 1 if line else self._rack_count
        self._uplinks = 2 * self.hosts
        self._pad = self._uplinks + 2 * uplinks
        self.hops = 2 + (uplinks if line else 2)
        self.nominal: Floats = np.array([*rates, *rates, *[uplink] * (2 * uplinks), math.inf])
        self.capacities: Floats = self.nominal.copy()
        self._cut: set[tuple[int, int]] = set()
        self._clogged: set[int] = set()

    def path(self, sender: int, receiver: int) -> Indices:
        """The links of a flow, padded to `hops`."""
        way = [self._pad] * self.hops
        if sender != receiver:
            way[0], way[1] = sender, self.hosts + receiver
            crossed = self._crossed(self.racks[sender], self.racks[receiver])
            way[2 : 2 + len(crossed)] = [self._uplinks + at for at in crossed]
        return np.array(way, dtype=np.intp)

    def _crossed(self, here: int, there: int) -> list[int]:
        """Uplinks from one rack to another: even numbers lead up the line, or to the switch."""
        if self._wiring is Wiring.LINE:
            return [2 * at for at in range(here, there)] + [2 * at + 1 for at in range(there, here)]
        return [2 * here, 2 * there + 1] if here != there else []

    def egress(self, host: int) -> float:
        """Bytes/s that a host can send just now."""
        return float(self.capacities[host])

    # -- what can be wrong -----------------------------------------------------------------------

    def slow(self, host: int, share: float) -> None:
        """Both directions of a host carry ``share`` of what they are made for; 1.0 mends it."""
        for link in (host, self.hosts + host):
            self.capacities[link] = self.nominal[link] * share

    def move(self, host: int, rack: int) -> None:
        """A host is plugged into another rack's switch; tell the fluid (`Fluid.unsettle`).

        Raises:
            ValueError: for a rack that is not there.
        """
        if not 0 <= rack < self._rack_count:
            raise ValueError(f"rack must be one that is there, got {rack}")
        self.racks[host] = rack

    def cut(self, sender: int, receiver: int) -> None:
        """Nothing goes from one host to another any more; the way back is another matter."""
        self._cut.add((sender, receiver))

    def mend(self, sender: int, receiver: int) -> None:
        """Undo `cut`."""
        self._cut.discard((sender, receiver))

    def clog(self, host: int) -> None:
        """Nothing comes out of a host or into it."""
        self._clogged.add(host)

    def unclog(self, host: int) -> None:
        """Undo `clog`."""
        self._clogged.discard(host)

    @property
    def obstructed(self) -> bool:
        """Whether anything at all does not pass."""
        return bool(self._cut or self._clogged)

    def passes(self, sender: int, receiver: int) -> bool:
        """Whether anything goes from one host to another just now."""
        if not self.obstructed:
            return True
        if sender == receiver:
            return sender not in self._clogged
        return (sender, receiver) not in self._cut and not self._clogged.intersection((sender, receiver))
