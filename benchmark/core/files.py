"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

LARGEST_TEXT = 256 << 20
"""No record, suite or lock is as large: a file from elsewhere cannot fill the memory."""


def read_regular(path: Path, limit: int = LARGEST_TEXT) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises OSError with the file's name for anything else: a named pipe would wait for ever, a device never ends.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than the {limit >> 20} MiB that such a file can have", str(path))
        return file.read(limit)


def linked(folder: Path) -> Path | None:
    """The first symbolic link inside a folder, at any depth, or None. The folder itself may be one."""
    for place, folders, files in os.walk(folder):
        for name in sorted([*folders, *files]):
            if (path := Path(place, name)).is_symlink():
                return path
    return None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside, flush to disk, rename: readers see the old file or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
