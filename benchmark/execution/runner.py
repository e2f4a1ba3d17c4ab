"""One run in a process of its own: from a job to a record on disk, whatever happens in between."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.core import numerics, steps
from benchmark.core.errors import BenchmarkError, visible
from benchmark.core.files import write_atomically
from benchmark.core.registry import where
from benchmark.execution import allocator, calibration, preemption, processes
from benchmark.execution.job import NO_ROOM, OUTPUT_LOST, PREEMPTED, TAKEN_OVER, Job, OutputLost, log_tail
from benchmark.execution.locks import is_held
from benchmark.records import provenance as environment
from benchmark.records.lineage import keeps_weights
from benchmark.records.record import Epoch, Key, Provenance, Record, run_id, write_record
from benchmark.spec.arms import ARMS
from benchmark.training.backend import choose_device, flushes_denormals, set_up_torch
from benchmark.training.protocol import InvariantBroken, Outcome, execute
from benchmark.training.trainer import Checkpoint, TrainingDiverged
from datasets_registry import load_file, prepare
from datasets_registry.encoding.store import EncodedDataset, seal_test_labels
from datasets_registry.fingerprint import data_code
from methods import METHODS

REASON_LENGTH = 2000


class TakenOver(BaseException):
    """Another runner has taken this one for dead and does the run by now: its record will be there."""


def run_in_child(job: Job, pipe: Connection) -> None:
    """Entry point of a run's process: does the job under supervision, output into log.txt, and never returns."""
    processes.supervise(lambda: _work(job, pipe), job.directory / "log.txt")


def _work(job: Job, pipe: Connection) -> int:
    """The supervised part; returns the exit code."""
    job.directory.mkdir(parents=True, exist_ok=True)
    if job.cores and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # not all of them may be ours any more: then any will do
            os.sched_setaffinity(0, job.cores)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW
    log = os.open(job.directory / "log.txt", flags, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = os.fdopen(number, "wb", 0)
        setattr(sys, name, io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", write_through=True))
    if job.memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (job.memory_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))

    def tell(epoch: Epoch) -> None:
        with contextlib.suppress(OSError):
            pipe.send((epoch.epoch, _epochs(job.key)))

    def tell_step(what: str, done: int, total: int) -> None:
        with contextlib.suppress(OSError):
            pipe.send((what, done, total))

    seal_test_labels()
    steps.listen(tell_step)
    preemption.listen()
    try:
        run(job, tell)
    except OutputLost as error:
        with contextlib.suppress(OSError):
            pipe.send(str(error))
        return OUTPUT_LOST
    except preemption.Preempted:
        return PREEMPTED
    except TakenOver:
        return TAKEN_OVER
    return 0


def run(job: Job, on_epoch: Any = None, on_error: Callable[[BaseException], None] | None = None) -> Record:
    """Carry out a job in this process and write its record; failures become records with a status and a reason.

    ``on_error`` is shown what went wrong, after the record was written. Raises OutputLost if nothing can be written,
    TakenOver if another runner has the run by now.
    """
    allocator.keep_pages()
    set_up_torch(job.threads)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    provenance: Provenance | None = None
    failure: BaseException | None = None
    try:
        for file in job.method_files:
            METHODS.load_file(file)
        for file in job.dataset_files:
            load_file(file)
        device = choose_device(job.device)
        loading = time.perf_counter()
        data = prepare(job.key.dataset, data_dir=job.data_dir)
        provenance = _provenance(job, device, data, started)
        outcome = execute(
            job.key,
            data,
            device,
            stage0=job.stage0,
            load_seconds=time.perf_counter() - loading,
            checkpoint=_checkpoint(job, provenance),
            on_epoch=on_epoch,
        )
        _check_settings(provenance)
    except OutputLost:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise OutputLost.at(job.directory, error) from error
        failure = error
    with _output(job.directory):
        if failure is not None:
            record = _failed(job, failure, provenance)
        else:
            record = _succeeded(job, outcome, provenance)
            _write_files(job, outcome)
        if job.lock is not None and not is_held(job.directory, job.lock):
            raise TakenOver(job.directory)
        write_record(job.directory, record)
        (job.directory / "progress.pt").unlink(missing_ok=True)
    if failure is not None and on_error is not None:
        on_error(failure)
    return record


def _succeeded(job: Job, outcome: Outcome, provenance: Provenance | None) -> Record:
    return Record(
        run_id=run_id(job.key),
        key=job.key,
        status="ok",
        parent=job.parent,
        **outcome.measured(),
        provenance=provenance,
    )


def _failed(job: Job, error: BaseException, provenance: Provenance | None) -> Record:
    # What the run was allowed may be used up; telling of it takes a little more.
    resource.setrlimit(resource.RLIMIT_DATA, (resource.getrlimit(resource.RLIMIT_DATA)[1],) * 2)
    traceback.print_exception(error)
    return Record(
        run_id=run_id(job.key),
        key=job.key,
        status="oom" if _out_of_memory(error) else "failed",
        reason=visible(_reason(error, job.key.method), REASON_LENGTH),
        log_tail=log_tail(job.directory),
        parent=job.parent,
        provenance=provenance,
    )


@contextlib.contextmanager
def _output(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputLost.at(directory, error) from error


def _epochs(key: Key) -> int:
    return ARMS[key.arm].budget(key.budget).epochs


def _provenance(job: Job, device: torch.device, data: EncodedDataset, started: str) -> Provenance:
    commit, dirty = environment.commit()
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return Provenance(
        commit=commit,
        dirty=dirty,
        code_fingerprint=environment.code_fingerprint(METHODS.file(job.key.method), job.key),
        data_fingerprint=data.fingerprint,
        data_code=data_code(data.dataset),
        packages=environment.versions(),
        python=environment.python(),
        machine=environment.machine(gpu),
        bits_kind=environment.bits_kind(gpu),
        times_kind=environment.times_kind(job.jobs, gpu),
        numerics=numerics.in_force().mode,
        times_version=calibration.TIMES_VERSION,
        kernel=calibration.KERNEL,
        kernel_milliseconds=calibration.kernel_milliseconds(device),
        cpu=environment.cpu(),
        gpu=gpu,
        device=device.type,
        threads=torch.get_num_threads(),
        jobs=job.jobs,
        deterministic=torch.are_deterministic_algorithms_enabled(),
        flush_denormal=flushes_denormals(),
        command=job.command,
        started=started,
        attempts=job.attempts if job.attempts > 1 else None,
    )


def _check_settings(provenance: Provenance) -> None:
    """Raises BenchmarkError where a method changed settings of the whole process: the record would state others than
    those that it was trained with."""
    stated = {
        "threads": (provenance.threads, torch.get_num_threads()),
        "deterministic algorithms": (provenance.deterministic, torch.are_deterministic_algorithms_enabled()),
        "default type of numbers": (torch.float32, torch.get_default_dtype()),
        "gradients": (True, torch.is_grad_enabled()),
    }
    for what, (before, now) in stated.items():
        if before != now:
            raise BenchmarkError(
                f"the method changed a setting of the whole process, {what}: {before} before, {now} after training. "
                "Take the call out: runs are compared under the same settings."
            )


def _checkpoint(job: Job, provenance: Provenance) -> Checkpoint:
    """Training state goes to progress.pt beside the record to come.

    A state from other code or other data is not taken up: its numbers would be neither the old ones nor the new.
    """
    path = job.directory / "progress.pt"
    origin = f"{provenance.code_fingerprint} {provenance.data_fingerprint} {provenance.device}"
    last = time.monotonic()

    def save(state: dict[str, Any]) -> None:
        nonlocal last
        if preemption.asked() or time.monotonic() - last >= job.checkpoint_seconds:
            buffer = io.BytesIO()
            torch.save({"origin": origin, "state": state}, buffer)
            with _output(job.directory):
                write_atomically(path, buffer.getvalue())
            last = time.monotonic()
        preemption.check()

    if not path.is_file():
        return Checkpoint(save)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(save, saved["state"] if saved["origin"] == origin else None)
    except Exception as error:  # whatever is wrong with the file, starting over is right
        print(f"{path}: cannot be resumed from ({error}); starting over", file=sys.stderr)
        return Checkpoint(save)


def _write_files(job: Job, outcome: Outcome) -> None:
    """Curve, predictions and, where another run may continue this one, the weights. Written before the record."""
    lines = ["epoch,term,value"]
    for epoch in outcome.curve:
        lines += [f"{epoch.epoch},loss {name},{value!r}" for name, value in epoch.loss.items()]
        for task, scores in epoch.validation.items():
            lines += [f"{epoch.epoch},validation {m} {task},{'' if v is None else repr(v)}" for m, v in scores.items()]
    write_atomically(job.directory / "curve.csv", "\n".join(lines) + "\n")
    arrays = {f"logits_{task}": logits for task, logits in outcome.predictions.items()}
    arrays |= {f"labels_{task}": labels for task, labels in outcome.labels.items()}
    if arrays:
        _write_arrays(job.directory / "predictions.npz", arrays)
    for name, shown in outcome.inspected.items():
        if name == "attention":
            shown = {"weights": np.stack(list(shown.values()), axis=1), "tasks": np.array(list(shown))}
        _write_arrays(job.directory / f"{name}.npz", shown)
    if keeps_weights(job.key):
        buffer = io.BytesIO()
        torch.save(outcome.weights, buffer)
        write_atomically(job.directory / "weights.pt", buffer.getvalue())


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # no array is named allow_pickle
    write_atomically(path, buffer.getvalue())


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _reason(error: BaseException, method: str) -> str:
    """One line that says what went wrong and, for errors in a method, at which line of its file."""
    if isinstance(error, BenchmarkError | TrainingDiverged | InvariantBroken):
        return str(error)
    try:
        return where(error, METHODS.file(method))
    except BenchmarkError:
        return where(error)
