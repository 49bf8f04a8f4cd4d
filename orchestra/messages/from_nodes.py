"""What a node says to the controller."""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestra.messages.claims import Claim, ShuffleTerms
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import Manifest, ObjectKey
from transfers.planners import Mechanism
from transfers.planners.events import FetchFailure, Stored


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
