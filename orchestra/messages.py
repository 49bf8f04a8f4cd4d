"""What nodes and the controller say to each other, on one connection a node.

Requests of a node carry a number that the answer repeats. Everything else is an event (to the
controller) or a command (to a node) and has no answer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from transfers.blocks import BlockSet
from transfers.codec import Codec
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import Manifest, ObjectKey
from transfers.planners import Mechanism
from transfers.planners.events import REPORT_INTERVAL_S, FetchFailure, Stored

# -- in messages of both ways ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """What a transfer claims beside others; which of it counts is the policy's affair.

    Attributes:
        priority: of its class; the highest goes first.
        weight: of its share.

    Raises:
        ValueError: for a weight that is not above 0 and finite.
    """

    priority: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight must be above 0 and finite, got {self.weight}")


@dataclass(frozen=True, slots=True)
class ShuffleTerms:
    """On what terms a shuffle goes; every participant names the same.

    Attributes:
        claim: what it claims beside others.
        weighted: whether its flows are to end together; else all are equal.
        replaceable: whether the place of a lost mapper or reducer may be taken by another; the shuffle then
            waits for that instead of failing.
    """

    claim: Claim = Claim()
    weighted: bool = True
    replaceable: bool = False


# -- a node to the controller ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holding:
    """One entry of a node's inventory.

    Raises:
        ValueError: when the two do not speak of the same number of blocks.
    """

    manifest: Manifest
    blocks: BlockSet

    def __post_init__(self) -> None:
        if self.blocks.count != self.manifest.layout.count:
            count = self.manifest.layout.count
            raise ValueError(f"blocks: {self.blocks.count}, {self.manifest.key} has {count}")


@dataclass(frozen=True, slots=True)
class Join:
    """The first message of every node.

    Attributes:
        incarnation: drawn at random by each process, so that a node that comes back is told from
            another process under the same name.
        data_address: where its block server listens.
        host: which host it runs on; nodes of one host that share can map each other's store.
        store_address: where its store can be mapped, empty where it does not share.
        receives: whether it is an agent, for whom broadcasts are meant; commands are not.
        saves: whether it writes what it receives to files, and will say when it has.
        inventory: what it holds from before, when it comes back.
        paces: whether its kernel paces sockets, as it has tried.
    """

    name: NodeName
    incarnation: str
    data_address: str
    host: str
    store_address: str
    receives: bool
    saves: bool
    inventory: tuple[Holding, ...]
    paces: bool = True


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """I am alive."""


@dataclass(frozen=True, slots=True)
class Leave:
    """I go, by my own will."""


@dataclass(frozen=True, slots=True)
class Propose:
    """I want to broadcast an object of this size: reserve the name, choose how.

    Attributes:
        to: the receivers; None for all agents.
        wait_for: how many agents to wait for when ``to`` is None.
        timeout_s: limit on the wait for receivers, and later on the transfer.
        mechanism, block_size_bytes: None for a choice.
        manifest: of a small object, which is in the source's store already: nothing needs to be offered.
        content: its bytes, if those are few; else empty.
        claim: what it claims beside others.
    """

    request: int
    transfer: TransferName
    size_bytes: int
    to: tuple[NodeName, ...] | None
    wait_for: int
    timeout_s: float
    mechanism: Mechanism | None
    block_size_bytes: int | None
    manifest: Manifest | None = None
    content: bytes = b""
    claim: Claim = Claim()


@dataclass(frozen=True, slots=True)
class Offer:
    """The object of an earlier `Propose` is in my store: go."""

    request: int
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Want:
    """I want an object as soon as it exists, also if it was not meant for me."""

    transfer: TransferName


@dataclass(frozen=True, slots=True)
class BlocksHeld:
    """Blocks of an object are verified and stored here."""

    key: ObjectKey
    records: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class FetchTrouble:
    """Asks came to nothing; see `transfers.planners.events.FetchFailed`."""

    key: ObjectKey
    source: NodeName
    blocks: tuple[BlockIndex, ...]
    failure: FetchFailure


@dataclass(frozen=True, slots=True)
class PushTrouble:
    """A block could not be pushed to this node, or on from it."""

    key: ObjectKey
    block: BlockIndex
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """This node is through with an object: it holds it, verified and saved; or it never will."""

    key: ObjectKey
    failure: str | None


@dataclass(frozen=True, slots=True)
class MapFailed:
    """The host's store could not be mapped: send me the blocks."""

    key: ObjectKey
    reason: str


@dataclass(frozen=True, slots=True)
class CancelTransfer:
    """End a broadcast that I own, or a shuffle that I asked for or take part in.

    Attributes:
        reason: what made it necessary, empty where it was simply wanted.
    """

    transfer: TransferName
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """Nobody needs this object any more: let it go everywhere."""

    request: int
    transfer: TransferName


@dataclass(frozen=True, slots=True)
class OpenShuffle:
    """Take part in a shuffle; the first to say so creates it.

    Attributes:
        place: whose place to take, of a lost mapper or reducer; None for one's own.
    """

    request: int
    transfer: TransferName
    mappers: tuple[NodeName, ...]
    reducers: tuple[NodeName, ...]
    timeout_s: float
    terms: ShuffleTerms = ShuffleTerms()
    place: NodeName | None = None


@dataclass(frozen=True, slots=True)
class PartitionPut:
    """A mapper's partition for one reducer is in its store (``manifest`` None: it is empty).

    Attributes:
        place: as which mapper it was put; None for oneself.
    """

    transfer: TransferName
    reducer: NodeName
    manifest: Manifest | None
    place: NodeName | None = None


@dataclass(frozen=True, slots=True)
class PartitionWaits:
    """A partition cannot be taken in yet: there is no room for all of it; or there is now."""

    key: ObjectKey
    waits: bool


@dataclass(frozen=True, slots=True)
class AskOutcome:
    """I have come back, and took part in this shuffle: tell me if it has ended, or goes on without me."""

    transfer: TransferName


@dataclass(frozen=True, slots=True)
class FlowProgress:
    """Bytes of partitions that have arrived here so far, checked or not, by the partition's name.

    Attributes:
        at_s: when that was so, by this node's clock.
    """

    transfer: TransferName
    received_bytes: Mapping[str, int]
    at_s: float


@dataclass(frozen=True, slots=True)
class RunShuffle:
    """Have agents move synthetic bytes among each other; I only want to hear how it went.

    Attributes:
        sizes_bytes: by mapper, then by reducer.
    """

    request: int
    transfer: TransferName
    sizes_bytes: Mapping[NodeName, Mapping[NodeName, int]]
    timeout_s: float
    terms: ShuffleTerms = ShuffleTerms()


@dataclass(frozen=True, slots=True)
class PauseTransfer:
    """Let nothing of a transfer move, or let it go on."""

    request: int
    transfer: TransferName
    paused: bool


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """Share ports by another policy from now on."""

    request: int
    policy: str


@dataclass(frozen=True, slots=True)
class AskStatus:
    """Tell me what you know, for people."""

    request: int


ToController = (
    Join | Heartbeat | Leave | Propose | Offer | Want | BlocksHeld | FetchTrouble | PushTrouble | Settled
    | MapFailed | CancelTransfer | Release | OpenShuffle | PartitionPut | PartitionWaits | FlowProgress
    | AskOutcome | RunShuffle | PauseTransfer | SetPolicy | AskStatus
)  # fmt: skip


# -- the controller to a node ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Joined:
    """Welcome.

    Attributes:
        heartbeat_interval_s: say something at least this often.
        silence_limit_s: the controller says something more often than this; if not, it is lost.
        allow_pickle: whether `object()` may unpickle in this cluster.
        port_rate_bytes_per_s: what this node may send in all; None is no limit.
    """

    heartbeat_interval_s: float
    silence_limit_s: float
    allow_pickle: bool
    port_rate_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class StillHere:
    """Answer to every `Heartbeat`."""


@dataclass(frozen=True, slots=True)
class NotJoined:
    """You are not taken in. ``final`` is False where trying again may help."""

    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class Planned:
    """Answer to `Propose`: this is how it will be done, should nothing change.

    Where the proposal brought the manifest along, it is under way already.
    """

    request: int
    mechanism: Mechanism
    block_size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Granted:
    """Answer to a request that needs no more than a yes."""

    request: int


@dataclass(frozen=True, slots=True)
class Denied:
    """Answer to a request that is not granted."""

    request: int
    reason: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a node is; said before a command first names it."""

    node: NodeName
    data_address: str


@dataclass(frozen=True, slots=True)
class Begin:
    """Make room for an object; commands about it follow.

    Attributes:
        report_interval_s: how long to gather blocks that a followed source brings before they are reported.
    """

    manifest: Manifest
    report_interval_s: float = REPORT_INTERVAL_S


@dataclass(frozen=True, slots=True)
class Deliver:
    """Here is a small object, all of it.

    Attributes:
        content: its bytes.
        source: whose object it is.
    """

    manifest: Manifest
    content: bytes
    source: NodeName


@dataclass(frozen=True, slots=True)
class PushBlock:
    """Send a block down a tree of nodes; see `transfers.net.push`."""

    key: ObjectKey
    block: BlockIndex
    route: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MapObject:
    """A node of your own host holds this object: map it from that store."""

    manifest: Manifest
    holder: NodeName
    store_address: str


@dataclass(frozen=True, slots=True)
class FollowSource:
    """See `transfers.planners.events.Follow`.

    Raises:
        ValueError: for a stripe that is not one of ``stripes``.
    """

    key: ObjectKey
    source: NodeName | None
    stripe: int = 0
    stripes: int = 1
    in_step: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.stripe < self.stripes:
            raise ValueError(f"stripe must be from 0 to {self.stripes - 1}, got {self.stripe}")


@dataclass(frozen=True, slots=True)
class FetchBlocks:
    """See `transfers.planners.events.Fetch`."""

    key: ObjectKey
    source: NodeName
    blocks: tuple[BlockIndex, ...]


@dataclass(frozen=True, slots=True)
class WithdrawAsks:
    """See `transfers.planners.events.Cancel`."""

    key: ObjectKey
    blocks: tuple[BlockIndex, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is, for its owner: bytes over all receivers, and receivers through with it."""

    transfer: TransferName
    done_bytes: int
    total_bytes: int
    receivers_done: int
    receivers: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A transfer is over, for all who take part.

    Attributes:
        completion_s: seconds from acceptance to the last receiver's last byte.
        failed: nodes that do not hold the object, with the reason.
        reason: why the transfer as a whole failed, empty if it did not.
        replaced: of a shuffle, who took whose place, by whom it was that was lost.
        flow_completion_s: of a shuffle that was asked for, when each flow ended, by mapper and reducer; only
            for who asked, and where they are not too many.
    """

    transfer: TransferName
    completion_s: float
    node_completion_s: Mapping[str, float]
    failed: Mapping[str, str]
    reason: str
    replaced: Mapping[str, str] = field(default_factory=dict)
    flow_completion_s: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LetGo:
    """Let go of all objects of a transfer: it was released, cancelled, or has failed."""

    transfer: TransferName
    reason: str


@dataclass(frozen=True, slots=True)
class PartitionEmpty:
    """A mapper has nothing for you, or for the reducer whose place you have taken."""

    transfer: TransferName
    mapper: NodeName
    reducer: NodeName


@dataclass(frozen=True, slots=True)
class PartitionDelivered:
    """A reducer has a partition of yours, and nobody will ask for it again: let it go."""

    key: ObjectKey


@dataclass(frozen=True, slots=True)
class DropPartition:
    """Who put this partition is lost: let go of what has come of it; it will be put again, under another
    name."""

    key: ObjectKey


@dataclass(frozen=True, slots=True)
class PlaceLost:
    """A mapper or reducer of your shuffle is lost, and its place may be taken.

    Attributes:
        place: whose it was at first.
        node: who has had it last.
        reason: why it is lost.
        due: the reducers for whom a mapper's partitions are to be put again.
    """

    transfer: TransferName
    place: NodeName
    node: NodeName
    reason: str
    due: tuple[NodeName, ...]


@dataclass(frozen=True, slots=True)
class PlaceFilled:
    """A place of which you have heard that it is lost has been taken by ``node``."""

    transfer: TransferName
    place: NodeName
    node: NodeName


@dataclass(frozen=True, slots=True)
class PlaceTaken:
    """Answer to an `OpenShuffle` in the place of another, or where others have had one's own.

    Attributes:
        attempts: the reducers for whom a mapper's partitions are to be put, with the number of that attempt.
    """

    request: int
    attempts: Mapping[NodeName, int]


@dataclass(frozen=True, slots=True)
class TakePart:
    """Take part in a shuffle of synthetic bytes, which is open for you already.

    Attributes:
        puts_bytes: what to make up for each reducer.
        takes_bytes: what will come from each mapper.
        terms: of the shuffle.
        place: whose place you take; None for your own.
        attempts: as `PlaceTaken` has it, for who takes another's place.
    """

    transfer: TransferName
    mappers: tuple[NodeName, ...]
    reducers: tuple[NodeName, ...]
    puts_bytes: Mapping[NodeName, int]
    takes_bytes: Mapping[NodeName, int]
    timeout_s: float
    terms: ShuffleTerms = ShuffleTerms()
    place: NodeName | None = None
    attempts: Mapping[NodeName, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a transfer may move at this node, bytes/s; None is no limit, 0 a pause.

    Attributes:
        egress_bytes_per_s, ingress_bytes_per_s: all that it may send, and receive.
        rank: its turn among the transfers of this node; the lowest goes first.
        flows_bytes_per_s: what single flows of a shuffle may send, by reducer.
        other_flows_bytes_per_s: what flows may that are not named.
        slowest_bytes_per_s: the least that anybody may send here for it, so that nobody is blamed for it.
        connections: over how many connections to take from a node, of a shuffle; one where nothing is said.
    """

    transfer: TransferName
    egress_bytes_per_s: float | None
    ingress_bytes_per_s: float | None
    rank: int = 0
    flows_bytes_per_s: Mapping[NodeName, float] = field(default_factory=dict)
    other_flows_bytes_per_s: float | None = None
    slowest_bytes_per_s: float | None = None
    connections: Mapping[NodeName, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Status:
    """Answer to `AskStatus`: JSON text."""

    request: int
    text: bytes


ToNode = (
    Joined | StillHere | NotJoined | Planned | Granted | Denied | Peer | Begin | Deliver | PushBlock
    | MapObject | FollowSource | FetchBlocks | WithdrawAsks | Progress | Outcome | LetGo | PartitionEmpty
    | PartitionDelivered | DropPartition | PlaceLost | PlaceFilled | PlaceTaken | TakePart | Budget | Status
)  # fmt: skip

TO_CONTROLLER: Codec[ToController] = Codec(
    [
        *(Join, Heartbeat, Leave, Propose, Offer, Want, BlocksHeld, FetchTrouble, PushTrouble, Settled),
        *(MapFailed, CancelTransfer, Release, OpenShuffle, PartitionPut, PartitionWaits, FlowProgress),
        *(AskOutcome, RunShuffle, PauseTransfer, SetPolicy, AskStatus),
    ]
)
TO_NODE: Codec[ToNode] = Codec(
    [
        *(
            Joined,
            StillHere,
            NotJoined,
            Planned,
            Granted,
            Denied,
            Peer,
            Begin,
            Deliver,
            PushBlock,
            MapObject,
            FollowSource,
            FetchBlocks,
        ),
        *(WithdrawAsks, Progress, Outcome, LetGo, PartitionEmpty, PartitionDelivered, DropPartition),
        *(PlaceLost, PlaceFilled, PlaceTaken, TakePart, Budget, Status),
    ]
)
