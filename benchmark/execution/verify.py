"""Runs a recorded run again, from its record alone, and says whether the numbers are the same."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.core.errors import BenchmarkError
from benchmark.execution.executor import Options, execute_plan
from benchmark.execution.watcher import Watcher
from benchmark.planning.plan import Plan, Run
from benchmark.planning.suite import Suite
from benchmark.records.lineage import ancestors
from benchmark.records.record import Record

TOLERANCE = 0.002
"""Largest difference of any test score between machines of different kinds that still counts as the same result."""


@dataclass
class Verdict:
    """``state`` is "equal", "within tolerance" or "different"; ``lines`` say what was compared and where it parts."""

    state: str
    lines: list[str] = field(default_factory=list)


def verify(record: Record, options: Options) -> Verdict:
    """Repeat ``record``'s run (and all that it continues, back to stage 0) in a temporary tree and compare.

    ``options.out`` is ignored. Raises BenchmarkError if there is nothing to compare with or the new run fails.
    """
    if record.status != "ok" or record.provenance is None:
        raise BenchmarkError(f"{record.run_id} ended with status '{record.status}': there are no numbers to verify.")
    line = [*ancestors(record.key), record.key]
    runs = [Run(key, parent) for key, parent in zip(line, [None, *line])]
    suite = Suite(
        name="verify", title="", datasets=(record.key.dataset,), methods=(), threads=record.provenance.threads
    )
    with tempfile.TemporaryDirectory(prefix="mptbench-verify-") as scratch:
        options.out, options.mode, options.jobs = Path(scratch), "fresh", 1
        summary = execute_plan(Plan(suite, runs), options, Watcher(), warn=lambda _: None)
    if summary.interrupted:
        raise KeyboardInterrupt
    again = summary.records[-1]
    if again.status != "ok":
        raise BenchmarkError(f"running it again ended with status '{again.status}': {again.reason}")
    return compare(record, again)


def compare(first: Record, second: Record) -> Verdict:
    """Compare two records of the same run: scores, learning curves and weights; times do not count."""
    assert first.provenance is not None and second.provenance is not None
    differences = {
        (task, name): abs(value - other)
        for task, scores in first.scores.items()
        for name, value in scores.metrics.items()
        if value is not None and task in second.scores and (other := second.scores[task].metrics.get(name)) is not None
    }
    lines = []
    for what in ("machine", "code_fingerprint", "data_fingerprint", "packages", "python", "device"):
        before, now = getattr(first.provenance, what), getattr(second.provenance, what)
        if before != now:
            lines.append(f"{what}: recorded {before}, now {now}")
    same_form = _defined(first) == _defined(second)
    equal_weights = first.weights_fingerprint == second.weights_fingerprint
    if equal_weights and same_form and not any(differences.values()):
        return Verdict("equal", [*lines, "weights and every score are equal bit for bit"])
    parting = _where_curves_part(first, second)
    lines.append(parting or "the learning curves are equal")
    if differences:
        (task, name), largest = max(differences.items(), key=lambda item: item[1])
        lines.append(f"largest difference of a score: {largest:.2e} ({task}, {name}); tolerance {TOLERANCE}")
        same_kind = first.provenance.machine == second.provenance.machine
        if same_form and not same_kind and largest <= TOLERANCE:
            return Verdict("within tolerance", lines)
        if same_kind:
            lines.append("on the same kind of machine the numbers have to be equal bit for bit")
    return Verdict("different", lines)


def _defined(record: Record) -> dict[tuple[str, str], bool]:
    """Which scores a record has, and which of them are numbers."""
    return {
        (task, name): value is not None
        for task, scores in record.scores.items()
        for name, value in scores.metrics.items()
    }


def _where_curves_part(first: Record, second: Record) -> str | None:
    for before, now in zip(first.curve, second.curve):
        for name, value in before.loss.items():
            if now.loss.get(name) != value:
                there = f"the curves part at epoch {before.epoch}"
                return f"{there}: loss '{name}' was {value!r}, now {now.loss.get(name)!r}"
        if before.validation != now.validation:
            return f"the curves part at epoch {before.epoch}: validation scores differ"
    if len(first.curve) != len(second.curve):
        return f"the curves have {len(first.curve)} and {len(second.curve)} epochs"
    return None
