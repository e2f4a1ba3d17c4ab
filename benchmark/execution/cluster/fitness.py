"""Whether a worker fits a plan: the same program, packages and data as the driver's, and what it can take."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.files import write_atomically
from benchmark.execution.cluster.site import SITE
from benchmark.execution.locks import this_boot
from benchmark.execution.places import devices
from benchmark.records import provenance as environment
from datasets_registry.raw import paths

if TYPE_CHECKING:
    from distributed import Worker

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ("benchmark", "datasets_registry", "methods")
BESIDE = ("benchmark/cli", "benchmark/kit", "benchmark/report")
"""Parts of the program that no run's numbers can come through."""
NUMERIC_ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MPTBENCH_NUMERICS",
    "NPY_DISABLE_CPU_FEATURES",
)
"""Variables that choose kernels, and so bits. They count when torch is loaded; the driver's hold on every worker."""


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
    """What a worker is. ``refused`` says why it gets no run at all, ``lacks`` why none on a dataset.

    Workers with one ``machine`` share its cores and GPUs; ``kind`` says what it is, ``bits`` what decides its bits.
    """

    host: str
    kind: str = ""
    bits: str | None = None
    machine: str = ""
    cores: int = 0
    memory_bytes: int = 0
    devices: tuple[str, ...] = ()
    lacks: dict[str, str] = field(default_factory=dict)
    refused: str | None = None


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
    with SITE.lock:
        if SITE.variables is None:
            SITE.variables = dict(wanted.variables)
            for name, value in wanted.variables.items():
                os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    if dict(SITE.variables) != dict(wanted.variables):
        facts.refused = "already works with other numeric kernels; restart it"
        return facts
    seen = await asyncio.to_thread(_look_in_child, wanted)
    if isinstance(seen, str):
        facts.refused = seen
        return facts
    facts.kind, facts.bits, facts.devices, facts.lacks = seen
    facts.machine = this_boot()
    facts.cores = dask_worker.state.nthreads * wanted.threads
    facts.memory_bytes = int(dask_worker.memory_manager.memory_limit or _memory_bytes())
    return facts


@dataclass(frozen=True)
class Share:
    """A worker's part of its machine, see `Site.share`."""

    devices: tuple[str, ...]
    threads: int
    others: int
    at_once: int


async def admit(share: Share, resources: Mapping[str, float], dask_worker: Worker) -> None:
    """Let the scheduler send runs here: it does so where a worker has the resources that they ask for."""
    from distributed.core import Status

    SITE.share(share.devices, share.threads, share.others, share.at_once)
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


def _look_in_child(wanted: Wanted) -> tuple[str, str, tuple[str, ...], dict[str, str]] | str:
    """Kind of machine, kind that decides bits, devices and what data is lacking, or why that cannot be known.

    Found out in a process of its own.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = SITE.context().Process(target=_look_at_data, args=(wanted, sender), daemon=False)
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
                here = prepare(name, data_dir=data_dir_here(wanted.data_dir)).fingerprint
                if here != fingerprint:
                    lacks[name] = f"its {name} has the fingerprint {here}, the driver's {fingerprint}"
            except Exception as error:  # whatever it is, the other datasets are not to blame
                lacks.setdefault(name, f"it has no {name}: {error}")
    torch.set_num_threads(wanted.threads)
    _answer(pipe, (environment.machine(gpu), environment.bits_kind(gpu), found, lacks))


def _answer(pipe: Connection, content: object) -> None:
    with contextlib.suppress(OSError):  # who asked is gone
        pipe.send(content)


def data_dir_here(drivers: Path | None) -> Path | None:
    """The driver's directory of raw data where this machine has it, too, else its own (MPTBENCH_DATA)."""
    return drivers if drivers is not None and drivers.is_dir() else None
