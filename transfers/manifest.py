"""What identifies an object and proves its bytes: key, layout, checksums, and how to read it.

A broadcast has one object, a shuffle one for each partition. Checksums are xxh3 (64 bits): one a
block, and one over the whole that is taken over the size and the block checksums in order, so that
it needs no second pass over the bytes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

import xxhash

from transfers.blocks import BlockLayout
from transfers.ids import NodeName, TransferName

PartName = NewType("PartName", str)
"""Which object of a transfer: empty for a broadcast, `mapper/reducer` for a partition."""

WHOLE = PartName("")


def partition_name(mapper: NodeName, reducer: NodeName, attempt: int = 0) -> PartName:
    """How the object of one partition is called: ``mapper/reducer``; and ``mapper/reducer/2`` where it has
    been put a third time, since who put it before was lost."""
    return PartName(f"{mapper}/{reducer}/{attempt}" if attempt else f"{mapper}/{reducer}")


def taker_of(part: PartName) -> NodeName:
    """The reducer of a partition, by its name; empty where it is none."""
    return NodeName("".join(part.split("/")[1:2]))


def giver_of(part: PartName) -> NodeName:
    """The mapper of a partition, by its name."""
    return NodeName(part.partition("/")[0])


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Names one object among all transfers."""

    transfer: TransferName
    part: PartName = WHOLE

    def __str__(self) -> str:
        return f"{self.transfer}[{self.part}]" if self.part else str(self.transfer)


@dataclass(frozen=True, slots=True)
class ContentType:
    """How the bytes are to be read.

    Attributes:
        kind: ``"bytes"``, ``"array"`` or ``"pickle"``.
        dtype: numpy's ``dtype.str`` of an array, else empty.
        shape: of an array, else empty.
        file_name: what it is saved as; empty for the transfer's own name.
    """

    kind: str = "bytes"
    dtype: str = ""
    shape: tuple[int, ...] = ()
    file_name: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a receiver must know before the first byte arrives."""

    key: ObjectKey
    layout: BlockLayout
    checksums: tuple[int, ...]
    whole_checksum: int
    content: ContentType = ContentType()

    def __post_init__(self) -> None:
        if len(self.checksums) != self.layout.count:
            raise ValueError(
                f"checksums: {len(self.checksums)} given for {self.layout.count} blocks of {self.key}"
            )
        if self.whole_checksum != whole_checksum(self.layout.size_bytes, self.checksums):
            raise ValueError(f"whole_checksum does not match the block checksums of {self.key}")


def block_checksum(data: bytes | bytearray | memoryview) -> int:
    """xxh3 (64 bits) of one block."""
    return xxhash.xxh3_64_intdigest(data)


class RunningChecksum:
    """The checksum of one block whose bytes come part by part.

    Taken as they come, while they are in the processor's cache, it costs half of what a second pass over the
    whole block costs.
    """

    __slots__ = ("_digest",)

    def __init__(self) -> None:
        self._digest = xxhash.xxh3_64()

    def add(self, data: memoryview) -> None:
        """Take in the next bytes."""
        self._digest.update(data)

    def value(self) -> int:
        """What `block_checksum` gives for all bytes so far."""
        return self._digest.intdigest()


def whole_checksum(size_bytes: int, checksums: Iterable[int]) -> int:
    """xxh3 (64 bits) over the size and the block checksums in order, each as 8 little-endian bytes."""
    digest = xxhash.xxh3_64(size_bytes.to_bytes(8, "little"))
    digest.update(b"".join(checksum.to_bytes(8, "little") for checksum in checksums))
    return digest.intdigest()


def make_manifest(key: ObjectKey, layout: BlockLayout, data: memoryview, content: ContentType) -> Manifest:
    """Checksum the bytes of an object, block by block.

    Raises:
        ValueError: when ``data`` is not as long as ``layout`` says.
    """
    if data.nbytes != layout.size_bytes:
        raise ValueError(f"data has {data.nbytes} bytes, the layout {layout.size_bytes}")
    step = layout.block_size_bytes
    sums = tuple(block_checksum(data[at : at + step]) for at in range(0, layout.size_bytes, step))
    return Manifest(key, layout, sums, whole_checksum(layout.size_bytes, sums), content)
