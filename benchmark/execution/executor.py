"""Runs a plan: child processes, parents before children, limits kept, one record per run whatever happens."""

from __future__ import annotations

import contextlib
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
from benchmark.execution.engine import Ended, Engine, Options, weights_of
from benchmark.execution.job import CHECKPOINT_SECONDS, NO_ROOM, Job, OutputLost
from benchmark.execution.local import LocalEngine
from benchmark.execution.locks import HEARTBEAT_SECONDS, Lock, is_held
from benchmark.execution.signals import Asked, Signals
from benchmark.execution.watcher import Watcher
from benchmark.planning.plan import Plan, Run
from benchmark.records.record import DamagedRecord, Key, Record, read_record, run_id, write_record
from benchmark.records.tree import packed_records, unpack

LEAST_FREE_BYTES = 64 << 20
RETRIES = 2
"""How often a run is started again that was lost by no fault of its method."""
GRACE_SECONDS = 20.0
"""How long runs may take to keep their checkpoints when a batch system takes the machine away. Slurm kills after 30."""
WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
"""How soon a run that another runner is at is looked at again; doubled every time, up to the second."""


@dataclass
class Summary:
    """How it ended. ``records`` has one entry per planned run that has a record now; skips are not planned runs."""

    planned: int
    records: list[Record] = field(default_factory=list)
    kept: int = 0
    interrupted: bool = False
    preempted: bool = False
    """Interrupted by a batch system, which grants little time: nothing but ending should follow."""

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
    """Run what the mode asks for. Ctrl-C ends it cleanly, and so do SIGTERM and SIGUSR1, which leave runs some time
    to keep their checkpoints; the summary says so."""
    only_read = options.mode == "only-read"
    if not only_read:
        open_tree(options.out, warn)
    engine = options.engine or LocalEngine(options.jobs)
    sweep = _Sweep(plan, options, watcher, warn, engine)
    packed = packed_records(options.out)  # of a tree that is only read
    for item in plan.runs:
        record = existing_record(item, options.out, warn, set_aside=not only_read) or packed.get(item.id)
        if record is not None and keeps(options.mode, record, stale):
            sweep.done[item.id] = record
            if not only_read:
                _bury_lock(item.directory(options.out))
        elif not only_read:
            sweep.waiting.append(item)
    while lost := _lost_weights(sweep.waiting, sweep.done, plan, options.out):  # whose own parent's may be lost, too
        for item in lost:
            warn(f"{item.label}: its weights are lost or not those that its record speaks of; the run is done again.")
            del sweep.done[item.id]
            sweep.waiting.insert(0, item)
    summary = Summary(len(plan.runs), kept=sum(item.id in sweep.done for item in plan.runs))
    for item in plan.runs:
        if item.id in sweep.done:
            watcher.ended(item, sweep.done[item.id], kept=True)
    with contextlib.nullcontext(Signals()) if options.debug else Signals() as signals:
        try:
            if sweep.waiting:
                engine.begin(plan, options, sweep.done, watcher, warn, signals.check)
            sweep.run(signals)
        except (KeyboardInterrupt, Asked) as asked:
            summary.interrupted = True
            if isinstance(asked, Asked) and asked.preempted:
                summary.preempted = True
                sweep.preempt()
        except OSError as error:
            if error.filename is None and error.errno not in NO_ROOM:
                raise
            raise OutputLost.at(options.out, error) from error
        finally:
            sweep.stop()
    summary.records = [sweep.done[item.id] for item in plan.runs if item.id in sweep.done]
    return summary


class _Sweep:
    """A plan under way: what is done, what waits, what the engine is at."""

    def __init__(
        self, plan: Plan, options: Options, watcher: Watcher, warn: Callable[[str], None], engine: Engine
    ) -> None:
        self.done: dict[str, Record] = {}
        self.waiting: list[Run] = []
        self._plan, self._options, self._watcher, self._warn = plan, options, watcher, warn
        self._engine = engine
        self._locks: dict[str, Lock] = {}
        """Of the runs that the engine is at, by run id."""
        self._beaten = 0.0
        self._later: dict[str, tuple[float, float]] = {}
        """Of runs that another runner is at: when to look again, and how long to wait the next time."""
        self._attempts: Counter[str] = Counter()
        self._versions = {item.id: _version(item, options.out) for item in plan.runs}
        self._tree = _identity(options.out)

    def run(self, signals: Signals) -> None:
        """Until nothing waits. Raises OutputLost when results cannot be kept, BenchmarkError with fail_fast, Asked."""
        while self.waiting or self._locks:
            signals.check()
            for item in self._ready():
                if not self._engine.room():
                    break
                self._check_tree()
                self._begin(item)
                signals.check()
            if not self._locks:
                time.sleep(WAIT_SECONDS if self.waiting else 0.0)
                continue
            for ended in self._engine.wait():
                self._check_tree()
                self._end(ended)
            self._beat()

    def preempt(self) -> None:
        """Let runs keep their checkpoints."""
        self._engine.preempt(GRACE_SECONDS)

    def stop(self) -> None:
        """Leave no process and no lock behind."""
        try:
            self._engine.stop()
        finally:
            for lock in self._locks.values():
                lock.release()
            self._locks.clear()

    def _ready(self) -> list[Run]:
        """What could be begun now."""
        now, found = time.monotonic(), []
        for item in self.waiting:
            parent = run_id(item.parent) if item.parent else None
            handed_over = self._engine.before_parents and parent in self._locks
            if (parent is None or parent in self.done or handed_over) and self._later.get(item.id, (0.0,))[0] <= now:
                found.append(item)
        return found

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beaten >= HEARTBEAT_SECONDS:
            for lock in self._locks.values():
                lock.beat()
            self._beaten = now

    def _begin(self, item: Run) -> None:
        """Start a run, unless it cannot be, another runner is at it, or that one has done it in the meantime."""
        out = self._options.out
        parent = self.done.get(run_id(item.parent)) if item.parent else None
        if parent is not None and parent.status != "ok":
            self._finish(item, _skipped(item, out, parent))
            return
        check_space(out)
        _refuse_links(item.directory(out), out)
        lock = Lock.acquire(item.directory(out))
        if lock is None:  # another runner is at it: take the next one, and its record when it is there
            pause = self._later.get(item.id, (0.0, WAIT_SECONDS))[1]
            self._later[item.id] = time.monotonic() + pause, min(2 * pause, LONGEST_WAIT_SECONDS)
            return
        written = _version(item, out) != self._versions.get(item.id)
        record = existing_record(item, out, self._warn) if written else None
        if record is not None and keeps("fill", record, lambda record: False):
            lock.release()
            self._finish(item, record)
            return
        self._attempts[item.id] += 1
        job = _job(item, self._plan, self._options, self._attempts[item.id], lock)
        if self._options.debug:
            with lock:
                record = _debug(job, item, self._watcher)
            self._finish(item, record)
            return
        self._locks[item.id] = lock
        try:
            self._engine.start(item, job)
        except (OSError, EOFError) as error:  # the server is gone; asked again, it starts anew
            self._locks.pop(item.id).release()
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            if self._attempts[item.id] > RETRIES:
                raise BenchmarkError(f"{item.label}: no process could be started for it: {error}") from error
            self._warn(f"{item.label}: no process could be started for it ({error}); trying again.")
            return
        self.waiting.remove(item)

    def _end(self, ended: Ended) -> None:
        """Take up what a run left; start it again if it was lost by no fault of its own."""
        item, attempts = ended.run, self._attempts[ended.run.id]
        directory = item.directory(self._options.out)
        with self._locks[item.id] as lock:
            if not is_held(directory, lock.token):  # we stood still for long, and another runner took it for dead
                self._warn(f"{item.label}: another runner has taken it over; its record counts.")
                self._engine.withdraw(item)
                self.waiting.insert(0, item)
                del self._locks[item.id]
                return
            if ended.lost and attempts <= RETRIES and not (directory / "record.json").exists():
                self._warn(f"{item.label}: {ended.lost}; starting it again ({attempts} of {RETRIES}).")
                self.waiting.insert(0, item)
                del self._locks[item.id]
                return
            record = ended.collect()
        del self._locks[item.id]
        self._finish(item, record)

    def _withdraw(self, parent: Run) -> None:
        """Runs that were handed over before ``parent`` failed will be skipped."""
        for item in self._plan.runs:
            if item.id in self._locks and item.parent and run_id(item.parent) == parent.id:
                self._engine.withdraw(item)
                self._locks.pop(item.id).release()
                self.waiting.append(item)

    def _finish(self, item: Run, record: Record) -> None:
        if item in self.waiting:
            self.waiting.remove(item)
        self.done[item.id] = record
        self._watcher.ended(item, record, kept=False)
        if record.status != "ok" and self._engine.before_parents:
            self._withdraw(item)
        if self._options.fail_fast and record.status != "ok":
            raise BenchmarkError(f"{item.label} ended with status '{record.status}': {record.reason}")

    def _check_tree(self) -> None:
        out = self._options.out
        if _identity(out) != self._tree:
            raise OutputLost(
                f"{out} is no longer the directory that this sweep began in (moved, renamed or replaced). Move it back "
                "and start the same command again, or name its new place with --out DIR: what was done is kept."
            )


def open_tree(out: Path, warn: Callable[[str], None]) -> None:
    """Make a result tree ready to be written to: a packed one is unpacked. Raises UsageError when records could not be
    written under ``out``."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".writable-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        reason = f"Cannot write to {out}: {error.strerror}."
        raise UsageError(f"{reason} Choose another directory with --out DIR.") from error
    for problem in unpack(out):
        warn(f"{problem}. The file was set aside; what it lacks is done again.")


def check_space(out: Path) -> None:
    """Raises BenchmarkError before a run whose results could not be kept."""
    free = shutil.disk_usage(out).free
    if free < LEAST_FREE_BYTES:
        raise BenchmarkError(
            f"Only {free >> 20} MiB are free under {out}; stopped before work is lost. "
            "Free some space and start the same command again: it goes on where it stopped."
        )


def _refuse_links(directory: Path, out: Path) -> None:
    """Raises BenchmarkError for a run directory that is reached through a link in the tree: what it points to is
    somebody else's, and starting a run removes files."""
    for path in (directory, *directory.parents):
        if path == out:
            return
        if path.is_symlink():
            raise BenchmarkError(f"{path} is a link; runs are not written through links. Remove it, or use --out DIR.")


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
        with open(item.directory(out) / "record.json", "rb") as file:  # asks an NFS server for what stat has cached
            entry = os.fstat(file.fileno())
    except OSError:
        return None
    return entry.st_ino, entry.st_mtime_ns


def _lost_weights(waiting: list[Run], done: dict[str, Record], plan: Plan, out: Path) -> list[Run]:
    """Runs whose record is there but whose weights, which a waiting run needs, are not."""
    needed = {run_id(item.parent) for item in waiting if item.parent is not None}
    return [
        item
        for item in plan.runs
        if item.id in needed
        and item.id in done
        and done[item.id].status == "ok"
        and not _unchanged(item.directory(out) / "weights.pt", done[item.id])
    ]


def _unchanged(path: Path, record: Record) -> bool:
    """Whether a weights file is whole and holds the weights that the record speaks of: other numbers of the same shapes
    would be taken for what a strategy does to the old tasks."""
    if not _whole(path):
        return False
    import torch

    from benchmark.training.meters import weights_fingerprint

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return record.weights_fingerprint in (None, weights_fingerprint(state))
    except Exception:  # whatever a file from elsewhere makes of a reader
        return False


def _whole(path: Path) -> bool:
    """Whether a weights file is there and every part of it has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError):
        return False


def _job(item: Run, plan: Plan, options: Options, attempts: int, lock: Lock) -> Job:
    memory = plan.suite.limits.memory_gib
    return Job(
        key=item.key,
        out=options.out,
        parent=run_id(item.parent) if item.parent else None,
        stage0=weights_of(item, options.out),
        device=options.device.partition(",")[0],
        threads=plan.suite.threads,
        jobs=options.jobs,
        data_dir=options.data_dir,
        command=options.command,
        memory_bytes=int(memory * (1 << 30)) if memory else None,
        method_files=options.method_files,
        dataset_files=options.dataset_files,
        attempts=attempts,
        checkpoint_seconds=CHECKPOINT_SECONDS,
        limit_seconds=plan.suite.limits.seconds,
        lock=lock.token,
    )


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

    from benchmark.execution.runner import run

    def inspect(error: BaseException) -> None:
        pdb.post_mortem(error.__traceback__)

    watcher.started(item)
    return run(job, lambda epoch: watcher.epoch(item, epoch.epoch, job.key.budget["epochs"]), on_error=inspect)
