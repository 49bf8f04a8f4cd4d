"""What is believed of the network between the nodes of one transfer, as figures.

Owns the figures that predictions are made of (`orchestra.costs`), and what they are before anything was
measured. Must not know where measurements come from (`orchestra.controller.measured`). Pure.
"""

import math
from dataclasses import dataclass

LOOPBACK_RATE_BYTES_PER_S = 0.9e9
"""One flow over loopback: measured with `examples.benchmarks.local_mechanisms --nodes 1 --size 256MB` on 2
cores, chain and tree, 0.72 to 1.16 GB/s. (Plain blocking sockets that check nothing: 1.8 GB/s.)"""

LOOPBACK_SHARED_RATE_BYTES_PER_S = 1.4e9
"""All flows of one host together: measured in the same way with 2, 4 and 7 receivers, 1.0 to 1.6 GB/s."""

UNKNOWN_RATE_BYTES_PER_S = 125e6
"""1 Gbit/s, for links of which nothing is known (a guess: what cards, and ports of small virtual machines,
give most often). It decides the blocks of the first broadcast: 1 MiB for 32 MB to 15 receivers, with
which links of 50 Mbit/s need a tenth more than with the best, and those of 10 Gbit/s are bound by the CPU
anyway. What the kernel says of a card is not asked for: a virtual one says 10 Gbit/s whatever its port is
shaped to."""

LATENCY_S = 0.0001
"""One way between two idle hosts of a local network (the design measured round trips of 0.2 ms)."""

OVERHEAD_S_PER_BLOCK = 0.0004
"""What a block costs beside its bytes: asked for, headed, checked, reported (a guess: about six events of
21-77 µs, as measured for the design, and two wake-ups of a process)."""

START_S = 0.03
"""From acceptance to the first byte, and from the last one to the report of it (a guess between the 20 ms in
which reports are gathered, and the 40 ms simulated with a control delay of 20 ms)."""

LOOPBACK_START_S = 0.01
"""The same on one host (a guess: connections, and a few wake-ups)."""

SMALL_START_S = 0.003
"""What a small object takes beside its bytes, until some have told; it is sent before it is planned (measured
over loopback to one receiver: 2 to 4 ms)."""


@dataclass(frozen=True, slots=True)
class LinkEstimate:
    """What is believed of the network between the nodes of a transfer.

    The defaults are for the processes of one host over loopback, where no port is limited; `on_loopback`
    adds what they share.

    Attributes:
        rate_bytes_per_s: one direction of a usual node's link.
        latency_s: from a block's last byte at one node to its first at the next, beside what bytes take.
        overhead_s_per_block: what a block costs a node beside the time of its bytes.
        shared_host_rate_bytes_per_s: bytes/s that all nodes together can receive where they stand on one
            host and share its memory and cores; None where each node has a host of its own.
        start_s: what a transfer takes beside all that: commands, connections, the last report.
        small_start_s: the same of a small object, for which nothing is planned.
        burst_bytes: what a port lets through at once before its rate holds (token buckets).
        source_rate_bytes_per_s: what the source can send; None is as usual.
        slowest_in_bytes_per_s, slowest_out_bytes_per_s: of the receivers' links; None is as usual.
        origin: where this is from, in a few words.

    Raises:
        ValueError: for a rate that is not above 0, or anything negative or not finite.
    """

    rate_bytes_per_s: float = LOOPBACK_RATE_BYTES_PER_S
    latency_s: float = LATENCY_S
    overhead_s_per_block: float = OVERHEAD_S_PER_BLOCK
    shared_host_rate_bytes_per_s: float | None = None
    start_s: float = START_S
    small_start_s: float = SMALL_START_S
    burst_bytes: float = 0.0
    source_rate_bytes_per_s: float | None = None
    slowest_in_bytes_per_s: float | None = None
    slowest_out_bytes_per_s: float | None = None
    origin: str = "assumed"

    def __post_init__(self) -> None:
        for name in (
            "rate_bytes_per_s",
            "shared_host_rate_bytes_per_s",
            "source_rate_bytes_per_s",
            "slowest_in_bytes_per_s",
            "slowest_out_bytes_per_s",
        ):
            rate = getattr(self, name)
            if rate is not None and not (math.isfinite(rate) and rate > 0):
                raise ValueError(f"{name} must be above 0 and finite, got {rate}")
        for name in ("latency_s", "overhead_s_per_block", "start_s", "small_start_s", "burst_bytes"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {value}")

    @classmethod
    def on_loopback(cls, port_rate_bytes_per_s: float | None = None) -> "LinkEstimate":
        """Nodes of one host, each held to a port rate in both directions, or by the host alone."""
        port_rate = math.inf if port_rate_bytes_per_s is None else port_rate_bytes_per_s
        return cls(
            rate_bytes_per_s=min(port_rate, LOOPBACK_RATE_BYTES_PER_S),
            shared_host_rate_bytes_per_s=LOOPBACK_SHARED_RATE_BYTES_PER_S,
            start_s=LOOPBACK_START_S,
            origin="assumed of loopback" if port_rate_bytes_per_s is None else "told",
        )

    @classmethod
    def unknown(cls, port_rate_bytes_per_s: float | None = None) -> "LinkEstimate":
        """Nodes on hosts of their own, of which nothing was measured; a port rate is what was told."""
        if port_rate_bytes_per_s is None:
            return cls(rate_bytes_per_s=UNKNOWN_RATE_BYTES_PER_S)
        return cls(rate_bytes_per_s=port_rate_bytes_per_s, origin="told")

    @property
    def source_rate(self) -> float:
        """Bytes/s that the source can send."""
        return self.rate_bytes_per_s if self.source_rate_bytes_per_s is None else self.source_rate_bytes_per_s

    @property
    def slowest_in(self) -> float:
        """Bytes/s that every receiver can receive."""
        return self.rate_bytes_per_s if self.slowest_in_bytes_per_s is None else self.slowest_in_bytes_per_s

    @property
    def slowest_out(self) -> float:
        """Bytes/s that every receiver can send on."""
        return self.rate_bytes_per_s if self.slowest_out_bytes_per_s is None else self.slowest_out_bytes_per_s

    def rate_for(self, streams: int) -> float:
        """Bytes/s of each of ``streams`` usual links at once: the link's own, or its part of the host."""
        return min(self.rate_bytes_per_s, self.host_share(streams))

    def host_share(self, streams: int) -> float:
        """Bytes/s of each of ``streams`` where one host carries all; no limit where each has its own."""
        shared = self.shared_host_rate_bytes_per_s
        return math.inf if shared is None else shared / streams
