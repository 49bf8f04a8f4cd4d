"""Writing received objects to files, whole or not at all."""

import os
import tempfile
from pathlib import Path

from orchestra.names import transfer_name
from transfers.manifest import Manifest


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
