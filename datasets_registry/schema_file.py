"""A dataset of one's own from CSV, TSV or Parquet files and a schema file of about a dozen lines of TOML.

::

    name = "my_shop"
    files = "impressions.csv"             # or { train = "a.csv", valid = "b.csv", test = "c.csv" }; valid is optional
    categorical = ["user", "item", "country"]
    numeric = ["price"]
    old_tasks = ["click"]                 # columns of 0 and 1; an empty cell is an undefined label
    new_tasks = ["purchase"]

Optional: ``title``, ``licence``, ``citation``, ``home_page``, ``delimiter``, ``ignore`` (columns of no use; a column
that is named nowhere is an error), ``tags = { genres = "|" }`` (multi-valued columns with their separator), ``time``
and ``group`` (columns for splits and profiles, not inputs unless listed), ``split`` ("random", with ``time`` also
"time", with both "user_order"), ``min_count``, ``allow_leaks``, and per task a table ``[tasks.purchase]`` with
``space``, ``excludes``, ``kind`` ("regression") or ``title``. Paths are relative to the schema file.

A copy on the Hugging Face Hub is read through the ``datasets`` library, which fetches and caches it: then ``hub``
names the repository, ``revision`` its commit (40 digits: a branch may move, a commit may not) and ``files`` the splits.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import DataError, DataUnavailable, UsageError, unknown_name
from datasets_registry.base import UNDEFINED, Chunk, Dataset, Feature
from datasets_registry.catalogue import DATASETS
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.raw.delimited import Layout

PARTS = {"train": 0, "valid": 1, "test": 2, "all": 0}
TAG_LENGTH = 8
_KEYS = (
    "name files title licence citation home_page categorical numeric tags ignore old_tasks new_tasks time group split "
    "min_count delimiter allow_leaks tasks hub revision"
).split()


@dataclasses.dataclass(frozen=True)
class OwnDataset(Dataset):
    """Files as described by a schema file; ``paths`` by part."""

    paths: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    time: str | None = None
    group: str | None = None
    delimiter: str = ","
    hub: str = ""
    revision: str = ""
    hub_splits: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def configuration(self) -> str:
        hub = (self.hub, self.revision, dict(self.hub_splits))
        return repr((dict(self.tags), self.time, self.group, self.delimiter, hub))

    def local_files(self) -> Mapping[str, Path]:
        return self.paths

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        for key in sorted(self.hub_splits, key=lambda key: PARTS[key]):
            for columns in _from_hub(self, self.hub_splits[key], chunk_rows):
                yield self._chunk(columns, Path(self.hub, self.hub_splits[key]), PARTS[key])
        for key in sorted(files, key=lambda key: PARTS[key]):
            rows = _parquet if files[key].suffix == ".parquet" else _delimited
            for columns in rows(self, files[key], chunk_rows):
                yield self._chunk(columns, files[key], PARTS[key])

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.raw import delimited

        return iter(()) if path.suffix == ".parquet" else delimited.check(path, self.layout())

    def layout(self) -> Layout:
        """Columns of the delimited files."""
        from datasets_registry.raw.delimited import Column, Layout

        columns = {name: Column(name, "skip") for name in self.ignore}
        columns |= {name: Column(name, "integer") for name in (self.time, self.group) if name}
        columns |= {
            f.name: Column(f.name, "text" if f.kind == "categorical" else "number", empty=True) for f in self.features
        }
        for task in self.tasks:
            bounds = (0, 1) if task.kind == "binary" else (None, None)
            columns[task.name] = Column(task.name, "number", low=bounds[0], high=bounds[1], empty=True)
        return Layout(tuple(columns.values()), self.delimiter, header=True, quoted=True, nulls=("",))

    def _chunk(self, columns: Mapping[str, Any], path: Path, part: int) -> Chunk:
        import numpy as np

        keys = {}
        for key, column in (("time", self.time), ("group", self.group)):
            if column:
                keys[key] = _integers(columns[column], path, column)
        labels = {}
        for task in self.tasks:
            values = _numbers(columns[task.name], path, task.name)
            if task.kind == "regression":
                labels[task.name] = values.astype(np.float32)
                continue
            wrong = ~((values == 0) | (values == 1) | np.isnan(values))
            if wrong.any():
                raise DataError(f"{path}, column {task.name}: label {values[wrong][0]:g} is neither 0 nor 1.")
            labels[task.name] = np.where(np.isnan(values), UNDEFINED, values).astype(np.uint8)
        features = {f.name: self._feature(f, columns[f.name], path) for f in self.features}
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
        if feature.name in self.tags:
            return column if pa.types.is_list(column.type) else pc.split_pattern(column, self.tags[feature.name])
        if pa.types.is_integer(column.type):
            return column.cast(pa.int64())
        return column if pa.types.is_dictionary(column.type) else column.cast(pa.string()).dictionary_encode()


def _delimited(dataset: OwnDataset, path: Path, chunk_rows: int) -> Iterator[Mapping[str, Any]]:
    from datasets_registry.raw import delimited

    for batch in delimited.read(path, dataset.layout(), chunk_rows):
        yield {name: batch[name] for name in batch.schema.names}


def _parquet(dataset: OwnDataset, path: Path, chunk_rows: int) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
        names = _known(dataset, file.schema_arrow.names, path)
        for batch in file.iter_batches(chunk_rows, columns=names, use_threads=False):
            yield {name: batch[name] for name in names}
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: no readable Parquet file ({error}).") from error


def _from_hub(dataset: OwnDataset, split: str, chunk_rows: int) -> Iterator[Mapping[str, Any]]:
    import datasets  # the Hugging Face library: it fetches, and keeps an Arrow copy in its own cache

    try:
        rows = datasets.load_dataset(dataset.hub, revision=dataset.revision, split=split)
    except Exception as error:  # the library has no common base of its own for what can go wrong
        text = f"'{dataset.name}': {dataset.hub} at {dataset.revision} cannot be read from the Hub: {error}"
        raise DataUnavailable(text) from error
    names = _known(dataset, rows.column_names, f"{dataset.hub}, split {split}")
    for batch in rows.with_format("arrow").iter(chunk_rows):
        yield {name: batch[name].combine_chunks() for name in names}


def _known(dataset: OwnDataset, present: list[str], where: str | Path) -> list[str]:
    """The columns to read. Raises DataError for those that are missing or that the schema file does not name."""
    names = [column.name for column in dataset.layout().columns if column.kind != "skip"]
    missing = [name for name in names if name not in present]
    extra = [name for name in present if name not in names and name not in dataset.ignore]
    for what, found in (("missing", missing), ("unknown", extra)):
        if found:
            raise DataError(f"{where}: {what} columns: {', '.join(found)}; correct the schema file or use ignore.")
    return names


def _numbers(column: Any, path: Path, name: str) -> Any:
    """float64 [n], NaN where missing."""
    import pyarrow as pa

    from datasets_registry.encoding.vocabulary import to_numpy

    try:
        numbers = column.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}, column {name}: not numeric ({error}).") from error
    return to_numpy(numbers.fill_null(float("nan")) if numbers.null_count else numbers)


def _integers(column: Any, path: Path, name: str) -> Any:
    import pyarrow as pa

    from datasets_registry.encoding.vocabulary import to_numpy

    try:
        return to_numpy(column.cast(pa.int64()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, DataError) as error:
        raise DataError(
            f"{path}, column {name}: a time or group must be a whole number in every row ({error})."
        ) from error


def load_file(path: str | Path) -> list[str]:
    """Make the datasets of a file outside the repository known: a schema (.toml) or Python (.py); returns the names.

    Raises UsageError with file and cause.
    """
    path = Path(path).resolve()
    if path.suffix != ".toml":
        return DATASETS.load_file(path)
    dataset = read_schema(path)
    DATASETS.add(dataset.name, dataset, str(path))
    return [dataset.name]


def read_schema(path: Path) -> OwnDataset:
    """The dataset that a schema file describes. Raises UsageError naming file and key."""
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: no readable schema file: {error}") from error
    for key in content:
        if key not in _KEYS:
            raise UsageError(f"{path}: {unknown_name('key', key, _KEYS)}")
    for key in ("name", "files", "old_tasks"):
        if not content.get(key):
            raise UsageError(
                f"{path}: the key '{key}' is missing; see the docstring of datasets_registry/schema_file.py."
            )
    _check_types(path, content)
    if bool(content.get("hub")) != bool(content.get("revision")):
        raise UsageError(f"{path}: hub and revision go together.")
    if content.get("hub") and not re.fullmatch(r"[0-9a-f]{40}", content["revision"]):
        raise UsageError(f"{path}: revision must be a commit of 40 hexadecimal digits, which cannot move.")
    files = content["files"] if isinstance(content["files"], dict) else {"all": content["files"]}
    if not (set(files) == {"all"} or {"train", "test"} <= set(files) <= {"train", "valid", "test"}):
        raise UsageError(f"{path}: files must be one path or a table with train, test and perhaps valid.")
    hub_splits = files if content.get("hub") else {}
    paths = {key: (path.parent / value).resolve() for key, value in files.items() if not hub_splits}
    for key, file in paths.items():
        try:
            present = file.is_file()
        except OSError:  # for example a name that is too long
            present = False
        if not present:
            raise UsageError(f"{path}: files.{key} names {file}, which is no file.")
    tasks = [*content["old_tasks"], *content.get("new_tasks", ())]
    for name in content.get("tasks", {}):
        if name not in tasks:
            raise UsageError(f"{path}: {unknown_name('task', name, tasks)}")
    try:
        return _dataset(path, content, paths, hub_splits, tasks)
    except (TypeError, ValueError, UsageError) as error:
        raise UsageError(f"{path}: {error}") from error


def _check_types(path: Path, content: Mapping[str, Any]) -> None:
    """Raises UsageError for a value that is not of its key's kind."""

    def texts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(part, str) and part for part in value)

    for key, value in content.items():
        if key in ("categorical", "numeric", "ignore", "old_tasks", "new_tasks", "allow_leaks"):
            good, kind = texts(value), "a list of names"
        elif key == "min_count":
            good, kind = isinstance(value, int) and not isinstance(value, bool) and value >= 1, "a whole number from 1"
        elif key in ("tags", "files") and isinstance(value, dict):
            good, kind = all(isinstance(part, str) and part for part in value.values()), "a table of texts"
        elif key == "tasks":
            good, kind = isinstance(value, dict) and all(isinstance(part, dict) for part in value.values()), "tables"
        elif key == "delimiter":
            good, kind = isinstance(value, str) and len(value) == 1 and value not in '"\r\n\0', "one character"
        else:
            good, kind = isinstance(value, str) and "\0" not in value and key != "tags", "a text"
        if not good:
            raise UsageError(f"{path}: '{key}' has to be {kind}, not {value!r:.80}.")
    for task, options in content.get("tasks", {}).items():
        for key, value in options.items():
            if not (texts(value) if key == "excludes" else isinstance(value, str | bool)):
                kind = "a list of names" if key == "excludes" else "a text"
                raise UsageError(f"{path}: [tasks.{task}] {key} has to be {kind}, not {value!r:.80}.")


def _dataset(
    path: Path, content: dict[str, Any], paths: dict[str, Path], hub_splits: dict[str, str], tasks: list[str]
) -> OwnDataset:
    time, group = content.get("time"), content.get("group")
    parts = set(paths or hub_splits)
    splits = ("official",) if "valid" in parts else ("tenth",) if "train" in parts else ("random",)
    if "all" in parts:
        splits += (("time",) if time else ()) + (("user_order",) if time and group else ())
    split = content.get("split", splits[0])
    if split not in splits:
        raise UsageError(f"{path}: {unknown_name('split', split, splits, 'Some need a time or group column.')}")
    tags, few = content.get("tags", {}), content.get("min_count", 1)
    tabbed = any(file.name.removesuffix(".gz").endswith(".tsv") for file in paths.values())
    return OwnDataset(
        name=content["name"],
        title=content.get("title", content["name"]),
        tasks=tuple(Task(name, **_listed(content.get("tasks", {}).get(name, {}))) for name in tasks),
        old_tasks=tuple(content["old_tasks"]),
        new_tasks=tuple(content.get("new_tasks", ())),
        features=(
            *(Feature(name, min_count=few) for name in content.get("categorical", ())),
            *(Feature(name, min_count=few, length=TAG_LENGTH) for name in tags),
            *(Feature(name, "numeric") for name in content.get("numeric", ())),
        ),
        **{key: content.get(key, "") for key in ("licence", "citation", "home_page")},
        size="own files",
        split=split,
        splits=splits,
        allow_leaks=tuple(content.get("allow_leaks", ())),
        paths=paths,
        tags=tags,
        ignore=tuple(content.get("ignore", ())),
        time=time,
        group=group,
        delimiter=content.get("delimiter", "\t" if tabbed else ","),
        hub=content.get("hub", ""),
        revision=content.get("revision", ""),
        hub_splits=hub_splits,
    )


def _listed(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
