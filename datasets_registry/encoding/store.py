"""Encoded arrays as models are fed: memory-mapped, with the schema that the taking tasks allow."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.core.errors import DataError, unknown_name
from benchmark.core.seeding import numpy_stream
from datasets_registry.base import UNDEFINED, Dataset
from datasets_registry.encoding.profiles import Profile
from datasets_registry.schema import CategoricalFeature, Schema, Task

SPLITS = ("train", "valid", "test")
READ_AHEAD_BLOCK = 8 << 20


class Split:
    """The inputs of one split under one schema, N rows. Reading is lazy: only the rows asked for leave the disk."""

    def __init__(self, codes: np.ndarray, numbers: np.ndarray, rows: int, columns: list[int], shift: np.ndarray,
                 numeric: list[int]) -> None:  # fmt: skip
        self._codes, self._numbers, self._rows = codes, numbers, rows
        self._columns = None if columns == list(range(codes.shape[1])) else columns
        self._shift = shift
        self._numeric = None if numeric == list(range(numbers.shape[1])) else numeric

    def __len__(self) -> int:
        return self._rows

    def categorical(self, index: np.ndarray | slice | None = None) -> np.ndarray:
        """Rows of the stacked embedding table, int32 [n, schema.columns], a copy; all rows without ``index``.

        ``index`` is an integer array of row numbers (or a slice).
        """
        rows = _rows(self._codes, index)
        if self._columns is not None:
            rows = rows[:, self._columns]
        elif index is None or isinstance(index, slice):
            return rows + self._shift
        rows += self._shift
        return rows

    def numeric(self, index: np.ndarray | slice | None = None) -> np.ndarray:
        """Numeric inputs, float32 [n, len(schema.numeric)]; all rows (read-only, not copied) without ``index``."""
        rows = _rows(self._numbers, index)
        return rows if self._numeric is None else rows[:, self._numeric]

    def read_ahead(self) -> None:
        """Bring the mapped inputs into the system's file cache, in the background and in the order of the disk.

        Rows wanted in random order from a file that is not cached come a disk access each, a hundred times slower.
        """
        paths = [array.filename for array in (self._codes, self._numbers) if isinstance(array, np.memmap)]
        threading.Thread(target=_read_through, args=(paths,), daemon=True).start()


def _rows(array: np.ndarray, index: np.ndarray | slice | None) -> np.ndarray:
    """Rows as a plain array: a view without ``index`` or for a slice, else a copy."""
    plain = array.view(np.ndarray)
    if index is None:
        return plain
    # np.take copies row by row and is three times as fast as indexing with an array
    return plain[index] if isinstance(index, slice) else np.take(plain, index, axis=0)


def _read_through(paths: list[str]) -> None:
    block = bytearray(READ_AHEAD_BLOCK)
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(block):
                pass


class EncodedDataset:
    """A prepared dataset: schema, splits and labels over memory-mapped arrays.

    ``name`` as asked for (with profile); ``fingerprint`` 32 hex digits of all that a model can see; ``tasks`` by name
    with ``old_tasks`` and ``new_tasks`` as the default partition; ``meta`` what the encoder noted (rows, base rates,
    warnings, sources); ``directory`` where the arrays lie.
    """

    def __init__(self, dataset: Dataset, profile: Profile, directory: Path) -> None:
        try:
            self.meta: dict[str, Any] = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{directory}: no readable meta.json ({error}); delete the directory and try again."
            ) from error
        self.dataset, self.directory, self.name = dataset, directory, dataset.name
        self.old_tasks, self.new_tasks = dataset.old_tasks, dataset.new_tasks
        self._hidden = profile.new_labels
        self.tasks = {task.name: self._declare(task) for task in dataset.tasks}
        self.fingerprint: str = self.meta["fingerprint"]
        if self._hidden < 1:
            import hashlib

            text = f"{self.fingerprint} new {self._hidden!r}"
            self.fingerprint = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        self.warnings: list[str] = list(self.meta["warnings"])

    def __repr__(self) -> str:
        return f"EncodedDataset({self.name!r}, rows={self.meta['rows']}, fingerprint={self.fingerprint!r})"

    def _declare(self, task: Task) -> Task:
        from dataclasses import replace

        hidden = self._hidden < 1 and task.name in self.new_tasks
        tallies = self.meta["base_rates"].get(task.name, {})
        gaps = any(tally["defined"] < self.rows(which) for which, tally in tallies.items())
        return replace(task, partial=True) if hidden or gaps or task.space is not None else task

    def rows(self, which: str) -> int:
        """Number of rows of a split."""
        return self.meta["rows"][_known(which)]

    def schema(self, tasks: Iterable[str | Task]) -> Schema:
        """The inputs of a run in which these tasks take part: features that one of them excludes are left out."""
        excluded = {feature for task in self._resolve(tasks) for feature in task.excludes}
        return Schema(
            categorical=tuple(
                CategoricalFeature(entry["name"], entry["size"], entry["reserved"], entry["length"])
                for entry in self.meta["categorical"]
                if entry["name"] not in excluded
            ),
            numeric=tuple(entry["name"] for entry in self.meta["numeric"] if entry["name"] not in excluded),
        )

    def split(self, which: str, schema: Schema) -> Split:
        """The inputs of "train", "valid" or "test" under ``schema`` (one that `schema` returned)."""
        columns: list[int] = []
        shift: list[int] = []
        starts, column = {}, 0
        for entry in self.meta["categorical"]:
            starts[entry["name"]] = column
            column += entry["length"]
        for feature, offset in zip(schema.categorical, schema.offsets, strict=True):
            columns += range(starts[feature.name], starts[feature.name] + feature.length)
            shift += [offset] * feature.length
        names = [entry["name"] for entry in self.meta["numeric"]]
        if schema.embedding_rows > np.iinfo(np.int32).max:
            raise DataError(f"'{self.name}': {schema.embedding_rows:,} embedding rows do not fit into int32.")
        return Split(
            self._array(which, "categorical", np.int32, column),
            self._array(which, "numeric", np.float32, len(names)),
            self.rows(which),
            columns,
            np.array(shift, np.int32),
            [names.index(name) for name in schema.numeric],
        )

    def labels(self, which: str, task: str | Task) -> np.ndarray:
        """Labels of one task, float32 [N]; NaN where it is not defined (its space) or, in training, hidden."""
        (declared,) = self._resolve([task])
        stored = self.meta["labels"][declared.name]
        raw = self._array(which, f"label.{declared.name}", np.dtype(stored), None)
        if stored == "float32":
            out = np.array(raw)
        else:
            out = raw.astype(np.float32)
            if declared.partial or (self.meta["base_rates"][declared.name][which]["defined"] < self.rows(which)):
                out[raw == UNDEFINED] = np.nan
        if which == "train" and self._hidden < 1 and declared.name in self.new_tasks:
            draw = numpy_stream("split", self.dataset.split_stream, "labels", declared.name).random(
                len(out), np.float32
            )
            out[draw >= self._hidden] = np.nan
        return out

    def true_probability(self, which: str, task: str | Task) -> np.ndarray | None:
        """P(label = 1 | row), float64 [N], for generated data; None where nobody knows it."""
        (declared,) = self._resolve([task])
        if not (self.directory / f"{which}.truth.{declared.name}").is_file():
            return None
        return np.array(self._array(which, f"truth.{declared.name}", np.float64, None))

    @cached_property
    def vocabularies(self) -> dict[str, list[Any]]:
        """Raw values of each categorical feature in code order; the first value has code max(reserved, 1)."""
        values = json.loads((self.directory / "vocabulary.json").read_text(encoding="utf-8"))
        for path in sorted(self.directory.glob("vocabulary.*.npy")):
            values[path.name.removeprefix("vocabulary.").removesuffix(".npy")] = np.load(path).tolist()
        return values

    def _resolve(self, tasks: Iterable[str | Task]) -> list[Task]:
        names = [task if isinstance(task, str) else task.name for task in tasks]
        for name in names:
            if name not in self.tasks:
                raise unknown_name(f"task of '{self.name}'", name, self.tasks)
        return [self.tasks[name] for name in names]

    def _array(self, which: str, kind: str, dtype: Any, columns: int | None) -> np.ndarray:
        path = self.directory / f"{_known(which)}.{kind}"
        shape = (self.rows(which),) if columns is None else (self.rows(which), columns)
        expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if not path.is_file() or path.stat().st_size != expected:
            raise DataError(f"{path}: damaged (expected {expected:,} bytes); delete {self.directory} and try again.")
        return np.memmap(path, dtype, "r", shape=shape) if expected else np.zeros(shape, dtype)


def _known(which: str) -> str:
    if which not in SPLITS:
        raise unknown_name("split", which, SPLITS)
    return which
