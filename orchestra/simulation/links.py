"""The state of one modelled broadcast: nodes, and the links between them.

Owns what is known at both ends of each link, as `transfers.net.fetch`, `transfers.net.pool` and
`transfers.net.server` keep it; and how late messages are. Must not know what becomes of it: receivers are
`orchestra.simulation.swarm`'s, senders `orchestra.simulation.slots`'. Pure.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from random import Random

from transfers.ids import BlockIndex, NodeName
from transfers.planners.events import Stored

SLOTS = 4
"""Blocks that a node sends at a time: `transfers.net.server`'s, which is not pure; a test holds them
equal."""


@dataclass(frozen=True, slots=True)
class Delays:
    """How late messages are, as `orchestra.simulation.world` has it.

    Attributes:
        latency_s: of every message.
        control_s: mean of what comes on top for control messages, and for all messages of a host that sends.
        jitter: it is spread evenly over ``control_s`` times one less to one more than this.
    """

    latency_s: float
    control_s: float
    jitter: float

    def draw_s(self, rng: Random) -> float:
        """Of one control message."""
        return self.latency_s + self.control_s * (1 + self.jitter * (2 * rng.random() - 1))

    def message_s(self, speaker: "ModelNode", rng: Random) -> float:
        """Of one message on a link."""
        return self.draw_s(rng) if speaker.sending else self.latency_s


@dataclass(slots=True, eq=False)
class ModelNode:
    """One node.

    Attributes:
        holds: blocks as bits.
        links: to those it asks; idle ones included.
        clients: links from those who ask it.
        waiters: links on which a block is asked for that is not here.
        passable: blocks that are not here, but of which enough has come to be passed on.
        ahead: of blocks that are not here, links on which they are through already, and the seconds taken.
        sending: flows out of it.
        fetched: blocks that it was told to fetch, and that have not come since.
        reports: what was stored and not reported.
        report_at_s: when it is to be reported at the latest; infinity for nothing due.
        last_report_s, last_command_s: arrival of the last message to and from the controller.
    """

    host: int
    name: NodeName
    holds: int
    missing: int
    alive: bool = True
    follows: dict[int, "ModelNode"] = field(default_factory=dict)
    asked: dict[BlockIndex, "ModelNode"] = field(default_factory=dict)
    stripes: int = 1
    windows: dict[int, set[BlockIndex]] = field(default_factory=dict)
    barred: set[tuple[BlockIndex, int]] = field(default_factory=set)
    links: dict[int, "Link"] = field(default_factory=dict)
    idle_since_s: dict[int, float] = field(default_factory=dict)
    clients: dict[int, "Link"] = field(default_factory=dict)
    waiters: dict[BlockIndex, list["Link"]] = field(default_factory=dict)
    passable: set[BlockIndex] = field(default_factory=set)
    ahead: dict[BlockIndex, list[tuple["Link", float]]] = field(default_factory=dict)
    free_slots: int = SLOTS
    queue: deque["Link"] = field(default_factory=deque)
    sending: int = 0
    sent_bytes: float = 0.0
    fetched: set[BlockIndex] = field(default_factory=set)
    reports: list[Stored] = field(default_factory=list)
    report_at_s: float = math.inf
    last_report_s: float = 0.0
    last_command_s: float = 0.0

    def unask(self, block: BlockIndex) -> "ModelNode | None":
        """An ask is over, or meant for another; who was asked."""
        window = self.windows.get(block % self.stripes)
        if window is not None:
            window.discard(block)
        return self.asked.pop(block, None)


@dataclass(slots=True, eq=False)
class Link:
    """A connection, with the state of both ends.

    Attributes:
        open: the receiver's open asks.
        withdrawn: whether any was ever withdrawn: then it is closed, not kept, when nothing is open any more.
        ready_s: when the handshake is over.
        last_said_s: arrival of the last message at the sender.
        waiting, ready: asks at the sender for what it lacks, and for what it holds.
        queued, has_slot: whether it waits for a slot, or has one.
        flow: of the fluid, -1 for none.
        written_bytes: given to the flow since it began.
        under_way: blocks in the flow, each with where in the flow it ends.
        passing: of those, the ones of which a first part is still to come, each with where that ends.
        header_s: when the receiver hears of the first of them.
    """

    receiver: ModelNode
    sender: ModelNode
    ready_s: float = 0.0
    last_said_s: float = 0.0
    open: dict[BlockIndex, None] = field(default_factory=dict)
    withdrawn: bool = False
    closed: bool = False
    waiting: set[BlockIndex] = field(default_factory=set)
    ready: dict[BlockIndex, None] = field(default_factory=dict)
    queued: bool = False
    has_slot: bool = False
    flow: int = -1
    written_bytes: float = 0.0
    under_way: deque[tuple[BlockIndex, float]] = field(default_factory=deque)
    passing: deque[tuple[BlockIndex, float]] = field(default_factory=deque)
    header_s: float = 0.0
