"""Rows of a user's own CSV, TSV or Parquet files, or of a copy on the Hugging Face Hub, as a schema file says.

CSV files are read as spreadsheets write them: with or without a byte order mark, with either kind of line end, with
commas, semicolons, tabs or bars between the cells (found from the header unless the schema file says), and with columns
that have no name, which are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import DataError, DataUnavailable
from datasets_registry.base import CHUNK_ROWS, UNDEFINED, Chunk, Dataset, Feature
from datasets_registry.encoding import cells
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.encoding.delimited import Column, Layout

PARTS = {"train": 0, "valid": 1, "test": 2, "all": 0}


@dataclasses.dataclass(frozen=True)
class Hub:
    """A dataset on the Hugging Face Hub: repository, commit, configuration and files (by split, or one pattern for all)
    if not all of it is meant, which of its splits is which part, and whether rows are streamed instead of being kept as
    a second copy in the library's cache."""

    repository: str = ""
    revision: str = ""
    config: str = ""
    data_files: Mapping[str, str] | str | None = None
    streaming: bool = False
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def batches(self, split: str, rows: int) -> Iterator[Any]:
        """Arrow tables of about ``rows`` rows of one split. Raises DataUnavailable if the library cannot get it."""
        import datasets  # the Hugging Face library: it fetches, and keeps an Arrow copy unless it streams
        import pyarrow as pa

        options: dict[str, Any] = {"revision": self.revision, "split": split}
        options |= {"name": self.config} if self.config else {}
        options |= {"data_files": self.data_files} if self.data_files else {}
        options |= {"streaming": True} if self.streaming else {}
        try:
            loaded = datasets.load_dataset(self.repository, **options)
            batches = iter(loaded.with_format("arrow").iter(rows))
            first = next(batches, None)
        except Exception as error:  # the library has no common base of its own for what can go wrong
            text = f"{self.repository} at {self.revision} cannot be read from the Hub: {error}"
            raise DataUnavailable(text) from error
        while first is not None:
            yield first if isinstance(first, pa.Table) else pa.table(first)
            first = next(batches, None)


@dataclasses.dataclass(frozen=True)
class OwnDataset(Dataset):
    """Files as described by a schema file; ``paths`` by part. ``decimal`` is the sign before a number's fraction."""

    paths: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    time: str | None = None
    group: str | None = None
    delimiter: str = ","
    decimal: str = "."
    hub: Hub = dataclasses.field(default_factory=Hub)
    positive: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def configuration(self) -> str:
        hub = (self.hub.repository, self.hub.revision, self.hub.config, self.hub.data_files, dict(self.hub.splits))
        return repr((dict(self.tags), self.time, self.group, self.delimiter, self.decimal, hub, dict(self.positive)))

    def local_files(self) -> Mapping[str, Path]:
        return self.paths

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        for key in sorted(self.hub.splits, key=lambda key: PARTS[key]):
            where = Path(self.hub.repository, self.hub.splits[key])
            for table in self.hub.batches(self.hub.splits[key], chunk_rows):
                names = self._known(table.column_names, where)
                columns = {name: table[name].combine_chunks() for name in names}
                yield self._chunk(columns, where, PARTS[key])
        for key in sorted(files, key=lambda key: PARTS[key]):
            for columns in self._columns(files[key], chunk_rows):  # type: ignore[assignment]  # a mapping, above a dict
                yield self._chunk(columns, files[key], PARTS[key])

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_arrow

        found = None
        if not _is_parquet(path):
            for found in delimited.check(path, self.layout(path)):
                yield found
        if found is None:  # what no single cell shows: columns, kinds, numbers that are too large
            from datasets_registry.encoding.encode import finite

            rows = 0
            for columns in self._columns(path, CHUNK_ROWS):
                chunk = self._chunk(columns, path, 0)
                for feature in self.features:
                    if feature.kind == "numeric":
                        finite(to_arrow(chunk.features[feature.name]), feature, self.name, rows)
                rows += len(next(iter(columns.values())))

    def layout(self, path: Path | None = None) -> Layout:
        """Columns of the delimited files; the form of times is taken from the first row of ``path``."""
        from datasets_registry.encoding.delimited import Column, Layout

        columns = {name: Column(name, "skip") for name in self.ignore}
        if self.time:
            kind = "integer" if path is None else cells.time_kind(path, self.delimiter, self.time)
            columns[self.time] = Column(self.time, kind, advice="" if kind == "integer" else "; write all times alike")
        if self.group:
            columns[self.group] = Column(self.group, "id", advice="; every row needs its group")
        given = [feature for feature in self.features if not feature.built]
        columns |= {f.name: Column(f.name, "number" if f.kind == "numeric" else "text", empty=True) for f in given}
        for task in self.tasks:
            columns[task.name] = self._label_column(task)
        return Layout(
            tuple(columns.values()),
            self.delimiter,
            header=True,
            quoted=True,
            nulls=("",),
            lenient=True,
            decimal=self.decimal,
        )

    def _label_column(self, task: Task) -> Column:
        from datasets_registry.encoding.delimited import Column

        if task.kind == "regression":
            return Column(task.name, "number", empty=True)
        if task.name in self.positive:
            text = isinstance(cells.comparison(self.positive[task.name])[1], str)
            return Column(task.name, "text" if text else "number", empty=True)
        return Column(task.name, "flag", low=0, high=1, empty=True, advice=cells.rating(task.name))

    def _columns(self, path: Path, chunk_rows: int) -> Iterator[Mapping[str, Any]]:
        if _is_parquet(path):
            yield from self._parquet(path, chunk_rows)
            return
        from datasets_registry.encoding import delimited

        for batch in delimited.read(path, self.layout(path), chunk_rows):
            yield {name: batch[name] for name in batch.schema.names}

    def _parquet(self, path: Path, chunk_rows: int) -> Iterator[Mapping[str, Any]]:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        try:
            file = parquet.ParquetFile(path)
            names = self._known(file.schema_arrow.names, path)
            for batch in file.iter_batches(chunk_rows, columns=names, use_threads=False):
                yield {name: batch[name] for name in names}
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise DataError(f"{path}: no readable Parquet file ({error}).") from error

    def _known(self, present: list[str], where: Path) -> list[str]:
        """The columns to read. Raises DataError for those that are missing or that the schema file does not name."""
        names = [column.name for column in self.layout().columns if column.kind != "skip"]
        missing = [name for name in names if name not in present]
        extra = [name for name in present if name and name not in names and name not in self.ignore]
        for what, found in (("missing", missing), ("unknown", extra)):
            if found:
                raise DataError(f"{where}: {what} columns: {', '.join(found)}; correct the schema file or use ignore.")
        return names

    def _chunk(self, columns: Mapping[str, Any], path: Path, part: int) -> Chunk:
        import numpy as np

        keys = {}
        if self.time:
            keys["time"] = cells.times(columns[self.time], path, self.time)
        if self.group:
            keys["group"] = cells.groups(columns[self.group], path, self.group)
        labels = {}
        for task in self.tasks:
            if task.kind == "regression":
                labels[task.name] = _numbers(columns[task.name], path, task.name).astype(np.float32)
                continue
            positive = cells.comparison(self.positive[task.name]) if task.name in self.positive else None
            values = cells.flags(columns[task.name], path, task.name, positive)
            labels[task.name] = np.where(np.isnan(values), UNDEFINED, values).astype(np.uint8)
        features = {f.name: self._feature(f, columns[f.name], path) for f in self.features if not f.built}
        return Chunk(features, labels, part, keys)

    def _feature(self, feature: Feature, column: Any, path: Path) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        if feature.kind == "numeric":
            return _numbers(column, path, feature.name)
        if pa.types.is_dictionary(column.type) and (
            feature.name in self.tags or not pa.types.is_string(column.type.value_type)
        ):
            column = column.cast(column.type.value_type)
        if pa.types.is_large_string(column.type):  # what pandas writes
            column = column.cast(pa.string())
        elif pa.types.is_large_list(column.type):
            column = column.cast(pa.list_(column.type.value_type))
        try:
            if feature.name in self.tags:
                return column if pa.types.is_list(column.type) else pc.split_pattern(column, self.tags[feature.name])
            if pa.types.is_integer(column.type):
                return column.cast(pa.int64())
            return column if pa.types.is_dictionary(column.type) else column.cast(pa.string()).dictionary_encode()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"{path}, column {feature.name}: cannot be taken as categories ({error}).") from error


def header(path: Path, delimiter: str) -> list[str]:
    """Names of a file's columns, "" for one without. Raises DataError if there is no readable header."""
    if _is_parquet(path):
        import pyarrow as pa
        import pyarrow.parquet as parquet

        try:
            return list(parquet.ParquetFile(path).schema_arrow.names)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path}: no readable Parquet file ({error}).") from error
    from datasets_registry.encoding import delimited

    return delimited.header_of(path, delimiter, lenient=True)


def delimiter_of(path: Path) -> str:
    """The sign that cuts the header into the most columns: a comma, semicolon, tab or bar."""
    if _is_parquet(path):
        return ","
    try:
        return max(",;\t|", key=lambda sign: len(header(path, sign)))
    except DataError:
        return ","  # the reader will say what is wrong with the file


def _is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet"


def _numbers(column: Any, path: Path, name: str) -> Any:
    """float64 [n], NaN where missing."""
    import pyarrow as pa

    from datasets_registry.encoding.vocabulary import to_numpy

    try:
        numbers = column.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}, column {name}: not numeric ({error}).") from error
    return to_numpy(numbers.fill_null(float("nan")) if numbers.null_count else numbers)
