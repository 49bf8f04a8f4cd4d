"""A node's part in a shuffle of synthetic bytes: real movement of made-up data.

Owns what the bytes are, and that they arrive whole. Who moves how much to whom, the controller says
(`TakePart`), because somebody asked it to (`RunShuffle`). The bytes of a partition follow from its two
names, so that a run can be repeated, and no two partitions are equal.
"""

import logging
from typing import Any

import numpy as np
import xxhash

from orchestra.messages import CancelTransfer, TakePart
from orchestra.node.shuffle import Shuffle, ShuffleHome
from transfers.codec import MAX_NAME_CHARS
from transfers.errors import OrchestraError, RemoteProtocolError
from transfers.ids import NodeName
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
        if shuffle.node in shuffle.mappers:
            for reducer, size_bytes in part.puts_bytes.items():
                await shuffle.put({reducer: synthetic_bytes(shuffle.node, reducer, size_bytes)})
            shuffle.finish()
        if shuffle.node in shuffle.reducers:
            async for mapper, view in shuffle.partitions():
                _check(shuffle, mapper, view, part)
        await shuffle.wait()
    except (OrchestraError, ValueError) as failed:
        log.warning("shuffle %s: %s", shuffle.name, failed)
        if not shuffle.over:
            home.tell(CancelTransfer(shuffle.name, str(failed)[:MAX_NAME_CHARS]))
    finally:
        for manifest in shuffle.local_manifests():
            home.objects.drop(manifest.key, "the shuffle is over")


def _check(shuffle: Shuffle, mapper: str, view: ObjectView, part: TakePart) -> None:
    due_bytes = part.takes_bytes.get(NodeName(mapper), 0)
    if len(view.buffer) != due_bytes:
        raise RemoteProtocolError(f"{mapper} sent {len(view.buffer)} bytes of {due_bytes} to {shuffle.node}")
