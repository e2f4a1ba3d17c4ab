"""Runs a plan: child processes, parents before children, limits kept, one record per run whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmark import processes
from benchmark.errors import BenchmarkError, UsageError
from benchmark.locks import HEARTBEAT_SECONDS, Lock
from benchmark.plan import Plan, Run
from benchmark.records import DamagedRecord, Key, Record, read_record, run_id, write_record
from benchmark.runner import Job, log_tail, run, run_in_child

ASK_SECONDS, INSIST_SECONDS = 5.0, 5.0
"""How long a run over its limit is asked (SIGINT) and told (SIGTERM) to end before its process group is killed."""
LEAST_FREE_BYTES = 64 << 20


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


class Watcher:
    """What the executor tells while it works; the command line shows it. Every method may be left out."""

    def started(self, run: Run) -> None: ...

    def epoch(self, run: Run, epoch: int, epochs: int) -> None: ...

    def ended(self, run: Run, record: Record, kept: bool) -> None: ...


@dataclass
class _Child:
    run: Run
    process: BaseProcess
    pipe: Connection
    started: float
    signals: list[tuple[float, int]]
    lock: Lock
    over_limit: bool = False
    beaten: float = 0.0


def existing_record(run: Run, out: Path, warn: Callable[[str], None]) -> Record | None:
    """The run's record, if there is one that can be read. A damaged one is set aside and reported."""
    path = run.directory(out) / "record.json"
    if not path.exists():
        return None
    try:
        record = read_record(path)
        if record.run_id != run.id or record.key != run.key:
            raise DamagedRecord(f"{path}: belongs to another run ({record.run_id})")
        return record
    except DamagedRecord as error:
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
    check_writable(options.out)
    summary = Summary(len(plan.runs))
    done: dict[str, Record] = {}
    waiting: list[Run] = []
    versions: dict[str, tuple[int, int] | None] = {}
    for item in plan.runs:
        versions[item.id] = _version(item, options.out)
        record = existing_record(item, options.out, warn)
        if record is not None and keeps(options.mode, record, stale):
            done[item.id] = record
        elif options.mode != "only-read":
            waiting.append(item)
    for item in _lost_weights(waiting, done, plan, options.out):
        del done[item.id]
        waiting.insert(0, item)
    for item in plan.runs:
        if item.id in done:
            summary.kept += 1
            watcher.ended(item, done[item.id], kept=True)
    children: list[_Child] = []
    context = processes.context()

    def finish(item: Run, record: Record) -> None:
        done[item.id] = record
        watcher.ended(item, record, kept=False)

    try:
        while waiting or children:
            for item in _ready(waiting, done):
                if len(children) >= options.jobs:
                    break
                parent = done.get(run_id(item.parent)) if item.parent else None
                if parent is not None and parent.status != "ok":
                    waiting.remove(item)
                    finish(item, _skipped(item, options.out, parent))
                    continue
                check_space(options.out)
                lock = Lock.acquire(item.directory(options.out))
                if lock is None:  # another runner is at it: take the next one, and its record when it is there
                    continue
                waiting.remove(item)
                written = _version(item, options.out) != versions.get(item.id)
                record = existing_record(item, options.out, warn) if written else None
                if record is not None and keeps("fill", record, stale):
                    lock.release()
                    finish(item, record)
                    continue
                watcher.started(item)
                job = _job(item, plan, options)
                if options.debug:
                    finish(item, _debug(job, item, watcher))
                    lock.release()
                else:
                    children.append(_start(context, item, job, plan.suite.limits.seconds, lock))
            if not children:
                time.sleep(0.2 if waiting else 0.0)
            for child in _poll(children, watcher):
                children.remove(child)
                record = _collect(child, options.out)
                child.lock.release()
                finish(child.run, record)
                if options.fail_fast and record.status != "ok":
                    raise BenchmarkError(f"{child.run.label} ended with status '{record.status}': {record.reason}")
    except KeyboardInterrupt:
        summary.interrupted = True
    finally:
        for child in children:
            _kill(child.process, signal.SIGKILL)
            child.process.join()
            child.lock.release()
    summary.records = [done[item.id] for item in plan.runs if item.id in done]
    return summary


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
    """Stage-0 runs whose record is there but whose weights, which a waiting run needs, are not."""
    needed = {run_id(item.parent) for item in waiting if item.parent is not None}
    return [
        item
        for item in plan.runs
        if item.id in needed
        and item.id in done
        and done[item.id].status == "ok"
        and not (item.directory(out) / "weights.pt").is_file()
    ]


def _job(item: Run, plan: Plan, options: Options) -> Job:
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
    )


def _weights(parent: Key, out: Path) -> Path:
    return Run(parent).directory(out) / "weights.pt"


def _start(context: BaseContext, item: Run, job: Job, seconds: float | None, lock: Lock) -> _Child:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_in_child, args=(job, sender), name=item.label, daemon=False)
    # A result of an earlier attempt must not be mistaken for this one's.
    (job.directory / "record.json").unlink(missing_ok=True)
    process.start()
    sender.close()
    now = time.monotonic()
    stages = ((0.0, signal.SIGINT), (ASK_SECONDS, signal.SIGTERM), (ASK_SECONDS + INSIST_SECONDS, signal.SIGKILL))
    signals = [(now + seconds + delay, number) for delay, number in stages] if seconds else []
    return _Child(item, process, receiver, now, signals, lock)


def _poll(children: list[_Child], watcher: Watcher) -> list[_Child]:
    """Wait a moment; pass on progress; signal runs over their limit; return the children that have ended."""
    if not children:
        return []
    by_pipe = {child.pipe: child for child in children if not child.pipe.closed}
    ready = wait([*by_pipe, *(child.process.sentinel for child in children)], timeout=0.5)
    for pipe in ready:
        child = by_pipe.get(pipe) if isinstance(pipe, Connection) else None
        if child is not None:
            try:
                watcher.epoch(child.run, *child.pipe.recv())
            except (EOFError, OSError):
                child.pipe.close()
    now = time.monotonic()
    for child in children:
        if now - child.beaten >= HEARTBEAT_SECONDS:
            child.lock.beat()
            child.beaten = now
        while child.signals and child.signals[0][0] <= now:
            child.over_limit = True
            _kill(child.process, child.signals.pop(0)[1])
    return [child for child in children if not child.process.is_alive()]


def _kill(process: BaseProcess, number: int) -> None:
    """Signal the child's whole process group (it made itself the leader of one)."""
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        else:  # it has not come as far as its own group yet
            os.kill(process.pid, number)


def _collect(child: _Child, out: Path) -> Record:
    """The record that a child left, or one that says how it went without one."""
    child.process.join()
    _kill(child.process, signal.SIGKILL)  # whatever it forked and left behind
    directory = child.run.directory(out)
    seconds = time.monotonic() - child.started
    with contextlib.suppress(DamagedRecord, OSError):
        return read_record(directory / "record.json")
    code = child.process.exitcode or 0
    if child.over_limit:
        status, reason = "timeout", f"stopped after {seconds:.0f} s by the suite's limit"
    elif code == -signal.SIGKILL:
        status, reason = "oom", "killed by the system (SIGKILL), most likely out of memory"
    elif code < 0:
        status, reason = "failed", f"process died of {signal.Signals(-code).name}"
    else:
        status, reason = "failed", f"process ended with exit code {code} without a record"
    record = Record(
        run_id=child.run.id,
        key=child.run.key,
        status=status,
        reason=reason,
        log_tail=log_tail(directory),
        parent=run_id(child.run.parent) if child.run.parent else None,
    )
    write_record(directory, record)
    return record


def _skipped(item: Run, out: Path, parent: Record) -> Record:
    record = Record(
        run_id=item.id,
        key=item.key,
        status="skipped",
        reason=f"its stage 0 ended with status '{parent.status}': {parent.reason}",
        parent=parent.run_id,
    )
    write_record(item.directory(out), record)
    return record


def _debug(job: Job, item: Run, watcher: Watcher) -> Record:
    """In this process, so that a debugger reaches it."""
    return run(job, lambda epoch: watcher.epoch(item, epoch.epoch, job.key.budget["epochs"]))
