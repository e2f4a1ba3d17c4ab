"""Which keys a schema file may have, and of what kind their values are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark.core.errors import UsageError, unknown_name
from datasets_registry.base import SCALES

KEYS = (
    "name files title licence citation home_page categorical numeric tags sequences embeddings ignore old_tasks "
    "new_tasks time group split min_count delimiter decimal allow_leaks funnel tasks scale hub revision config "
    "data_files streaming"
).split()
TASK_KEYS = ("title", "kind", "space", "excludes", "partial", "positive")
TAG_KEYS = ("separator", "length", "keep")
SEQUENCE_KEYS = ("separator", "shares", "when", "length", "keep")
EMBEDDING_KEYS = ("dim", "vectors", "ids", "frozen")
LISTS = ("categorical", "numeric", "ignore", "old_tasks", "new_tasks", "allow_leaks", "funnel")

_NUMBER = ("a whole number from 1", lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 1)
_KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "length": _NUMBER,
    "dim": _NUMBER,
    "frozen": ("true or false", lambda value: isinstance(value, bool)),
}


def check_types(path: Path, content: Mapping[str, Any]) -> None:
    """Raises UsageError for a value that is not of its key's kind."""

    def texts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(part, str) and part for part in value)

    for key, value in content.items():
        if key in LISTS:
            good, kind = texts(value), "a list of names"
        elif key == "min_count":
            good, kind = isinstance(value, int) and not isinstance(value, bool) and value >= 1, "a whole number from 1"
        elif key in ("files", "data_files") and isinstance(value, dict):
            good, kind = all(isinstance(part, str) and part for part in value.values()), "a table of texts"
        elif key == "tags" and isinstance(value, dict):
            good = all(isinstance(part, str | dict) and part for part in value.values())
            kind = "a table of separators, or of tables with separator, length and keep"
        elif key in ("tasks", "sequences", "embeddings"):
            good, kind = isinstance(value, dict) and all(isinstance(part, dict) for part in value.values()), "tables"
        elif key == "streaming":
            good, kind = isinstance(value, bool), "true or false"
        elif key == "scale":
            good, kind = value in SCALES, f"one of {', '.join(SCALES)}"
        elif key == "decimal":
            good, kind = value in (".", ","), "a point or a comma"
        elif key == "delimiter":
            good, kind = isinstance(value, str) and len(value) == 1 and value not in '"\r\n\0', "one character"
        else:
            good, kind = isinstance(value, str) and "\0" not in value and key != "tags", "a text"
        if not good:
            raise UsageError(f"{path}: '{key}' has to be {kind}, not {value!r:.80}.")
    _check_columns(path, content)
    for task, options in content.get("tasks", {}).items():
        for key, value in options.items():
            if key not in TASK_KEYS:
                raise UsageError(f"{path}: [tasks.{task}]: {unknown_name('key', key, TASK_KEYS)}")
            if not (texts(value) if key == "excludes" else isinstance(value, str | bool)):
                kind = "a list of names" if key == "excludes" else "a text"
                raise UsageError(f"{path}: [tasks.{task}] {key} has to be {kind}, not {value!r:.80}.")


def _check_columns(path: Path, content: Mapping[str, Any]) -> None:
    """Raises UsageError for a table of a multi-valued column or a sequence with a wrong key or value."""
    for name, options in content.get("sequences", {}).items():
        if bool(options.get("separator")) == bool(options.get("when")):
            raise UsageError(
                f"{path}: [sequences.{name}] needs either separator (a column holds it, its values joined by that) or "
                "when (a task, or '*': it is built from the earlier rows of the same group)."
            )
    tables: list[tuple[str, str, tuple[str, ...], Any]]
    tables = [("tags", name, TAG_KEYS, value) for name, value in content.get("tags", {}).items()]
    tables += [("sequences", name, SEQUENCE_KEYS, value) for name, value in content.get("sequences", {}).items()]
    tables += [("embeddings", name, EMBEDDING_KEYS, value) for name, value in content.get("embeddings", {}).items()]
    for table, name, keys, options in tables:
        for key, value in options.items() if isinstance(options, dict) else ():
            if key not in keys:
                raise UsageError(f"{path}: [{table}.{name}]: {unknown_name('key', key, keys)}")
            kind, right = _KINDS.get(key, ("a text", lambda value: isinstance(value, str) and value))
            if not right(value):
                raise UsageError(f"{path}: [{table}.{name}] {key} has to be {kind}, not {value!r:.80}.")
        if table == "tags" and isinstance(options, dict) and "separator" not in options:
            raise UsageError(f"{path}: [tags.{name}] needs separator, the sign between two values of a cell.")
