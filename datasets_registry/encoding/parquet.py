"""Parquet files, read column by column in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def read(path: Path, names: Sequence[str], chunk_rows: int) -> Iterator[pa.RecordBatch]:
    """These columns of a Parquet file, at most ``chunk_rows`` rows a batch. Raises DataError."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
        missing = [name for name in names if name not in file.schema_arrow.names]
        if missing:
            raise DataError(f"{path}: missing columns: {', '.join(missing)}.")
        for batch in file.iter_batches(chunk_rows, columns=list(names), use_threads=False):
            yield batch.select(list(names))  # a file may order its columns otherwise
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: no readable Parquet file ({error}); delete it and fetch it again.") from error


def table(path: Path, names: Sequence[str]) -> pa.Table:
    """These columns of a whole file, each in one piece. Raises DataError if it has no rows."""
    import pyarrow as pa

    batches = list(read(path, names, 1 << 20))
    if not sum(batch.num_rows for batch in batches):
        raise DataError(f"{path}: the file holds no rows.")
    return pa.Table.from_batches(batches).combine_chunks()
