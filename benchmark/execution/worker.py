"""What happens on a worker of a cluster: it is looked at once, then it carries out orders, each as on one machine.

Every run works under its supervisor in a process of its own, in a directory of the worker's cache; what it leaves goes
back to the driver as a parcel. Imports neither torch nor the engine: both ends need this module, and a worker's own
process only waits for runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import BenchmarkError
from benchmark.core.files import write_atomically
from benchmark.execution import processes
from benchmark.execution.children import Child, collect, end_child, lost_from_outside, poll, send, start_child
from benchmark.execution.job import Job, OutputLost
from benchmark.execution.locks import Lock
from benchmark.execution.places import Places, caches, devices
from benchmark.planning.plan import Run
from benchmark.records import provenance as environment
from benchmark.records.record import Record
from datasets_registry.raw import paths

if TYPE_CHECKING:
    from distributed import Worker

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ("benchmark", "datasets_registry", "methods")
BESIDE = ("benchmark/cli", "benchmark/kit", "benchmark/report")
"""Parts of the program that no run's numbers can come through."""
LOG_BYTES = 1 << 20
"""Of a longer log this much of its end goes to the driver."""
NUMERIC_ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
)
"""Variables that choose kernels, and so bits. They count when torch is loaded; the driver's hold on every worker."""
ALLOCATOR = "MALLOC_TRIM_THRESHOLD_"
"""Set by distributed for its own processes; it costs runs time, and a run on one machine has none of it."""


class RunLost(BenchmarkError):
    """A run ended by no fault of its method: the engine does it again."""


class Preempted(RunLost):
    """The driver wants its runs to end."""


@dataclass(frozen=True)
class Shipped:
    """A file of the user's with its content: workers need not see the driver's disk."""

    path: Path
    content: bytes

    @classmethod
    def of(cls, file: Path) -> Shipped:
        return cls(file, file.read_bytes())

    def here(self) -> Path:
        """The file itself where this machine sees the same (what it names beside it is there, too), else a copy."""
        with contextlib.suppress(OSError):
            if self.path.read_bytes() == self.content:
                return self.path
        digest = hashlib.blake2b(self.content, digest_size=8).hexdigest()
        copy = paths.cache_root() / "shipped" / digest / self.path.name
        if not copy.is_file():
            write_atomically(copy, self.content)
        return copy


@dataclass(frozen=True)
class Wanted:
    """What a worker has to be, to have and to do for a plan: the same in numbers as the driver."""

    program: str
    packages: Mapping[str, str]
    variables: Mapping[str, str | None]
    datasets: Mapping[str, str]
    """Fingerprints by name."""
    device: str
    threads: int
    jobs_per_gpu: int = 1
    data_dir: Path | None = None
    method_files: tuple[Shipped, ...] = ()
    dataset_files: tuple[Shipped, ...] = ()


@dataclass
class Facts:
    """What a worker is. ``refused`` says why it gets no run at all, ``lacks`` why none on a dataset."""

    host: str
    kind: str = ""
    cores: int = 0
    memory_bytes: int = 0
    devices: tuple[str, ...] = ()
    lacks: dict[str, str] = field(default_factory=dict)
    refused: str | None = None


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


@functools.cache
def program() -> str:
    """Hash of the program as far as runs can depend on it. Driver and workers have to have the same."""
    digest = hashlib.blake2b(digest_size=8)
    for package in PROGRAM:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(BESIDE):
                digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def variables() -> dict[str, str | None]:
    """The present values of what chooses kernels."""
    return {name: os.environ.get(name) for name in NUMERIC_ENVIRONMENT}


class _Site:
    """This worker's process: where runs are, which of them go on, which drivers want theirs to end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.variables: Mapping[str, str | None] | None = None
        self.places = Places(["cpu"])
        self.children: dict[str, list[Child]] = {}
        self.preempted: set[str] = set()

    def context(self) -> Any:
        """The server that runs are forked from; loads torch with the driver's numeric environment."""
        with self.lock:
            os.environ.pop(ALLOCATOR, None)
            return processes.context()

    @contextlib.contextmanager
    def working(self, topic: str, child: Child) -> Iterator[None]:
        with self.lock:
            self.children.setdefault(topic, []).append(child)
        try:
            yield
        finally:
            with self.lock:
                self.children[topic].remove(child)


_site = _Site()


def resource(wanted: Wanted, dataset: str) -> str:
    """Name of the resource that a worker has if it may do this plan's runs on a dataset."""
    text = repr((wanted.program, sorted(wanted.variables.items()), dataset, wanted.datasets[dataset], wanted.device))
    return f"mpt-bench {dataset} {hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


CORES, MEMORY, GPUS = "mpt-bench cores", "mpt-bench memory", "mpt-bench gpu runs"


async def look(wanted: Wanted, dask_worker: Worker) -> Facts:
    """What this worker is; its data is fetched and encoded if it is not there yet."""
    facts = Facts(socket.gethostname())
    facts.refused = _refusal(wanted)
    if facts.refused:
        return facts
    with _site.lock:
        if _site.variables is None:
            _site.variables = dict(wanted.variables)
            for name, value in wanted.variables.items():
                os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    if dict(_site.variables) != dict(wanted.variables):
        facts.refused = "already works with other numeric kernels; restart it"
        return facts
    seen = await asyncio.to_thread(_look_in_child, wanted)
    if isinstance(seen, str):
        facts.refused = seen
        return facts
    facts.kind, facts.devices, facts.lacks = seen
    facts.cores = dask_worker.state.nthreads * wanted.threads
    facts.memory_bytes = int(dask_worker.memory_manager.memory_limit or _memory_bytes())
    _site.places = Places(facts.devices, caches(), wanted.threads)
    return facts


async def admit(resources: Mapping[str, float], dask_worker: Worker) -> None:
    """Let the scheduler send runs here: it does so where a worker has the resources that they ask for."""
    from distributed.core import Status

    if all(dask_worker.state.total_resources.get(name) == value for name, value in resources.items()):
        return
    await dask_worker.set_resources(**resources)
    # The scheduler thinks again about tasks that no worker could do when one begins to run, not when one gains
    # resources.
    dask_worker.status = Status.paused
    dask_worker.status = Status.running


def _refusal(wanted: Wanted) -> str | None:
    if multiprocessing.current_process().daemon:
        return (
            "its process is daemonic and may start no others; start it with --no-nanny, or with "
            "DASK_DISTRIBUTED__WORKER__DAEMON=False in its environment"
        )
    if program() != wanted.program:
        return f"its program is another one ({program()}, here {wanted.program}); bring both to the same commit"
    for name, version in environment.versions(wanted.packages).items():
        if version != wanted.packages[name]:
            return f"it has {name} {version}, here is {wanted.packages[name]}; install requirements.lock on both"
    return None


def _memory_bytes() -> int:
    import psutil

    return psutil.virtual_memory().total


def _look_in_child(wanted: Wanted) -> tuple[str, tuple[str, ...], dict[str, str]] | str:
    """Kind of machine, devices and what data is lacking, found out in a process of its own; or why not."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = _site.context().Process(target=_look_at_data, args=(wanted, sender), daemon=False)
    try:
        process.start()
        sender.close()
        return receiver.recv()
    except (OSError, EOFError) as error:
        return f"no process could be started on it ({error or 'it ended at once'}); its log says more"
    finally:
        process.join()
        receiver.close()


def _look_at_data(wanted: Wanted, pipe: Connection) -> None:
    import torch

    from datasets_registry import load_file, prepare

    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        found = tuple(devices(wanted.device, visible) * (wanted.jobs_per_gpu if visible else 1))
    except ValueError as error:
        _answer(pipe, str(error))
        return
    gpu = torch.cuda.get_device_name(0) if found[0] != "cpu" else None
    lacks: dict[str, str] = {}
    with contextlib.redirect_stdout(sys.stderr):
        for file in wanted.dataset_files:
            try:
                load_file(file.here())
            except Exception as error:
                lacks |= dict.fromkeys(wanted.datasets, f"{file.path.name}: {error}")
        for name, fingerprint in wanted.datasets.items():
            try:
                here = prepare(name, data_dir=_data_dir(wanted.data_dir)).fingerprint
                if here != fingerprint:
                    lacks[name] = f"its {name} has the fingerprint {here}, the driver's {fingerprint}"
            except Exception as error:  # whatever it is, the other datasets are not to blame
                lacks.setdefault(name, f"it has no {name}: {error}")
    _answer(pipe, (environment.machine(gpu), found, lacks))


def _answer(pipe: Connection, content: object) -> None:
    with contextlib.suppress(OSError):  # who asked is gone
        pipe.send(content)


def _data_dir(drivers: Path | None) -> Path | None:
    """The driver's directory of raw data where this machine has it, too, else its own (MPTBENCH_DATA)."""
    return drivers if drivers is not None and drivers.is_dir() else None


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
    place = _site.places.take()
    try:
        with _workshop(order.run) as out:
            job = _job_here(order, parent, out, place.device, place.cores, worker.state.nthreads)
            child = start_child(_site.context(), order.run, job)
            with _site.working(order.topic, child):
                _attend(child, order, tell, unwanted, leaving)
            if unwanted() or leaving():
                raise Reschedule
            if order.topic in _site.preempted:
                raise Preempted(order.run.label)
            if lost := lost_from_outside(child):
                raise RunLost(f"{lost} on {host}")
            record = collect(child)
            return Parcel(record.run_id, record.status, _pack(job.directory), str(worker.name), host)
    finally:
        _site.places.give(place)
        tell("over")


def _attend(child: Child, order: Order, tell: Any, unwanted: Any, leaving: Any) -> None:
    """Until the run has ended. A run that nobody wants is ended; where the worker goes away it may keep its
    checkpoint, which is of use where the cache outlives the worker."""

    def pass_on(run: Run, epoch: int, epochs: int) -> None:
        tell("epoch", epoch, epochs)

    asked = False
    try:
        while not poll([child], pass_on):
            if unwanted():
                end_child(child.process)
            elif not asked and (leaving() or order.topic in _site.preempted):
                send(child.process, signal.SIGTERM)
                asked = True
    finally:
        end_child(child.process)


async def preempt(topic: str) -> None:
    """The driver of ``topic`` has to go: its runs keep their checkpoints and end."""
    _site.preempted.add(topic)


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
        data_dir=_data_dir(order.job.data_dir),
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
    import json

    content = json.loads(text)
    content.pop("checksum", None)
    return json.dumps(content)
