"""The tables of the MPT-Rec paper, in its form, from a group of comparable records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmark.analysis import transfer
from benchmark.analysis.comparisons import Comparison, worse_than_best, worst_verdict
from benchmark.analysis.groups import JOINT, SCRATCH, SINGLE_TASK, STAGE0, Group, Sample, Variant
from benchmark.analysis.measures import (
    before_and_after,
    degradation,
    delta_m,
    finder,
    flops,
    paper_trained,
    planned,
    share,
    taken_in,
    times,
    total,
    trained,
)
from benchmark.analysis.stats import stars
from benchmark.report.measures import (
    DELTA_M_NOTE,
    Clock,
    arm_title,
    cell,
    exact,
    footer,
    is_auc,
    label,
    metric_title,
    reference_cell,
)
from benchmark.report.model import Cell, Column, Row, Table
from benchmark.report.verdicts import words

NEW_TASK_NOTE = (
    "gain: score minus that of a single-task model, same seed. RelaImpr: relative gain of AUC above 0.5. "
    "to joint: score of the same method trained jointly minus this score (lower is better)."
)
COST_NOTE = (
    "trained parameters and their share of the same method's full joint model; paper count: by the convention of "
    "arXiv:2408.17214, Table 5. FLOPs: per example and training step, without what a frozen backbone computes once; "
    "% of the joint run's. time: wall-clock of the whole run; % of the joint run's."
)


def old_tasks(group: Group, slug: str, comparisons: Sequence[Comparison] = ()) -> Table:
    """Old tasks after stage 0 (form of the paper's Table 3): score, and gain over a model of this task alone."""
    columns = [Column("method", "Method", "text")]
    for task in group.old_tasks:
        columns += [
            Column(f"{task}_score", metric_title(group, task), better=1, group=task),
            Column(f"{task}_gain", "gain", group=task, signed=True),
        ]
    columns.append(Column("delta_m", "Δm, % (higher is better)", "percent", better=1, signed=True))
    rows: list[Row] = []
    samples, marks = [], []
    for variant in group.variants:
        arm = STAGE0 if variant.method != SINGLE_TASK else SCRATCH
        scores = {task: group.score(variant, arm, task) for task in group.old_tasks}
        if not any(planned(sample) for sample in scores.values()):
            continue
        cells = {"method": label(group, variant)}
        for task, sample in scores.items():
            cells[f"{task}_score"] = cell(group, sample)
            difference = sample.combine(group.single_task(task), transfer.gain)
            cells[f"{task}_gain"] = reference_cell(variant) or cell(group, difference)
        cells["delta_m"] = reference_cell(variant) or cell(group, delta_m(group, scores))
        rows.append(Row(cells))
        samples.append(scores)
        marks.append({task: stars_of(comparisons, variant, STAGE0, task) for task in group.old_tasks})
    for task in group.old_tasks:
        rows = with_marks(rows, f"{task}_score", [s[task] for s in samples], [m[task] for m in marks])
    return Table(
        f"old_tasks-{slug}",
        f"{group.dataset}: old tasks after stage 0, before the new task arrives",
        tuple(columns),
        tuple(rows),
        (
            "gain: score minus that of a single-task model, same seed. " + DELTA_M_NOTE,
            *reference_note(group, comparisons),
            *footer(group),
        ),
    ).ranked()


def old_task_effect(group: Group, slug: str, losses: Sequence[Comparison] = ()) -> Table:
    """What the new task does to the old ones, for each way of taking it in (form of the paper's Table 4)."""
    columns = [Column("method", "Method", "text"), Column("arm", "Arm", "text")]
    for task in group.old_tasks:
        columns += [
            Column(f"{task}_before", "before", group=task),
            Column(f"{task}_after", "after", better=1, group=task),
            Column(f"{task}_degradation", "degradation", better=-1, group=task, signed=True),
        ]
    columns += [
        Column("degradation_mean", "mean", better=-1, group="degradation", signed=True),
        Column("degradation_worst", "worst", better=-1, group="degradation", signed=True),
        Column("at_most", "at most", group="degradation", signed=True),
        Column("verdict", "verdict", "text", group="degradation"),
        Column("delta_m", "Δm, % (higher is better)", "percent", better=1, signed=True),
    ]
    rows = []
    for variant, arm, first in taken_in(group):
        cells = {"method": label(group, variant), "arm": Cell(text=arm_title(arm))}
        for task in group.old_tasks:
            before, after = before_and_after(group, variant, arm, task)
            cells[f"{task}_before"], cells[f"{task}_after"] = cell(group, before), cell(group, after)
            cells[f"{task}_degradation"] = cell(group, before.combine(after, lambda a, b: a - b))
        cells["degradation_mean"] = cell(group, degradation(group, variant, arm, transfer.mean_degradation))
        cells["degradation_worst"] = cell(group, degradation(group, variant, arm, transfer.worst_degradation))
        cells["at_most"] = at_most(losses, variant, arm)
        cells["verdict"] = Cell(text=words(worst_verdict(losses, variant, arm)))
        everything = {task: group.score(variant, arm, task) for task in (*group.old_tasks, *group.new_tasks)}
        cells["delta_m"] = cell(group, delta_m(group, everything))
        rows.append(Row(cells, rule_above=first))
    return Table(
        f"old_task_effect-{slug}",
        f"{group.dataset}: effect of the new task ({', '.join(group.new_tasks)}) on the old ones",
        tuple(columns),
        tuple(rows),
        (
            "degradation: score after stage 0 minus score after the new task, same method and seed; "
            "lower is better, negative is an improvement. worst: largest over the old tasks of each seed. "
            + DELTA_M_NOTE.replace("over tasks", "over old and new tasks"),
            f"at most, verdict: the worst over the old tasks of table no_degradation-{slug}, "
            "whose footer says how they are reached.",
            *footer(group),
        ),
    ).ranked()


def new_task(group: Group, task: str, slug: str, comparisons: Sequence[Comparison] = ()) -> Table:
    """The new task: score, what was trained for it, cost (form of the paper's Table 5)."""
    clock = Clock(group)
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("score", metric_title(group, task), better=1, group=task),
        Column("gain", "gain", better=1, group=task, signed=True),
        Column("gain_above_chance", "RelaImpr, %", "percent", better=1, group=task, signed=True),
        Column("distance_to_joint", "to joint", group=task, signed=True),
        Column("trained", "count", "count", better=-1, group="trained parameters"),
        Column("trained_share", "%", "percent", group="trained parameters"),
        Column("paper_count", "paper count", "count", group="trained parameters"),
        Column("paper_share", "%", "percent", group="trained parameters"),
        Column("flops", "count", "count", better=-1, group="FLOPs"),
        Column("flops_share", "%", "percent", group="FLOPs"),
        Column("seconds", "s", "seconds", better=-1 if clock.comparable else 0, group="time"),
        Column("seconds_share", "%", "percent", group="time"),
    )
    rows, samples, marks = [], [], []
    for variant, arm, first in taken_in(group, with_scratch=task):
        after = group.score(variant, arm, task)
        if not planned(after):
            continue
        alone = group.single_task(task)
        joint = group.score(variant, JOINT, task)
        run, full = finder(group, variant, arm, task), finder(group, variant, JOINT, task)
        is_reference = variant.method == SINGLE_TASK
        above = after.combine(alone, transfer.gain_above_chance)
        if not is_auc(group, task):
            above = Sample(codes=dict.fromkeys(group.seeds, "n/a"))
        cells = {
            "method": label(group, variant),
            "arm": Cell(text=arm_title(arm)),
            "score": cell(group, after),
            "gain": reference_cell(variant) or cell(group, after.combine(alone, transfer.gain)),
            "gain_above_chance": reference_cell(variant) or cell(group, times(above, 100)),
            "distance_to_joint": Cell(code="n/a")
            if arm == JOINT or is_reference
            else cell(group, after.combine(joint, transfer.distance_to_joint)),
            "trained": exact(group.sample(run, trained)),
            "trained_share": exact(share(group, run, full, trained, total)),
            "paper_count": exact(group.sample(run, paper_trained)),
            "paper_share": exact(share(group, run, full, paper_trained, total)),
            "flops": exact(group.sample(run, flops)),
            "flops_share": exact(share(group, run, full, flops, flops)),
            "seconds": clock.cell(run),
            "seconds_share": clock.share(run, full),
        }
        rows.append(Row(cells, rule_above=first))
        samples.append(after)
        marks.append(stars_of(comparisons, variant, arm, task))
    rows = with_marks(rows, "score", samples, marks)
    return Table(
        f"new_task-{slug}" if len(group.new_tasks) == 1 else f"new_task-{task}-{slug}",
        f"{group.dataset}: the new task {task}",
        columns,
        tuple(rows),
        (
            NEW_TASK_NOTE,
            COST_NOTE,
            *reference_note(group, comparisons),
            *clock.notes(),
            *footer(group),
        ),
    ).ranked()


def with_marks(rows: Sequence[Row], column: str, samples: Sequence[Sample], stars: Sequence[str]) -> list[Row]:
    """The rows with what the tests say put behind the numbers of one column."""
    behind = worse_than_best(samples)
    marked = []
    for place, row in enumerate(rows):
        found = row.cells[column]
        marks = (("↓",) if place in behind else ()) + ((stars[place],) if stars[place] else ())
        if found.value is not None:
            found = replace(found, marks=(*marks, *found.marks))
        marked.append(replace(row, cells={**row.cells, column: found}))
    return marked


def stars_of(comparisons: Sequence[Comparison], variant: Variant, arm: str, task: str) -> str:
    """Stars of the row's difference to the reference, as in table paired_differences."""
    found = (c for c in comparisons if (c.variant, c.arm, c.task) == (variant, arm, task))
    return next((stars(comparison.p) for comparison in found), "")


def at_most(losses: Sequence[Comparison], variant: Variant, arm: str) -> Cell:
    """How much worse any old task is at most: the largest bound."""
    own = [c for c in losses if (c.variant, c.arm) == (variant, arm)]
    bounds = [c.worst for c in own]
    known = [bound for bound in bounds if bound is not None]
    return Cell(max(known)) if known and len(known) == len(bounds) else Cell(code="n/a")


def reference_note(group: Group, comparisons: Sequence[Comparison]) -> list[str]:
    if not comparisons or group.reference is None:
        return []
    return [f"Reference method of the paired tests: {group.labels[group.reference]}, same arm, task and seed."]
