"""Columns of own files as pandas users write them: times, labels and ids of more than one form, as numbers."""

from __future__ import annotations

import csv
import hashlib
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
SNIFFED = 1 << 16  # bytes of a file that are looked at for the form of its times


def comparison(text: str) -> tuple[str, float | str]:
    """``">= 4"`` as (">=", 4.0); the right side of "==" may be a text. Raises UsageError."""
    match = re.fullmatch(r"\s*(>=|<=|==|>|<)\s*(.+?)\s*", text)
    if match is None:
        raise UsageError(f'positive has to be a comparison such as ">= 4" or "== yes", not {text!r:.60}.')
    sign, value = match.groups()
    try:
        return sign, float(value)
    except ValueError:
        if sign != "==":
            raise UsageError(f"positive: {value!r:.60} is no number, and only '==' compares texts.") from None
        return sign, value


def time_kind(path: Path, delimiter: str, column: str) -> str:
    """How the first filled cell of a delimited file's time column is written: a kind of `delimited.Column`."""
    from datasets_registry.raw.archives import DAMAGE, open_plain

    try:
        with open_plain(path) as plain:
            lines = plain.read(SNIFFED).decode("utf-8-sig", "replace").splitlines()
        rows = csv.DictReader(lines, delimiter=delimiter)
        cell = next((row[column].strip() for row in rows if (row.get(column) or "").strip()), "")
    except (csv.Error, *DAMAGE):
        return "integer"  # the reader will say what is wrong with the file
    if not re.match(r"\d{4}-\d\d-\d\d", cell):
        return "integer"
    return "timestamp_utc" if re.search(r"\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$", cell) else "timestamp"


def times(column: Any, path: Path, name: str) -> np.ndarray:
    """int64 [n] that grows with time: whole numbers as they are, timestamps and dates as microseconds."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) and all(re.fullmatch(r"-?\d+", cell or "") for cell in column.to_pylist()):
        return _whole(column, path, name)
    if pa.types.is_date(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _cast(column, pa.timestamp("us"), path, name, "a time (whole numbers, or ISO timestamps)")
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz=column.type.tz))
    return _whole(column, path, name)


def groups(column: Any, path: Path, name: str) -> np.ndarray:
    """int64 [n], one number per id: whole numbers as they are, other texts by a hash of 64 bits."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.dictionary_encode()
    if not pa.types.is_dictionary(column.type):
        return _whole(column, path, name)
    if column.null_count:
        raise DataError(
            f"{path}, column {name}: a group must be given in every row, and {column.null_count:,} have none."
        )
    from datasets_registry.encoding.vocabulary import to_numpy

    try:
        numbers = to_numpy(column.dictionary.cast(pa.int64()))
    except (pa.ArrowInvalid, DataError):
        numbers = np.array([_number(text) for text in column.dictionary.to_pylist()], np.int64)
    return numbers[to_numpy(column.indices)] if len(numbers) else np.zeros(0, np.int64)


def _number(text: str) -> int:
    if re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
        return int(text)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def flags(column: Any, path: Path, name: str, positive: tuple[str, float | str] | None) -> np.ndarray:
    """float64 [n]: 0, 1, or NaN where the label is not defined. Raises DataError for anything else."""
    import numpy as np
    import pyarrow as pa

    from datasets_registry.encoding.delimited import FLAGS
    from datasets_registry.encoding.vocabulary import to_numpy

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.dictionary_encode()
    if pa.types.is_dictionary(column.type):
        texts = column.dictionary.to_pylist()
        if positive is not None and isinstance(positive[1], str):
            values = np.array([float(text == positive[1]) for text in texts] or [0.0])
            positive = None
        else:
            values = np.array([_flag(text, FLAGS, path, name) for text in texts] or [0.0])
        out = values[to_numpy(column.indices.fill_null(0))]
        out[to_numpy(column.is_null().cast(pa.uint8())).astype(bool)] = np.nan
    else:
        numbers = _cast(column, pa.float64(), path, name, "a label")
        out = np.array(to_numpy(numbers.fill_null(float("nan")) if numbers.null_count else numbers))
    if positive is not None:
        if isinstance(positive[1], str):
            raise DataError(f"{path}, column {name}: holds numbers, and positive compares with {positive[1]!r}.")
        return np.where(np.isnan(out), np.nan, COMPARISONS[positive[0]](out, positive[1]))
    wrong = ~((out == 0) | (out == 1) | np.isnan(out))
    if wrong.any():
        raise DataError(f"{path}, column {name}: label {out[wrong][0]:g} is neither 0 nor 1{rating(name)}")
    return out


def rating(name: str) -> str:
    """What to write for a label that is no flag."""
    return f'; for ratings or counts write [tasks.{name}] positive = ">= 4" (or kind = "regression").'


def _flag(text: str, known: dict[str, float], path: Path, name: str) -> float:
    if (value := known.get(text.strip().lower())) is not None:
        return value
    try:
        return float(text)
    except ValueError:
        raise DataError(
            f"{path}, column {name}: label {text!r:.40} is none of 0, 1, True and False{rating(name)}"
        ) from None


def _cast(column: Any, kind: Any, path: Path, name: str, what: str) -> Any:
    import pyarrow as pa

    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}, column {name}: cannot be read as {what} ({error}).") from error


def _whole(column: Any, path: Path, name: str) -> np.ndarray:
    import pyarrow as pa

    from datasets_registry.encoding.vocabulary import to_numpy

    try:
        return to_numpy(column.cast(pa.int64()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, DataError) as error:
        raise DataError(
            f"{path}, column {name}: a time or group must be a whole number in every row (a time may be an ISO "
            f"timestamp, a group text) ({error})."
        ) from error
