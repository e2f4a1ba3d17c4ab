"""The rows of the leaderboard: one for each way in which a method took in a new task, with the runs behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from benchmark.analysis import transfer
from benchmark.analysis.comparisons import Comparison, worst_verdict
from benchmark.analysis.groups import JOINT, SCRATCH, SINGLE_TASK, Group, Variant
from benchmark.analysis.measures import Finder, degradation, finder, flops, planned, share, taken_in, total, trained
from benchmark.report.measures import Clock, arm_title, cell, exact, reference_cell
from benchmark.report.model import Cell, Column
from benchmark.report.verdicts import words

COLUMNS = (
    Column("dataset", "Dataset", "text"),
    Column("task", "New task", "text"),
    Column("method", "Method", "text"),
    Column("arm", "Arm", "text"),
    Column("score", "Score", better=1),
    Column("gain", "Gain", better=1, signed=True),
    Column("degradation", "Worst degradation", better=-1, signed=True),
    Column("verdict", "Old tasks", "text"),
    Column("trained", "Trained", "count", better=-1),
    Column("share", "Trained, %", "percent", better=-1),
    Column("flops", "FLOPs", "count", better=-1),
    Column("seconds", "Seconds", "seconds", better=-1),
)
EXPLAINED = {
    "score": "Test score of the new task (AUC; R² for a regression task).",
    "gain": "Score of the new task minus that of a single-task model, same seed.",
    "degradation": "Largest loss of an old task: score after stage 0 minus score after the new task, same seed.",
    "verdict": "What the tests say of the old tasks: unchanged, equivalent, no harm, improved, undecided or degraded.",
    "trained": "Parameters trained for the new task.",
    "share": "Trained parameters in percent of the same method's full joint model.",
    "flops": "Per example and training step, without what a frozen backbone computes once.",
    "seconds": "Wall-clock of the whole run; compared only within one kind of machine.",
}


@dataclass(frozen=True)
class Entry:
    """One row. ``runs``: role ("this arm", "stage 0", "single task") to run ids in the order of the seeds."""

    group: str
    arm: str
    method: str
    variant: Variant
    cells: dict[str, Cell]
    runs: dict[str, list[str]]


def entries(group: Group, name: str, losses: Sequence[Comparison]) -> list[Entry]:
    """Rows of one group, the single-task reference first. ``name`` is what the column of datasets says."""
    clock = Clock(group)
    found = []
    for task in group.new_tasks:
        for variant, arm, _ in taken_in(group, with_scratch=task):
            if planned(group.score(variant, arm, task)):
                found.append(_entry(group, name, clock, losses, task, variant, arm))
    return found


def _entry(
    group: Group, name: str, clock: Clock, losses: Sequence[Comparison], task: str, variant: Variant, arm: str
) -> Entry:
    run, full = finder(group, variant, arm, task), finder(group, variant, JOINT, task)
    after, alone = group.score(variant, arm, task), group.single_task(task)
    single = arm == SCRATCH
    not_defined = Cell(code="n/a")
    cells = {
        "dataset": Cell(text=name or "(no name)"),
        "task": Cell(text=task or "(no name)"),
        "method": Cell(text=group.labels[variant] or "(no name)"),
        "arm": Cell(text=arm_title(arm)),
        "score": cell(group, after),
        "gain": reference_cell(variant) or cell(group, after.combine(alone, transfer.gain)),
        "degradation": not_defined
        if single
        else cell(group, degradation(group, variant, arm, transfer.worst_degradation)),
        "verdict": not_defined if single else Cell(text=words(worst_verdict(losses, variant, arm))),
        "trained": exact(group.sample(run, trained)),
        "share": exact(share(group, run, full, trained, total)),
        "flops": exact(group.sample(run, flops)),
        "seconds": clock.cell(run),
    }
    # A row is stale as a whole: said once, at its score.
    cells |= {key: _unmarked(found) for key, found in cells.items() if key != "score"}
    finders: dict[str, Finder] = (
        {"this arm": run, "stage 0": partial(group.baseline, variant, arm)} if not single else {"this arm": run}
    )
    if variant.method != SINGLE_TASK:
        reference = next((v for v in group.variants if v.method == SINGLE_TASK), None)
        if reference is not None:
            finders["single task"] = finder(group, reference, SCRATCH, task)
    runs = {role: [r.run_id for seed in group.seeds if (r := find(seed))] for role, find in finders.items()}
    return Entry(name, arm, variant.method, variant, cells, {role: ids for role, ids in runs.items() if ids})


def _unmarked(found: Cell) -> Cell:
    return replace(found, marks=tuple(mark for mark in found.marks if mark != "stale"))
