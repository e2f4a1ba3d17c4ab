"""Encoded arrays as Parquet files, one per split, for whoever wants them outside the suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from benchmark.core.errors import UsageError
from datasets_registry.encoding.store import SPLITS

if TYPE_CHECKING:
    from datasets_registry.encoding.store import EncodedDataset

ROWS = 1 << 17  # a row group


def parquet(data: EncodedDataset, directory: Path, *, values: bool = False) -> list[Path]:
    """Write ``directory``/{train,valid,test}.parquet; returns the paths.

    A categorical input is a column of its codes (counted from 0 within the feature), or with ``values`` of the raw
    values behind them, null where a code stands for missing, rare or unseen ones; a multi-valued one is a list, and so
    is a sequence (without empty places, oldest value first). Numeric inputs are float32 as models get them. The label
    of a task is the column ``label.<task>``, null where it is not defined. Raises UsageError if a file is there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{which}.parquet" for which in SPLITS]
    for path in paths:
        if path.exists():
            raise UsageError(f"{path} exists already; name another directory.")
    known = data.vocabularies if values else {}
    for which, path in zip(SPLITS, paths, strict=True):
        _write(data, which, path, known)
    return paths


def _write(data: EncodedDataset, which: str, path: Path, known: dict[str, list[Any]]) -> None:
    schema = data.schema(())
    split, labels = data.split(which, schema), {name: data.labels(which, name) for name in data.tasks}
    part, writer = path.with_suffix(".part"), None
    for start in range(0, data.rows(which), ROWS):
        rows = slice(start, start + ROWS)
        codes, numbers = split.categorical(rows), split.numeric(rows)
        columns: dict[str, pa.Array] = {}
        column = 0
        for feature, offset in zip(schema.categorical, schema.offsets, strict=True):
            own = codes[:, column : column + feature.length] - offset
            columns[feature.name] = _feature(own, known.get(feature.name), feature.reserved)
            column += feature.length
        for sequence, offset in zip(schema.sequences, schema.sequence_offsets, strict=True):
            places = split.sequences(rows)[sequence.name]
            known_values = known.get(sequence.shares or sequence.name)
            columns[sequence.name] = _sequence(places, offset, known_values, sequence.reserved)
        columns |= {name: pa.array(numbers[:, place]) for place, name in enumerate(schema.numeric)}
        for name, task in data.tasks.items():
            kind = pa.float32() if task.kind == "regression" else pa.uint8()
            mine = labels[name][rows]
            columns[f"label.{name}"] = pa.array(mine, mask=np.isnan(mine)).cast(kind)
        batch = pa.table(columns)
        writer = writer or pa.parquet.ParquetWriter(part, batch.schema, compression="zstd")
        writer.write_table(batch)
    if writer is not None:
        writer.close()
        part.replace(path)


def _sequence(places: np.ndarray, offset: int, values: list[Any] | None, reserved: int) -> pa.Array:
    """A sequence's places [n, length], -1 where there is no value, as a column of lists without the empty ones."""
    inside = places >= 0
    flat = _feature((places[inside] - offset)[:, None], values, reserved)
    ends = np.concatenate([[0], np.cumsum(inside.sum(1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), flat)


def _feature(codes: np.ndarray, values: list[Any] | None, reserved: int) -> pa.Array:
    """One feature's codes [n, length], or the values behind them, as a column."""
    flat = pa.array(codes.reshape(-1))
    if values is not None:
        place = codes.reshape(-1).astype(np.int64) - max(reserved, 1)
        flat = pa.array(values).take(pa.array(place, mask=place < 0))
    if codes.shape[1] == 1:
        return flat
    ends = np.arange(0, codes.size + 1, codes.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), flat)
