"""Whether records still say what the present code and data say."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

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
    """Whether records still say what the present code and data say. Looks at every dataset once.

    ``certified``: by run id the code fingerprints for which a certificate speaks (`benchmark.records.certificates`).
    """

    def __init__(
        self, data_dir: Path | None = None, certified: Mapping[str, frozenset[str]] = MappingProxyType({})
    ) -> None:
        self._data_dir = data_dir
        self._certified = certified
        self._data: dict[str, _Data | None] = {}

    def is_stale(self, record: Record) -> bool:
        return self.why_stale(record) is not None

    def why_stale(self, record: Record) -> str | None:
        """What a record's code or data has changed in since, or None. Records without numbers are never stale.

        Nothing is said of a method or dataset that this command does not know, e.g. of a file it was not told of.
        """
        if self.changed_code(record) is not None:
            return "the code has changed since"
        return self.changed_data(record)

    def is_certified(self, record: Record) -> bool:
        """Whether a record by other code counts as current because a certificate covers it."""
        code = _present_code(record)
        made_by = record.provenance.code_fingerprint if record.provenance else None
        return code is not None and code != made_by and code in self._certified.get(record.run_id, ())

    def changed_code(self, record: Record) -> str | None:
        """The fingerprint of the present code if another made the record and no certificate covers it; else None."""
        code = _present_code(record)
        if code is None or record.provenance is None or self.is_certified(record):
            return None
        return None if code == record.provenance.code_fingerprint else code

    def changed_data(self, record: Record) -> str | None:
        """What a record's data has changed in since, or None."""
        if record.status != "ok" or record.provenance is None:
            return None
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


def _present_code(record: Record) -> str | None:
    """The fingerprint of the code that would make a record now; None if it has no numbers or an unknown method."""
    if record.status != "ok" or record.provenance is None:
        return None
    file = _method_file(record.key.method)
    return None if file is None else environment.code_fingerprint(file, record.key)


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
