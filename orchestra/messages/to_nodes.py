"""What the controller says to a node."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestra.messages.claims import ShuffleTerms
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import Manifest, ObjectKey
from transfers.planners import Mechanism
from transfers.planners.events import REPORT_INTERVAL_S


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
