"""The arrays of a split as they are written: narrow records, files that grow row by row, and their hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from datasets_registry.base import Feature
from datasets_registry.encoding import integrity


class Output:
    """The growing files of one split of so many ``rows``, with running hashes of their values and of their bytes."""

    def __init__(self, directory: Path, split: str, rows: int) -> None:
        self.directory, self.split, self.rows = directory, split, rows
        self.files: dict[str, Any] = {}
        self.hashes: dict[str, integrity.Hashes] = {}
        self.digests: dict[str, Any] = {}

    def append(self, kind: str, array: np.ndarray, values: np.ndarray | None = None, label: str = "") -> None:
        """Write some rows. The digest of the values is that of ``values`` (else the array), called ``label``."""
        values = array if values is None else values
        digest = self.digests.setdefault(label or kind, hashlib.blake2b(digest_size=16))
        if values.size:
            digest.update(np.ascontiguousarray(values).data)
        if array.dtype.itemsize == 0 or 0 in array.shape[1:]:
            return  # no column of this kind, so no file
        if kind not in self.files:
            self._begin(kind, array)
        if array.size:
            data = np.ascontiguousarray(array).view(np.uint8).data
            self.files[kind].write(data)
            self.hashes[kind].update(data)

    def _begin(self, kind: str, array: np.ndarray) -> None:
        path = self.directory / f"{self.split}.{kind}.npy"
        shape = (self.rows, *array.shape[1:])
        start = np.lib.format.open_memmap(path, "w+", array.dtype, shape).offset  # writes the header, makes the room
        self.files[kind] = open(path, "r+b")
        self.hashes[kind] = integrity.Hashes()
        self.hashes[kind].update(self.files[kind].read(start))
        self.files[kind].seek(start)

    def close(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Digests of the values and sizes and hashes of the files, by name."""
        for file in self.files.values():
            file.close()
        digests = {f"{self.split}.{kind}": digest.hexdigest() for kind, digest in self.digests.items()}
        return digests, {f"{self.split}.{kind}.npy": hashes.result() for kind, hashes in self.hashes.items()}


def record_type(features: list[Feature], highest: dict[str, int], rows_of_one: bool = False) -> np.dtype:
    """One field per feature, in the narrowest integer that holds its ``highest`` code.

    A feature of length 1 is a plain field, or with ``rows_of_one`` a row of one code.
    """
    kinds = [(255, "<u1"), (65_535, "<u2"), (np.iinfo(np.int32).max, "<i4")]
    fields: list[Any] = []
    for feature in features:
        kind = next(kind for limit, kind in kinds if highest[feature.name] <= limit)
        fields.append(
            (feature.name, kind, (feature.length,)) if feature.length > 1 or rows_of_one else (feature.name, kind)
        )
    return np.dtype(fields)


def narrow(codes: np.ndarray, record: np.dtype) -> np.ndarray:
    """Codes int32 [n, columns] as records [n]."""
    out, column = np.empty(len(codes), record), 0
    for name in record.names or ():
        width = record[name].shape[0] if record[name].shape else 1
        out[name] = codes[:, column] if not record[name].shape else codes[:, column : column + width]
        column += width
    return out
