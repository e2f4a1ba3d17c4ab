"""What a worker of a cluster does with an order: the run is carried out as on one machine, and packed up.

Every run works under its supervisor in a process of its own, in a directory of the worker's cache; what it leaves goes
back to the driver as a parcel. Imports neither torch nor the engine: both ends need this module, and a worker's own
process only waits for runs.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.core.errors import BenchmarkError
from benchmark.core.files import write_atomically
from benchmark.execution.children import Child, collect, end_child, lost_from_outside, poll, send, start_child
from benchmark.execution.cluster.fitness import Shipped, data_dir_here
from benchmark.execution.cluster.site import SITE
from benchmark.execution.job import Job, OutputLost
from benchmark.execution.locks import Lock
from benchmark.planning.plan import Run
from benchmark.records.record import Record
from datasets_registry.raw import paths

LOG_BYTES = 1 << 20
"""Of a longer log this much of its end goes to the driver."""
STEP_SECONDS = 2.0
"""How often a run says how far it is in its epoch, at most."""


class RunLost(BenchmarkError):
    """A run ended by no fault of its method: the engine does it again."""


class Preempted(RunLost):
    """The driver wants its runs to end."""


@dataclass(frozen=True)
class Order:
    """A run to be done. ``job`` is the driver's, with the driver's paths; ``topic`` is where news of it go."""

    run: Run
    job: Job
    topic: str
    method_files: tuple[Shipped, ...] = ()
    dataset_files: tuple[Shipped, ...] = ()
    token: str = ""


@dataclass(frozen=True)
class Parcel:
    """What a run left: its record and its other files by name, and where it was done. ``status`` is the record's."""

    run_id: str
    status: str
    files: Mapping[str, bytes]
    worker: str = ""
    host: str = ""


def carry_out(order: Order, parent: Parcel | None) -> Parcel:
    """Do a run here and pack up what it left. Raises RunLost if it was lost by no fault of its method, OutputLost if
    this worker's disk is full, distributed.Reschedule if the worker is going away or nobody wants the run any more."""
    from distributed import Reschedule, get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def tell(*news: object) -> None:
        worker.log_event(order.topic, (order.run.id, *news))

    def unwanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    def leaving() -> bool:
        return worker.status.name not in ("running", "paused")

    if parent is not None and parent.status != "ok":
        raise RunLost(f"{order.run.label}: its parent ended with status '{parent.status}'")  # the driver will skip it
    host = socket.gethostname()
    tell("started", str(worker.name), host)
    places = SITE.places  # another driver may come and have them counted anew
    place = places.take()
    try:
        with _workshop(order.run) as out:
            job = _job_here(order, parent, out, place.device, place.cores, SITE.at_once)
            child = start_child(SITE.context(), order.run, job)
            with SITE.working(order.topic, child):
                _attend(child, order, tell, unwanted, leaving)
            if unwanted() or leaving():
                raise Reschedule
            if order.topic in SITE.preempted:
                raise Preempted(order.run.label)
            if lost := lost_from_outside(child):
                raise RunLost(f"{lost} on {host}")
            record = collect(child)
            return Parcel(record.run_id, record.status, _pack(job.directory), str(worker.name), host)
    finally:
        places.give(place)
        tell("over")


def _attend(child: Child, order: Order, tell: Any, unwanted: Any, leaving: Any) -> None:
    """Until the run has ended. A run that nobody wants is ended; where the worker goes away it may keep its
    checkpoint, which is of use where the cache outlives the worker."""

    stepped = 0.0

    def pass_on(run: Run, epoch: int, epochs: int) -> None:
        tell("epoch", epoch, epochs)

    def pass_step(run: Run, what: str, done: int, total: int) -> None:
        nonlocal stepped
        if time.monotonic() - stepped >= STEP_SECONDS:  # every worker's go through one scheduler
            stepped = time.monotonic()
            tell("step", what, done, total)

    asked = False
    try:
        while not poll([child], pass_on, pass_step):
            if unwanted():
                end_child(child.process)
            elif not asked and (leaving() or order.topic in SITE.preempted):
                send(child.process, signal.SIGTERM)
                asked = True
    finally:
        end_child(child.process)


async def preempt(topic: str) -> None:
    """The driver of ``topic`` has to go: its runs keep their checkpoints and end."""
    SITE.preempted.add(topic)


@contextlib.contextmanager
def _workshop(run: Run) -> Iterator[Path]:
    """A result tree for one run, the same one whenever this node gets the run, so that it goes on from its checkpoint.

    Removed once the run has left a record; one of its own while another process works in that one.
    """
    out = paths.cache_root() / "workshop" / run.id
    lock = Lock.acquire(out)
    if lock is None:
        out = out.with_name(f"{run.id}-{uuid.uuid4().hex[:8]}")
        lock = Lock.acquire(out)
    assert lock is not None  # nobody else knows the name
    with lock:
        yield out
        shutil.rmtree(out, ignore_errors=True)


def _job_here(order: Order, parent: Parcel | None, out: Path, device: str, cores: Any, at_once: int) -> Job:
    """The job with this machine's paths; the parent's weights put where it looks for them."""
    stage0 = None
    if parent is not None and order.run.parent is not None:
        stage0 = Run(order.run.parent).directory(out) / "weights.pt"
        write_atomically(stage0, parent.files["weights.pt"])
    return replace(
        order.job,
        out=out,
        stage0=stage0,
        device=device,
        cores=cores,
        jobs=at_once,
        lock=None,
        data_dir=data_dir_here(order.job.data_dir),
        method_files=tuple(file.here() for file in order.method_files),
        dataset_files=tuple(file.here() for file in order.dataset_files),
    )


def _pack(directory: Path) -> dict[str, bytes]:
    """All files of a finished run by name. Raises OutputLost if they cannot be read."""
    try:
        return {path.name: _end_of(path) for path in sorted(directory.iterdir()) if _belongs(path)}
    except OSError as error:
        raise OutputLost.at(directory, error) from error


def _belongs(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and not path.name.startswith(".") and path.name != "progress.pt"


def _end_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[-LOG_BYTES:] if path.name == "log.txt" else content


def unpack(parcel: Parcel, directory: Path) -> Record:
    """Put a parcel's files into the driver's result tree, all but the record, which is returned.

    Raises ValueError for a parcel whose record is none, OutputLost if the tree cannot be written.
    """
    record = Record.model_validate_json(_without_checksum(parcel.files["record.json"]))
    if record.run_id != parcel.run_id:
        raise ValueError(f"a parcel of {parcel.run_id} holds the record of {record.run_id}")
    try:
        for name, content in parcel.files.items():
            if name != "record.json" and Path(name).name == name:
                write_atomically(directory / name, content)
    except OSError as error:
        raise OutputLost.at(directory, error) from error
    return record


def _without_checksum(text: bytes) -> str:
    content = json.loads(text)
    content.pop("checksum", None)
    return json.dumps(content)
