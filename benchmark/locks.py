"""Locks: two runners on one result tree, even on a shared network directory, never do one run twice.

A lock is a file made with O_EXCL that names host, process and the process's start time; its modification time is the
heartbeat. On the same host a lock is dead when that process is gone; on another host when the heartbeat has stopped.
Ages are measured against the file system's own clock, so a clock that is wrong or set back does not matter.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from pathlib import Path

import psutil

HEARTBEAT_SECONDS = 5.0
DEAD_AFTER_SECONDS = 60.0


class Lock:
    """The lock of one run directory, held from `acquire` to `release`."""

    def __init__(self, path: Path, token: str) -> None:
        self._path, self._token = path, token

    @classmethod
    def acquire(cls, directory: Path) -> Lock | None:
        """The lock of ``directory``, or None while a living process holds it. A dead one's is taken over."""
        path = directory / "lock.json"
        directory.mkdir(parents=True, exist_ok=True)
        if path.exists() and _is_dead(path):
            # Renaming is atomic: of several runners that see a dead lock, one gets it out of the way.
            grave = path.with_name(f".lock-{uuid.uuid4().hex}")
            with contextlib.suppress(FileNotFoundError):
                path.rename(grave)
                if not _is_dead(grave):  # another runner was faster and this was its new lock: give it back
                    os.link(grave, path)
                grave.unlink()
        token = uuid.uuid4().hex
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid()), "token": token}
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
        with contextlib.suppress(OSError, ValueError):
            if json.loads(self._path.read_text())["token"] == self._token:
                self._path.unlink()


def _is_dead(path: Path) -> bool:
    try:
        age = _file_system_now(path.parent) - path.stat().st_mtime
        owner = json.loads(path.read_text())
    except FileNotFoundError:
        return False
    except ValueError:  # being written, or its writer died while writing
        return age > DEAD_AFTER_SECONDS
    if owner.get("host") == socket.gethostname():
        return _started(owner.get("pid", -1)) != owner.get("started")
    return age > DEAD_AFTER_SECONDS


def _started(pid: int) -> float | None:
    """When a process started, or None if there is none: tells a process from a later one with the same number."""
    try:
        return psutil.Process(pid).create_time()
    except (psutil.Error, ValueError, TypeError):
        return None


def _file_system_now(directory: Path) -> float:
    """The file server's time, by making a file."""
    probe = directory / f".now-{uuid.uuid4().hex}"
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink(missing_ok=True)
    return now
