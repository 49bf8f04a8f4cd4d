"""Files for objects that have no room in a store's memory.

Owns a folder's share of the disk, under a limit, and places in it. Must not know objects or who may use it.

Theory of operation. Each object is a file of its own, which loses its name as soon as it is open, so that
nothing is left behind when the process ends. All of its bytes are allocated before anyone writes (a hole that
cannot be filled would end in SIGBUS). It is mapped like memory; the kernel writes it to the disk when it
needs the memory for something else.
"""

import mmap
import os
import tempfile
import threading
from pathlib import Path

import numpy as np

from transfers.errors import StoreFull
from transfers.store.ranges import Range
from transfers.store.segment import Bytes, Lender, write_zeros


class Spill:
    """A folder for files, of ``limit_bytes`` in all.

    Raises:
        ValueError: for a limit below 1.
        OSError: when no file can be made there.
    """

    def __init__(self, folder: str | Path, limit_bytes: int) -> None:
        if limit_bytes < 1:
            raise ValueError(f"spill limit must be at least 1 byte, got {limit_bytes}")
        self.folder = Path(folder)
        self.limit_bytes = limit_bytes
        self.taken_bytes = 0
        self._lock = threading.Lock()
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder):
            pass  # so that a folder that is not ours to write is found out at once

    def reserve(self, size_bytes: int, what: str) -> None:
        """Take so much of the limit.

        Raises:
            StoreFull: when there is not so much.
        """
        with self._lock:
            if self.taken_bytes + size_bytes > self.limit_bytes:
                raise StoreFull(
                    f"{what} needs {size_bytes} bytes; {self.taken_bytes} of the {self.limit_bytes} for "
                    f"spill files are in use"
                )
            self.taken_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """It is free again."""
        with self._lock:
            self.taken_bytes -= size_bytes


class SpilledPlace:
    """A file of its own; see `transfers.store.places.Place`.

    Raises:
        StoreFull: when the limit or the disk does not allow it.
    """

    owned = True
    offset_bytes = 0
    reserved_bytes = 0

    def __init__(self, spill: Spill, size_bytes: int, what: str) -> None:
        spill.reserve(size_bytes, what)
        self._spill = spill
        self._size_bytes = size_bytes
        try:
            self._fd, self._readonly_fd = _open(spill.folder, size_bytes, what)
        except BaseException:
            spill.give_back(size_bytes)
            raise
        self._freed = False
        self._writing = Lender(lambda: self._map(self._fd, mmap.PROT_READ | mmap.PROT_WRITE))
        self._reading = Lender(lambda: self._map(self._readonly_fd, mmap.PROT_READ))

    @property
    def spilled_bytes(self) -> int:
        """On the disk."""
        return 0 if self._freed else self._size_bytes

    @property
    def busy(self) -> bool:
        return self._writing.busy or self._reading.busy

    def descriptors(self) -> tuple[int, ...]:
        return (self._readonly_fd,)

    def writable(self) -> memoryview:
        return self._writing.view()

    def readable(self) -> memoryview:
        return self._reading.view().toreadonly()

    def let_go(self) -> None:
        self._writing.let_go()
        self._reading.let_go()

    def free(self) -> None:
        if not self._freed:
            self._freed = True
            os.close(self._fd)
            os.close(self._readonly_fd)
            self._spill.give_back(self._size_bytes)

    def _map(self, descriptor: int, protection: int) -> Bytes:
        return np.frombuffer(mmap.mmap(descriptor, self._size_bytes, prot=protection), np.uint8)


def _open(folder: Path, size_bytes: int, what: str) -> tuple[int, int]:
    """A file without a name, all of it allocated, open for writing and for reading."""
    try:
        fd, path = tempfile.mkstemp(dir=folder, prefix="orchestra-spill-")
        try:
            readonly_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            os.close(fd)
            raise
        finally:
            os.unlink(path)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, size_bytes)
            else:
                write_zeros(fd, Range(0, size_bytes))
        except BaseException:
            os.close(fd)
            os.close(readonly_fd)
            raise
        return fd, readonly_fd
    except OSError as refused:
        raise StoreFull(f"{what} needs {size_bytes} bytes in {folder}: {refused.strerror}") from refused
