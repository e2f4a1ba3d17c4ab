"""Encoded arrays as models are fed: memory-mapped, with the schema that the taking tasks allow."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.core.errors import DataError, UsageError, unknown_name
from benchmark.core.seeding import numpy_stream
from datasets_registry.base import UNDEFINED, Dataset
from datasets_registry.encoding import integrity
from datasets_registry.encoding.checks import HEADER
from datasets_registry.encoding.profiles import Profile
from datasets_registry.schema import CategoricalFeature, Schema, SequenceFeature, Task

SPLITS = ("train", "valid", "test")
READ_AHEAD_BLOCK = 8 << 20
WIDEN_ROWS = 1 << 12


class Split:
    """The inputs of one split under one schema, N rows. Reading is lazy: only the rows asked for leave the disk.

    ``codes`` are records [N] with a field per feature (narrow integers), ``numbers`` float32 [N, all numeric inputs],
    ``ordered`` records [N] with a field per sequence.
    """

    def __init__(
        self,
        codes: np.ndarray,
        numbers: np.ndarray,
        rows: int,
        schema: Schema,
        numeric: list[int],
        ordered: np.ndarray | None = None,
    ) -> None:
        self._codes, self._numbers, self._rows, self._ordered = codes, numbers, rows, ordered
        self._sequences = list(zip(schema.sequences, schema.sequence_offsets, strict=True))
        self._runs, self._columns = _runs(codes.dtype, schema), schema.columns
        lengths = [feature.length for feature in schema.categorical]
        self._shift = np.repeat(np.array(schema.offsets, np.int32), lengths)
        self._numeric = None if numeric == list(range(numbers.shape[1])) else numeric

    def __len__(self) -> int:
        return self._rows

    def categorical(self, index: np.ndarray | slice | None = None) -> np.ndarray:
        """Rows of the stacked embedding table, int32 [n, schema.columns], a copy; all rows without ``index``.

        ``index`` is an integer array of row numbers (or a slice).
        """
        codes = _rows(self._codes, index)
        out = np.empty((len(codes), self._columns), np.int32)
        for start in range(0, len(out), WIDEN_ROWS):  # few enough rows to stay in the processor's cache
            part = np.ascontiguousarray(codes[start : start + WIDEN_ROWS])
            raw = part.view(np.uint8).reshape(len(part), part.dtype.itemsize)
            into = out[start : start + WIDEN_ROWS]
            for column, place, kind, width in self._runs:
                into[:, column : column + width] = raw[:, place : place + width * kind.itemsize].view(kind)
            into += self._shift
        return out

    def numeric(self, index: np.ndarray | slice | None = None) -> np.ndarray:
        """Numeric inputs, float32 [n, len(schema.numeric)]; all rows (read-only, not copied) without ``index``."""
        rows = _rows(self._numbers, index)
        return rows if self._numeric is None else rows[:, self._numeric]

    def sequences(self, index: np.ndarray | slice | None = None) -> dict[str, np.ndarray]:
        """Rows of the stacked embedding table by sequence, int32 [n, length], -1 where there is no value; copies."""
        if self._ordered is None or not self._sequences:
            return {}
        records = _rows(self._ordered, index)
        out: dict[str, np.ndarray] = {}
        for sequence, offset in self._sequences:
            codes = records[sequence.name].astype(np.int32)
            empty = codes == sequence.size
            codes += np.int32(offset)
            codes[empty] = -1
            out[sequence.name] = codes
        return out

    def read_ahead(self) -> None:
        """Bring the mapped inputs into the system's file cache, in the background and in the order of the disk.

        Rows wanted in random order from a file that is not cached come a disk access each, a hundred times slower.
        """
        arrays = (self._codes, self._numbers, self._ordered)
        paths = [array.filename for array in arrays if isinstance(array, np.memmap)]
        threading.Thread(target=_read_through, args=(paths,), daemon=True).start()


def _runs(record: np.dtype, schema: Schema) -> list[tuple[int, int, np.dtype, int]]:
    """(column in a batch, byte in a record, integer, columns) of neighbouring fields of one kind: widened together."""
    runs: list[tuple[int, int, np.dtype, int]] = []
    column = 0
    for feature in schema.categorical:
        assert record.fields is not None
        field, place = record.fields[feature.name][:2]
        width, kind = feature.length, field.base
        if runs and runs[-1][2] == kind and runs[-1][1] + runs[-1][3] * kind.itemsize == place:
            first, start, _, before = runs.pop()
            runs.append((first, start, kind, before + width))
        else:
            runs.append((column, place, kind, width))
        column += width
    return runs


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


_sealed = False


def seal_test_labels() -> None:
    """From now on no dataset of this process gives its test labels, except to what scores predictions.

    This keeps honest code from a mistake. Code that wants to can read the files, as anything with the same rights can.
    """
    global _sealed
    _sealed = True


class EncodedDataset:
    """A prepared dataset: schema, splits and labels over memory-mapped arrays.

    ``name`` as asked for (with profile); ``fingerprint`` 32 hex digits of all that a model can see; ``tasks`` by name
    with ``old_tasks`` and ``new_tasks`` as the default partition; ``meta`` what the encoder noted (rows, base rates,
    warnings, sources); ``directory`` where the arrays lie.
    """

    def __init__(self, dataset: Dataset, profile: Profile, directory: Path) -> None:
        self.meta: dict[str, Any] = integrity.read_meta(directory)
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
                CategoricalFeature(
                    entry["name"],
                    entry["size"],
                    entry["reserved"],
                    entry["length"],
                    entry.get("dim", 0),
                    str(self._file(f"vectors.{entry['name']}.npy")) if entry.get("vectors") else "",
                    entry.get("frozen", False),
                )
                for entry in self.meta["categorical"]
                if entry["name"] not in excluded
            ),
            numeric=tuple(
                entry["name"] for entry in self.meta["numeric"] if entry.get("feature", entry["name"]) not in excluded
            ),
            sequences=tuple(
                SequenceFeature(**entry) for entry in self.meta.get("sequences", ()) if entry["name"] not in excluded
            ),
        )

    def split(self, which: str, schema: Schema) -> Split:
        """The inputs of "train", "valid" or "test" under ``schema`` (one that `schema` returned)."""
        names = [entry["name"] for entry in self.meta["numeric"]]
        if schema.embedding_rows > np.iinfo(np.int32).max:
            raise DataError(f"'{self.name}': {schema.embedding_rows:,} embedding rows do not fit into int32.")
        rows = self.rows(which)
        codes = self._array(which, "codes") if schema.categorical else np.zeros(rows, np.uint8)
        numbers = self._array(which, "numeric") if names else np.zeros((rows, 0), np.float32)
        ordered = self._array(which, "sequences") if schema.sequences else None
        return Split(codes, numbers, rows, schema, [names.index(name) for name in schema.numeric], ordered)

    def labels(self, which: str, task: str | Task) -> np.ndarray:
        """Labels of one task, float32 [N]; NaN where it is not defined (its space) or, in training, hidden.

        Raises UsageError for test labels where they are sealed: in the process of a run.
        """
        self._refuse_sealed(which)
        return self.scoring_labels(which, task)

    def _refuse_sealed(self, which: str) -> None:
        if _sealed and which == "test":
            raise UsageError(
                f"'{self.name}': test labels cannot be read while a run trains or predicts. Use the labels of 'train', "
                "and of 'valid' to choose an epoch; predictions are scored by the benchmark when the run is done."
            )

    def scoring_labels(self, which: str, task: str | Task) -> np.ndarray:
        """As `labels`, for what scores predictions that are made already."""
        (declared,) = self._resolve([task])
        raw = self._array(which, f"label.{declared.name}")
        if raw.dtype == np.float32:
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

    def groups(self, which: str) -> np.ndarray | None:
        """The user (or session) of each row of "valid" or "test", integers [N] from 0; None where nothing tells."""
        if f"{_known(which)}.group.npy" not in self.meta["files"]:
            return None
        return self._array(which, "group")

    def true_probability(self, which: str, task: str | Task) -> np.ndarray | None:
        """P(label = 1 | row), float64 [N], for generated data; None where nobody knows it."""
        self._refuse_sealed(which)
        (declared,) = self._resolve([task])
        if f"{which}.truth.{declared.name}.npy" not in self.meta["files"]:
            return None
        return np.array(self._array(which, f"truth.{declared.name}"))

    @cached_property
    def vocabularies(self) -> dict[str, list[Any]]:
        """Raw values of each categorical feature in code order; the first value has code max(reserved, 1)."""
        values = json.loads(self._file("vocabulary.json").read_text(encoding="utf-8"))
        for name in self.meta["files"]:
            if name.startswith("vocabulary.") and name.endswith(".npy"):
                values[name.removeprefix("vocabulary.").removesuffix(".npy")] = np.load(self._file(name)).tolist()
        return values

    def _resolve(self, tasks: Iterable[str | Task]) -> list[Task]:
        names = [task if isinstance(task, str) else task.name for task in tasks]
        for name in names:
            if name not in self.tasks:
                raise unknown_name(f"task of '{self.name}'", name, self.tasks)
        return [self.tasks[name] for name in names]

    def _array(self, which: str, kind: str) -> np.ndarray:
        path = self._file(f"{_known(which)}.{kind}.npy")
        try:
            array = np.load(path, mmap_mode="r", max_header_size=HEADER)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: no readable array ({error}); delete {self.directory} and try again.") from error
        if len(array) != self.rows(which):
            raise DataError(f"{path}: {len(array):,} rows instead of {self.rows(which):,}; delete {self.directory}.")
        return array

    def _file(self, name: str) -> Path:
        """A file of the directory, found to be what was written. Raises DataError."""
        if name not in self.meta["files"]:
            raise DataError(f"{self.directory / name} was never written; delete {self.directory} and try again.")
        return integrity.check(self.directory, name, self.meta["files"][name])


def _known(which: str) -> str:
    if which not in SPLITS:
        raise unknown_name("split", which, SPLITS)
    return which
