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
``tags = { genres = "|" }`` (multi-valued columns with their separator), ``time``
and ``group`` (columns for splits and profiles, not inputs unless listed), ``split`` ("random", with ``time`` also
"time", with both "user_order"), ``min_count``, ``allow_leaks``, ``funnel`` (tasks, earlier first, of which each happens
only where the one before it did, though all have labels on every row), and per task a table ``[tasks.purchase]`` with
``space``, ``excludes``, ``kind`` ("regression") or ``title``. Paths are relative to the schema file.
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
from datasets_registry.encoding.own import Hub, OwnDataset, delimiter_of, header
from datasets_registry.schema import Task

TAG_LENGTH = 8
_PATTERN = re.compile(r"[*?]")
_KEYS = (
    "name files title licence citation home_page categorical numeric tags ignore old_tasks new_tasks time group split "
    "min_count delimiter decimal allow_leaks funnel tasks hub revision config data_files streaming"
).split()


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


def _check_types(path: Path, content: Mapping[str, Any]) -> None:
    """Raises UsageError for a value that is not of its key's kind."""

    def texts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(part, str) and part for part in value)

    for key, value in content.items():
        if key in ("categorical", "numeric", "ignore", "old_tasks", "new_tasks", "allow_leaks", "funnel"):
            good, kind = texts(value), "a list of names"
        elif key == "min_count":
            good, kind = isinstance(value, int) and not isinstance(value, bool) and value >= 1, "a whole number from 1"
        elif key in ("tags", "files", "data_files") and isinstance(value, dict):
            good, kind = all(isinstance(part, str) and part for part in value.values()), "a table of texts"
        elif key == "tasks":
            good, kind = isinstance(value, dict) and all(isinstance(part, dict) for part in value.values()), "tables"
        elif key == "streaming":
            good, kind = isinstance(value, bool), "true or false"
        elif key == "decimal":
            good, kind = value in (".", ","), "a point or a comma"
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
    splits: tuple[str, ...] = ("official",) if "valid" in parts else ("tenth",) if "train" in parts else ("random",)
    if "all" in parts:
        splits += (("time",) if time else ()) + (("user_order",) if time and group else ())
    split = content.get("split", splits[0])
    if split not in splits:
        raise UsageError(f"{path}: {unknown_name('split', split, splits, 'Some need a time or group column.')}")
    tags, few = content.get("tags", {}), content.get("min_count", 1)
    return OwnDataset(
        name=content["name"],
        title=content.get("title", content["name"]),
        tasks=tuple(Task(name, **_listed(content.get("tasks", {}).get(name, {}))) for name in tasks),
        old_tasks=tuple(content["old_tasks"]),
        new_tasks=tuple(content.get("new_tasks", ())),
        funnel=tuple(content.get("funnel", ())),
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


def _expand(content: dict[str, Any], paths: Mapping[str, Path], tasks: list[str]) -> None:
    """Find the delimiter and replace patterns by the columns of the first file that fit and are named nowhere else.

    Raises UsageError for a pattern that fits nothing.
    """
    first = next(iter(paths.values()), None)
    content.setdefault("delimiter", delimiter_of(first) if first else ",")
    lists = [key for key in ("categorical", "numeric", "ignore") if content.get(key)]
    plain = {name for key in lists for name in content[key] if not _PATTERN.search(name)}
    taken = plain | {*tasks, *content.get("tags", {}), content.get("time"), content.get("group")}
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
