"""Locks: two runners on one result tree, even on a shared network directory, never do one run twice.

A lock is a file made with O_EXCL that names its holder; its modification time is the heartbeat. Where the holder's
process can be seen, the lock is dead when that process is gone. Where it cannot (another host, another container), the
lock is dead when we have not seen its heartbeat move for a while. No two clocks are ever compared: that interval runs
on our own monotonic clock, and a heartbeat is any change, so a clock that is wrong, late or set back does not matter.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from pathlib import Path

import psutil

from benchmark.core.files import read_regular

HEARTBEAT_SECONDS = 5.0
DEAD_AFTER_SECONDS = 60.0

_seen: dict[Path, tuple[tuple[int, int], float]] = {}
"""Of locks whose holder cannot be seen: the last heartbeat (inode and time) and when we first saw it."""


class Lock:
    """The lock of one run directory, held from `acquire` to `release` (or to the end of a ``with``)."""

    def __init__(self, path: Path, token: str) -> None:
        self._path, self.token = path, token

    @classmethod
    def acquire(cls, directory: Path) -> Lock | None:
        """The lock of ``directory``, or None while a living process holds it. A dead one's is taken over."""
        path = directory / "lock.json"
        directory.mkdir(parents=True, exist_ok=True)
        if path.exists() and _is_dead(path, path):
            # Renaming is atomic: of several runners that see a dead lock, one gets it out of the way.
            grave = path.with_name(f".lock-{uuid.uuid4().hex}")
            with contextlib.suppress(FileNotFoundError):
                path.rename(grave)
                if not _is_dead(grave, path):  # another runner was faster and this was its new lock: give it back
                    os.link(grave, path)
                grave.unlink()
        token = uuid.uuid4().hex
        owner = {"where": _where(), "pid": os.getpid(), "started": _started(os.getpid()), "token": token}
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return None
        with os.fdopen(handle, "w") as file:
            json.dump(owner, file)
        return cls(path, token)

    def beat(self) -> None:
        """Show that the holder is alive. Call it every HEARTBEAT_SECONDS."""
        with contextlib.suppress(OSError):
            os.utime(self._path)

    def release(self) -> None:
        """Give the lock up, if it is still ours."""
        if is_held(self._path.parent, self.token):
            with contextlib.suppress(OSError):
                self._path.unlink()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


LARGEST_LOCK = 1 << 16
"""Bytes; a lock has some hundred."""


def is_held(directory: Path, token: str) -> bool:
    """Whether the lock of ``directory`` is still the one with this token: asked before something is written for good,
    for a runner that stood still for long may have been taken for dead."""
    try:
        return bool(json.loads(read_regular(directory / "lock.json", LARGEST_LOCK))["token"] == token)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _is_dead(path: Path, known_as: Path) -> bool:
    """Whether the holder of the lock at ``path`` is gone; ``known_as`` is where its heartbeat was seen before."""
    try:
        entry = os.stat(path)
        owner = json.loads(read_regular(path, LARGEST_LOCK))  # opening asks an NFS server for what stat has cached
    except FileNotFoundError:
        return False
    except (ValueError, OSError, RecursionError):  # being written, its writer died while writing, or no lock of ours
        owner, entry = {}, os.stat(path)
    if isinstance(owner, dict) and owner.get("where") == _where():
        return _started(owner.get("pid")) != owner.get("started")
    beat, now = (entry.st_ino, entry.st_mtime_ns), time.monotonic()
    if known_as not in _seen or _seen[known_as][0] != beat:
        _seen[known_as] = beat, now
    return now - _seen[known_as][1] > DEAD_AFTER_SECONDS


def this_boot() -> str:
    """Names the running system, containers of one machine alike; its host's name where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def _where() -> str:
    """Within what process numbers mean the same: this boot of this host, this container."""
    parts = [socket.gethostname(), this_boot()]
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: object) -> str | None:
    """When a process started, or None if there is none: tells a process from a later one with the same number."""
    if not isinstance(pid, int) or pid <= 0:
        return None
    if Path("/proc/self/stat").exists():  # in ticks since the boot: psutil's time of day moves when the clock is set
        try:
            state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return None if state in "ZX" else fields[18]  # a zombie is dead, only nobody has asked for it yet
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except (psutil.Error, ValueError, OverflowError):
        return None
