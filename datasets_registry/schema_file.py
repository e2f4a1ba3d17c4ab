"""A dataset of one's own from CSV, TSV or Parquet files and a schema file of about a dozen lines of TOML.

::

    name = "my_shop"
    files = "impressions.csv"             # or { train = "a.csv", valid = "b.csv", test = "c.csv" }; valid is optional
    categorical = ["user", "item", "country"]
    numeric = ["price"]
    old_tasks = ["click"]                 # columns of 0 and 1; an empty cell is an undefined label
    new_tasks = ["purchase"]

Optional: ``title``, ``licence``, ``citation``, ``home_page``, ``delimiter`` (found from the header if it is left out),
``decimal = ","`` for numbers like 3,14, ``ignore`` (columns of no use; a column that is named nowhere is an error),
``tags = { genres = "|" }`` (multi-valued columns with their separator, or with a table: ``separator``, ``length``, by
default 8, and ``keep``, "first" or "last"), ``time`` (whole numbers or ISO timestamps) and ``group`` (numbers or text):
columns for splits, histories and profiles, not inputs unless listed, ``split`` ("random", with ``time`` also
"time", with both "user_order"), ``min_count``, ``allow_leaks``, ``funnel`` (tasks, earlier first, of which each happens
only where the one before it did, though all have labels on every row), and per task a table ``[tasks.purchase]`` with
``space``, ``excludes``, ``kind`` ("regression"), ``positive`` (``">= 4"``) or ``title``. A table
``[sequences.history]`` makes an ordered input: ``shares`` (the column with the same values), ``length``, ``keep`` and
either ``separator`` (a column of that name holds it) or ``when`` (a task, or "*": the encoder builds it from earlier
rows of the group). Paths are relative to the schema file.
In ``categorical``, ``numeric`` and ``ignore`` a name may be a pattern (``"f_*"``): it takes the file's columns that fit
and that no other key names.

A copy on the Hugging Face Hub is read through the ``datasets`` library, which fetches and caches it: then ``hub``
names the repository, ``revision`` its commit (40 digits: a branch may move, a commit may not) and ``files`` the splits;
``config`` names one of the repository's configurations, ``data_files`` its files (a pattern, or a table by split), and
``streaming = true`` reads row by row without the library's copy on disk.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.core.errors import DataError, UsageError, unknown_name
from datasets_registry.base import Feature
from datasets_registry.catalogue import DATASETS
from datasets_registry.encoding import cells
from datasets_registry.encoding.own import Hub, OwnDataset, delimiter_of, header
from datasets_registry.schema import Task
from datasets_registry.schema_keys import KEYS, check_types

TAG_LENGTH, SEQUENCE_LENGTH = 8, 50
_PATTERN = re.compile(r"[*?]")


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
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: no readable schema file: {error}") from error
    for key in content:
        if key not in KEYS:
            raise UsageError(f"{path}: {unknown_name('key', key, KEYS)}")
    for key in ("name", "files", "old_tasks"):
        if not content.get(key):
            raise UsageError(
                f"{path}: the key '{key}' is missing; see the docstring of datasets_registry/schema_file.py."
            )
    check_types(path, content)
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
    if twice := sorted({name for name in tasks if tasks.count(name) > 1}):
        raise UsageError(f"{path}: old_tasks and new_tasks name a task twice: {', '.join(twice)}. Keep each once.")
    for name in content.get("tasks", {}):
        if name not in tasks:
            raise UsageError(f"{path}: {unknown_name('task', name, tasks)}")
    try:
        _expand(content, paths, tasks)
        return _dataset(path, content, paths, hub_splits, tasks)
    except (TypeError, ValueError, UsageError, DataError) as error:
        raise UsageError(f"{path}: {error}") from error


def _dataset(
    path: Path, content: dict[str, Any], paths: dict[str, Path], hub_splits: dict[str, str], tasks: list[str]
) -> OwnDataset:
    time, group = content.get("time"), content.get("group")
    parts = set(paths or hub_splits)
    splits: tuple[str, ...] = ("official",) if "valid" in parts else ("tenth",) if "train" in parts else ("random",)
    if "all" in parts:
        splits += (("time",) if time else ()) + (("user_order",) if time and group else ())
    split = content.get("split", splits[0])
    if split not in splits:
        raise UsageError(f"{path}: {unknown_name('split', split, splits, 'Some need a time or group column.')}")
    declared, positive = _tasks(content, tasks)
    columns = content.get("sequences", {}) | _tags(content)
    return OwnDataset(
        name=content["name"],
        title=content.get("title", content["name"]),
        tasks=declared,
        old_tasks=tuple(content["old_tasks"]),
        new_tasks=tuple(content.get("new_tasks", ())),
        funnel=tuple(content.get("funnel", ())),
        features=_features(content, path.parent),
        **{key: content.get(key, "") for key in ("licence", "citation", "home_page")},
        size="own files",
        split=split,
        splits=splits,
        allow_leaks=tuple(content.get("allow_leaks", ())),
        paths=paths,
        tags={name: options["separator"] for name, options in columns.items() if "separator" in options},
        positive=positive,
        ignore=tuple(content.get("ignore", ())),
        time=time,
        group=group,
        delimiter=content["delimiter"],
        decimal=content.get("decimal", "."),
        hub=Hub(
            repository=content.get("hub", ""),
            revision=content.get("revision", ""),
            config=content.get("config", ""),
            data_files=content.get("data_files"),
            streaming=content.get("streaming", False),
            splits=hub_splits,
        ),
    )


def _tasks(content: Mapping[str, Any], names: list[str]) -> tuple[tuple[Task, ...], dict[str, str]]:
    """The tasks, and the comparisons that make the labels of some. Raises UsageError."""
    inputs = [name for key in ("categorical", "numeric", "tags", "sequences") for name in content.get(key, ())]
    tables = {name: dict(content.get("tasks", {}).get(name, {})) for name in names}
    positive = {name: table.pop("positive") for name, table in tables.items() if "positive" in table}
    for name, table in tables.items():
        for excluded in table.get("excludes", ()):
            if excluded not in inputs:
                raise UsageError(f"[tasks.{name}] excludes: {unknown_name('input', excluded, inputs)}")
    for name, text in positive.items():
        if tables[name].get("kind", "binary") != "binary":
            raise UsageError(f"[tasks.{name}]: positive makes a binary label; leave out either it or kind.")
        cells.comparison(text)
    return tuple(Task(name, **_listed(tables[name])) for name in names), positive


def _tags(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {"separator": tag} if isinstance(tag, str) else tag for name, tag in content.get("tags", {}).items()}


def _embeddings(content: Mapping[str, Any], directory: Path) -> dict[str, dict[str, Any]]:
    """Options of features with embeddings of their own, by name. Raises UsageError."""
    out: dict[str, dict[str, Any]] = {}
    for name, options in content.get("embeddings", {}).items():
        inputs = [*content.get("categorical", ()), *content.get("tags", {})]
        if name not in inputs:
            raise UsageError(f"[embeddings.{name}]: {unknown_name('categorical column', name, inputs)}")
        given = {key: str((directory / options[key]).resolve()) for key in ("vectors", "ids") if key in options}
        for key, file in given.items():
            if not Path(file).is_file():
                raise UsageError(f"[embeddings.{name}] {key} names {file}, which is no file.")
        out[name] = {"dim": options.get("dim", 0), "frozen": options.get("frozen", False)}
        out[name] |= {"vectors": given.get("vectors", ""), "vector_ids": given.get("ids", "")}
    return out


def _features(content: Mapping[str, Any], directory: Path) -> tuple[Feature, ...]:
    few, own = content.get("min_count", 1), _embeddings(content, directory)
    return (
        *(Feature(name, min_count=few, **own.get(name, {})) for name in content.get("categorical", ())),
        *(
            Feature(
                name,
                min_count=few,
                length=tag.get("length", TAG_LENGTH),
                keep=tag.get("keep", ""),
                **own.get(name, {}),
            )
            for name, tag in _tags(content).items()
        ),
        *(Feature(name, "numeric", scale=content.get("scale", "minmax")) for name in content.get("numeric", ())),
        *(
            Feature(
                name,
                "sequence",
                min_count=few,
                length=options.get("length", SEQUENCE_LENGTH),
                keep=options.get("keep", ""),
                shares=options.get("shares", ""),
                when=options.get("when", ""),
            )
            for name, options in content.get("sequences", {}).items()
        ),
    )


def _expand(content: dict[str, Any], paths: Mapping[str, Path], tasks: list[str]) -> None:
    """Find the delimiter and replace patterns by the columns of the first file that fit and are named nowhere else.

    Raises UsageError for a pattern that fits nothing.
    """
    first = next(iter(paths.values()), None)
    content.setdefault("delimiter", delimiter_of(first) if first else ",")
    lists = [key for key in ("categorical", "numeric", "ignore") if content.get(key)]
    plain = {name for key in lists for name in content[key] if not _PATTERN.search(name)}
    taken = plain | {
        *tasks,
        *content.get("tags", {}),
        *content.get("sequences", {}),
        content.get("time"),
        content.get("group"),
    }
    if all(not _PATTERN.search(name) for key in lists for name in content[key]):
        return
    if first is None:
        raise UsageError("patterns need a file at hand; name the columns of a dataset on the Hub one by one.")
    present = header(first, content["delimiter"])
    for key in lists:
        names: list[str] = []
        for name in content[key]:
            fitting = [
                column for column in present if column and column not in taken and fnmatch.fnmatchcase(column, name)
            ]
            if _PATTERN.search(name) and not fitting and name not in present and key != "ignore":
                raise UsageError(f"{key}: no column that is not named elsewhere fits '{name}'.")
            names += fitting if _PATTERN.search(name) and name not in present else [name]
            taken |= set(fitting)
        content[key] = names


def _listed(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
