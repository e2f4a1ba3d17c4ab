"""Where a number comes from: commit, code fingerprint, package versions, machine."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import inspect
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.spec.arms import ARMS
from datasets_registry.pipeline import ENCODING_MODULES, declared

if TYPE_CHECKING:
    from benchmark.records.record import Key
    from datasets_registry.base import Dataset

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "numpy", "pandas", "scipy", "datasets", "pyarrow", "pydantic", "torchjd")
NUMERIC_PACKAGES = ("torch", "numpy")
"""Packages whose version can change a run's numbers; they are part of the code fingerprint."""

CORE = tuple(
    ROOT / name
    for name in (
        "benchmark/spec/arms.py",
        "benchmark/training/metrics.py",
        "benchmark/spec/options.py",
        "benchmark/training/preparation.py",
        "benchmark/training/protocol.py",
        "benchmark/training/rows.py",
        "benchmark/core/ranks.py",
        "benchmark/core/seeding.py",
        "benchmark/training/learner.py",
        "benchmark/training/trainer.py",
        "methods/base.py",
        "methods/layers.py",
        "datasets_registry/schema.py",
    )
)
"""Code that every run's numbers depend on. Planning, reporting and the command line are not among it."""

ADAPTATION = tuple(sorted((ROOT / "benchmark/training/peft").glob("*.py")))
BALANCING = tuple(sorted((ROOT / "benchmark/training/balancing").glob("*.py")))
CONTINUAL = ROOT / "benchmark/training/forgetting.py"
"""Code that only some runs' numbers depend on."""

ENCODER = tuple(ROOT / "datasets_registry" / f"{name}.py" for name in ENCODING_MODULES)
"""Code that every dataset's arrays depend on."""


@functools.cache
def commit() -> tuple[str | None, bool | None]:
    """Commit of the checkout and whether it has uncommitted changes; (None, None) outside a checkout."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10)
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    return (head.stdout.strip(), bool(changes.stdout.strip())) if head.returncode == 0 else (None, None)


def code_fingerprint(method_file: str | Path, key: Key) -> str:
    """Hash of what can change a run's numbers: the core, the method's file with the helpers that it imports, what the
    run's arm and balancing add, and the numeric packages' versions.

    Comments, docstrings and layout do not count: files are hashed as parsed programs.
    """
    arm, packages, files = ARMS.get(key.arm), list(NUMERIC_PACKAGES), [*CORE, Path(method_file)]
    files += [path for path in _imported_helpers(Path(method_file)) if path not in CORE]
    if arm is not None:  # a record may come from a program that has more arms
        files += list(ADAPTATION) * bool(arm.adaptation) + [CONTINUAL] * bool(arm.continual)
    if "balancing" in key.config:  # options stand in a key where they differ from their defaults
        files += BALANCING
        packages.append("torchjd")
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        digest.update(_program_hash(path).encode())
    for package, version in versions(packages).items():
        digest.update(f"{package}={version}".encode())
    return digest.hexdigest()


def remember_code(method_files: Iterable[str | Path]) -> None:
    """Hash now what `code_fingerprint` may ask for later, so that it speaks of the code that has been loaded."""
    for path in (*CORE, *ADAPTATION, CONTINUAL, *BALANCING, *map(Path, method_files)):
        _program_hash(path)
        for helper in _imported_helpers(path):
            _program_hash(helper)


@functools.cache
def _imported_helpers(path: Path) -> tuple[Path, ...]:
    """Modules of the package ``methods`` that a file imports by name."""
    imports = (node for node in ast.walk(_parsed(path)) if isinstance(node, ast.ImportFrom))
    names = sorted({node.module for node in imports if (node.module or "").startswith("methods.")})
    files = (ROOT / f"{name.replace('.', '/')}.py" for name in names if name)
    return tuple(file for file in files if file.is_file())


def data_code(dataset: Dataset) -> str:
    """Hash of what turns a dataset's raw files into arrays: the encoder, the dataset's own file, its description."""
    digest = hashlib.blake2b(repr(declared(dataset)).encode(), digest_size=8)
    for path in (*ENCODER, Path(inspect.getfile(type(dataset)))):
        digest.update(_program_hash(path).encode())
    return digest.hexdigest()


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def _program_hash(path: Path) -> str:
    tree = _parsed(path)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)] or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.blake2b(ast.dump(tree).encode(), digest_size=8).hexdigest()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


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
    """The machine kind: wall-clock is compared only between runs where this is equal."""
    return f"{platform.system()} {platform.machine()}, {cpu()} x{os.cpu_count()}" + (f", {gpu}" if gpu else "")


def python() -> str:
    """Version of the running Python."""
    return ".".join(str(part) for part in sys.version_info[:3])
