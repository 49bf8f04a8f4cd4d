"""What is said on a data connection: a receiver asks, a server answers when it holds what was asked for.

Answers carry the block they answer and come in the order in which blocks become ready, not in the
order of the asks. The raw bytes of a block follow its `BlockHeader`, or, where the server has not got all of
them itself yet, its `BlockArriving`. Besides, whoever opens a connection may push small blocks that nobody
has asked for; their bytes follow the `Push`.
"""

from dataclasses import dataclass

from transfers.codec import Codec
from transfers.ids import BlockIndex, NodeName
from transfers.manifest import ObjectKey


@dataclass(frozen=True, slots=True)
class Ask:
    """Send these blocks, each as soon as you hold it."""

    key: ObjectKey
    blocks: tuple[BlockIndex, ...]


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Do not send these blocks if you have not begun to."""

    key: ObjectKey
    blocks: tuple[BlockIndex, ...]


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """``length_bytes`` raw bytes of one block follow."""

    key: ObjectKey
    block: BlockIndex
    length_bytes: int


@dataclass(frozen=True, slots=True)
class BlockArriving:
    """``length_bytes`` raw bytes of one block follow as they arrive at the server, then `IDLE_BYTES` more.

    Those say for how many microseconds the server's port had nothing of the block to send. A server that gets
    no more of the block closes the connection: asked again, it sends the block when it holds it.
    """

    key: ObjectKey
    block: BlockIndex
    length_bytes: int


IDLE_BYTES = 4
"""Unsigned, most significant first."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """These blocks will not be sent: the server does not know the object, or has let it go."""

    key: ObjectKey
    blocks: tuple[BlockIndex, ...]


@dataclass(frozen=True, slots=True)
class Push:
    """``length_bytes`` raw bytes of one block follow; keep them, and pass them on.

    Attributes:
        sender: who sends it.
        route: the addresses of a tree of nodes, of which the receiver is the first; see `transfers.net.push`.
    """

    key: ObjectKey
    block: BlockIndex
    length_bytes: int
    sender: NodeName
    route: tuple[str, ...]


DataMessage = Ask | Withdraw | BlockHeader | BlockArriving | Unavailable | Push
CODEC: Codec[DataMessage] = Codec([Ask, Withdraw, BlockHeader, BlockArriving, Unavailable, Push])
