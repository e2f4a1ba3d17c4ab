"""What a run's process is told, and what it can say without a record. Imports nothing heavy: the processes that wait
for runs have no use for torch."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import BenchmarkError, visible
from benchmark.records.record import Key, run_directory

LOG_TAIL_LINES = 20
CHECKPOINT_SECONDS = 30.0
"""Least time between two checkpoints of a running training: short runs are cheaper to repeat than to save."""


OUTPUT_LOST = 74
"""Exit code of a run whose results could not be written (EX_IOERR of sysexits.h): no fault of the method."""
PREEMPTED = 75
"""Exit code of a run that was asked to keep its checkpoint and end (EX_TEMPFAIL): it goes on when started again."""
TAKEN_OVER = 76
"""Exit code of a run that another runner does by now: its record is not ours to write."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class OutputLost(BenchmarkError):
    """The result tree cannot be written. The sweep has to stop: every further run would be lost, too."""

    @classmethod
    def at(cls, directory: Path, error: OSError) -> OutputLost:
        return cls(
            f"Cannot write to {error.filename or directory}: {error.strerror}; stopped before more work is lost. "
            "Mend it (free some space, allow writing) and start the same command again: it goes on where it stopped. "
            "--out DIR writes elsewhere."
        )


@dataclass(frozen=True)
class Job:
    """Everything that a run's process has to know. Plain data: it crosses a process border."""

    key: Key
    out: Path
    parent: str | None
    stage0: Path | None
    device: str
    threads: int
    jobs: int
    data_dir: Path | None
    command: str
    memory_bytes: int | None
    method_files: tuple[Path, ...]
    dataset_files: tuple[Path, ...]
    attempts: int = 1
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    limit_seconds: float | None = None
    lock: str | None = None
    """Token of the lock that the record may be written under; None: no lock guards the directory."""
    cores: frozenset[int] | None = None
    """The only cores to work on; None: any."""

    @property
    def directory(self) -> Path:
        return run_directory(self.out, self.key)


def log_tail(directory: Path) -> list[str]:
    """Last lines of a run's log, control characters made visible."""
    try:
        with open(os.open(directory / "log.txt", os.O_RDONLY | os.O_NOFOLLOW), "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 16_384))
            lines = log.read().decode("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        return []
    return [visible(line, 500) for line in lines]
