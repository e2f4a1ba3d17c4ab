"""Vocabularies and scalers, collected chunk by chunk from training rows; the result does not depend on the chunks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmark.core.errors import DataError
from datasets_registry.base import Feature

DENSE_COUNTS = 1 << 23  # while a feature's integers span no more, they are counted in one array: faster than sorting
DENSE = 1 << 26  # integer values within so wide a range are looked up in a table instead of searched


@dataclass
class Vocabulary:
    """Values of one categorical feature in sorted order, with the codes that they get.

    ``values`` is a sorted int64 or string array; value i has code ``first + i``. Strings sort by code point.
    """

    feature: Feature
    values: np.ndarray | None = None
    counts: np.ndarray | None = None
    rare: int = 0
    _texts: dict[str, int] = field(default_factory=dict)
    _table: np.ndarray | None = None
    _dense: tuple[int, np.ndarray] | None = None

    def count(self, column: Any, chosen: np.ndarray) -> None:
        """Add the values of the rows where ``chosen`` (bool [n]) is true; list columns count each element."""
        array = _flat(column, chosen)
        if pa.types.is_dictionary(array.type):
            valid = array.indices.drop_null()
            per_code = np.bincount(to_numpy(valid), minlength=len(array.dictionary))
            for text, n in zip(array.dictionary.to_pylist(), per_code.tolist(), strict=True):
                if n:
                    self._texts[text] = self._texts.get(text, 0) + n
            return
        if pa.types.is_string(array.type):
            return self.count(array.dictionary_encode(), np.ones(len(array), bool))
        numbers = to_numpy(array.drop_null())
        if self.feature.reserved == 0:
            numbers = numbers[numbers != 0]
        if len(numbers):
            self._count_integers(numbers)

    def _count_integers(self, numbers: np.ndarray) -> None:
        low, high = int(numbers.min()), int(numbers.max())
        if self._dense is not None or (self.values is None and high - low < DENSE_COUNTS):
            start, counts = self._dense or (low, np.zeros(0, np.int64))
            first, last = min(start, low), max(start + len(counts), high + 1)
            if last - first <= DENSE_COUNTS:
                if (first, last) != (start, start + len(counts)):
                    grown = np.zeros(last - first, np.int64)
                    grown[start - first : start - first + len(counts)] = counts
                    start, counts = first, grown
                counts[low - start : high + 1 - start] += np.bincount(numbers - low)
                self._dense = (start, counts)
                return
            self._undense()
        values, tally = np.unique(numbers, return_counts=True)
        values = values.astype(np.int64)
        if self.values is not None and self.counts is not None:
            values, inverse = np.unique(np.concatenate([self.values, values]), return_inverse=True)
            tally = np.bincount(inverse, np.concatenate([self.counts, tally]), len(values)).astype(np.int64)
        self.values, self.counts = values, tally

    def _undense(self) -> None:
        if self._dense is not None:
            start, counts = self._dense
            places = np.flatnonzero(counts)
            self.values, self.counts, self._dense = places + start, counts[places], None

    def freeze(self) -> None:
        """End of counting: drop rare values and make the look-up."""
        self._undense()
        if self._texts:
            if self.values is not None:
                raise DataError(f"feature '{self.feature.name}': some chunks hold text, others integers.")
            texts = sorted(self._texts)
            self.values = np.array(texts, dtype=object)
            self.counts = np.array([self._texts[text] for text in texts], np.int64)
        if self.values is None or self.counts is None:
            self.values, self.counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        kept = self.counts >= self.feature.min_count
        self.rare = int((~kept).sum())
        self.values, self.counts = self.values[kept], self.counts[kept]
        if self.size > np.iinfo(np.int32).max:
            raise DataError(f"feature '{self.feature.name}': {self.size:,} values do not fit into int32.")
        if self.values.dtype == object:
            self._texts = {text: code for code, text in enumerate(self.values.tolist(), self.first)}
        elif len(self.values) and int(self.values[-1]) - int(self.values[0]) < max(DENSE, 4 * len(self.values)):
            span = int(self.values[-1]) - int(self.values[0])
            self._table = np.full(span + 1, self.unseen, np.int32)
            self._table[self.values - self.values[0]] = np.arange(len(self.values)) + self.first

    @property
    def first(self) -> int:
        """Code of the first value."""
        return max(self.feature.reserved, 1)

    @property
    def rarest(self) -> tuple[int, Any]:
        """(code, value) of the value with the fewest training rows, the smallest of equals; (-1, None) if none."""
        assert self.values is not None and self.counts is not None
        if not len(self.values):
            return -1, None
        place = int(np.argmin(self.counts))
        return self.first + place, self.values[place].item() if self.values.dtype != object else self.values[place]

    @property
    def size(self) -> int:
        """Codes in use, reserved ones included."""
        assert self.values is not None
        return len(self.values) + self.first

    @property
    def unseen(self) -> int:
        """Code of a rare or unseen value."""
        return self.first - 1

    def encode(self, column: Any) -> np.ndarray:
        """int32 [n, length]; code 0 for missing values and for padding."""
        array = _flat(column, None)
        if self.feature.length > 1 or pa.types.is_list(array.type):
            return self._encode_lists(array)
        return self._encode(array)[:, None]

    def _encode_lists(self, array: pa.ListArray) -> np.ndarray:
        flat = self._encode(array.values)
        index, inside = places(array, self.feature.length, self.feature.keep)
        return np.where(inside, flat[index] if len(flat) else 0, 0).astype(np.int32)

    def encode_sequence(self, column: Any, feature: Feature) -> np.ndarray:
        """int32 [n, feature.length]: codes of a list column, ``size`` where a cell has no value.

        The end that is kept is fixed: with "last" the newest value is in the last column.
        """
        array = _flat(column, None)
        text = not pa.types.is_integer(array.type.value_type)
        assert self.values is not None
        if len(array.values) and len(self.values) and text != (self.values.dtype == object):
            raise DataError(
                f"sequence '{feature.name}' holds {'text' if text else 'integers'} and feature '{self.feature.name}', "
                "whose vocabulary it shares, does not; read both as the same type."
            )
        flat = self._encode(array.values)
        index, inside = places(array, feature.length, feature.keep, aligned=True)
        return np.where(inside, flat[index] if len(flat) else 0, np.int32(self.size))

    def _encode(self, array: pa.Array) -> np.ndarray:
        if pa.types.is_string(array.type):
            array = array.dictionary_encode()
        missing = _mask(array.is_null()) if array.null_count else None
        assert self.values is not None
        if pa.types.is_dictionary(array.type):
            table = np.array(
                [self._texts.get(text, self.unseen) for text in array.dictionary.to_pylist()] or [0], np.int32
            )
            indices = array.indices.fill_null(0) if array.null_count else array.indices
            codes = table[to_numpy(indices)]
        else:
            filled = array.fill_null(0) if array.null_count else array
            codes = self._codes(to_numpy(filled))
        if missing is not None:
            codes[missing] = 0
        return codes

    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        assert self.values is not None
        if not len(self.values):
            return np.full(len(numbers), self.unseen, np.int32)
        if self._table is not None:
            low, high = int(numbers.min(initial=self.values[0])), int(numbers.max(initial=self.values[0]))
            if low >= self.values[0] and high <= self.values[-1]:
                return self._table[numbers - self.values[0]]
            outside = (numbers < self.values[0]) | (numbers > self.values[-1])
            codes = self._table[np.where(outside, 0, numbers - self.values[0])]
            codes[outside] = self.unseen
            return codes
        place = np.minimum(np.searchsorted(self.values, numbers), len(self.values) - 1)
        found = self.values[place] == numbers
        return np.where(found, place + self.first, self.unseen).astype(np.int32)


def places(array: pa.ListArray, length: int, keep: str, aligned: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Where the kept values of each cell lie among ``array.values``: index [n, length] and whether there is one.

    The first or the last ``length`` values are kept; ``aligned`` puts the last one into the last column, else values
    begin in the first column.
    """
    starts = to_numpy(array.offsets)
    lengths = np.where(_mask(array.is_valid()), np.diff(starts), 0)
    taken = np.minimum(lengths, length)
    first = starts[:-1] + (lengths - taken if keep == "last" else 0)
    column = np.arange(length) - ((length - taken)[:, None] if aligned and keep == "last" else 0)
    inside = (column >= 0) & (column < taken[:, None])
    return np.where(inside, first[:, None] + column, 0), inside


def cells(column: Any, length: int) -> tuple[int, int]:
    """(cells of a list column with more than ``length`` values, cells with any)."""
    array = _flat(column, None)
    lengths = np.where(_mask(array.is_valid()), np.diff(to_numpy(array.offsets)), 0)
    return int((lengths > length).sum()), int((lengths > 0).sum())


SIZES = 2200
"""Powers of two that a float64 can have, and some more."""
USUAL, FAR = 0.99, 20
"""Nearly all values of a column; a factor of 2**20 takes all but three bits of a float32's 24."""


@dataclass
class Scaler:
    """Range of one numeric feature over training rows; missing values do not count."""

    feature: Feature
    n: int = 0
    low: float = np.inf
    high: float = -np.inf
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(SIZES, np.int64))
    """How many values are of which power of two in size; zeros are left out."""

    def count(self, column: Any, chosen: np.ndarray) -> None:
        """Add the values of the rows where ``chosen`` (bool [n]) is true."""
        values = self._values(column)[chosen]
        values = values[~np.isnan(values)]
        if not len(values):
            return
        self.n += len(values)
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.sizes += np.bincount(np.frexp(values[values != 0])[1] + SIZES // 2, minlength=SIZES)

    def squeezed(self) -> str | None:
        """A sentence where few cells are so large that min-max leaves all others next to one number."""
        below = np.cumsum(self.sizes)
        if self.feature.scale != "minmax" or not below[-1]:
            return None
        largest, usual = np.flatnonzero(self.sizes)[-1], np.searchsorted(below, USUAL * below[-1])
        if largest - usual < FAR:
            return None
        return (
            f"numeric feature '{self.feature.name}' reaches from {self.low:g} to {self.high:g}, and {USUAL:.0%} of its "
            f"values are below {2.0 ** (usual - SIZES // 2):.0g} in size: scaled to 0..1 they are all but one number. "
            "Mend the extreme cells."
        )

    def encode(self, column: Any) -> np.ndarray:
        """float32 [n]; missing values are 0. Values outside the training range are not clipped."""
        values = self._values(column)
        if self.feature.scale == "minmax":
            width = self.high - self.low
            with np.errstate(over="ignore", invalid="ignore"):  # a range no float64 holds; `squeezed` says so
                values = (values - self.low) / width if self.n and width > 0 else np.zeros_like(values)
        return np.nan_to_num(values.astype(np.float32), nan=0.0)

    def _values(self, column: Any) -> np.ndarray:
        array = column
        if not isinstance(array, np.ndarray):
            array = to_numpy(array.fill_null(float("nan")) if array.null_count else array)
        values = np.asarray(array, np.float64)
        return np.log1p(values) if self.feature.log else values


def _flat(column: Any, chosen: np.ndarray | None) -> pa.Array:
    """The column as one arrow array, only the chosen rows; list columns flattened when rows are chosen."""
    array = to_arrow(column) if isinstance(column, np.ndarray) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if chosen is not None:
        if not chosen.all():
            array = pc.take(array, to_arrow(np.flatnonzero(chosen)))
        if pa.types.is_list(array.type):
            array = array.flatten()
    return array


def to_arrow(array: np.ndarray) -> pa.Array:
    """A numeric numpy array as an arrow array without copying (``pa.array`` would import pandas for it)."""
    array = np.ascontiguousarray(array)
    return pa.Array.from_buffers(pa.from_numpy_dtype(array.dtype), len(array), [None, pa.py_buffer(array)])


def to_numpy(array: pa.Array) -> np.ndarray:
    """A numeric arrow array without nulls as a numpy view (arrow's own ``to_numpy`` would import pandas for it)."""
    if array.null_count:
        raise DataError(f"a column of type {array.type} has {array.null_count:,} missing cells where none may be")
    dtype = array.type.to_pandas_dtype()
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * np.dtype(dtype).itemsize)


def _mask(array: pa.BooleanArray) -> np.ndarray:
    return to_numpy(array.cast(pa.uint8())).astype(bool)
