r"""Ali-CCP's raw text to integer arrays, block by block with numpy: no Python per row.

Skeleton row: ``sample_id,click,conversion,common_feature_index,feature_num,feature_list``; common-feature row:
``common_feature_index,feature_num,feature_list``. A feature list joins ``field \x02 feature_id \x03 value`` by
``\x01``. The index is a hexadecimal number of up to 16 digits. Fields that nobody asked for (multi-valued ones) are
passed over. Blocks are parsed by several threads (numpy lets go of the interpreter lock) and handed on in order.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from benchmark.errors import DataError
from datasets_registry.archives import DAMAGE, open_plain

ROW_BYTES = 256  # about the length of a skeleton row
BLOCK = 1 << 23
THREADS = min(4, os.cpu_count() or 1)
_HEX = np.full(256, 255, np.uint8)
for _digit in range(16):
    _HEX[ord(f"{_digit:x}")] = _HEX[ord(f"{_digit:X}")] = _digit

Result = TypeVar("Result")
_ROWS = {
    True: re.compile(rb"\d+,[01],[01],[0-9a-fA-F]{1,16},\d+,([^,]*)"),
    False: re.compile(rb"[0-9a-fA-F]{1,16},\d+,([^,]*)"),
}
_FEATURE = re.compile(rb"[0-9_]+\x02\d{1,10}\x03[-+0-9.eE]+")


class _Bad(Exception):
    """A block that is not as it should be; `check` says where."""


def read_common(path: Path, fields: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """All common-feature rows: sorted index uint64 [m] and values int32 [m, len(fields)], 0 where a field is absent."""
    keys, values = [], []
    for key, block in _blocks(path, lambda text: _parse_common(text, fields), BLOCK, skeleton=False):
        keys.append(key)
        values.append(block)
    if not keys:
        raise DataError(f"{path}: the file is empty.")
    key, value = np.concatenate(keys), np.concatenate(values)
    order = np.argsort(key, kind="stable")
    key = key[order]
    if (key[1:] == key[:-1]).any():
        twice = key[1:][key[1:] == key[:-1]][0]
        raise DataError(f"{path}: common_feature_index {twice:016x} occurs twice.")
    return key, value[order]


def read_joined(
    path: Path, common_path: Path, common: tuple[np.ndarray, np.ndarray], fields: Sequence[str], chunk_rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (click uint8 [n], conversion uint8 [n], values int32 [n, common fields + ``fields``]) in file order."""
    keys, common_values = common
    width = common_values.shape[1]

    def parse(text: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        click, conversion, key, own = _parse_skeleton(text, fields)
        place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        lost = keys[place] != key
        if lost.any():
            raise DataError(f"{path}: common_feature_index {key[lost][0]:016x} is not in {common_path}.")
        values = np.empty((len(key), width + len(fields)), np.int32)
        values[:, :width] = common_values[place]
        values[:, width:] = own
        return click, conversion, values

    size = min(max(chunk_rows, 1) * ROW_BYTES, BLOCK)
    rows = 0
    for block in _blocks(path, parse, size, skeleton=True):
        rows += len(block[0])
        yield block
    if rows == 0:
        raise DataError(f"{path}: the file is empty.")


def check(path: Path, skeleton: bool) -> Iterator[tuple[int, str, str]]:
    """Yield (line, column, problem) for each row that is not of the form above. Slow: row by row."""
    columns = "sample_id click conversion common_feature_index feature_num".split()[0 if skeleton else 3 :]
    line = 0
    try:
        with open_plain(path) as plain:
            for line, raw in enumerate(plain, 1):
                text = raw.rstrip(b"\n")
                match = _ROWS[skeleton].fullmatch(text)
                if match is None:
                    cells = text.split(b",")
                    if len(cells) != len(columns) + 1:
                        yield line, "", f"{len(cells)} columns, expected {len(columns) + 1}"
                        continue
                    forms = {"click": rb"[01]", "conversion": rb"[01]", "common_feature_index": rb"[0-9a-fA-F]{1,16}"}
                    for name, cell in zip(columns, cells, strict=False):
                        if not re.fullmatch(forms.get(name, rb"\d+"), cell):
                            yield line, name, f"{cell.decode('utf-8', 'replace')[:40]!r} is impossible there"
                    continue
                for feature in match[1].split(b"\x01"):
                    if not _FEATURE.fullmatch(feature):
                        yield (
                            line,
                            "feature_list",
                            f"{feature.decode('utf-8', 'replace')[:40]!r} is no field, id, value",
                        )
                        break
    except DAMAGE as error:
        raise DataError(f"{path}, after line {line}: damaged or cut off ({error}).") from error


# ---- blocks ---------------------------------------------------------------------------------------------------------


def _blocks(path: Path, parse: Callable[[np.ndarray], Result], size: int, skeleton: bool) -> Iterator[Result]:
    """``parse`` of each block of whole lines, in order; at most THREADS + 1 blocks are in memory."""
    waiting: deque[Any] = deque()
    try:
        with open_plain(path) as plain, ThreadPoolExecutor(THREADS) as pool:
            for text in _lines(plain, size):
                waiting.append(pool.submit(parse, text))
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except _Bad as error:
        for line, column, problem in check(path, skeleton):
            raise DataError(f"{path}, line {line}{f', column {column}' if column else ''}: {problem}") from error
        raise DataError(f"{path}: {error}") from error
    except DAMAGE as error:
        raise DataError(f"{path}: damaged or cut off ({error}).") from error


def _lines(plain: IO[bytes], size: int) -> Iterator[np.ndarray]:
    """Blocks of about ``size`` bytes that end with a line end, as uint8 arrays."""
    rest = b""
    while block := plain.read(size):
        end = block.rfind(b"\n") + 1
        if end:
            yield np.frombuffer(rest + block[:end], np.uint8)
            rest = block[end:]
        else:
            rest += block
    if rest:
        yield np.frombuffer(rest + b"\n", np.uint8)


def _parse_skeleton(text: np.ndarray, fields: Sequence[str]) -> tuple[np.ndarray, ...]:
    ends = np.flatnonzero(text == 10)
    commas = _commas(text, ends, 5)
    if ((commas[:, 1] - commas[:, 0]) != 2).any() or ((commas[:, 2] - commas[:, 1]) != 2).any():
        raise _Bad("a label is no single digit")
    click, conversion = text[commas[:, 0] + 1] - 48, text[commas[:, 1] + 1] - 48
    if (click > 1).any() or (conversion > 1).any():
        raise _Bad("a label is neither 0 nor 1")
    key = _hexadecimal(text, commas[:, 2] + 1, commas[:, 3])
    return click, conversion, key, _features(text, ends, fields)


def _parse_common(text: np.ndarray, fields: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    ends = np.flatnonzero(text == 10)
    commas = _commas(text, ends, 2)
    starts = np.concatenate([[0], ends[:-1] + 1])
    return _hexadecimal(text, starts, commas[:, 0]), _features(text, ends, fields)


def _commas(text: np.ndarray, ends: np.ndarray, per_row: int) -> np.ndarray:
    """Positions [rows, per_row] of the commas, which must be as many in each row."""
    commas = np.flatnonzero(text == 44)
    if len(commas) != per_row * len(ends):
        raise _Bad("a row has the wrong number of columns")
    commas = commas.reshape(-1, per_row)
    if (commas[:, -1] > ends).any() or (commas[1:, 0] < ends[:-1]).any():
        raise _Bad("a row has the wrong number of columns")
    return commas


def _hexadecimal(text: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """uint64 of the digits in text[start:end], row by row."""
    length = end - start
    if len(length) == 0 or length.min() < 1 or length.max() > 16:
        raise _Bad("common_feature_index is no hexadecimal number of 1 to 16 digits")
    key = np.zeros(len(start), np.uint64)
    for k in range(int(length.max())):
        inside = k < length
        digit = _HEX[text[np.where(inside, start + k, start)]]
        if (digit == 255).any():
            raise _Bad("common_feature_index is no hexadecimal number")
        key = np.where(inside, (key << np.uint64(4)) | digit, key)
    return key


def _features(text: np.ndarray, ends: np.ndarray, fields: Sequence[str]) -> np.ndarray:
    """int32 [rows, fields]: each wanted field's id (its last one if it repeats), 0 where absent."""
    marks = np.flatnonzero(text < 4)
    marks = marks[text[marks] != 1]
    seconds, thirds = marks[::2], marks[1::2]
    if len(marks) % 2 or (text[seconds] != 2).any() or (text[thirds] != 3).any():
        raise _Bad("a feature is not field, id, value")
    until = np.searchsorted(seconds, ends)
    if not np.array_equal(until, np.searchsorted(thirds, ends)):
        raise _Bad("a feature goes over the end of its row")
    per_row = np.diff(until, prepend=0)
    column_of = np.full(1024, -1, np.int8)
    for column, field in enumerate(fields):
        column_of[int(field)] = column
    if len(seconds) and seconds[0] < 4:
        raise _Bad("a feature list begins without a field")
    # a wanted field has three digits and stands behind a separator: "109_14" and "1216" must not pass for "121"
    hundreds, tens, ones = (text[seconds - k].astype(np.int16) - 48 for k in (3, 2, 1))
    digits = (hundreds | tens | ones) >= 0
    digits &= (hundreds < 10) & (tens < 10) & (ones < 10)
    before = text[seconds - 4]
    number = np.where(digits & ((before == 1) | (before == 44)), hundreds * 100 + tens * 10 + ones, 1023)
    column = column_of[number]
    wanted = np.flatnonzero(column >= 0)
    row = np.repeat(np.arange(len(ends)), per_row)[wanted]
    end, start = thirds[wanted] - 1, seconds[wanted] + 1
    length = end - start + 1
    shortest = int(length.min(initial=10))
    if len(length) and (shortest < 1 or length.max() > 10):
        raise _Bad("a feature id has no or more than ten digits")
    longest = int(length.max(initial=0))
    value = np.zeros(len(wanted), np.int32 if longest < 10 else np.int64)
    for k in range(longest):
        digit = text[end - k] - 48  # uint8: anything below "0" wraps above 9
        if k >= shortest:
            digit *= length > k  # what stands before a shorter number does not count
        if digit.max() > 9:
            raise _Bad("a feature id is no number")
        value += digit.astype(value.dtype) * 10**k
    if len(value) and value.max() > np.iinfo(np.int32).max:
        raise _Bad("a feature id is beyond int32")
    out = np.zeros((len(ends), len(fields)), np.int32)
    out[row, column[wanted]] = value
    return out
