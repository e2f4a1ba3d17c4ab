"""What the command line tells about methods, datasets, suites, plans and records, as plain data."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import BenchmarkError, UsageError, visible
from benchmark.records import provenance as environment
from benchmark.records.record import Record, read_records, write_atomically
from benchmark.spec.arms import ARMS
from methods import METHODS, declared

if TYPE_CHECKING:
    from benchmark.planning.plan import Plan
    from benchmark.planning.suite import Suite
    from benchmark.tuning.study import Study

SUITE_FILE = "suite.json"


def titles() -> dict[str, str]:
    """Methods' names and display titles, oldest paper first: the order of the tables' rows."""
    return {info.name: info.title for info in sorted(declared(), key=lambda info: (_year(info.paper), info.name))}


def _year(paper: str) -> int:
    years = re.findall(r"\b(?:19|20)\d\d\b", paper)
    return int(years[0]) if years else 0


def list_methods() -> list[dict[str, Any]]:
    """Name, title, paper, arms and size (see `benchmark.planning.sizes`) of every method; those of files named by the user come
    last."""
    from benchmark.planning.sizes import Size, sizes

    own = {info.name: info for info in declared()}
    infos = [*own.values(), *(METHODS.get(name).info for name in METHODS.loaded() if name not in own)]
    counted = sizes(infos)
    rows = []
    for info in infos:
        size = counted.get(info.name, "-")
        known = isinstance(size, Size)
        rows.append(
            {
                "name": info.name,
                "title": info.title,
                "paper": info.paper,
                "arms": list(info.arms),
                "arms_of_the_harness": [
                    name for name, arm in ARMS.items() if arm.needs and arm.supported_by(info.arms, info.without)
                ],
                "trained": f"{size.trained:,} / {size.joint:,} = {size.share * 100:.1f} %" if known else size,
                "trained_parameters": size.trained if known else None,
                "joint_parameters": size.joint if known else None,
            }
        )
    return rows


def list_datasets(data_dir: Path | None) -> list[dict[str, Any]]:
    """Name, tasks, size, licence and availability of every dataset."""
    from datasets_registry import DATASETS, availability

    rows = []
    for name in DATASETS:
        dataset = DATASETS.get(name)
        rows.append(
            {
                "name": name,
                "title": dataset.title,
                "old tasks": list(dataset.old_tasks),
                "new task": list(dataset.new_tasks),
                "size": dataset.size,
                "licence": dataset.licence,
                "data": availability(name, data_dir)[1],
            }
        )
    rows += [{"name": name, "title": f"unavailable: {reason}"} for name, reason in DATASETS.broken.items()]
    return rows


def list_suites() -> list[dict[str, Any]]:
    """Name, title, datasets, methods, arms and seeds of every suite."""
    from benchmark.planning.suite import load_suite, suite_names

    suites = [load_suite(name) for name in suite_names()]
    return [
        {
            "name": suite.name,
            "title": suite.title,
            "datasets": list(suite.datasets),
            "methods": [*suite.methods, *suite.variants],
            "arms": list(suite.arms),
            "seeds": len(suite.seeds),
        }
        for suite in suites
    ]


def describe_plan(plan: Plan, data: Mapping[str, str], data_dir: Path | None, jobs: int) -> dict[str, Any]:
    """A plan as plain data: one row per run, the data's state, the skips, and totals with rough time and memory."""
    from benchmark.cli.progress import duration
    from benchmark.planning.estimate import estimate
    from benchmark.training.trainer import Budget

    estimates = {run.id: estimate(run, data_dir) for run in plan.runs}

    runs = [
        {
            "run": run.id,
            "dataset": run.key.dataset,
            "method": run.key.method,
            "arm": run.key.arm,
            "tasks": ",".join(run.key.tasks),
            "seed": run.key.seed,
            "epochs": Budget.of(run.key.budget, run.parent is not None).epochs,
            "reference": run.reference,
            "seconds": round(found.seconds) if (found := estimates[run.id]) else None,
            "MiB": found.memory_bytes >> 20 if found else None,
        }
        for run in plan.runs
    ]
    known = [found for found in estimates.values() if found is not None]
    if len(known) == len(runs) and known:
        cost = f"Roughly {duration(sum(e.seconds for e in known) / jobs)} with {jobs} at once"
        cost += f", {jobs * max(e.memory_bytes for e in known) >> 20:,} MiB."
    else:
        cost = "Time and memory can be estimated once the data is at hand: 'python run_all.py fetch DATASET'."
    references = sum(run.reference for run in plan.runs)
    return {
        "suite": plan.suite.name,
        "runs": runs,
        "data": dict(data),
        "skips": [vars(skip) for skip in plan.skips],
        "total": f"{len(runs)} runs, {references} of them references that the tables need, {len(plan.skips)} skips. "
        + cost,
    }


def describe_studies(found: Sequence[Study], data_dir: Path | None, jobs: int) -> str:
    """What a search would do: its spaces, its runs and roughly its time."""
    from tabulate import tabulate

    from benchmark.cli.progress import duration
    from benchmark.planning.estimate import estimate

    rows = [
        {
            "dataset": study.dataset,
            "method": study.method,
            "arms": ", ".join(study.arms),
            "runs": study.budgeted * len(study.default_runs),
            "searched": ", ".join(study.space.dimensions),
        }
        for study in found
    ]
    total = f"{sum(row['runs'] for row in rows)} runs for {sum(study.budgeted for study in found)} trials."
    known = [(study, estimate(run, data_dir)) for study in found for run in study.default_runs]
    if known and all(cost is not None for _, cost in known):
        seconds = sum(study.budgeted * cost.seconds for study, cost in known if cost is not None)
        total += f" Roughly {duration(seconds / jobs)} with {jobs} at once."
    return f"{tabulate(rows, headers='keys')}\n{total}"


def describe_search(found: Sequence[Study]) -> str:
    """What a search found, one line for each study."""
    from tabulate import tabulate

    def score(value: float | None) -> str:
        return "-" if value is None else f"{value:.5f}"

    rows = [
        {
            "dataset": study.dataset,
            "method": study.method,
            "trials": f"{len(study.trials)} of {study.budgeted}",
            "failed": study.failed,
            "default": score(study.trials[0].score if study.trials else None),
            "best": score(study.best.score if study.best else None),
            "best values": _changes(study),
        }
        for study in found
    ]
    return f"Mean validation AUC of the kept epochs:\n{tabulate(rows, headers='keys', disable_numparse=True)}"


def _changes(study: Study) -> str:
    if study.best is None:
        return study.trials[0].reason or "" if study.trials else ""
    return ", ".join(f"{name}={value}" for name, value in study.best.values.items()) or "the default"


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
        return _Data(arrays.fingerprint if arrays else None, environment.data_code(dataset))


def remember_suite(out: Path, suite: Suite) -> None:
    """Keep the suite beside its results: its margin belongs to every later rebuild of the tables."""
    write_atomically(out / SUITE_FILE, suite.model_dump_json(indent=1) + "\n")


def report_options(out: Path, data_dir: Path | None = None) -> dict[str, Any]:
    """What a rebuild of a result tree's tables is given beside its records: stale run ids and the suite's margin."""
    is_stale = Freshness(data_dir).is_stale
    options: dict[str, Any] = {"stale": [r.run_id for r in read_records(out)[0] if is_stale(r)]}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a tree made by hand has the default margin
        options["margin"] = float(json.loads((out / SUITE_FILE).read_text())["margin"])
    return options


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


def status_of(out: Path, data_dir: Path | None = None) -> dict[str, Any]:
    """Counts by status, failures with reasons, stale and damaged records of a result tree."""
    records, damaged = read_records(out)
    why_stale = Freshness(data_dir).why_stale
    return {
        "total": len(records),
        "by_status": dict(Counter(record.status for record in records)),
        "failures": [
            visible(f"{record.run_id} {_label(record)} {record.status}: {record.reason}")
            for record in records
            if record.status != "ok"
        ],
        "stale": [f"{r.run_id} {_label(r)}: {why}" for r in records if (why := why_stale(r)) is not None],
        "damaged": damaged,
    }


def find_record(out: Path, run_id: str) -> Record:
    """The record whose run id starts with ``run_id``. Raises UsageError when there is none or more than one."""
    records, _ = read_records(out)
    found = [record for record in records if record.run_id.startswith(run_id)]
    if len(found) != 1:
        ids = ", ".join(record.run_id for record in found[:5])
        problem = f"fits {len(found)} runs: {ids}" if found else "fits no run"
        raise UsageError(f"'{run_id}' {problem} under {out}. 'python run_all.py status --json --out {out}' lists them.")
    return found[0]


def describe_record(record: Record) -> str:
    """A record for reading."""
    lines = [f"{record.run_id}  {_label(record)}  {record.status}" + (f": {record.reason}" if record.reason else "")]
    for task, scores in record.scores.items():
        values = "  ".join(f"{n} {'-' if v is None else f'{v:.5f}'}" for n, v in scores.metrics.items())
        lines.append(f"  {task:<14} n {scores.n:,}  positives {scores.positives}  {values}")
    if record.selection:
        kept = record.selection
        lines.append(f"  kept epoch {kept.epoch} of {kept.epochs_run} ({kept.rule}: {kept.score})")
    if record.params:
        lines.append(
            f"  parameters {record.params.total:,}, trained {record.params.trainable:,}, "
            f"reserved rows {record.params.reserved:,}  {record.params.by_role}"
        )
    if record.flops:
        lines.append(f"  FLOPs per row: {record.flops.model_dump(exclude_none=True)}")
    if record.seconds:
        lines.append("  seconds: " + ", ".join(f"{k} {v:.2f}" for k, v in record.seconds.model_dump().items()))
    if record.rows_per_second and record.peak_memory_bytes:
        lines.append(f"  {record.rows_per_second:,.0f} rows/s, peak memory {record.peak_memory_bytes / 2**20:,.0f} MiB")
    if record.invariants:
        lines.append(f"  invariants: {record.invariants}")
    lines += [f"  warning: {warning}" for warning in record.warnings]
    if record.provenance:
        origin = record.provenance
        lines += [f"  {origin.machine}, {origin.threads} thread(s), commit {origin.commit}", f"  {origin.command}"]
    lines += [f"  | {line}" for line in record.log_tail]
    return visible("\n".join(lines))


def _label(record: Record) -> str:
    key = record.key
    return f"{key.dataset}/{key.method}/{key.arm}[{','.join(key.tasks)}]/seed {key.seed}"
