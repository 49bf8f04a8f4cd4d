"""The memory of one store: a sparse file in memory, mapped once for writing and once for reading.

Owns the file and its two mappings. Must not know objects, keys or who reads. Where `memfd_create`
is missing, an unlinked file in a private temporary folder takes its place.

Theory of operation. The file is as long as the address space from the start, so that the mappings never
move, and holes cost nothing. Touching a hole could end in SIGBUS when memory is short, so a range is
reserved (`posix_fallocate`, which answers with an error instead) before anyone touches it. The file
is sealed against changes of its length: whoever maps it can rely on it. What is handed out are
memoryviews of numpy arrays, one array a `Lender`: as long as any view or array derived from it
lives, so does that array, and a weak reference tells.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import sys
import tempfile
import weakref
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from transfers.errors import LocalProtocolError, StoreFull
from transfers.store.ranges import Range

Bytes = npt.NDArray[np.uint8]

PAGE_BYTES = mmap.ALLOCATIONGRANULARITY
"""Ranges start at multiples of this, so that each can be mapped alone."""

_ZEROS = bytes(1 << 20)
_NO_MEMORY = {errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EFBIG}

_CAN_PUNCH = sys.platform == "linux"


class Lender:
    """Hands out memoryviews of an array that it makes when first asked, and knows if any is alive."""

    __slots__ = ("_array", "_lent", "_make")

    def __init__(self, make: Callable[[], Bytes], made: Bytes | None = None) -> None:
        self._make = make
        self._array = made
        self._lent: list[weakref.ref[Bytes]] = [] if made is None else [weakref.ref(made)]

    def view(self) -> memoryview:
        """A view of all bytes; keeps them lent while it, or anything made from it, lives."""
        if self._array is None:
            self._array = self._make()
            self._lent.append(weakref.ref(self._array))
        return self._array.data

    def let_go(self) -> None:
        """Hold the array no longer, so that `busy` tells of views alone."""
        self._array = None

    @property
    def busy(self) -> bool:
        """Whether any view is alive, or the array is held still."""
        self._lent = [lent for lent in self._lent if lent() is not None]
        return bool(self._lent)


class Segment:
    """``space_bytes`` of sparse memory that other processes can map for reading.

    Raises:
        StoreFull: when not even the address space can be had (a limit on virtual memory).
    """

    def __init__(self, space_bytes: int) -> None:
        self.space_bytes = space_bytes
        self.can_punch = _CAN_PUNCH
        if hasattr(os, "memfd_create"):
            self._fd, self.readonly_fd = _open_memory(space_bytes)
        else:
            self._fd, self.readonly_fd = _open_file(space_bytes)
        self._close_files = weakref.finalize(self, _close_files, self._fd, self.readonly_fd)
        try:
            self._writing: mmap.mmap | None = mmap.mmap(self._fd, space_bytes)
            self._reading: mmap.mmap | None = mmap.mmap(self.readonly_fd, space_bytes, prot=mmap.PROT_READ)
        except OSError as refused:
            self._close_files()
            raise StoreFull(
                f"cannot map {space_bytes} bytes of address space: {refused.strerror}"
            ) from refused

    def reserve(self, wanted: Range) -> None:
        """Put memory behind a range; ranges that have it already keep it and their bytes.

        Raises:
            StoreFull: when there is not that much memory.
        """
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._fd, wanted.start, wanted.length)
            else:
                write_zeros(self._fd, wanted)
        except OSError as refused:
            if refused.errno not in _NO_MEMORY:
                raise
            raise StoreFull(f"no memory for {wanted.length} bytes: {refused.strerror}") from refused

    def punch(self, gone: Range) -> None:
        """Give the memory behind a range back to the kernel. Nobody may be using the range."""
        if self.can_punch and self._writing is not None:
            self._writing.madvise(mmap.MADV_REMOVE, gone.start, gone.length)

    def writable(self, place: Range, size_bytes: int) -> Bytes:
        """The first ``size_bytes`` of a reserved range, to write to."""
        return self._array(self._writing, place, size_bytes)

    def readable(self, place: Range, size_bytes: int) -> Bytes:
        """The first ``size_bytes`` of a reserved range; writing there is refused by the kernel too."""
        return self._array(self._reading, place, size_bytes)

    def _array(self, mapping: mmap.mmap | None, place: Range, size_bytes: int) -> Bytes:
        if size_bytes == 0:
            return np.empty(0, np.uint8)
        if mapping is None:
            raise LocalProtocolError("the store is closed")
        return np.frombuffer(mapping, np.uint8, count=size_bytes, offset=place.start)

    def close(self) -> None:
        """Let go of it. What was lent stays mapped until it dies. Harmless when done twice."""
        self._writing = self._reading = None
        self._close_files()


def _open_memory(space_bytes: int) -> tuple[int, int]:
    """A memfd, and a second descriptor of it that cannot be mapped for writing."""
    fd = os.memfd_create("orchestra-store", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        # The mode keeps others of this user from opening it for writing again through /proc by mistake.
        os.fchmod(fd, 0o400)
        os.ftruncate(fd, space_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return fd, os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except BaseException:
        os.close(fd)
        raise


def _open_file(space_bytes: int) -> tuple[int, int]:
    """An unlinked file in a private folder, open for writing and for reading."""
    folder = tempfile.mkdtemp(prefix="orchestra-")
    path = os.path.join(folder, "store")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(fd, space_bytes)
        return fd, os.open(path, os.O_RDONLY)
    except BaseException:
        os.close(fd)
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.rmdir(folder)


def _close_files(fd: int, readonly_fd: int) -> None:
    os.close(fd)
    os.close(readonly_fd)


def write_zeros(fd: int, wanted: Range) -> None:
    """What `posix_fallocate` does, where it is missing; the range is free, so its bytes matter to nobody."""
    at = wanted.start
    while at < wanted.end:
        at += os.pwrite(fd, _ZEROS[: wanted.end - at], at)
