"""What the command line tells about a result tree: its suite, its progress, one record."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UsageError, visible
from benchmark.core.files import read_regular, write_atomically
from benchmark.records.certificates import CERTIFICATES, accepted
from benchmark.records.freshness import Freshness
from benchmark.records.record import Record
from benchmark.records.tree import read_records

if TYPE_CHECKING:
    from benchmark.planning.plan import Plan, Skip
    from benchmark.planning.suite import Suite


SUITE_FILE = "suite.json"
SKIPS_FILE = "skips.json"
PLAN_FILE = "plan.json"


def check_track(out: Path, suite: Suite) -> None:
    """One result tree holds one track. Raises UsageError if ``out`` has results of the other."""
    before = _json(out / SUITE_FILE)
    there = before.get("track", "published") if isinstance(before, dict) else suite.track
    if there != suite.track:
        raise UsageError(
            f"{out} holds results of the track '{there}', and this suite is of the track '{suite.track}': configs as "
            "published and configs that were searched for are never mixed in one table. Name another --out."
        )


def remember_suite(out: Path, suite: Suite, skips: Sequence[Skip] = ()) -> None:
    """Keep the suite beside its results, since its margin belongs to every later rebuild of the tables, and what was
    not planned with its reasons, for the report."""
    check_track(out, suite)
    write_atomically(out / SUITE_FILE, suite.model_dump_json(indent=1) + "\n")
    rows = [dataclasses.astuple(skip) for skip in skips]
    if rows or (out / SKIPS_FILE).exists():
        write_atomically(out / SKIPS_FILE, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def other_suite(out: Path, suite: Suite) -> str | None:
    """A sentence if the results so far are another suite's: one tree has one margin, and one set of tables."""
    before = _json(out / SUITE_FILE)
    name = before.get("name") if isinstance(before, dict) else None
    if name in (None, suite.name):
        return None
    return (
        f"{out} has results of the suite '{visible(str(name))}'. Its tables will be those of all runs together, "
        f"with the margin of '{suite.name}'; --out DIR keeps the two apart."
    )


def remember_plan(out: Path, plan: Plan) -> None:
    """Keep what a command is about to run, so that `status` can say what is left after whatever happened."""
    runs = [[run.id, run.label] for run in plan.runs]
    write_atomically(out / PLAN_FILE, json.dumps({"suite": plan.suite.name, "runs": runs}, ensure_ascii=False) + "\n")


def left_of_plan(out: Path, done: Collection[str]) -> dict[str, Any] | None:
    """Of the last command that ran here: its suite, how many runs it planned, and the labels of those that are not in
    ``done``. None where nobody kept it."""
    plan = _json(out / PLAN_FILE)
    try:
        runs = [(str(identity), str(label)) for identity, label in plan["runs"]]
        left = [visible(label) for identity, label in runs if identity not in done]
        return {"suite": visible(str(plan["suite"])), "runs": len(runs), "left": left}
    except (KeyError, TypeError, ValueError):
        return None


def _json(path: Path) -> Any:
    """The content of a file that this program wrote, or None: files of foreign trees may hold anything."""
    try:
        return json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None


def _check_margin(out: Path, margin: Any) -> None:
    """Raises UsageError for a margin that is no number between 0 and 1, nor a table of such."""
    for value in margin.values() if isinstance(margin, dict) else (margin,):
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1
        if value is not None and not good:
            raise UsageError(
                f"{out / SUITE_FILE}: a margin lies between 0 and 1, not {str(value)[:40]}. Correct it, or remove the "
                "file for the default."
            )


def report_options(out: Path, data_dir: Path | None = None) -> dict[str, Any]:
    """What a rebuild of a result tree's tables is given beside its records: why runs are stale, by their ids, what the
    configs of their methods are where nobody sets anything, and the suite's margins, claims, search and variants."""
    records = read_records(out)[0]
    current = freshness(out, records, data_dir)
    options: dict[str, Any] = {
        "stale": {r.run_id: why for r in records if (why := current.why_stale(r)) is not None},
        "own_configs": own_configs(records),
    }
    stated = _json(out / SUITE_FILE)
    if isinstance(stated, dict):  # a tree made by hand has the default ones
        _check_margin(out, stated.get("margin"))
        named = (("margin", "margin"), ("claims", "claim"), ("search", "search"), ("arm_search", "arm_search"))
        options |= {name: stated[key] for name, key in named if stated.get(key)}
        # Trees from before the guard keep their verdicts: docs/corrections.md says which of them do not hold.
        options["guarded"] = "search_budget" in stated
        variants = stated.get("variants")
        if isinstance(variants, dict):  # a foreign tree's file may hold anything
            options["variants"] = {name: values for name, values in variants.items() if isinstance(values, dict)}
    return options


def own_configs(records: Sequence[Record]) -> dict[tuple[str, str], dict[str, object]]:
    """By dataset and method of the records the method's own config there, of those that are known here."""
    from benchmark.planning.plan import own_config

    pairs = dict.fromkeys((record.key.dataset, record.key.method) for record in records)
    found = {(dataset, method): own_config(method, dataset) for dataset, method in pairs}
    return {pair: config for pair, config in found.items() if config is not None}


def freshness(out: Path, records: Sequence[Record] | None = None, data_dir: Path | None = None) -> Freshness:
    """What tells whether records of a tree are stale, with the tree's certificates. ``records``: all of the tree, where
    they have been read."""
    if records is None:
        records = read_records(out)[0] if (out / CERTIFICATES).exists() else ()
    return Freshness(data_dir, accepted(out, records)[0])


def status_of(out: Path, data_dir: Path | None = None) -> dict[str, Any]:
    """Counts by status, failures with reasons, stale and damaged records of a result tree."""
    records, damaged = read_records(out)
    current = freshness(out, records, data_dir)
    stale = [(record, why) for record in records if (why := current.why_stale(record)) is not None]
    by_reason: dict[str, list[str]] = {}
    for record, why in stale:
        by_reason.setdefault(why, []).append(record.run_id)
    return {
        "total": len(records),
        "plan": left_of_plan(out, {record.run_id for record in records if record.status == "ok"}),
        "by_status": dict(Counter(record.status for record in records)),
        "failures": [
            visible(f"{record.run_id} {label(record)} {record.status}: {record.reason}")
            for record in records
            if record.status != "ok"
        ],
        "stale": [f"{record.run_id} {label(record)}: {why}" for record, why in stale],
        "stale_by_reason": by_reason,
        "certified": [record.run_id for record in records if current.is_certified(record)],
        "refused_certificates": accepted(out, records)[1],
        "damaged": damaged,
    }


def find_record(out: Path, run_id: str) -> Record:
    """The record whose run id starts with ``run_id``. Raises UsageError when there is none or more than one, and for a
    damaged one with what is wrong with it."""
    records, problems = read_records(out)
    found = [record for record in records if record.run_id.startswith(run_id)]
    damaged = [problem for problem in problems if f"/{run_id}" in problem]
    if not found and damaged:
        raise UsageError(f"{damaged[0]}. The command that ran it sets it aside and does it again.")
    if len(found) != 1:
        ids = ", ".join(record.run_id for record in found[:5])
        problem = f"fits {len(found)} runs: {ids}" if found else "fits no run"
        raise UsageError(f"'{run_id}' {problem} under {out}. 'python run_all.py status --json --out {out}' lists them.")
    return found[0]


def describe_record(record: Record) -> str:
    """A record for reading."""
    lines = [f"{record.run_id}  {label(record)}  {record.status}" + (f": {record.reason}" if record.reason else "")]
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
    lines += [f"  {name}: {_spoken(value)}" for name, value in record.diagnostics.items()]
    lines += [f"  warning: {warning}" for warning in record.warnings]
    if record.provenance:
        origin = record.provenance
        lines.append(f"  {origin.machine}, {origin.threads} thread(s), commit {origin.commit}")
        lines.append(f"  bits compare with: {origin.bits_kind or 'unknown, written before kinds were kept'}")
        lines.append(f"  times compare with: {origin.times_kind or 'unknown, written before kinds were kept'}")
        lines.append(f"  {origin.command}")
    lines += [f"  | {line}" for line in record.log_tail]
    return visible("\n".join(lines))


def _spoken(value: Any) -> str:
    """A diagnostic for reading: numbers to four digits, tables as name value pairs."""
    if isinstance(value, dict):
        return "; ".join(f"{name} {_spoken(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(_spoken(part) for part in value) + "]"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def label(record: Record) -> str:
    key = record.key
    return f"{key.dataset}/{key.method}/{key.arm}[{','.join(key.tasks)}]/seed {key.seed}"
