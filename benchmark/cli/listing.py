"""What the command line tells about methods, datasets, suites, plans and records, as plain data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cli import terminal
from benchmark.cli.progress import duration
from benchmark.spec.arms import ARMS
from benchmark.spec.budget import Budget
from methods import METHODS, declared

if TYPE_CHECKING:
    from benchmark.planning.plan import Plan, Skip
    from benchmark.tuning.study import Study


FEW = 4
"""So many names are spelt out in a line about skips; more are counted."""


def titles() -> dict[str, str]:
    """Methods' names and display titles, oldest paper first: the order of the tables' rows. Methods of files that the
    command line named come last."""
    infos = sorted(declared(), key=lambda info: (_year(info.paper), info.name))
    own = {info.name for info in infos}
    infos += [METHODS.get(name).info for name in METHODS.loaded() if name not in own]
    return {info.name: info.title for info in infos}


def _year(paper: str) -> int:
    years = re.findall(r"\b(?:19|20)\d\d\b", paper)
    return int(years[0]) if years else 0


def list_methods() -> list[dict[str, Any]]:
    """Name, title, paper, arms and size (see `benchmark.planning.sizes`) of every method; those of files named by the
    user come last."""
    from benchmark.planning.sizes import Size, sizes

    own = {info.name: info for info in declared()}
    infos = [*own.values(), *(METHODS.get(name).info for name in METHODS.loaded() if name not in own)]
    counted = sizes(infos)
    rows = []
    for info in infos:
        known = counted.get(info.name, "-")
        size = known if isinstance(known, Size) else None
        rows.append(
            {
                "name": info.name,
                "title": info.title,
                "paper": info.paper,
                "arms": list(info.arms),
                "arms_of_the_harness": [
                    name for name, arm in ARMS.items() if arm.needs and arm.supported_by(info.arms, info.without)
                ],
                "trained": f"{size.trained:,} / {size.joint:,} = {size.share * 100:.1f} %" if size else known,
                "trained_parameters": size.trained if size else None,
                "joint_parameters": size.joint if size else None,
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


def skip_lines(skips: Iterable[Skip]) -> list[str]:
    """Cells that are not run, a line for each reason: which, and how many."""
    by_reason: dict[str, list[Skip]] = {}
    for skip in skips:
        # "aitm does not support the arm 'x'" is one reason, whoever the method is
        by_reason.setdefault(skip.reason.replace(f"{skip.method} does", "the method does"), []).append(skip)
    lines = []
    for reason, members in by_reason.items():
        named = [dict.fromkeys(getattr(skip, part) for skip in members) for part in ("dataset", "method", "arm")]
        cells = len(dict.fromkeys((skip.dataset, skip.method, skip.arm) for skip in members))
        what = " / ".join(", ".join(names) if len(names) <= FEW else f"{len(names)} {kind}" for names, kind in
                          zip(named, ("datasets", "methods", "arms")))  # fmt: skip
        lines.append(f"skip    {what} ({cells} cell{'s' if cells != 1 else ''}): {reason}")
    return lines


def plan_rows(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The runs of `describe_plan`, one row for each dataset and method."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["dataset"], run["method"]), []).append(run)
    rows = []
    for (dataset, method), members in groups.items():
        seconds = [run["seconds"] for run in members]
        arms = dict.fromkeys(f"{run['arm']}{' (reference)' if run['reference'] else ''}" for run in members)
        rows.append(
            {
                "dataset": dataset,
                "method": method,
                "arms": ", ".join(arms),
                "seeds": len({run["seed"] for run in members}),
                "runs": len(members),
                "time": "-" if None in seconds else duration(sum(seconds)),
                "MiB": max(run["MiB"] or 0 for run in members) or None,
            }
        )
    return rows


def describe_plan(plan: Plan, data: Mapping[str, str], data_dir: Path | None, jobs: int) -> dict[str, Any]:
    """A plan as plain data: one row per run, the data's state, the skips, and totals with rough time and memory."""
    from benchmark.planning.estimate import estimate

    estimates = {run.id: estimate(run, data_dir) for run in plan.runs}

    runs = [
        {
            "run": run.id,
            "dataset": run.key.dataset,
            "method": run.key.method,
            "arm": run.key.arm,
            "tasks": ">".join(run.key.chain) if run.parent and run.key.chain else ",".join(run.key.tasks),
            "seed": run.key.seed,
            "epochs": Budget.of(run.key.budget, run.parent is not None).epochs,
            "reference": run.reference,
            "note": run.note,
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
    from benchmark.planning.estimate import estimate

    rows: list[dict[str, Any]] = [
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
    return f"{terminal.listing(rows, terminal.width())}\n{total}"


def describe_search(found: Sequence[Study]) -> str:
    """What a search found, one line for each study."""

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
    return f"Mean validation AUC of the kept epochs:\n{terminal.listing(rows, terminal.width())}"


def _changes(study: Study) -> str:
    if study.best is None:
        return study.trials[0].reason or "" if study.trials else ""
    return ", ".join(f"{name}={value}" for name, value in study.best.values.items()) or "the default"
