"""Stores that share their pages, so that a hundred simulated hosts can hold a large object.

Owns one copy of the bytes of each object for all hosts of a simulation. Each host's store keeps books of its
own: which blocks it holds, which it has verified. The network then hands over references, and what counts as
identical bytes is that they arrive at the very place that they left from (`orchestra.simulation.world`).
"""

import mmap

import numpy as np

from transfers.manifest import ObjectKey
from transfers.store import Store
from transfers.store.places import Place
from transfers.store.segment import PAGE_BYTES


class SharedPages:
    """The bytes of every object, once."""

    def __init__(self) -> None:
        self._objects: dict[ObjectKey, memoryview] = {}

    def of(self, key: ObjectKey, size_bytes: int) -> memoryview:
        """The bytes of an object, made when they are first asked for."""
        held = self._objects.get(key)
        if held is None or len(held) != size_bytes:
            held = self._objects[key] = (
                memoryview(mmap.mmap(-1, size_bytes)) if size_bytes else memoryview(b"")
            )
        return held


class SharedPlace:
    """An object's bytes in shared pages; see `transfers.store.places.Place`."""

    owned = True
    offset_bytes = 0
    reserved_bytes = 0
    busy = False

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def descriptors(self) -> tuple[int, ...]:
        """None: nobody maps them."""
        return ()

    def writable(self) -> memoryview:
        """All bytes."""
        return self._data

    def readable(self) -> memoryview:
        """All bytes, read-only."""
        return self._data.toreadonly()

    def let_go(self) -> None:
        """Nothing is kept."""

    def free(self) -> None:
        """Others may still need them."""


class SharingStore(Store):
    """A store whose objects lie in shared pages."""

    def __init__(self, pages: SharedPages) -> None:
        super().__init__(PAGE_BYTES, 0)
        self._pages = pages

    def could_hold(self, size_bytes: int) -> bool:
        """Always: pages are there for everyone."""
        return True

    def check_room(self, size_bytes: int) -> None:
        """Likewise."""

    def _reserve(self, key: ObjectKey, size_bytes: int, may_spill: bool) -> Place:
        return SharedPlace(self._pages.of(key, size_bytes))


def random_bytes(size_bytes: int, seed: int) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    """Bytes that no two blocks have in common, quickly."""
    words = np.random.default_rng(seed).integers(0, 2**64, -(-size_bytes // 8), dtype=np.uint64)
    return words.view(np.uint8)[:size_bytes]
