"""Rates that one node keeps on its own two directions, and how long a block may stand still on either side.

Owns what each transfer, and each flow of a shuffle, may move here. Must not know why: the controller says it
(`orchestra.messages.Budget`).

Theory of operation. What a transfer may receive, or send, is a leaky bucket (`transfers.net.buckets`): bytes
are read, or handed to the kernel, no faster. The kernel paces each sending socket at its share besides, which
makes egress smooth; alone that would not keep the budget, since a block handed over is still leaving when the
next connection begins. Ingress cannot be paced by the receiver's kernel: TCP's backpressure does the rest,
and whichever senders can, use it all.

A flow of a shuffle is one sending connection with a rate of its own, and is left to the kernel's pacing
(``SO_MAX_PACING_RATE``), which keeps it within a few percent. Two traps are stepped around here. What the
kernel has taken leaves whatever is decided later: so flows are handed over in parts, and the kernel takes no
more of them than leaves within a moment (``TCP_NOTSENT_LOWAT``). And a socket that has sent a packet at next
to no rate stands still for as long as that packet needs, whatever its rate is meanwhile: so no socket is
paced below `LEAST_PACING_BYTES_PER_S`; flows that are to be slower are kept by a bucket too, and a pause is
kept by not sending.

What a node sends in all, where that is limited, is one bucket more, in which whoever ranks first goes first.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import trio

from transfers.ids import NodeName, TransferName
from transfers.manifest import ObjectKey, taker_of
from transfers.net.buckets import Bucket, TurnBucket
from transfers.net.network import LEAST_PACING_BYTES_PER_S, Stream

STALL_LIMIT_S = 2.0
"""Longest time without a byte of a block, on either side: a sender takes its slot back, a receiver asks
elsewhere. The design's 1 s of silence, doubled: a lost packet on a busy host costs most of a second by
itself."""
PATIENCE_BYTES = 128 << 10
"""At a granted rate, what so much takes is waited for besides (a guess: two packets as hosts hand them to
their cards, 64 KiB each; a paced socket may send them one at a time)."""
FLOW_PART_BYTES = 1 << 20
"""Of a shuffle's flow, what is handed to the kernel at once at most (a guess: 0.8 ms at 10 Gbit/s)."""
FLOW_PART_S = 0.02
"""The same in time, at the flow's rate, or, without one, as fast as it has been lately (measured on ports of
50 Mbit/s with five flows each: who is to go first waits for 0.1 s with 0.05, and for half of that with 0.02;
from there on it is the kernel's packets of 64 KiB)."""
LEAST_FLOW_PART_BYTES = 16 << 10
"""The same at least (a guess: two packets of 9,000 bytes, which the kernel sends together in any case)."""
UNSENT_PARTS = 1
"""Parts that the kernel keeps unsent; it asks for more at half of that."""

_Users = WeakKeyDictionary[Stream, "EgressBudget"]
"""By whose budget something was sent last on a stream: some of that may still lie in the kernel."""


class IngressBudget(Bucket):
    """A leaky bucket over all that a node receives for one transfer.

    Args:
        rate_bytes_per_s: the budget; None is no limit, 0 a pause.
    """

    def __init__(self, rate_bytes_per_s: float | None = None) -> None:
        super().__init__(rate_bytes_per_s)
        self._slowest: float | None = None

    def expect_slowest(self, rate_bytes_per_s: float | None) -> None:
        """The least that senders of this transfer were granted; None where nobody said, 0 for a pause."""
        if rate_bytes_per_s != self._slowest:
            self._slowest = rate_bytes_per_s
            self.changed_at_s = trio.current_time()

    def stall_limit_s(self, limit_s: float) -> float:
        """How long nothing may come, at the granted rate: ``limit_s`` and more; infinity while paused."""
        granted = [rate for rate in (self.rate_bytes_per_s, self._slowest) if rate is not None]
        least = min(granted, default=float("inf"))
        return limit_s + PATIENCE_BYTES / least if least > 0 else float("inf")


class EgressBudget(Bucket):
    """The same over all that a node sends for one transfer; the kernel's pacing is divided anew whenever a
    connection begins or ends to send.

    Args:
        rate_bytes_per_s: the budget; None is no limit, 0 a pause.
        port: what the node sends in all.
        users: of all budgets of the node.

    Attributes:
        rank: which goes first where the node's sum is kept; the lowest.
    """

    def __init__(
        self,
        rate_bytes_per_s: float | None = None,
        port: TurnBucket | None = None,
        users: _Users | None = None,
    ) -> None:
        super().__init__(rate_bytes_per_s)
        self._port = TurnBucket() if port is None else port
        self._users: _Users = WeakKeyDictionary() if users is None else users
        self._sending: dict[Stream, FlowBudget | None] = {}
        self._sent: WeakKeyDictionary[Stream, FlowBudget | None] = WeakKeyDictionary()
        self.rank = 0

    def set_rate(self, rate_bytes_per_s: float | None) -> None:
        """Change the budget, at once for all that are sending."""
        super().set_rate(rate_bytes_per_s)
        self.repace()

    @contextmanager
    def sending(self, stream: Stream, flow: "FlowBudget | None" = None) -> Iterator[None]:
        """A block is sent on ``stream`` while the block runs; ``flow`` where it has a rate of its own."""
        before = self._users.get(stream)
        if before is not None:
            before._sent.pop(stream, None)
        self._users[stream] = self
        self._sending[stream] = flow
        self.repace()
        try:
            yield
        finally:
            del self._sending[stream]
            self._sent[stream] = flow
            self.repace()

    def part_size(self, wanted_bytes: int, sharers: int = 1) -> int:
        """As `Bucket.part_size`, divided over those who are sending; the node's sum counts as well."""
        size = super().part_size(wanted_bytes, max(sharers, len(self._sending)))
        return self._port.part_size(size)

    async def wait_turn(self) -> bool:
        """Wait until the budget, and the node's sum, allow another part."""
        waited = await super().wait_turn()
        await self._port.wait_ranked_turn(self.rank)
        return waited

    def spend(self, count_bytes: int) -> None:
        """Account for bytes that are handed over."""
        super().spend(count_bytes)
        self._port.spend(count_bytes)

    def repace(self) -> None:
        """Tell the kernel each connection's share, or its own rate where that is less.

        For a pause it is told nothing: what it holds leaves soon, and nobody waits for it later.
        """
        rate = self.rate_bytes_per_s
        share = None if rate is None else rate / max(1, len(self._sending))
        for stream, flow in [*self._sending.items(), *self._sent.items()]:
            own = None if flow is None else flow.rate_bytes_per_s
            paced = min((each for each in (share, own) if each is not None), default=None)
            if paced != 0:
                stream.set_pacing_rate(paced)
            stream.set_unsent_limit(None if flow is None else UNSENT_PARTS * flow.most_part_bytes)


class FlowBudget:
    """What one flow of a shuffle may send: a rate of its own, within the transfer's budget.

    Args:
        group: of the transfer.

    Attributes:
        rate_bytes_per_s: None is no limit, 0 a pause.
    """

    def __init__(self, group: EgressBudget) -> None:
        self._group = group
        self._bucket = Bucket()
        self._counted_bytes, self._counts_since_s, self._lately_bytes_per_s = 0, math.inf, 0.0
        self.rate_bytes_per_s: float | None = None

    def set_rate(self, rate_bytes_per_s: float | None) -> None:
        """Change it, at once if it is sending; None is no limit, 0 a pause."""
        self.rate_bytes_per_s = rate_bytes_per_s
        by_bucket = rate_bytes_per_s is not None and rate_bytes_per_s < LEAST_PACING_BYTES_PER_S
        self._bucket.set_rate(rate_bytes_per_s if by_bucket else None)
        self._group.repace()

    @contextmanager
    def sending(self, stream: Stream) -> Iterator[None]:
        """A block is sent on ``stream`` while the block runs."""
        with self._group.sending(stream, self):
            yield

    @property
    def most_part_bytes(self) -> int:
        """How much to hand over at once: little enough that a change of rate bites soon."""
        rate = self._lately_bytes_per_s if self.rate_bytes_per_s is None else self.rate_bytes_per_s
        return int(min(FLOW_PART_BYTES, max(LEAST_FLOW_PART_BYTES, rate * FLOW_PART_S)))

    def part_size(self, wanted_bytes: int) -> int:
        """How much of that to hand over now."""
        return self._group.part_size(self._bucket.part_size(min(wanted_bytes, self.most_part_bytes)))

    async def wait_turn(self) -> None:
        """Wait until it may hand over another part."""
        await self._bucket.wait_turn()
        await self._group.wait_turn()

    def spend(self, count_bytes: int) -> None:
        """Account for bytes that are handed over."""
        self._bucket.spend(count_bytes)
        self._group.spend(count_bytes)
        self._count(count_bytes)

    def _count(self, count_bytes: int) -> None:
        """Learn how fast it is, over the time that a part should take, and let the kernel keep
        accordingly."""
        now = trio.current_time()
        if now - self._counts_since_s > FLOW_PART_S:
            before = self.most_part_bytes
            self._lately_bytes_per_s = self._counted_bytes / (now - self._counts_since_s)
            if self.most_part_bytes != before:
                self._group.repace()
            self._counts_since_s = math.inf
        if math.isinf(self._counts_since_s):
            self._counted_bytes, self._counts_since_s = 0, now
        self._counted_bytes += count_bytes


class PortLimits:
    """A node's budgets, one each way for every transfer; a transfer without one is not limited."""

    def __init__(self) -> None:
        self._port = TurnBucket()
        self._users: _Users = WeakKeyDictionary()
        self._ingress: dict[TransferName, IngressBudget] = {}
        self._egress: dict[TransferName, EgressBudget] = {}
        self._flows: dict[TransferName, dict[NodeName, FlowBudget]] = {}
        self._other_flows: dict[TransferName, float | None] = {}

    @property
    def transfers(self) -> tuple[TransferName, ...]:
        """Those for which budgets are kept."""
        return tuple(dict.fromkeys([*self._ingress, *self._egress, *self._flows]))

    def limit_port(self, rate_bytes_per_s: float | None) -> None:
        """What this node may send in all; None is no limit."""
        self._port.set_rate(rate_bytes_per_s)

    def ingress(self, transfer: TransferName) -> IngressBudget:
        """What this node may receive for a transfer."""
        return self._ingress.setdefault(transfer, IngressBudget())

    def egress(self, transfer: TransferName) -> EgressBudget:
        """What this node may send for a transfer."""
        found = self._egress.get(transfer)
        if found is None:
            found = self._egress[transfer] = EgressBudget(port=self._port, users=self._users)
        return found

    def sending(self, key: ObjectKey) -> EgressBudget | FlowBudget:
        """What this node may send of an object: a transfer's budget, or that of a shuffle's flow."""
        return self._flow(key.transfer, taker_of(key.part)) if key.part else self.egress(key.transfer)

    def _flow(self, transfer: TransferName, reducer: NodeName) -> FlowBudget:
        flows = self._flows.setdefault(transfer, {})
        found = flows.get(reducer)
        if found is None:
            found = flows[reducer] = FlowBudget(self.egress(transfer))
            found.set_rate(self._other_flows.get(transfer))
        return found

    def set_budget(
        self,
        transfer: TransferName,
        egress_bytes_per_s: float | None,
        ingress_bytes_per_s: float | None,
        *,
        rank: int = 0,
        flows: Mapping[NodeName, float] | None = None,
        other_flows_bytes_per_s: float | None = None,
        slowest_bytes_per_s: float | None = None,
    ) -> None:
        """Change what a transfer may move.

        Args:
            transfer: whose budgets they are.
            egress_bytes_per_s, ingress_bytes_per_s: of the transfer; None is no limit, 0 a pause.
            rank: which goes first where the node's sum is kept.
            flows: what single flows of a shuffle may send, by reducer.
            other_flows_bytes_per_s: what each flow may that is not named.
            slowest_bytes_per_s: the least that anybody may send here for it; None where nobody is held.
        """
        egress = self.egress(transfer)
        egress.rank = rank
        egress.set_rate(egress_bytes_per_s)
        ingress = self.ingress(transfer)
        ingress.set_rate(ingress_bytes_per_s)
        ingress.expect_slowest(slowest_bytes_per_s)
        named = {} if flows is None else flows
        self._other_flows[transfer] = other_flows_bytes_per_s
        for reducer in named:
            self._flow(transfer, reducer)
        for reducer, flow in self._flows.get(transfer, {}).items():
            flow.set_rate(named.get(reducer, other_flows_bytes_per_s))

    def forget(self, transfer: TransferName) -> None:
        """The transfer is gone from this node: what is still under way for it is not held up."""
        for gone in (self._ingress.pop(transfer, None), self._egress.pop(transfer, None)):
            if gone is not None:
                gone.set_rate(None)
        for flow in self._flows.pop(transfer, {}).values():
            flow.set_rate(None)
        self._other_flows.pop(transfer, None)
