"""Tables with one row per user or item that a log's rows look things up in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmark.core.errors import DataError
from datasets_registry.encoding import delimited
from datasets_registry.encoding.vocabulary import to_arrow, to_numpy


class SideTable:
    """A table with one row per key, whole in memory, its columns looked up by the rows of a log."""

    def __init__(self, columns: dict[str, pa.Array], key: str, where: Path) -> None:
        """``columns`` by name, the ``key``'s among them. Raises DataError if a key occurs twice."""
        ids = to_numpy(columns[key])
        self._columns = columns
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        twice = self._ids[1:][self._ids[1:] == self._ids[:-1]]
        if len(twice):
            raise DataError(f"{where}, column {key}: {twice[0]} occurs twice, so its rows cannot be told apart.")

    @classmethod
    def read(cls, path: Path, key: str, layout: delimited.Layout) -> SideTable:
        """From a delimited file."""
        table = pa.Table.from_batches(list(delimited.read(path, layout, 65_536))).unify_dictionaries().combine_chunks()
        return cls({name: table[name].combine_chunks() for name in table.column_names}, key, path)

    def column(self, name: str) -> Any:
        """A column in the table's own order."""
        return self._columns[name]

    def rows(self, keys: pa.Array) -> pa.Array:
        """The table's row of each key, null where it has none."""
        wanted = to_numpy(keys)
        if not len(self._ids):
            return pa.nulls(len(wanted), pa.int64())
        place = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1)
        found = to_arrow(self._order[place])
        absent = self._ids[place] != wanted
        return found if not absent.any() else pc.if_else(pa.array(absent), pa.scalar(None, found.type), found)

    def look_up(self, names: Sequence[str], keys: pa.Array) -> dict[str, pa.Array]:
        """These columns for each key, null where the table does not have it."""
        rows = self.rows(keys)
        return {name: self._columns[name].take(rows) for name in names}
