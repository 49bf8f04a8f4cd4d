"""A node's part in a shuffle of synthetic bytes: real movement of made-up data.

Owns what the bytes are, and that they arrive whole. Who moves how much to whom, the controller says
(`TakePart`), because somebody asked it to (`RunShuffle`). The bytes of a partition follow from its two
names, so that a run can be repeated, and no two partitions are equal.
"""

import logging
from typing import Any

import numpy as np
import trio
import xxhash

from orchestra.groups import first_of
from orchestra.messages import CancelTransfer, TakePart
from orchestra.node.shuffle import Shuffle, ShuffleHome, put_filled
from transfers.codec import MAX_NAME_CHARS
from transfers.errors import OrchestraError, RemoteProtocolError, StoreFull
from transfers.ids import NodeName
from transfers.store.view import ObjectView

_STEP = np.uint64(0x9E3779B97F4A7C15)
"""2⁶⁴ over the golden ratio, odd: its multiples meet every word, and look like anything but zeros."""

log = logging.getLogger(__name__)


def synthetic_bytes(
    mapper: str, reducer: str, size_bytes: int, start: int = 0
) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Bytes of one partition: a counter in large steps, which starts where the two names say.

    Args:
        mapper, reducer: whose partition it is.
        size_bytes: how many there are to be.
        start: the first of them.

    Returns:
        an array of ``size_bytes`` bytes.
    """
    origin = np.uint64(xxhash.xxh3_64_intdigest(f"{mapper}/{reducer}".encode()))
    words = np.arange(start // 8, -(-(start + size_bytes) // 8), dtype="<u8")
    np.multiply(words, _STEP, out=words)
    np.add(words, origin, out=words)
    return words.view(np.uint8)[start % 8 : start % 8 + size_bytes]


async def take_part(home: ShuffleHome, shuffle: Shuffle, part: TakePart) -> None:
    """Put what is to be made up, take what comes, wait for the end; what goes wrong ends the shuffle.

    The engine verifies every block's checksum; here only sizes are compared with what was announced.
    """
    try:
        async with trio.open_nursery() as nursery:  # at once: who puts may wait for who takes
            if shuffle.place in shuffle.mappers:
                nursery.start_soon(_put_all, shuffle, part)
            if shuffle.place in shuffle.reducers:
                nursery.start_soon(_take_all, shuffle, part)
            nursery.start_soon(shuffle.wait)
    except BaseExceptionGroup as group:
        failed = first_of(group, OrchestraError, ValueError)
        if failed is None:
            raise
        log.warning("shuffle %s: %s", shuffle.name, failed)
        if not shuffle.over:
            home.tell(CancelTransfer(shuffle.name, str(failed)[:MAX_NAME_CHARS]))


async def _put_all(shuffle: Shuffle, part: TakePart) -> None:
    for reducer, size_bytes in part.puts_bytes.items():
        await _put(shuffle, reducer, size_bytes)
    shuffle.finish()


async def _put(shuffle: Shuffle, reducer: NodeName, size_bytes: int) -> None:
    def fill(start: int, part: memoryview) -> None:
        np.copyto(np.frombuffer(part, np.uint8), synthetic_bytes(shuffle.place, reducer, part.nbytes, start))

    try:
        await put_filled(shuffle, reducer, size_bytes, fill)
    except MemoryError:
        raise StoreFull(f"the partition from {shuffle.place} to {reducer}: no memory to make it") from None


async def _take_all(shuffle: Shuffle, part: TakePart) -> None:
    async for mapper, view in shuffle.partitions():
        _check(shuffle, mapper, view, part)
        del view  # or its memory would be kept until the next one is here


def _check(shuffle: Shuffle, mapper: str, view: ObjectView, part: TakePart) -> None:
    due_bytes = part.takes_bytes.get(NodeName(mapper), 0)
    if len(view.buffer) != due_bytes:
        raise RemoteProtocolError(f"{mapper} sent {len(view.buffer)} bytes of {due_bytes} to {shuffle.place}")
