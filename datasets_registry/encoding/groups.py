"""Which user (or session) each validation and test row belongs to: ids from 0 in the order of their first rows.

Kept beside the arrays for metrics per user. No model sees them, so they are no part of the data's fingerprint, and an
id means nothing outside its split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datasets_registry.encoding import integrity
from datasets_registry.encoding.vocabulary import to_arrow, to_numpy

COLUMN = "g:group"  # of the staged rows
SPLITS = {1: "valid", 2: "test"}


class Groups:
    """Collects the group ids of the rows of `SPLITS`, eight bytes a row until they are written."""

    def __init__(self) -> None:
        self._ids: dict[int, list[pa.Array]] = {}

    def add(self, code: int, batch: pa.RecordBatch, rows: np.ndarray) -> None:
        """The ids of some ``rows`` (numbers within the staged ``batch``) of a split; nothing where there are none."""
        if code in SPLITS and COLUMN in batch.schema.names:
            self._ids.setdefault(code, []).append(to_arrow(to_numpy(batch[COLUMN])[rows]))

    def write(self, directory: Path) -> dict[str, Any]:
        """Write <split>.group.npy [N], integers as narrow as they can be; sizes and hashes by file name."""
        files = {}
        for code, ids in self._ids.items():
            encoded = pa.chunked_array(ids, pa.int64()).dictionary_encode()
            kind = np.min_scalar_type(max(len(encoded.chunk(0).dictionary) - 1, 0))
            codes = np.concatenate([to_numpy(chunk.indices).astype(kind) for chunk in encoded.chunks])
            name = f"{SPLITS[code]}.group.npy"
            np.save(directory / name, codes)
            files[name] = integrity.of_file(directory / name)
        return files
