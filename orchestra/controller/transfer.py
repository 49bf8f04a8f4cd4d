"""What the two kinds of transfer controllers have in common, and what they may use of the whole.

A transfer controller (TC) serves one transfer. It is told events and answers through `Cluster`, which the
controller core implements. It is pure: no clock, no sockets; ``now`` is passed in.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from orchestra.controller.demands import NodeFlow, PortNumbers
from orchestra.controller.measured import Measured
from orchestra.controller.members import Members, Node
from orchestra.controller.racks import Topology
from orchestra.controller.standing_plan import FlowState
from orchestra.messages import (
    Claim,
    FetchTrouble,
    LetGo,
    MapFailed,
    Outcome,
    Settled,
    ToNode,
)
from schedulers import Demand, Standing, TransferId
from transfers.ids import NodeName, TransferName
from transfers.manifest import ObjectKey
from transfers.planners.events import REPORT_INTERVAL_S, Stored


class TransferState(Enum):
    """Where a transfer stands."""

    WAITING = "waiting"
    ACTIVE = "active"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"


# Tuples, not sets: states are asked for at every tick of thousands of transfers, and enums hash slowly.
GONE = (TransferState.FAILED, TransferState.CANCELLED, TransferState.RELEASED)
"""Over, and nobody keeps anything of it."""

OVER = (TransferState.DONE, TransferState.PARTIAL, *GONE)


PROGRESS_INTERVAL_S = 0.2
"""Between two words about a transfer's progress (a guess: smooth to the eye)."""


def timeout_refused(timeout_s: float) -> str | None:
    """Why a transfer cannot have this timeout; None if it can."""
    return None if 0 < timeout_s < float("inf") else f"timeout_s must be above 0, got {timeout_s}"


class Cluster(Protocol):
    """What a TC may use of the controller."""

    @property
    def members(self) -> Members:
        """Who is there."""
        ...

    @property
    def measured(self) -> Measured:
        """What is known of links."""
        ...

    @property
    def topology(self) -> Topology:
        """Which racks are believed in."""
        ...

    def send(self, node: NodeName, message: ToNode) -> None:
        """Say something to a node; nothing happens if it is gone."""
        ...

    def log(self, text: str) -> None:
        """One line for whoever runs the controller."""
        ...

    def changed(self, transfer: "TransferController", *, urgent: bool = False) -> None:
        """What a transfer has left to move is another than before; ``urgent``: it begins, ends or is
        paused."""
        ...

    def moved(self, source: NodeName, to: NodeName, count_bytes: int) -> None:
        """Bytes have come from one node to another."""
        ...


@dataclass(slots=True)
class Tally:
    """What is told of a transfer when it is over; ``predicted_s`` is None where nothing was predicted."""

    accepted_at_s: float = 0.0
    completion_s: float = 0.0
    predicted_s: float | None = None
    node_completion_s: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    replaced: dict[str, str] = field(default_factory=dict)

    @property
    def prediction_error(self) -> float | None:
        """How far off the prediction was, as a share of what it came to; None while that cannot be told."""
        if self.predicted_s is None or not self.completion_s > 0 or self.failed:
            return None
        return self.predicted_s / self.completion_s - 1

    def outcome(self, transfer: TransferName) -> Outcome:
        """The message about it."""
        return Outcome(
            *(transfer, self.completion_s, dict(self.node_completion_s), dict(self.failed), self.reason),
            replaced=dict(self.replaced),
        )


class TransferController(ABC):
    """One transfer.

    Attributes:
        name: of the transfer.
        state: where it stands.
        tally: times and failures so far.
        moved_at_s: when anything last got on; a transfer that stands still for its timeout fails.
        report_interval_s: how long its nodes may gather what they report.
        claim: what it claims beside others.
        granted_bytes_per_s: what it may send in all now; None where nobody holds it back.
    """

    kind: str

    def __init__(
        self, name: TransferName, cluster: Cluster, timeout_s: float, claim: Claim, now: float
    ) -> None:
        self.name = name
        self.cluster = cluster
        self.timeout_s = timeout_s
        self.claim = claim
        self.state = TransferState.WAITING
        self.tally = Tally()
        self.moved_at_s = now
        self.report_interval_s = REPORT_INTERVAL_S
        self._paused = False
        self.granted_bytes_per_s: float | None = None

    @property
    def paused(self) -> bool:
        """Whether nothing of it is to move, since somebody said so. What is over serves late joiners."""
        return self._paused and not self.over

    @property
    def over(self) -> bool:
        """Whether its outcome is settled."""
        return self.state in OVER

    @property
    def gone(self) -> bool:
        """Whether nobody holds anything of it any more, so that its name is free."""
        return self.state in GONE

    # -- its share of ports --------------------------------------------------------------------

    @abstractmethod
    def demand(self, ports: PortNumbers, left_bytes: Mapping[NodeFlow, float]) -> Demand | None:
        """What it has left to move now; None for nothing.

        Args:
            ports: to be numbered.
            left_bytes: of each of its `flows`, as reckoned.
        """

    def flows(self) -> Mapping[NodeFlow, FlowState]:
        """Of a shuffle, how far each flow is that may move, by the nodes at its ends."""
        return {}

    def places(self) -> Mapping[NodeName, Sequence[NodeName]]:
        """Of a shuffle, which reducers' places each node has."""
        return {}

    def standing(self, sent_bytes: int) -> Standing:
        """What it is among the others."""
        return Standing(
            TransferId(self.name),
            self.tally.accepted_at_s,
            self.claim.priority,
            self.claim.weight,
            float(sent_bytes),
        )

    def set_paused(self, paused: bool, now: float) -> None:
        """Hold all of it, or let it go on."""
        self._paused = paused
        self.moved_at_s = now
        self.cluster.changed(self, urgent=True)

    def stands_still(self, now: float) -> bool:
        """Whether nothing has got on for its timeout. The clock stops while nothing may move."""
        if self.granted_bytes_per_s == 0:
            self.moved_at_s = now
        return now - self.moved_at_s >= self.timeout_s

    # ------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def moving(self) -> bool:
        """Whether bytes may be under way for it."""

    @abstractmethod
    def participants(self) -> list[NodeName]:
        """Nodes that hold, or are to hold, an object of this transfer."""

    def involves(self, node: NodeName) -> bool:
        """Whether a node is one of `participants`; asked for every message, so it should not list them."""
        return node in self.participants()

    def engaged(self) -> list[NodeName]:
        """Those participants who have something to do for it, and so speak every moment."""
        return self.participants()

    @property
    @abstractmethod
    def progress(self) -> float:
        """Share of the bytes that have arrived, 0 to 1."""

    @property
    @abstractmethod
    def method(self) -> str:
        """How it is done: the mechanism, or the scheduling."""

    def node_joined(self, node: Node, now: float) -> None:
        """A node is there, new or back again."""

    def node_lost(self, name: NodeName, reason: str, now: float) -> None:
        """A node is gone."""

    def node_suspected(self, name: NodeName, suspected: bool, now: float) -> None:
        """A node has fallen silent, or speaks again."""

    @abstractmethod
    def blocks_held(self, node: NodeName, key: ObjectKey, records: tuple[Stored, ...], now: float) -> None:
        """Blocks have arrived."""

    @abstractmethod
    def fetch_failed(self, node: NodeName, trouble: FetchTrouble, now: float) -> None:
        """Asks came to nothing."""

    @abstractmethod
    def settled(self, node: NodeName, message: Settled, now: float) -> None:
        """A node is through with one object."""

    @abstractmethod
    def map_failed(self, node: NodeName, message: MapFailed, now: float) -> None:
        """A node could not map another's store."""

    @abstractmethod
    def tick(self, now: float) -> None:
        """Time has passed."""

    def end(self, state: TransferState, reason: str, now: float) -> None:
        """The transfer ends without being done: tell everyone, and have all of it let go."""
        self.state = state
        self.cluster.changed(self, urgent=True)
        self.tally.reason = reason
        self.tally.completion_s = max(0.0, now - self.tally.accepted_at_s)
        outcome = self.tally.outcome(self.name)
        for name in self.participants():
            self.cluster.send(name, outcome)
            self.cluster.send(name, LetGo(self.name, reason))
