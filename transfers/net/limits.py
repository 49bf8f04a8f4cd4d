"""Rates that one node keeps on its own two directions.

Egress is shared out over the connections that are sending and enforced by the kernel's pacing. Ingress
cannot be paced by the receiver's kernel, so the receiver reads no faster than its budget and TCP's
backpressure does the rest: whichever senders can, use it all.
"""

import trio

from transfers.ids import TransferName

_BURST_S = 0.05
"""Most unused ingress that may be saved up, in seconds of the budget (a guess: half of what pacing takes
to bite after a change)."""


class IngressBudget:
    """A leaky bucket over all that a node receives.

    Args:
        rate_bytes_per_s: the budget; None is no limit.
    """

    def __init__(self, rate_bytes_per_s: float | None = None) -> None:
        self._rate = rate_bytes_per_s
        self._free_at_s = 0.0

    def set_rate(self, rate_bytes_per_s: float | None) -> None:
        """Change the budget from now on."""
        self._rate = rate_bytes_per_s

    def read_size(self, wanted_bytes: int) -> int:
        """How much to read at once: small enough that the budget is kept smoothly."""
        if self._rate is None:
            return wanted_bytes
        return max(1, min(wanted_bytes, int(self._rate * _BURST_S)))

    async def wait_turn(self) -> None:
        """Wait until the budget allows another read."""
        while self._rate is not None:
            ahead = self._free_at_s - trio.current_time()
            if ahead <= 0:
                return
            await trio.sleep(ahead)

    def spend(self, count_bytes: int) -> None:
        """Account for bytes that were read."""
        if self._rate is not None:
            earliest = trio.current_time() - _BURST_S
            self._free_at_s = max(self._free_at_s, earliest) + count_bytes / self._rate


class EgressBudget:
    """What each sending connection may take of a node's egress.

    Args:
        rate_bytes_per_s: the budget; None is no limit.
    """

    def __init__(self, rate_bytes_per_s: float | None = None) -> None:
        self._rate = rate_bytes_per_s
        self.sending = 0

    def set_rate(self, rate_bytes_per_s: float | None) -> None:
        """Change the budget; connections take it up at their next block."""
        self._rate = rate_bytes_per_s

    def share(self) -> float | None:
        """Bytes/s for one of the connections that are sending now; None is no limit."""
        return None if self._rate is None else self._rate / max(1, self.sending)


class PortLimits:
    """A node's budgets, one each way for every transfer; a transfer without one is not limited."""

    def __init__(self) -> None:
        self._ingress: dict[TransferName, IngressBudget] = {}
        self._egress: dict[TransferName, EgressBudget] = {}

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
