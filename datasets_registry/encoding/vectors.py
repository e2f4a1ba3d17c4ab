"""Embeddings that were made elsewhere: a .npy of vectors, put into the order of a feature's codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmark.core.errors import DataError
from datasets_registry.base import Feature
from datasets_registry.encoding.vocabulary import Vocabulary


def aligned(feature: Feature, vocabulary: Vocabulary) -> tuple[np.ndarray, str]:
    """Vectors float32 [size, d] by code, zeros for values without one, and a sentence about those ("" if all have one).

    ``feature.vectors`` is a .npy of numbers [n, d]. ``feature.vector_ids``, a .npy [n], says whose they are; without it
    row i is the vector of the value i. Raises DataError that names the file.
    """
    path = Path(feature.vectors)
    table = _array(path, "numbers [values, size]", 2)
    if table.dtype.kind not in "fiu" or 0 in table.shape:
        raise DataError(f"{path}: has to hold numbers [values, size], not {table.dtype} {list(table.shape)}.")
    ids = _ids(feature, len(table))
    values = vocabulary.values
    assert values is not None
    text = values.dtype == object
    if len(values) and text != (ids.dtype.kind in "UO"):
        kinds = ("text", "whole numbers") if text else ("whole numbers", "text")
        where = feature.vector_ids or "row numbers (no ids are given)"
        raise DataError(
            f"{path}: the values of '{feature.name}' are {kinds[0]}, and the ids of {where} are {kinds[1]}."
        )
    keys = [str(one) for one in ids] if text else ids.tolist()
    if len(set(keys)) != len(keys):
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise DataError(f"{feature.vector_ids}: the id {twice!r} occurs twice.")
    row_of = {key: row for row, key in enumerate(keys)}
    rows = np.array([row_of.get(value, -1) for value in values.tolist()], np.int64)
    if not (rows >= 0).any():
        some = ", ".join(repr(value) for value in values[:3].tolist())
        raise DataError(f"{path}: no value of '{feature.name}' ({some}, ...) is among the ids ({keys[:3]}, ...).")
    out = np.zeros((vocabulary.size, table.shape[1]), np.float32)
    there = np.flatnonzero(rows >= 0)
    out[vocabulary.first + there] = table[rows[there]]
    if not np.isfinite(out).all():
        code = int(np.flatnonzero(~np.isfinite(out).all(1))[0])
        raise DataError(f"{path}, row {int(rows[code - vocabulary.first])}: a vector is not finite.")
    lacking = len(rows) - len(there)
    share = f"{lacking / len(rows):.1%} of the values ({lacking:,} of {len(rows):,})"
    return out, f"feature '{feature.name}': {share} have no vector and start from zeros." if lacking else ""


def _ids(feature: Feature, n: int) -> np.ndarray:
    if not feature.vector_ids:
        return np.arange(n)
    ids = _array(Path(feature.vector_ids), f"one id for each of the {n:,} vectors", 1)
    if len(ids) != n or ids.dtype.kind not in "iuU":
        raise DataError(
            f"{feature.vector_ids}: has to hold one id (whole number or text) for each of the {n:,} vectors of "
            f"{feature.vectors}, not {ids.dtype} {list(ids.shape)}."
        )
    return ids


def _array(path: Path, what: str, dimensions: int) -> Any:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: no readable .npy file of {what} ({error}).") from error
    if array.ndim != dimensions:
        raise DataError(f"{path}: has to hold {what}, not {list(array.shape)}.")
    return array
