"""Certificates: evidence that a change of code changed no result.

A record is stale by code when the fingerprint of the code behind it is no longer that of the present code. A renamed
variable does that, too. `benchmark.execution.certify` runs a sample of such records again. Where weights and scores
come out bit for bit, it writes a certificate beside the result tree, and `benchmark.records.freshness` accepts the
records that the certificate covers. A certificate covers one stratum: the finished runs of one dataset, method and arm
(and seed, where asked for) that were made by one version of the code.

The sample is drawn by a hash of both fingerprints, so nobody chooses it: a certificate whose runs are not the ones that
the hash draws from the tree's records is refused. It says what its writer saw; `verify` runs any record again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from benchmark.core.canonical import short_hash
from benchmark.core.files import write_atomically
from benchmark.records.record import Record

CERTIFICATES = "certificates.json"
LARGEST_FILE = 16 << 20


class Stratum(NamedTuple):
    """Runs that one certificate covers: ``seed`` is None where all seeds are one stratum."""

    dataset: str
    method: str
    arm: str
    seed: int | None
    old_code: str
    new_code: str

    @property
    def title(self) -> str:
        seed = "" if self.seed is None else f"/seed {self.seed}"
        return f"{self.dataset}/{self.method}/{self.arm}{seed} (code {self.old_code[:8]} to {self.new_code[:8]})"


class Certificate(BaseModel):
    """``runs``, drawn from a stratum, came out bit for bit by the code ``new_code`` on a machine of ``bits_kind``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    method: str
    arm: str
    seed: int | None = None
    old_code: str
    new_code: str
    bits_kind: str
    runs: tuple[str, ...] = Field(min_length=1)
    date: str
    commit: str | None = None

    @property
    def stratum(self) -> Stratum:
        return Stratum(self.dataset, self.method, self.arm, self.seed, self.old_code, self.new_code)


_Certificates = TypeAdapter(tuple[Certificate, ...])


def members(stratum: Stratum, records: Iterable[Record]) -> list[Record]:
    """The finished runs that belong to a stratum."""
    return [
        record
        for record in records
        if record.status == "ok"
        and record.provenance is not None
        and record.provenance.code_fingerprint == stratum.old_code
        and (record.key.dataset, record.key.method, record.key.arm) == stratum[:3]
        and stratum.seed in (None, record.key.seed)
    ]


def draw(stratum: Stratum, bits_kind: str, records: Iterable[Record], size: int) -> list[Record]:
    """The ``size`` runs of a stratum (all, if it has fewer) that are run again, among those made on machines of
    ``bits_kind``, since other machines promise no equal bits."""
    candidates = [r for r in members(stratum, records) if r.provenance and r.provenance.bits_kind == bits_kind]
    return sorted(candidates, key=lambda r: short_hash([stratum.old_code, stratum.new_code, r.run_id]))[:size]


def accepted(tree: Path, records: Sequence[Record]) -> tuple[dict[str, frozenset[str]], list[str]]:
    """By run id the code fingerprints for which a certificate of the tree speaks, and why others are refused."""
    path = tree / CERTIFICATES
    if not path.exists():
        return {}, []
    try:
        certificates = read(path)
    except ValueError as error:
        return {}, [f"{path}: {error}. 'python run_all.py certify --out {tree}' writes it anew."]
    codes: dict[str, set[str]] = defaultdict(set)
    problems = []
    for certificate in certificates:
        stratum = certificate.stratum
        drawn = draw(stratum, certificate.bits_kind, records, len(certificate.runs))
        if tuple(record.run_id for record in drawn) != certificate.runs:
            problems.append(
                f"{path}: the certificate of {stratum.title} names runs that are not the ones the hash draws from this "
                f"tree's records: refused. 'python run_all.py certify --out {tree}' runs the drawn ones again."
            )
            continue
        for record in members(stratum, records):
            codes[record.run_id].add(stratum.new_code)
    return {run: frozenset(fingerprints) for run, fingerprints in codes.items()}, problems


def read(path: Path) -> tuple[Certificate, ...]:
    """The certificates in a file. Raises ValueError, with what is wrong with it."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size > LARGEST_FILE:
        raise ValueError("no regular file of certificates")
    try:
        return _Certificates.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def add(tree: Path, certificates: Sequence[Certificate]) -> Path:
    """Write certificates beside a tree's others; one for the same stratum is replaced. Returns the file's path."""
    path = tree / CERTIFICATES
    try:
        before = read(path) if path.exists() else ()
    except ValueError:
        before = ()  # a damaged file vouches for nothing
    kept = {certificate.stratum: certificate for certificate in (*before, *certificates)}
    ordered = tuple(kept[stratum] for stratum in sorted(kept, key=str))
    write_atomically(path, _Certificates.dump_json(ordered, indent=1, exclude_none=True).decode() + "\n")
    return path
