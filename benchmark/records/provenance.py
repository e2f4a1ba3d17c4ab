"""Where a number comes from: commit, code fingerprint, package versions, machine."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core import numerics
from benchmark.core.programs import ROOT, fingerprint, folder, with_imports

if TYPE_CHECKING:
    from benchmark.records.record import Key

PACKAGES = ("torch", "numpy", "pandas", "scipy", "datasets", "pyarrow", "pydantic", "torchjd")
NUMERIC_PACKAGES = ("torch", "numpy", "scipy")
"""Packages whose version can change a run's numbers; they are part of the code fingerprint."""

USUAL_WORKSPACE = ":4096:8"
"""What cuBLAS computes with unless the environment says otherwise (`benchmark.training.backend`)."""

HASHED = (
    *folder(ROOT / "benchmark/training"),
    *folder(ROOT / "benchmark/spec"),
    ROOT / "benchmark/records/lineage.py",
    ROOT / "benchmark/records/row_noise.py",
    ROOT / "benchmark/core/ranks.py",
    ROOT / "benchmark/core/seeding.py",
    ROOT / "methods/base.py",
    *with_imports([ROOT / "datasets_registry/encoding/store.py"], "datasets_registry"),
)
"""Code that every run's numbers depend on: folders whole, so that no file of theirs can be forgotten. The store, with
what it imports, is among it because it hands labels and offsets to the run; the rest of its folder only makes the
arrays (`datasets_registry.fingerprint`)."""


@functools.cache
def commit() -> tuple[str | None, bool | None]:
    """Commit of the checkout and whether anything but results has changed since; (None, None) outside a checkout."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10)
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    return (head.stdout.strip(), bool(changes.stdout.strip())) if head.returncode == 0 else (None, None)


def code_fingerprint(method_file: str | Path, key: Key) -> str:
    """Hash of what can change a run's numbers: `HASHED`, the method's file with all of ``methods`` that it imports, and
    the numeric packages' versions.

    Comments, docstrings and layout do not count: files are hashed as parsed programs.
    """
    packages = list(NUMERIC_PACKAGES)
    if "balancing" in key.config:  # options stand in a key where they differ from their defaults
        packages.append("torchjd")
    installed = (f"{package}={version}" for package, version in versions(packages).items())
    return fingerprint(code_files(method_file), *installed)


def code_files(method_file: str | Path) -> tuple[Path, ...]:
    """The files that `code_fingerprint` hashes for a method."""
    return with_imports([*HASHED, Path(method_file)], "methods")


def remember_code(method_files: Iterable[str | Path]) -> None:
    """Hash now what `code_fingerprint` may ask for later, so that it speaks of the code that has been loaded."""
    for path in method_files:
        fingerprint(code_files(path))


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Installed versions of the packages that are there."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def cpu() -> str:
    """Model name of the processor, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine(gpu: str | None = None) -> str:
    """What the machine calls itself. Whether bits or times of two runs compare is said by the two kinds below."""
    return f"{platform.system()} {platform.machine()}, {cpu()} x{os.cpu_count()}" + (f", {gpu}" if gpu else "")


def bits_kind(gpu: str | None = None, threads: int | None = None) -> str:
    """The kind of machine that decides bits: two runs of one kind, code and data give the same ones.

    ``threads``: of the run, where it is not this process.

    Architecture and vendor (the matrix library chooses by vendor), the numeric mode with the instruction sets in force,
    variables that change them, threads; on a GPU its name, compute capability, driver and CUDA.
    """
    import torch

    words = [f"{platform.machine()} {_processor('vendor_id')}".strip(), str(numerics.in_force())]
    words += [f"{name}={value}" for name, value in numerics.variables().items()]
    words.append(f"{threads or torch.get_num_threads()} thread(s)")
    return ", ".join([*words, *([_gpu_kind(gpu)] if gpu else [])])


def times_kind(jobs: int, gpu: str | None = None) -> str:
    """The kind of machine that decides times: wall-clock is compared only between runs where this is equal.

    CPU vendor, family, model and stepping, the cores that this process may use, the numeric mode, threads, and how many
    runs shared the machine.
    """
    import torch

    family, model, stepping = (_processor(name) or "?" for name in ("cpu family", "model", "stepping"))
    vendor = _processor("vendor_id") or platform.machine()
    words = [f"{vendor} family {family} model {model} stepping {stepping} ({cpu()})"]
    words.append(f"{_usable_cores()} of {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)")
    words.append(f"{jobs} run(s) at once, {numerics.in_force().mode}")
    return ", ".join([*words, *([gpu] if gpu else [])])


def _processor(name: str) -> str:
    return numerics.processor().get(name, "")


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu_kind(gpu: str) -> str:
    import torch

    major, minor = torch.cuda.get_device_capability()
    words = [gpu, f"compute capability {major}.{minor}", f"driver {_driver()}", f"CUDA {torch.version.cuda}"]
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG", USUAL_WORKSPACE)
    if workspace != USUAL_WORKSPACE:
        words.append(f"CUBLAS_WORKSPACE_CONFIG={workspace}")
    return ", ".join(words)


@functools.cache
def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return told.stdout.splitlines()[0].strip() if told.returncode == 0 and told.stdout.strip() else "unknown"


def python() -> str:
    """Version of the running Python."""
    return ".".join(str(part) for part in sys.version_info[:3])
