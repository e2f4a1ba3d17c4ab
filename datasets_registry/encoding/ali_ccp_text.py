r"""Ali-CCP's raw text to integer arrays, block by block with numpy: no Python per row.

Skeleton row: ``sample_id,click,conversion,common_feature_index,feature_num,feature_list``; common-feature row:
``common_feature_index,feature_num,feature_list``. A feature list joins ``field \x02 feature_id \x03 value`` by
``\x01`` and has ``feature_num`` of them. The index is a hexadecimal number of up to 16 digits. Fields that nobody asked
for (multi-valued ones) are passed over. Blocks are parsed by several threads (numpy lets go of the interpreter lock)
and handed on in order.
"""

from __future__ import annotations

import functools
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from benchmark.core.errors import DataError
from datasets_registry.raw.archives import DAMAGE, open_plain

ROW_BYTES = 256  # about the length of a skeleton row
BLOCK = 1 << 23
THREADS = min(4, os.cpu_count() or 1)
_HEX = np.full(256, 255, np.uint8)
for _digit in range(16):
    _HEX[ord(f"{_digit:x}")] = _HEX[ord(f"{_digit:X}")] = _digit

_LARGEST = np.iinfo(np.int32).max
_ZEROS = np.uint64(0x3030303030303030)
_SIXES = np.uint64(0x7676767676767676)  # added to a digit it leaves the byte's highest bit alone, to more it sets it
_HIGH = np.uint64(0x8080808080808080)
_PAIRS = np.uint64(0x00FF00FF00FF00FF)
_FOURS = np.uint64(0x0000FFFF0000FFFF)
_EIGHT = np.uint64(0x00000000FFFFFFFF)

Result = TypeVar("Result")
_ROWS = {
    True: re.compile(rb"\d+,[01],[01],[0-9a-fA-F]{1,16},(\d{1,6}),([^,]*)"),
    False: re.compile(rb"[0-9a-fA-F]{1,16},(\d{1,6}),([^,]*)"),
}
_FEATURE = re.compile(rb"[0-9_]+\x02(\d{1,10})\x03[-+0-9.eE]+")


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
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield (click uint8 [n], conversion uint8 [n], values int32 [n, fields], index uint64 [n]) in file order.

    A field may stand in the row or in its common features (which were read with the same ``fields``); the row's goes
    first.
    """
    keys, common_values = common

    def parse(text: np.ndarray) -> tuple[np.ndarray, ...]:
        click, conversion, key, own = _parse_skeleton(text, fields)
        place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        lost = keys[place] != key
        if lost.any():
            raise DataError(f"{path}: common_feature_index {key[lost][0]:016x} is not in {common_path}.")
        return click, conversion, np.where(own != 0, own, common_values[place]), key

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
                listed = match[2].split(b"\x01") if match[2] else []
                if len(listed) != int(match[1]):
                    yield line, "feature_num", f"{int(match[1])} features are said and {len(listed)} are listed"
                    continue
                for feature in listed:
                    found = _FEATURE.fullmatch(feature)
                    if found is None or int(found[1]) > _LARGEST:
                        wrong = "is no field, id, value" if found is None else "has an id beyond int32"
                        yield line, "feature_list", f"{feature.decode('utf-8', 'replace')[:40]!r} {wrong}"
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
    said = _small(text, commas[:, 3] + 1, commas[:, 4])
    return click, conversion, key, _features(text, ends, fields, said)


def _parse_common(text: np.ndarray, fields: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    ends = np.flatnonzero(text == 10)
    commas = _commas(text, ends, 2)
    starts = np.concatenate([[0], ends[:-1] + 1])
    said = _small(text, commas[:, 0] + 1, commas[:, 1])
    return _hexadecimal(text, starts, commas[:, 0]), _features(text, ends, fields, said)


def _commas(text: np.ndarray, ends: np.ndarray, per_row: int) -> np.ndarray:
    """Positions [rows, per_row] of the commas, which must be as many in each row."""
    commas: np.ndarray = np.flatnonzero(text == 44)
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
    place = np.arange(int(length.max()))
    digits = _HEX[text[np.maximum(end[:, None] - 1 - place, start[:, None])]]
    if (digits == 255).any():
        raise _Bad("common_feature_index is no hexadecimal number")
    digits *= place < length[:, None]  # a shorter number's first digit stood in for what is before it
    for k in place.tolist():
        key |= digits[:, k].astype(np.uint64) << np.uint64(4 * k)
    return key


def _small(text: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """int64 of the one to six digits in text[start:end], row by row."""
    length = end - start
    if len(length) == 0 or length.min() < 1 or length.max() > 6:
        raise _Bad("feature_num is no number")
    value = np.zeros(len(start), np.int64)
    for k in range(int(length.max())):
        inside = k < length
        digit = text[np.where(inside, start + k, start)] - 48  # uint8: anything below "0" wraps above 9
        if digit.max() > 9:
            raise _Bad("feature_num is no number")
        value = np.where(inside, 10 * value + digit, value)
    return value


def _features(text: np.ndarray, ends: np.ndarray, fields: Sequence[str], said: np.ndarray) -> np.ndarray:
    """int32 [rows, fields]: each wanted field's id (its last one if it repeats), 0 where absent.

    ``said`` [rows] is how many features each row has by its own word.
    """
    seconds, thirds = np.flatnonzero(text == 2), np.flatnonzero(text == 3)
    if len(seconds) != len(thirds) or (seconds > thirds).any() or (seconds[1:] < thirds[:-1]).any():
        raise _Bad("a feature is not field, id, value")
    until = np.searchsorted(seconds, ends)
    if (np.diff(until, prepend=0) != said).any():
        raise _Bad("a row has more or fewer features than it says")
    there = np.flatnonzero(until)
    if (thirds[until[there] - 1] > ends[there]).any():
        raise _Bad("a feature goes over the end of its row")
    if len(seconds) and seconds[0] < 4:
        raise _Bad("a feature list begins without a field")
    # a wanted field has three digits and stands behind a separator: "109_14" and "1216" must not pass for "121"
    word = _words(text, np.uint32)[seconds - 4]
    column, before = _columns(tuple(fields))[word >> 8], word & 255
    wanted = np.flatnonzero((column >= 0) & ((before == 1) | (before == 44)))
    row = np.repeat(np.arange(len(ends), dtype=np.int32), np.diff(until, prepend=0))[wanted]
    out = np.zeros((len(fields), len(ends)), np.int32)  # a field's ids side by side: they leave as columns
    out[column[wanted], row] = _decimal(text, seconds[wanted] + 1, thirds[wanted])
    return out.T


@functools.cache
def _columns(fields: tuple[str, ...]) -> np.ndarray:
    """int8 [2^24]: the place of a field among ``fields``, by its three digits as a little-endian number; else -1."""
    places = np.full(1 << 24, -1, np.int8)
    for place, field in enumerate(fields):
        places[int.from_bytes(field.encode("ascii"), "little")] = place
    return places


def _words(text: np.ndarray, kind: type) -> np.ndarray:
    """The little-endian number that begins at each byte of ``text``, as a view."""
    size = np.dtype(kind).itemsize
    return np.ndarray((max(len(text) - size + 1, 0),), np.dtype(kind).newbyteorder("<"), text.data, strides=(1,))


def _decimal(text: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """int64 of the digits in text[start:end], feature by feature: eight at a time, all in one word."""
    length = end - start
    if len(length) == 0:
        return np.zeros(0, np.int64)
    if length.min() < 1 or length.max() > 10:
        raise _Bad("a feature id has no or more than ten digits")
    if end[0] < 8:
        raise _Bad("a feature list begins without a field")
    word = _words(text, np.uint64)[end - 8] ^ _ZEROS  # the last digit is the highest byte
    before = (8 * np.maximum(8 - length, 0)).astype(np.uint64)
    word = word >> before << before  # what stands before a shorter number becomes zeros
    if ((word | (word + _SIXES)) & _HIGH).any():
        raise _Bad("a feature id is no number")
    # neighbours join: eight digits to four pairs, to two fours, to one number
    word = (word * np.uint64(10) + (word >> np.uint64(8))) & _PAIRS
    word = (word * np.uint64(100) + (word >> np.uint64(16))) & _FOURS
    value = ((word * np.uint64(10_000) + (word >> np.uint64(32))) & _EIGHT).astype(np.int64)
    for k in (8, 9):
        longer = np.flatnonzero(length > k)
        if len(longer):
            digit = text[end[longer] - 1 - k] - 48  # uint8: anything below "0" wraps above 9
            if digit.max() > 9:
                raise _Bad("a feature id is no number")
            value[longer] += digit.astype(np.int64) * 10**k
    if value.max() > _LARGEST:
        raise _Bad("a feature id is beyond int32")
    return value
