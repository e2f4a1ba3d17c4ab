"""Rows that are in more than one split: copies of training rows by their inputs, and whole rows with their labels."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa

from benchmark.core.errors import DataError
from datasets_registry.encoding.splits import DROPPED, NAMES

LARGEST_SHARE = 0.05
"""Of a split's rows: where more of them are rows of another split, too, it is said."""
BYTES_AS_NUMBERS = np.uint64(0x9E3779B97F4A7C15)


def hashes(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """uint64 [n] of the rows of blocks [n, columns] (codes or float32 numbers) that stand side by side.

    64 bits: among a hundred million rows a false pair has odds of about one in four thousand.
    """
    out: np.ndarray | None = None
    for block in blocks:
        whole = block.astype(np.float32).view(np.uint32) if block.dtype.kind == "f" else block.astype(np.uint32)
        for column in whole.astype(np.uint64).T:
            out = np.zeros(len(column), np.uint64) if out is None else out
            out = _mixed((out ^ column) + BYTES_AS_NUMBERS)
    return np.zeros(0, np.uint64) if out is None else out


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), a mixer of 64 bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def leave_out(split: np.ndarray, rows: Callable[[], Iterable[np.ndarray]]) -> tuple[np.ndarray, str]:
    """``split`` (uint8 [N]) without the validation and test rows that copy a training row, and a sentence that counts
    them. ``rows()`` yields the hashes of all rows in order, part by part."""
    hashed = np.concatenate([np.zeros(0, np.uint64), *rows()])
    copies = (split != 0) & (split != DROPPED) & np.isin(hashed, hashed[split == 0])
    valid, test = (f"{(copies & (split == n)).sum():,} of {(split == n).sum():,}" for n in (1, 2))
    text = f"{valid} validation rows and {test} test rows have the inputs of a training row and are left out."
    return np.where(copies, np.uint8(DROPPED), split), text


def row_hashes(batches: Iterable[pa.RecordBatch]) -> np.ndarray:
    """uint64 [N]: a hash of each row as it was read, every column of the batches; equal whatever the batches are."""
    found = [np.zeros(0, np.uint64)]
    for batch in batches:
        out = np.zeros(batch.num_rows, np.uint64)
        for column in batch.columns:
            out = _mixed((out ^ _cell_hashes(column)) + BYTES_AS_NUMBERS)
        found.append(out)
    return np.concatenate(found)


def _cell_hashes(column: pa.Array) -> np.ndarray:
    if pa.types.is_floating(column.type) and not column.null_count:
        return np.frombuffer(column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64), np.uint64)
    if pa.types.is_integer(column.type) and not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False), np.int64).view(np.uint64)
    if pa.types.is_nested(column.type):
        return _of_texts(map(repr, column.to_pylist()))
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    table = _of_texts(map(repr, [*coded.dictionary.to_pylist(), None]))
    return table[coded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False).astype(np.int64)]


def _of_texts(texts: Iterable[str]) -> np.ndarray:
    joined = b"".join(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, np.uint64)


def refuse_equal(name: str, sources: Mapping[str, str]) -> None:
    """Raises DataError where the raw files of two splits have the same bytes. ``sources``: checksums by key, and a key
    names its split."""
    for first, second in itertools.combinations(NAMES, 2):
        for key, content in sources.items():
            if first in key and sources.get(key.replace(first, second)) == content:
                raise DataError(_same_content(name, first, second))


def _same_content(name: str, first: str, second: str) -> str:
    long = {"train": "training", "valid": "validation", "test": "test"}
    why = "scores on them would say nothing about other rows" if first == "train" else "epochs would be chosen on it"
    return (
        f"'{name}': the {long[first]} file and the {long[second]} file have the same content; {why}. Give the "
        f"{long[second]} rows their own file."
    )


def shared_rows(name: str, parts: np.ndarray, split: np.ndarray, hashed: np.ndarray) -> list[str]:
    """Sentences on rows that are in two splits, labels and all. Raises DataError where two files hold the same rows.

    ``parts`` (uint8 [N]) is the file that a row came from, ``split`` (uint8 [N]) the split that it fell into and
    ``hashed`` (uint64 [N]) its hash: some 30 bytes a row are needed for a while.
    """
    for first, second in itertools.combinations(range(len(NAMES)), 2):
        one, other = hashed[parts == first], hashed[parts == second]
        if len(one) and len(one) == len(other) and np.array_equal(np.sort(one), np.sort(other)):
            raise DataError(_same_content(name, NAMES[first], NAMES[second]))
    sentences = []
    for first, second in ((0, 1), (0, 2), (1, 2)):
        rows, others = hashed[split == second], hashed[split == first]
        copies = int(np.isin(rows, others).sum())
        if copies > LARGEST_SHARE * len(rows):
            _, counts = np.unique(others, return_counts=True)
            within = counts[counts > 1].sum() / len(others)
            sentences.append(
                f"{copies:,} of {len(rows):,} {NAMES[second]} rows are {NAMES[first]} rows, too, inputs and labels "
                f"alike ({within:.0%} of the {NAMES[first]} rows are there more than once): is a file in two places?"
            )
    return sentences
