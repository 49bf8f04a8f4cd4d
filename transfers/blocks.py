"""How an object is cut into blocks, and sets of blocks.

Pure: no clock, no socket, no randomness. An object of ``size_bytes`` is cut into blocks of
``block_size_bytes``; only the last may be shorter. An empty object has no blocks and is complete
from the start.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from transfers.ids import BlockIndex

MAX_BLOCKS = 1 << 20
"""Most blocks an object may have: a guess that keeps a manifest (8 bytes a block) within 8 MiB."""


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """The cut of one object into blocks.

    Raises:
        ValueError: for a negative size, a block size below 1, or more than `MAX_BLOCKS` blocks.
    """

    size_bytes: int
    block_size_bytes: int

    def __post_init__(self) -> None:
        if self.size_bytes < 0:
            raise ValueError(f"size_bytes must not be negative, got {self.size_bytes}")
        if self.block_size_bytes < 1:
            raise ValueError(f"block_size_bytes must be at least 1, got {self.block_size_bytes}")
        if self.count > MAX_BLOCKS:
            raise ValueError(
                f"block_size_bytes={self.block_size_bytes} cuts {self.size_bytes} bytes into "
                f"{self.count} blocks, more than {MAX_BLOCKS}"
            )

    @property
    def count(self) -> int:
        """Number of blocks."""
        return -(-self.size_bytes // self.block_size_bytes)

    def offset(self, block: BlockIndex) -> int:
        """First byte of a block, from the start of the object."""
        return block * self.block_size_bytes

    def length(self, block: BlockIndex) -> int:
        """Bytes in a block."""
        return min(self.block_size_bytes, self.size_bytes - self.offset(block))

    def bytes_in(self, blocks: "BlockSet") -> int:
        """Bytes in some of its blocks, all together."""
        if not len(blocks):
            return 0
        last = BlockIndex(self.count - 1)
        short = self.block_size_bytes - self.length(last) if last in blocks else 0
        return len(blocks) * self.block_size_bytes - short


@lru_cache(maxsize=64)
def stripe_bits(count: int, stripe: int, stripes: int) -> int:
    """The blocks of one stripe as bits: of ``count`` blocks those whose index modulo ``stripes`` is
    ``stripe``."""
    blocks = len(range(stripe, count, stripes))
    return ((1 << stripes * blocks) - 1) // ((1 << stripes) - 1) << stripe


class BlockSet:
    """A set of block indices below ``count``, kept as the bits of one integer.

    Iterates in ascending order, never in hash order, so that decisions made by iterating repeat.
    """

    __slots__ = ("_bits", "count")

    def __init__(self, count: int, blocks: Iterable[int] = ()) -> None:
        self.count = count
        self._bits = 0
        for block in blocks:
            self.add(BlockIndex(block))

    @classmethod
    def full(cls, count: int) -> "BlockSet":
        """The set of all blocks below ``count``."""
        made = cls(count)
        made._bits = (1 << count) - 1
        return made

    @classmethod
    def from_bytes(cls, count: int, data: bytes) -> "BlockSet":
        """Rebuild a set from `to_bytes`.

        Raises:
            ValueError: when ``data`` names a block at or beyond ``count``.
        """
        made = cls(count)
        made._bits = int.from_bytes(data, "little")
        if made._bits >> count:
            raise ValueError(f"block set names blocks beyond {count}")
        return made

    def to_bytes(self) -> bytes:
        """The set as little-endian bits, ``ceil(count / 8)`` bytes."""
        return self._bits.to_bytes(-(-self.count // 8), "little")

    def copy(self) -> "BlockSet":
        """An independent copy."""
        made = BlockSet(self.count)
        made._bits = self._bits
        return made

    def add(self, block: BlockIndex) -> None:
        """Put a block in; harmless when it is in already."""
        if not 0 <= block < self.count:
            raise ValueError(f"block {block} is not among {self.count} blocks")
        self._bits |= 1 << block

    def discard(self, block: BlockIndex) -> None:
        """Take a block out; harmless when it is not in."""
        if 0 <= block < self.count:
            self._bits &= ~(1 << block)

    def __contains__(self, block: object) -> bool:
        return isinstance(block, int) and block >= 0 and bool(self._bits >> block & 1)

    def __len__(self) -> int:
        return self._bits.bit_count()

    def __iter__(self) -> Iterator[BlockIndex]:
        bits = self._bits
        while bits:
            low = bits & -bits
            yield BlockIndex(low.bit_length() - 1)
            bits ^= low

    def descending(self) -> Iterator[BlockIndex]:
        """Its blocks, last first."""
        bits = self._bits
        while bits:
            block = bits.bit_length() - 1
            yield BlockIndex(block)
            bits ^= 1 << block

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BlockSet):
            return NotImplemented
        return self.count == other.count and self._bits == other._bits

    def __hash__(self) -> int:
        raise TypeError("BlockSet is mutable and cannot be hashed")

    def __or__(self, other: "BlockSet") -> "BlockSet":
        made = self.copy()
        made._bits |= other._bits
        return made

    def __and__(self, other: "BlockSet") -> "BlockSet":
        made = self.copy()
        made._bits &= other._bits
        return made

    def __sub__(self, other: "BlockSet") -> "BlockSet":
        made = self.copy()
        made._bits &= ~other._bits
        return made

    def __repr__(self) -> str:
        return f"BlockSet({self.count}, {list(self)})"

    @property
    def complete(self) -> bool:
        """Whether every block is in."""
        return self._bits == (1 << self.count) - 1

    def missing(self, stripe: int = 0, stripes: int = 1) -> "BlockSet":
        """The blocks that are not in; only those of a stripe: whose index leaves that remainder."""
        made = BlockSet(self.count)
        made._bits = stripe_bits(self.count, stripe, stripes) & ~self._bits
        return made

    def count_in(self, stripe: int, stripes: int) -> int:
        """How many blocks of a stripe are in."""
        return (stripe_bits(self.count, stripe, stripes) & self._bits).bit_count()

    def spelled(self, most: int = 4) -> str:
        """The set in words for an error message: runs such as ``0-3, 7``, at most ``most`` of them."""
        runs: list[list[int]] = []
        for block in self:
            if runs and runs[-1][1] == block - 1:
                runs[-1][1] = block
            else:
                runs.append([block, block])
        words = [f"{first}-{last}" if last > first else str(first) for first, last in runs[:most]]
        return ", ".join(words) + (f" and {len(runs) - most} runs more" if len(runs) > most else "")
