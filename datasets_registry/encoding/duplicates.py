"""Rows of validation and test whose inputs are, value for value, those of a training row."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from datasets_registry.encoding.splits import DROPPED

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
