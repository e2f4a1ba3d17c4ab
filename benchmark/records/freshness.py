"""Whether records still say what the present code and data say."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import BenchmarkError
from benchmark.records import provenance as environment
from benchmark.records.record import Record
from datasets_registry.fingerprint import data_code
from methods import METHODS, declared


@dataclass(frozen=True)
class _Data:
    """A dataset as it is now: fingerprint of its arrays (None if they are not encoded) and of the code behind them."""

    fingerprint: str | None
    code: str


class Freshness:
    """Whether records still say what the present code and data say. Looks at every dataset once."""

    def __init__(self, data_dir: Path | None = None) -> None:
        self._data_dir = data_dir
        self._data: dict[str, _Data | None] = {}

    def is_stale(self, record: Record) -> bool:
        return self.why_stale(record) is not None

    def why_stale(self, record: Record) -> str | None:
        """What a record's code or data has changed in since, or None. Records without numbers are never stale.

        Nothing is said of a method or dataset that this command does not know, e.g. of a file it was not told of.
        """
        if record.status != "ok" or record.provenance is None:
            return None
        file = _method_file(record.key.method)
        if file is not None and environment.code_fingerprint(file, record.key) != record.provenance.code_fingerprint:
            return "the code has changed since"
        name = record.key.dataset
        if name not in self._data:
            self._data[name] = self._look(name)
        data = self._data[name]
        if data is None:
            return None
        # Where the arrays are at hand their content decides: other code may well have made the same ones.
        if data.fingerprint is not None:
            return None if data.fingerprint == record.provenance.data_fingerprint else "the data has changed since"
        if record.provenance.data_code in (None, data.code):
            return None
        return f"the dataset's code has changed since ('python run_all.py fetch {name}' shows whether its data has)"

    def _look(self, name: str) -> _Data | None:
        from datasets_registry import encoded, find

        try:
            dataset = find(name)
            arrays = encoded(name, data_dir=self._data_dir)
        except BenchmarkError:
            return None
        return _Data(arrays.fingerprint if arrays else None, data_code(dataset))


@functools.cache
def _method_file(name: str) -> str | None:
    """The file of a method, without importing it where its declaration can be read."""
    for info in declared():
        if info.name == name:
            return info.file
    try:
        return METHODS.file(name)
    except BenchmarkError:
        return None
