"""Files that are broadcast, and received objects written to files, whole or not at all."""

import os
import stat
import tempfile
from pathlib import Path

from orchestra.names import transfer_name
from transfers.manifest import Manifest


def size_to_send(path: Path) -> int:
    """The size in bytes of a file that can be broadcast.

    Raises:
        ValueError: for what is no regular file, and for a file that does not tell its size, as those that the
            kernel makes up when they are read (``/proc``).
        OSError: when it cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"path={str(path)!r} is no regular file")
    if status.st_size == 0:
        # Not waited for: some of the kernel's files have nothing to read until something happens.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if os.read(descriptor, 1):
                raise ValueError(f"path={str(path)!r} has content but tells a size of 0 bytes: copy it first")
        finally:
            os.close(descriptor)
    return status.st_size


def name_to_save(path: Path) -> str:
    """The name under which receivers save a file that is broadcast without a name: its own.

    Raises:
        ValueError: when receivers would not take it for a name.
    """
    try:
        return transfer_name(path.name)
    except ValueError as bad:
        raise ValueError(f"path={str(path)!r}: its own name cannot be that of what is sent: {bad}") from bad


def path_for(folder: Path, manifest: Manifest) -> Path:
    """Where an object is saved: under its file's own name, else under its transfer's name.

    Raises:
        ValueError: for a name that is not a relative path inside ``folder``; peers are not trusted with it.
    """
    return folder / transfer_name(manifest.content.file_name or manifest.key.transfer)


def save(data: memoryview, path: Path) -> None:
    """Write ``data`` to ``path``; the file is there with all its bytes, or as it was before.

    Raises:
        OSError: as the file system says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(partial, 0o666 & ~umask)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
