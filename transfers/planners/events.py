"""What a planner is told, and what it answers: the whole language between plans and movement.

Semantics that planners may rely on, and that the engine (`transfers.net.fetch`) keeps:

- `Follow` stands until it is replaced. The node asks its source for every block of the stripe that it
  lacks, lowest first, `LOOK_AHEAD` asks open at a time; blocks that a `Fetch` has given to another source,
  and blocks that failed from this source, are passed over. Who follows in step asks for less
  (see there). ``source=None`` ends the following. All follows
  of one transfer count the same number of stripes.
- `Fetch` asks at once for all the blocks it names, each from that source only. It takes a block away
  from whichever source had it before. A block already stored is reported as stored again.
- A source that does not hold a block yet answers when it does. "Waits on" must stay acyclic for every
  block and end at a holder: true after all commands that one event has brought about, not between them.
- A failed ask is dropped by the node and reported once, under the source that was last commanded for it. The
  node does not try again by itself. A followed source that fails is followed no longer, in any stripe.
- Events may be stale: a failure may name a source that a newer command has replaced already. Events of
  one node arrive in the order in which it sent them, those of different nodes in any order.
- A node that joins has no standing commands: what it was told before it was lost, it has forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName

LOOK_AHEAD = 4
"""Asks open at a time between a node and the source it follows, for each stripe. One hides no round trip, two
do while a block takes longer than the round trip (measured in simulation, Cornet to 16 with blocks of 80 ms a
stream: 2, 3, 4 and 8 asks make no difference with a control delay of 20 ms, and 1.28, 1.13, 1.13 and 1.13 x
S/W with 80 ms)."""

PUSH_DEGREE = 2
"""Children of a node in the tree down which a small block is pushed (two streams share a port evenly; see
`transfers.planners.stripes`)."""

FORWARD_BYTES, FORWARD_S = 32 << 10, 0.001
"""A block that others wait for is passed on while it arrives, in parts. None is less than so many bytes, or
than what comes in so long a time (docs/decisions/0010 has what was tried)."""

FORWARD_PARTS, LARGE_BLOCK_BYTES, LARGE_BLOCK_PARTS = 8, 1 << 20, 4
"""So many parts at most, and fewer of blocks above so many bytes: there twice as many gained 0.7 %
(simulated, 100 receivers, blocks of 4 MiB) and cost half as much again to simulate."""

PUSH_STEP_BYTES = 8 << 10
"""How many bytes of such a block are waited for before they are passed on (a guess: one packet of 9,000
bytes)."""


def forward_bytes(block_bytes: int, rate_bytes_per_s: float = 0.0) -> int:
    """How much of a block has to come before it is passed on, and at a time from then on."""
    parts = FORWARD_PARTS if block_bytes <= LARGE_BLOCK_BYTES else LARGE_BLOCK_PARTS
    return min(block_bytes, max(FORWARD_BYTES, block_bytes // parts, int(rate_bytes_per_s * FORWARD_S)))


class FetchFailure(Enum):
    """Why an ask came to nothing."""

    CORRUPT = "corrupt"
    """The bytes did not match the manifest's checksum; the sender is to blame."""
    STALLED = "stalled"
    """The block had begun to arrive and then no byte came within the limit."""
    UNREACHABLE = "unreachable"
    """No connection to the source, or it closed."""
    REFUSED = "refused"
    """The source answers, but does not know the object."""


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """A node takes part: as a receiver if ``wants``, else only as one more holder.

    Also told of a node that was lost and came back; ``holds`` is then its inventory.
    """

    node: NodeName
    holds: BlockSet
    wants: bool = True


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node is gone, with all that it alone held."""

    node: NodeName
    reason: str


@dataclass(frozen=True, slots=True)
class NodeSuspected:
    """A node has been silent for a moment: give it no new work, hang its waiters elsewhere."""

    node: NodeName


@dataclass(frozen=True, slots=True)
class NodeRecovered:
    """A suspected node has spoken again."""

    node: NodeName


@dataclass(frozen=True, slots=True)
class Stored:
    """One block verified and stored: from whom, and the seconds from its header to its last byte."""

    block: BlockIndex
    source: NodeName
    seconds: float


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """A node holds more blocks."""

    node: NodeName
    records: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """Asks of a node that came to nothing. ``blocks`` may be empty: then the source as such failed."""

    node: NodeName
    source: NodeName
    blocks: tuple[BlockIndex, ...]
    failure: FetchFailure


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; told every `TICK_INTERVAL_S` while the transfer is active."""


Event = NodeJoined | NodeLost | NodeSuspected | NodeRecovered | BlocksStored | FetchFailed | Tick

TICK_INTERVAL_S = 0.1
"""A guess: below what a person notices, far above the cost of a tick."""

REPORT_INTERVAL_S = 0.02
"""A node's reports leave together after so long (design: 20 ms delay no plan), where receivers are few."""

REPORTS_PER_S = 1000.0
"""Reports that all receivers of a broadcast together send at most, but for blocks that a `Fetch` brought
(measured: one costs a controller about 100 µs, so this is a tenth of a core)."""


def report_interval_s(receivers: int) -> float:
    """How long a node gathers what a `Follow` brings before it reports: longer where they are many."""
    return max(REPORT_INTERVAL_S, receivers / REPORTS_PER_S)


@dataclass(frozen=True, slots=True)
class Follow:
    """``node`` takes every block it lacks of one stripe from ``source``, until told otherwise.

    Of ``stripes`` stripes, number ``stripe`` is every block whose index leaves that remainder. ``in_step``,
    the node asks for little more of the stripe than those have that it serves, as long as anybody takes what
    it has: a source has all stripes at once, and what one tree takes from it ahead of need the others lack.
    """

    node: NodeName
    source: NodeName | None
    stripe: int = 0
    stripes: int = 1
    in_step: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """``node`` takes these blocks, in this order, from ``source``."""

    node: NodeName
    source: NodeName
    blocks: tuple[BlockIndex, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """``node`` withdraws its asks for these blocks."""

    node: NodeName
    blocks: tuple[BlockIndex, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """One receiver cannot be served and fails by name; the transfer goes on for the others."""

    node: NodeName
    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Every receiver that is still there holds every block. Said once, until someone joins again."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The transfer cannot end well: some blocks are held by no living node."""

    reason: str
    lost_blocks: Mapping[BlockIndex, NodeName] = field(default_factory=dict)


Command = Follow | Fetch | Cancel | GiveUp | Finished | Failed
