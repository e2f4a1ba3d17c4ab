"""Runs a plan: child processes, parents before children, limits kept, one record per run whatever happens."""

from __future__ import annotations

import os
import pdb
import shutil
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.execution import processes
from benchmark.execution.children import Child, _collect, end_child, lost_from_outside, poll, send, start_child
from benchmark.execution.locks import Lock
from benchmark.execution.runner import (
    CHECKPOINT_SECONDS,
    NO_ROOM,
    Job,
    OutputLost,
    run,
)
from benchmark.execution.watcher import Watcher
from benchmark.planning.plan import Plan, Run
from benchmark.records.record import DamagedRecord, Key, Record, read_record, run_id, write_record

LEAST_FREE_BYTES = 64 << 20
RETRIES = 2
"""How often a run is started again that was lost by no fault of its method."""


@dataclass
class Options:
    """How a plan is executed."""

    out: Path
    mode: str = "fill"
    jobs: int = 1
    device: str = "auto"
    data_dir: Path | None = None
    command: str = ""
    method_files: tuple[Path, ...] = ()
    dataset_files: tuple[Path, ...] = ()
    fail_fast: bool = False
    debug: bool = False


@dataclass
class Summary:
    """How it ended. ``records`` has one entry per planned run that has a record now; skips are not planned runs."""

    planned: int
    records: list[Record] = field(default_factory=list)
    kept: int = 0
    interrupted: bool = False

    def count(self, *statuses: str) -> int:
        return sum(record.status in statuses for record in self.records)

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        return 0 if self.count("ok") == self.planned else 1


def existing_record(run: Run, out: Path, warn: Callable[[str], None], set_aside: bool = True) -> Record | None:
    """The run's record, if there is one that can be read. A damaged one is reported and, by default, set aside."""
    path = run.directory(out) / "record.json"
    if not path.exists():
        return None
    try:
        record = read_record(path)
        if record.run_id != run.id or record.key != run.key:
            raise DamagedRecord(f"{path}: belongs to another run ({record.run_id})")
        return record
    except DamagedRecord as error:
        if not set_aside:
            warn(f"{error}.")
            return None
        aside = path.with_name(f"record.damaged-{time.time_ns()}.json")
        path.rename(aside)
        warn(f"{error}. It was set aside as {aside.name}; the run is done again.")
        return None


def keeps(mode: str, record: Record, stale: Callable[[Record], bool]) -> bool:
    """Whether a record that exists stays under ``mode``.

    Interrupted runs and those skipped because of another are never results, so they are always done again.
    """
    if mode == "only-read":
        return True
    if mode == "fresh" or record.status in ("interrupted", "skipped"):
        return False
    if mode == "retry-failed" and record.status != "ok":
        return False
    return not (mode == "rerun-stale" and stale(record))


def execute_plan(
    plan: Plan,
    options: Options,
    watcher: Watcher,
    warn: Callable[[str], None],
    stale: Callable[[Record], bool] = lambda record: False,
) -> Summary:
    """Run what the mode asks for. Ctrl-C ends it cleanly; the summary says so."""
    only_read = options.mode == "only-read"
    if not only_read:
        check_writable(options.out)
    sweep = _Sweep(plan, options, watcher, warn)
    for item in plan.runs:
        record = existing_record(item, options.out, warn, set_aside=not only_read)
        if record is not None and keeps(options.mode, record, stale):
            sweep.done[item.id] = record
            if not only_read:
                _bury_lock(item.directory(options.out))
        elif not only_read:
            sweep.waiting.append(item)
    while lost := _lost_weights(sweep.waiting, sweep.done, plan, options.out):  # whose own parent's may be lost, too
        for item in lost:
            del sweep.done[item.id]
            sweep.waiting.insert(0, item)
    summary = Summary(len(plan.runs), kept=sum(item.id in sweep.done for item in plan.runs))
    for item in plan.runs:
        if item.id in sweep.done:
            watcher.ended(item, sweep.done[item.id], kept=True)
    try:
        sweep.run()
    except KeyboardInterrupt:
        summary.interrupted = True
    except OSError as error:
        if error.filename is None and error.errno not in NO_ROOM:
            raise
        raise OutputLost.at(options.out, error) from error
    finally:
        sweep.stop()
    summary.records = [sweep.done[item.id] for item in plan.runs if item.id in sweep.done]
    return summary


class _Sweep:
    """A plan under way: what is done, what waits, which children are at work."""

    def __init__(self, plan: Plan, options: Options, watcher: Watcher, warn: Callable[[str], None]) -> None:
        self.done: dict[str, Record] = {}
        self.waiting: list[Run] = []
        self._plan, self._options, self._watcher, self._warn = plan, options, watcher, warn
        self._children: list[Child] = []
        self._attempts: Counter[str] = Counter()
        self._versions = {item.id: _version(item, options.out) for item in plan.runs}
        self._tree = _identity(options.out)

    def run(self) -> None:
        """Until nothing waits. Raises OutputLost when results cannot be kept, BenchmarkError with fail_fast."""
        while self.waiting or self._children:
            for item in _ready(self.waiting, self.done):
                if len(self._children) >= self._options.jobs:
                    break
                self._check_tree()
                self._begin(item)
            if not self._children:
                time.sleep(0.2 if self.waiting else 0.0)
            for child in poll(self._children, self._watcher):
                self._children.remove(child)
                self._check_tree()
                self._end(child)

    def stop(self) -> None:
        """Leave no process and no lock behind."""
        for child in self._children:
            send(child.process, processes.END)
        for child in self._children:
            end_child(child.process)
            child.lock.release()

    def _begin(self, item: Run) -> None:
        """Start a run, unless it cannot be, another runner is at it, or that one has done it in the meantime."""
        out = self._options.out
        parent = self.done.get(run_id(item.parent)) if item.parent else None
        if parent is not None and parent.status != "ok":
            self._finish(item, _skipped(item, out, parent))
            return
        check_space(out)
        lock = Lock.acquire(item.directory(out))
        if lock is None:  # another runner is at it: take the next one, and its record when it is there
            return
        written = _version(item, out) != self._versions.get(item.id)
        record = existing_record(item, out, self._warn) if written else None
        if record is not None and keeps("fill", record, lambda record: False):
            lock.release()
            self._finish(item, record)
            return
        self._attempts[item.id] += 1
        job = _job(item, self._plan, self._options, self._attempts[item.id])
        if self._options.debug:
            with lock:
                record = _debug(job, item, self._watcher)
            self._finish(item, record)
            return
        try:
            child = start_child(processes.context(), item, job, self._plan.suite.limits.seconds, lock)
        except (OSError, EOFError) as error:  # the server is gone; asked again, it starts anew
            lock.release()
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            if self._attempts[item.id] > RETRIES:
                raise BenchmarkError(f"{item.label}: no process could be started for it: {error}") from error
            self._warn(f"{item.label}: no process could be started for it ({error}); trying again.")
            return
        self.waiting.remove(item)
        self._children.append(child)
        self._watcher.started(item)

    def _end(self, child: Child) -> None:
        """Take up what a child left; start it again if it was lost by no fault of its own."""
        item, attempts = child.run, self._attempts[child.run.id]
        child.process.join()
        outside = lost_from_outside(child)
        with child.lock:
            if outside and attempts <= RETRIES and not (item.directory(self._options.out) / "record.json").exists():
                self._warn(f"{item.label}: {outside}; starting it again ({attempts} of {RETRIES}).")
                self.waiting.insert(0, item)
                return
            record = _collect(child, self._options.out, attempts)
        self._finish(item, record)

    def _finish(self, item: Run, record: Record) -> None:
        if item in self.waiting:
            self.waiting.remove(item)
        self.done[item.id] = record
        self._watcher.ended(item, record, kept=False)
        if self._options.fail_fast and record.status != "ok":
            raise BenchmarkError(f"{item.label} ended with status '{record.status}': {record.reason}")

    def _check_tree(self) -> None:
        out = self._options.out
        if _identity(out) != self._tree:
            raise OutputLost(
                f"{out} is no longer the directory that this sweep began in (moved, renamed or replaced). Move it back "
                "and start the same command again, or name its new place with --out DIR: what was done is kept."
            )


def check_writable(out: Path) -> None:
    """Raises UsageError when records could not be written under ``out``."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".writable-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        reason = f"Cannot write to {out}: {error.strerror}."
        raise UsageError(f"{reason} Choose another directory with --out DIR.") from error


def check_space(out: Path) -> None:
    """Raises BenchmarkError before a run whose results could not be kept."""
    free = shutil.disk_usage(out).free
    if free < LEAST_FREE_BYTES:
        raise BenchmarkError(
            f"Only {free >> 20} MiB are free under {out}; stopped before work is lost. "
            "Free some space and start the same command again: it goes on where it stopped."
        )


def _bury_lock(directory: Path) -> None:
    """Remove what a runner left that was killed, or lost sight of the tree, between its record and its lock."""
    if (directory / "lock.json").exists():
        lock = Lock.acquire(directory)
        if lock is not None:
            lock.release()


def _identity(out: Path) -> tuple[int, int] | None:
    """Tells a directory from another one that has taken its place."""
    try:
        entry = out.stat()
    except OSError:
        return None
    return entry.st_dev, entry.st_ino


def _version(item: Run, out: Path) -> tuple[int, int] | None:
    """Tells a record from one that another runner put in its place later."""
    try:
        entry = (item.directory(out) / "record.json").stat()
    except OSError:
        return None
    return entry.st_ino, entry.st_mtime_ns


def _ready(waiting: list[Run], done: dict[str, Record]) -> list[Run]:
    return [item for item in waiting if item.parent is None or run_id(item.parent) in done]


def _lost_weights(waiting: list[Run], done: dict[str, Record], plan: Plan, out: Path) -> list[Run]:
    """Runs whose record is there but whose weights, which a waiting run needs, are not."""
    needed = {run_id(item.parent) for item in waiting if item.parent is not None}
    return [
        item
        for item in plan.runs
        if item.id in needed
        and item.id in done
        and done[item.id].status == "ok"
        and not _whole(item.directory(out) / "weights.pt")
    ]


def _whole(path: Path) -> bool:
    """Whether a weights file is there and every part of it has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError):
        return False


def _job(item: Run, plan: Plan, options: Options, attempts: int) -> Job:
    memory = plan.suite.limits.memory_gib
    return Job(
        key=item.key,
        out=options.out,
        parent=run_id(item.parent) if item.parent else None,
        stage0=_weights(item.parent, options.out) if item.parent else None,
        device=options.device,
        threads=plan.suite.threads,
        jobs=options.jobs,
        data_dir=options.data_dir,
        command=options.command,
        memory_bytes=int(memory * (1 << 30)) if memory else None,
        method_files=options.method_files,
        dataset_files=options.dataset_files,
        attempts=attempts,
        checkpoint_seconds=CHECKPOINT_SECONDS,
    )


def _weights(parent: Key, out: Path) -> Path:
    return Run(parent).directory(out) / "weights.pt"


def _skipped(item: Run, out: Path, parent: Record) -> Record:
    record = Record(
        run_id=item.id,
        key=item.key,
        status="skipped",
        reason=f"{_called(parent.key)} ended with status '{parent.status}': {parent.reason}",
        parent=parent.run_id,
    )
    write_record(item.directory(out), record)
    return record


def _called(parent: Key) -> str:
    return f"stage {parent.stage} of its chain ({', '.join(parent.chain)})" if parent.chain else "its stage 0"


def _debug(job: Job, item: Run, watcher: Watcher) -> Record:
    """In this process, so that a debugger reaches it: at an error it opens where the error was raised."""

    def inspect(error: BaseException) -> None:
        pdb.post_mortem(error.__traceback__)

    watcher.started(item)
    return run(job, lambda epoch: watcher.epoch(item, epoch.epoch, job.key.budget["epochs"]), on_error=inspect)
