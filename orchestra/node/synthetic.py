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
from orchestra.node.content import in_thread_if_large
from orchestra.node.shuffle import Shuffle, ShuffleHome
from transfers.codec import MAX_NAME_CHARS
from transfers.errors import OrchestraError, RemoteProtocolError, StoreFull
from transfers.ids import NodeName
from transfers.store import Store
from transfers.store.arena import MEMORY_MARGIN_BYTES
from transfers.store.memory import available_bytes
from transfers.store.view import ObjectView

_STEP = np.uint64(0x9E3779B97F4A7C15)
"""2⁶⁴ over the golden ratio, odd: its multiples meet every word, and look like anything but zeros."""

log = logging.getLogger(__name__)


def synthetic_bytes(mapper: str, reducer: str, size_bytes: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The bytes of one partition: a counter in large steps, which starts where the two names say.

    Args:
        mapper, reducer: whose partition it is.
        size_bytes: how many there are to be.

    Returns:
        an array of ``size_bytes`` bytes.
    """
    first = np.uint64(xxhash.xxh3_64_intdigest(f"{mapper}/{reducer}".encode()))
    words = np.arange(-(-size_bytes // 8), dtype="<u8")
    np.multiply(words, _STEP, out=words)
    np.add(words, first, out=words)
    return words.view(np.uint8)[:size_bytes]


async def take_part(home: ShuffleHome, shuffle: Shuffle, part: TakePart) -> None:
    """Put what is to be made up, take what comes, wait for the end; what goes wrong ends the shuffle.

    The engine verifies every block's checksum; here only sizes are compared with what was announced.
    """
    try:
        async with trio.open_nursery() as nursery:  # at once: who puts may wait for who takes
            if shuffle.place in shuffle.mappers:
                nursery.start_soon(_put_all, home.objects.store, shuffle, part)
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


async def _put_all(store: Store, shuffle: Shuffle, part: TakePart) -> None:
    for reducer, size_bytes in part.puts_bytes.items():
        await shuffle.put({reducer: await _made_up(store, shuffle, reducer, size_bytes)})
    shuffle.finish()


async def _take_all(shuffle: Shuffle, part: TakePart) -> None:
    async for mapper, view in shuffle.partitions():
        _check(shuffle, mapper, view, part)
        del view  # or its memory would be kept until the next one is here


async def _made_up(
    store: Store, shuffle: Shuffle, reducer: str, size_bytes: int
) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The bytes of one partition, if there is room for them: in the store, and before that beside it.

    Raises:
        StoreFull: when there is not; nothing has been made then.
    """
    what = f"the partition from {shuffle.place} to {reducer} needs {size_bytes} bytes"
    if not store.could_hold(size_bytes):
        raise StoreFull(f"{what}, more than its store can ever hold")
    available = available_bytes()
    if available is not None and size_bytes > available - MEMORY_MARGIN_BYTES:
        raise StoreFull(f"{what} to be made up in; the host has {available} available")
    try:
        return await in_thread_if_large(
            lambda: synthetic_bytes(shuffle.place, reducer, size_bytes), size_bytes
        )
    except MemoryError:
        raise StoreFull(f"{what} to be made up in, which the host does not give") from None


def _check(shuffle: Shuffle, mapper: str, view: ObjectView, part: TakePart) -> None:
    due_bytes = part.takes_bytes.get(NodeName(mapper), 0)
    if len(view.buffer) != due_bytes:
        raise RemoteProtocolError(f"{mapper} sent {len(view.buffer)} bytes of {due_bytes} to {shuffle.place}")
