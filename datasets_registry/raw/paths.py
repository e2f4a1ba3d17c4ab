"""Where data lies: the cache and the user's own directory."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from benchmark.core.errors import DataError, UsageError


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """The argument, else MPTBENCH_CACHE, else ``mpt-bench`` under XDG_CACHE_HOME or ~/.cache. Not created here."""
    if cache_dir:
        return Path(cache_dir).expanduser()
    if os.environ.get("MPTBENCH_CACHE"):
        return Path(os.environ["MPTBENCH_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "mpt-bench"


def data_root(data_dir: str | Path | None = None) -> Path | None:
    """The argument, else MPTBENCH_DATA, else None. Raises UsageError if it is no directory."""
    chosen = data_dir or os.environ.get("MPTBENCH_DATA")
    if not chosen:
        return None
    path = Path(chosen).expanduser()
    if not path.is_dir():
        origin = "--data-dir" if data_dir else "MPTBENCH_DATA"
        raise UsageError(f"{origin} names {path}, which is no directory.")
    return path


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """One process makes ``target``, the others wait. The lock's file stays: removing it would let two in at once."""
    import filelock

    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.parent / f".{target.name}.lock"
    lock: filelock.BaseFileLock = filelock.FileLock(path)
    try:
        lock.acquire()
    except NotImplementedError:  # a file system without locks: a file that is there or not does instead
        lock = filelock.SoftFileLock(path.with_suffix(".soft"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def explained(cache: Path) -> Iterator[None]:
    """Turn a full disk or a directory that cannot be written into an error that says which and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise
        where = error.filename or cache
        raise DataError(
            f"{where}: {error.strerror}. The cache is {cache}; free some space or name another with MPTBENCH_CACHE."
        ) from error
