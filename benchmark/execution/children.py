"""One run in a process of its own: start it, hear from it, end it when its time is up, take up what it left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from benchmark.execution import processes
from benchmark.execution.job import OUTPUT_LOST, PREEMPTED, TAKEN_OVER, Job, OutputLost, log_tail
from benchmark.execution.memory import evidence, oom_kills
from benchmark.planning.plan import Run
from benchmark.records.record import DamagedRecord, Record, Status, read_record, run_id, write_record

ASK_SECONDS, INSIST_SECONDS = 5.0, 5.0
"""How long a run over its limit is asked (SIGINT) and told (SIGTERM) to end before its process group is killed."""


END_SECONDS = 10.0
"""How long a supervisor has to kill its run before it is killed itself."""


SERVER_LOST = 255
"""What multiprocessing reports as exit code when the server that forks the runs has died."""


FROM_OUTSIDE = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2})
"""Signals that come from an operator or a batch system, not from what a program does."""


@dataclass
class Child:
    run: Run
    job: Job
    process: BaseProcess
    pipe: Connection
    started: float
    signals: list[tuple[float, int]]
    oom_kills: dict[str, int]
    over_limit: bool = False
    output_lost: str | None = None


def start_child(context: Any, item: Run, job: Job) -> Child:
    """Raises OSError or EOFError when no process can be had."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_carry_out, args=(job, sender), name=item.label, daemon=False)
    # A result of an earlier attempt must not be mistaken for this one's; half-written files are nobody's.
    (job.directory / "record.json").unlink(missing_ok=True)
    for left in job.directory.glob(".*.*"):
        left.unlink(missing_ok=True)
    log = job.directory / "log.txt"
    if log.is_symlink() or (log.is_file() and log.stat().st_nlink > 1):  # what it leads to is not ours to write
        log.unlink()
    counted = oom_kills()
    process.start()
    sender.close()
    now = time.monotonic()
    stages = ((0.0, signal.SIGINT), (ASK_SECONDS, signal.SIGTERM), (ASK_SECONDS + INSIST_SECONDS, signal.SIGKILL))
    limit = job.limit_seconds
    signals: list[tuple[float, int]] = [(now + limit + delay, number) for delay, number in stages] if limit else []
    return Child(item, job, process, receiver, now, signals, counted)


def _carry_out(job: Job, pipe: Connection) -> None:
    """In the run's process, which may have been forked from a server that has all this at hand."""
    from benchmark.execution.runner import run_in_child

    run_in_child(job, pipe)


def poll(
    children: list[Child],
    on_epoch: Callable[[Run, int, int], None],
    on_step: Callable[[Run, str, int, int], None] | None = None,
) -> list[Child]:
    """Wait a moment; pass on progress; signal runs over their limit; return the children that have ended."""
    if not children:
        return []
    by_pipe = {child.pipe: child for child in children if not child.pipe.closed}
    ready = wait([*by_pipe, *(child.process.sentinel for child in children)], timeout=0.5)
    for pipe in ready:
        child = by_pipe.get(pipe) if isinstance(pipe, Connection) else None
        if child is not None:
            try:
                told = child.pipe.recv()
                if isinstance(told, str):
                    child.output_lost = told
                elif len(told) == 2:
                    on_epoch(child.run, *told)
                elif on_step is not None:
                    on_step(child.run, *told)
            except (EOFError, OSError):
                child.pipe.close()
    now = time.monotonic()
    for child in children:
        while child.signals and child.signals[0][0] <= now:
            child.over_limit = True
            number = child.signals.pop(0)[1]
            if number == signal.SIGKILL:
                end_child(child.process)
            else:
                send(child.process, number)
    return [child for child in children if not child.process.is_alive()]


def send(process: BaseProcess, number: int) -> None:
    assert process.pid is not None  # it has been started; signalling 0 would reach ourselves
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, number)


def end_child(process: BaseProcess) -> None:
    """End a run and everything that it has started: its supervisor does that, unless it cannot any more."""
    if process.exitcode is None:
        send(process, processes.END)
        process.join(END_SECONDS)
    if process.exitcode is None:
        send(process, signal.SIGKILL)
        process.join()


def lost_from_outside(child: Child) -> str | None:
    """What has ended a run if it was neither its method nor this program."""
    code = child.process.exitcode or 0
    if child.over_limit:
        return None
    if code == SERVER_LOST:
        return "its process was lost together with the server that had started it"
    if code == PREEMPTED:
        return "its process was asked to end (SIGTERM or SIGUSR1)"
    if code == TAKEN_OVER:
        return "another runner has taken it over"
    return f"its process was ended from outside ({signal.Signals(-code).name})" if -code in FROM_OUTSIDE else None


def collect(child: Child) -> Record:
    """The record that a child left, or one that says how it went without one. Raises OutputLost."""
    directory = child.job.directory
    seconds = time.monotonic() - child.started
    foreign = False
    with contextlib.suppress(DamagedRecord, OSError):
        record = read_record(directory / "record.json")
        foreign = record.status == "ok" and (record.provenance is None or record.run_id != child.run.id)
        if not foreign:
            return record
    code = child.process.exitcode or 0
    if code == OUTPUT_LOST and not child.over_limit:
        while child.output_lost is None and not child.pipe.closed and child.pipe.poll():
            told = child.pipe.recv()
            child.output_lost = told if isinstance(told, str) else None
        raise OutputLost(child.output_lost or f"Cannot write to {directory}.")
    status: Status
    if child.over_limit:
        status, reason = "timeout", f"stopped after {seconds:.0f} s by the suite's limit"
    elif code == -signal.SIGKILL:
        where = evidence(child.oom_kills)
        status = "oom" if where else "failed"
        reason = "killed (SIGKILL)" + (f", out of memory by the counters of {where}" if where else ", cause unknown")
    elif outside := lost_from_outside(child):
        status, reason = "failed", f"{outside}, {child.job.attempts} times"
    elif code < 0:
        status, reason = "failed", f"process died of {signal.Signals(-code).name}"
    elif foreign:
        status, reason = "failed", "left a record that the benchmark did not write: it says nothing of where it is from"
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
