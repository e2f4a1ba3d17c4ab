"""What turns raw files into arrays, as a hash: part of the cache's key and of a record's provenance."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.errors import DataError
from benchmark.core.programs import ROOT, fingerprint, folder, with_imports

if TYPE_CHECKING:
    from datasets_registry.base import Dataset


def code_files(dataset: Dataset) -> tuple[Path, ...]:
    """The folder ``encoding`` whole, the dataset's own file, and all of this package that these import."""
    own = Path(inspect.getfile(type(dataset)))
    files = with_imports([*folder(ROOT / "datasets_registry/encoding"), own], "datasets_registry")
    return (*files, ROOT / "benchmark/core/seeding.py")


def data_code(dataset: Dataset) -> str:
    """Hash of what turns a dataset's raw files into arrays: the code above and the dataset's description."""
    return fingerprint(code_files(dataset), repr(declared(dataset)))


def declared(dataset: Dataset) -> list[object]:
    """What a description says about how arrays are made of raw files."""
    return [
        *(_content(path) for f in dataset.features for path in (f.vectors, f.vector_ids) if path),
        repr(dataset.features),
        repr(dataset.tasks),
        dataset.split,
        dict(dataset.rarest),
        dataset.fitted_apart,
        dataset.configuration(),
    ]


def _content(path: str) -> str:
    """Hash of a file that the description names. Raises DataError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); correct the path in the features.") from error
