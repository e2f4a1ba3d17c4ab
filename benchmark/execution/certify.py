"""Runs a drawn sample again to show that a change of code changed no result (`benchmark.records.certificates`)."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from benchmark.core.canonical import short_hash
from benchmark.execution.executor import Options, execute_plan
from benchmark.execution.watcher import Watcher
from benchmark.planning.plan import Plan, Run
from benchmark.planning.suite import Suite
from benchmark.records import certificates, provenance
from benchmark.records.agreement import differences
from benchmark.records.certificates import Certificate, Stratum
from benchmark.records.freshness import Freshness
from benchmark.records.lineage import ancestors
from benchmark.records.record import Record
from datasets_registry.raw.paths import cache_root


@dataclass(frozen=True)
class Sample:
    """The drawn runs of one stratum; empty, with a reason, where none of them can be run again here."""

    stratum: Stratum
    bits_kind: str
    runs: tuple[Record, ...]
    reason: str = ""


@dataclass
class Certification:
    """How it ended. ``departed`` holds, by stratum, what did not come out bit for bit: then nothing is certified."""

    certificates: list[Certificate] = field(default_factory=list)
    departed: dict[Stratum, list[str]] = field(default_factory=dict)
    interrupted: bool = False


def samples(records: Sequence[Record], freshness: Freshness, per_stratum: int, each_seed: bool = False) -> list[Sample]:
    """What has to be run again so that the records that are stale by code alone can be certified, by stratum."""
    strata: dict[Stratum, None] = {}
    for record in records:
        new_code = freshness.changed_code(record)
        if new_code is not None and record.provenance is not None and freshness.changed_data(record) is None:
            key, old_code = record.key, record.provenance.code_fingerprint
            seed = key.seed if each_seed else None
            strata[Stratum(key.dataset, key.method, key.arm, seed, old_code, new_code)] = None
    return [_sample(stratum, records, per_stratum) for stratum in strata]


def _sample(stratum: Stratum, records: Sequence[Record], size: int) -> Sample:
    kinds = {
        record.provenance.bits_kind: record.provenance.threads
        for record in certificates.members(stratum, records)
        if record.provenance is not None and record.provenance.device == "cpu"
    }
    here = [
        kind for kind, threads in kinds.items() if kind is not None and kind == provenance.bits_kind(threads=threads)
    ]
    if not here:
        others = "; ".join(sorted(str(kind) for kind in kinds)) or "a GPU"
        return Sample(stratum, "", (), f"no run of it was made on a machine of this kind (but on: {others})")
    return Sample(stratum, here[0], tuple(certificates.draw(stratum, here[0], records, size)))


def certify(drawn: Sequence[Sample], options: Options, watcher: Watcher, warn: Callable[[str], None]) -> Certification:
    """Run the drawn samples again, each after all that it continues, and compare them with their records.

    Finished runs stay in the cache until all are done, so that a killed command goes on where it was. ``options.out``
    is ignored. Nothing is written beside the tree; see `certificates.add`.
    """
    work = cache_root() / "certify" / short_hash([[*s.stratum, *(r.run_id for r in s.runs)] for s in drawn])
    repeated: dict[str, Record] = {}
    for threads in sorted({r.provenance.threads for s in drawn for r in s.runs if r.provenance}):
        runs = [r for s in drawn for r in s.runs if r.provenance and r.provenance.threads == threads]
        suite = Suite(name="certify", title="", datasets=(), methods=(), threads=threads)
        plan = Plan(suite, _in_order(runs))
        summary = execute_plan(plan, replace(options, out=work, mode="fill"), watcher, warn)
        if summary.interrupted:
            return Certification(interrupted=True)
        repeated |= {record.run_id: record for record in summary.records}
    outcome = Certification()
    for sample in drawn:
        if lines := [line for record in sample.runs for line in _departures(record, repeated.get(record.run_id))]:
            outcome.departed[sample.stratum] = lines
        elif sample.runs:
            outcome.certificates.append(_certificate(sample))
    shutil.rmtree(work, ignore_errors=True)
    if outcome.departed:
        outcome.certificates.clear()
    return outcome


def _in_order(records: Sequence[Record]) -> list[Run]:
    """The runs of ``records`` and all that they continue, each once, parents first."""
    runs: dict[str, Run] = {}
    for record in records:
        line = [*ancestors(record.key), record.key]
        for run in (Run(key, parent) for key, parent in zip(line, [None, *line])):
            runs.setdefault(run.id, run)
    return list(runs.values())


def _departures(recorded: Record, again: Record | None) -> list[str]:
    if again is None or again.status != "ok":
        ended = "without a record" if again is None else f"with status '{again.status}': {again.reason}"
        return [f"{recorded.run_id}: running it again ended {ended}"]
    return [f"{recorded.run_id}: {line}" for line in differences(recorded, again)]


def _certificate(sample: Sample) -> Certificate:
    return Certificate(
        **sample.stratum._asdict(),
        bits_kind=sample.bits_kind,
        runs=tuple(record.run_id for record in sample.runs),
        date=datetime.date.today().isoformat(),
        commit=provenance.commit()[0],
    )


def estimate(drawn: Sequence[Sample], records: Sequence[Record]) -> tuple[int, float]:
    """Runs, and seconds of one core, that the samples take: as long as the records say that each took before."""
    seconds = {record.run_id: record.seconds.total for record in records if record.seconds}
    runs = _in_order([record for sample in drawn for record in sample.runs])
    return len(runs), sum(seconds.get(run.id, 0.0) for run in runs)
