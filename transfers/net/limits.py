"""Rates that one node keeps on its own two directions, and how long a block may stand still on either side.

The rates are leaky buckets: bytes are read, or handed to the kernel, no faster than the budget. The kernel
paces each sending socket at its share besides, which makes egress smooth; alone that would not keep the
budget, since a block handed over is still leaving when the next connection begins. Ingress cannot be paced by
the receiver's kernel: TCP's backpressure does the rest, and whichever senders can, use it all.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from transfers.ids import TransferName
from transfers.net.network import Stream

STALL_LIMIT_S = 2.0
"""Longest time without a byte of a block, on either side: a sender takes its slot back, a receiver asks
elsewhere. The design's 1 s of silence, doubled: a lost packet on a busy host costs most of a second by
itself."""
_BURST_S = 0.05
"""Most of a budget that may be saved up unused, or moved at once, in seconds of it (a guess: half of what
pacing takes to bite after a change)."""
_MIN_PART_BYTES = 1024
"""Least moved at once, however many share a budget (a guess: about one packet)."""


class IngressBudget:
    """A leaky bucket over all that a node receives for one transfer.

    Args:
        rate_bytes_per_s: the budget; None is no limit.
    """

    def __init__(self, rate_bytes_per_s: float | None = None) -> None:
        self._rate = rate_bytes_per_s
        self._free_at_s = 0.0

    def set_rate(self, rate_bytes_per_s: float | None) -> None:
        """Change the budget from now on."""
        self._rate = rate_bytes_per_s

    def part_size(self, wanted_bytes: int) -> int:
        """How much to move at once: small enough that the budget is kept smoothly."""
        if self._rate is None:
            return wanted_bytes
        return min(wanted_bytes, max(_MIN_PART_BYTES, int(self._rate * _BURST_S / self._sharers())))

    async def wait_turn(self) -> None:
        """Wait until the budget allows another part to move."""
        while self._rate is not None:
            ahead = self._free_at_s - trio.current_time()
            if ahead <= 0:
                return
            await trio.sleep(ahead)

    def spend(self, count_bytes: int) -> None:
        """Account for bytes that have moved."""
        if self._rate is not None:
            earliest = trio.current_time() - _BURST_S
            self._free_at_s = max(self._free_at_s, earliest) + count_bytes / self._rate

    def _sharers(self) -> int:
        return 1


class EgressBudget(IngressBudget):
    """The same over all that a node sends for one transfer; the kernel's pacing is divided anew whenever a
    connection begins or ends to send.

    Args:
        rate_bytes_per_s: the budget; None is no limit.
    """

    def __init__(self, rate_bytes_per_s: float | None = None) -> None:
        super().__init__(rate_bytes_per_s)
        self._sending: dict[Stream, None] = {}

    def set_rate(self, rate_bytes_per_s: float | None) -> None:
        """Change the budget, at once for all that are sending."""
        super().set_rate(rate_bytes_per_s)
        self._divide()

    @contextmanager
    def sending(self, stream: Stream) -> Iterator[None]:
        """A block is sent on ``stream`` while the block runs."""
        self._sending[stream] = None
        self._divide()
        try:
            yield
        finally:
            del self._sending[stream]
            self._divide()

    def _sharers(self) -> int:
        return max(1, len(self._sending))

    def _divide(self) -> None:
        share = None if self._rate is None else self._rate / self._sharers()
        for stream in self._sending:
            stream.set_pacing_rate(share)


class PortLimits:
    """A node's budgets, one each way for every transfer; a transfer without one is not limited."""

    def __init__(self) -> None:
        self._ingress: dict[TransferName, IngressBudget] = {}
        self._egress: dict[TransferName, EgressBudget] = {}

    @property
    def transfers(self) -> tuple[TransferName, ...]:
        """Those for which budgets are kept."""
        return tuple(dict.fromkeys([*self._ingress, *self._egress]))

    def ingress(self, transfer: TransferName) -> IngressBudget:
        """What this node may receive for a transfer."""
        return self._ingress.setdefault(transfer, IngressBudget())

    def egress(self, transfer: TransferName) -> EgressBudget:
        """What this node may send for a transfer."""
        return self._egress.setdefault(transfer, EgressBudget())

    def set_budget(
        self, transfer: TransferName, egress_bytes_per_s: float | None, ingress_bytes_per_s: float | None
    ) -> None:
        """Change both budgets of a transfer."""
        self.egress(transfer).set_rate(egress_bytes_per_s)
        self.ingress(transfer).set_rate(ingress_bytes_per_s)

    def forget(self, transfer: TransferName) -> None:
        """The transfer is gone from this node."""
        self._ingress.pop(transfer, None)
        self._egress.pop(transfer, None)
