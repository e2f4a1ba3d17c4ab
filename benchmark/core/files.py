"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 20
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
    data = content.encode() if isinstance(content, str) else content
    with _replacing(path) as file:
        file.write(data)


def copy_atomically(source: Path, target: Path) -> None:
    """A file's content under another name, whole or not at all, block by block: it may be larger than the memory.

    Raises OSError naming the source where it is no regular file, or needs more room than there is: a file from
    elsewhere may state a size that it does not take.
    """
    with open(source, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW)) as content:
        status = os.fstat(content.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(source))
        target.parent.mkdir(parents=True, exist_ok=True)
        if status.st_size > shutil.disk_usage(target.parent).free:
            raise OSError(errno.ENOSPC, f"{status.st_size:,} bytes do not fit on {target.parent}", str(source))
        with _replacing(target) as file:
            shutil.copyfileobj(content, file, BLOCK)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` at the end, if nothing went wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
