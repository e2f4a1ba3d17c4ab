"""The tables of the MPT-Rec paper, in its form, from a group of comparable records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from benchmark import transfer
from benchmark.records import Record
from benchmark.report.model import Cell, Column, Row, Table
from benchmark.report.runs import JOINT, SCRATCH, SINGLE_TASK, STAGE0, Group, Sample, Variant, combine, score
from benchmark.report.stats import LEVEL

MARGIN = 0.001
"""Equivalence margin for "no degradation", in units of AUC: fixed before any result was seen."""

Finder = Callable[[int], Record | None]
Measure = Callable[[Record], float | str | None]

ARM_TITLES = {"joint": "joint", "frozen": "frozen", "finetune": "fine-tuned", "scratch": "single task"}


def old_tasks(group: Group, slug: str) -> Table:
    """Old tasks after stage 0 (form of the paper's Table 3): score, and gain over a model of this task alone."""
    columns = [Column("method", "Method", "text")]
    for task in group.old_tasks:
        columns += [
            Column(f"{task}_score", _metric_title(group, task), better=1, group=task),
            Column(f"{task}_gain", "gain", group=task, signed=True),
        ]
    columns.append(Column("delta_m", "Δm, % (higher is better)", "percent", better=1, signed=True))
    rows = []
    for variant in group.variants:
        arm = STAGE0 if variant.method != SINGLE_TASK else SCRATCH
        scores = {task: group.score(variant, arm, task) for task in group.old_tasks}
        if not any(_planned(sample) for sample in scores.values()):
            continue
        cells = {"method": _label(group, variant)}
        for task, sample in scores.items():
            cells[f"{task}_score"] = _cell(group, sample)
            difference = sample.combine(group.single_task(task), transfer.gain)
            cells[f"{task}_gain"] = _reference_cell(variant) or _cell(group, difference)
        cells["delta_m"] = _reference_cell(variant) or _cell(group, _delta_m(group, scores))
        rows.append(Row(cells))
    return Table(
        f"old_tasks-{slug}",
        f"{group.dataset}: old tasks after stage 0, before the new task arrives",
        tuple(columns),
        tuple(rows),
        ("gain: score minus that of a single-task model, same seed. " + DELTA_M_NOTE, *footer(group)),
    ).ranked()


def old_task_effect(group: Group, slug: str) -> Table:
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
        Column("delta_m", "Δm, % (higher is better)", "percent", better=1, signed=True),
    ]
    rows = []
    for variant, arm, first in _taken_in(group):
        cells = {"method": _label(group, variant), "arm": Cell(text=arm_title(arm))}
        losses = []
        for task in group.old_tasks:
            before, after = before_and_after(group, variant, arm, task)
            losses.append(before.combine(after, lambda a, b: a - b))
            cells[f"{task}_before"], cells[f"{task}_after"] = _cell(group, before), _cell(group, after)
            cells[f"{task}_degradation"] = _cell(group, losses[-1])
        cells["degradation_mean"] = _cell(group, degradation(group, variant, arm, transfer.mean_degradation))
        cells["degradation_worst"] = _cell(group, degradation(group, variant, arm, transfer.worst_degradation))
        everything = {task: group.score(variant, arm, task) for task in (*group.old_tasks, *group.new_tasks)}
        cells["delta_m"] = _cell(group, _delta_m(group, everything))
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
            *footer(group),
        ),
    ).ranked()


def new_task(group: Group, task: str, slug: str) -> Table:
    """The new task: score, what was trained for it, cost (form of the paper's Table 5)."""
    clock = Clock(group)
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("score", _metric_title(group, task), better=1, group=task),
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
    rows = []
    for variant, arm, first in _taken_in(group, with_scratch=task):
        after = group.score(variant, arm, task)
        if not _planned(after):
            continue
        alone = group.single_task(task)
        joint = group.score(variant, JOINT, task)
        run, full = _finder(group, variant, arm, task), _finder(group, variant, JOINT, task)
        is_reference = variant.method == SINGLE_TASK
        above = after.combine(alone, transfer.gain_above_chance)
        if not _is_auc(group, task):
            above = Sample(codes=dict.fromkeys(group.seeds, "n/a"))
        cells = {
            "method": _label(group, variant),
            "arm": Cell(text=arm_title(arm)),
            "score": _cell(group, after),
            "gain": _reference_cell(variant) or _cell(group, after.combine(alone, transfer.gain)),
            "gain_above_chance": _reference_cell(variant) or _cell(group, _times(above, 100)),
            "distance_to_joint": Cell(code="n/a")
            if arm == JOINT or is_reference
            else _cell(group, after.combine(joint, transfer.distance_to_joint)),
            "trained": exact(group.sample(run, trained)),
            "trained_share": exact(_share(group, run, full, trained, total)),
            "paper_count": exact(group.sample(run, paper_trained)),
            "paper_share": exact(_share(group, run, full, paper_trained, total)),
            "flops": exact(group.sample(run, flops)),
            "flops_share": exact(_share(group, run, full, flops, flops)),
            "seconds": clock.cell(run),
            "seconds_share": clock.share(run, full),
        }
        rows.append(Row(cells, rule_above=first))
    return Table(
        f"new_task-{slug}" if len(group.new_tasks) == 1 else f"new_task-{task}-{slug}",
        f"{group.dataset}: the new task {task}",
        columns,
        tuple(rows),
        (
            NEW_TASK_NOTE,
            COST_NOTE,
            *clock.notes(),
            *footer(group),
        ),
    ).ranked()


NEW_TASK_NOTE = (
    "gain: score minus that of a single-task model, same seed. RelaImpr: relative gain of AUC above 0.5. "
    "to joint: score of the same method trained jointly minus this score (lower is better)."
)
COST_NOTE = (
    "trained parameters and their share of the same method's full joint model; paper count: by the convention of "
    "arXiv:2408.17214, Table 5. FLOPs: per example and training step, without what a frozen backbone computes once; "
    "% of the joint run's. time: wall-clock of the whole run; % of the joint run's."
)
DELTA_M_NOTE = "Δm: mean over tasks of the relative gain over single-task models; higher is better."


def footer(group: Group, interval: bool = True) -> tuple[str, ...]:
    """Where the numbers come from: seeds, interval, selection, budget, commit, hash of the records."""
    seeds = group.seeds
    spoken = (
        f"{seeds[0]}-{seeds[-1]}"
        if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
        else (", ".join(map(str, seeds)) if len(seeds) <= 10 else f"{len(seeds)} values from {seeds[0]} to {seeds[-1]}")
    )
    commits = sorted({_commit(record) for record in group.records if record.provenance})
    budget = ", ".join(f"{name} {_plain(value)}" for name, value in sorted(json.loads(group.budget).items()))
    lines = []
    if interval and len(seeds) == 1:
        lines.append(f"One seed ({spoken}): no interval, and no difference here says more than chance.")
    elif interval:
        lines.append(f"Mean ± half-width of the {LEVEL:.0%} Student-t interval over n = {len(seeds)} seeds ({spoken}).")
    lines.append(
        f"Selection: {group.selection} (validation rows only). Budget: {budget or 'none stated'}. Split: {group.split}."
    )
    lines.append(f"Commit {', '.join(commits) or 'unknown'}; {len(group.records)} records, hash {group.records_hash}.")
    return tuple(lines)


class Clock:
    """Wall-clock, compared only within one machine kind."""

    def __init__(self, group: Group) -> None:
        self.group = group
        found = {machine_kind(record) for record in group.records if record.status == "ok" and record.provenance}
        self.kinds = {kind: chr(ord("A") + place) for place, kind in enumerate(sorted(found))}

    @property
    def comparable(self) -> bool:
        """All of the group's times come from one machine kind."""
        return len(self.kinds) < 2

    def cell(self, find: Finder) -> Cell:
        kinds = {machine_kind(r) for seed in self.group.seeds if (r := find(seed)) and r.status == "ok"}
        if len(kinds) > 1:
            return Cell(code="mixed")
        cell = _cell(self.group, self.group.sample(find, seconds))
        if cell.value is None or self.comparable:
            return cell
        return Cell(cell.value, cell.half_width, cell.n, marks=(*cell.marks, self.kinds[kinds.pop()]))

    def share(self, find: Finder, full: Finder) -> Cell:
        runs = [r for f in (find, full) for seed in self.group.seeds if (r := f(seed)) and r.status == "ok"]
        if len({machine_kind(record) for record in runs}) > 1:
            return Cell(code="mixed")
        return _cell(self.group, percent(self.group.sample(find, seconds), self.group.sample(full, seconds)))

    def notes(self) -> list[str]:
        if self.comparable:
            return []
        return [
            "Machine kinds, between which times do not compare: "
            + "; ".join(f"{letter}: {kind}" for kind, letter in self.kinds.items())
            + "."
        ]


def machine_kind(record: Record) -> str:
    """Runs compare in wall-clock only if all of this agrees."""
    p = record.provenance
    if p is None:
        return "unknown"
    return f"{p.gpu or p.cpu}, {p.device}, {p.threads} thread(s), {p.jobs} job(s)"


# ---- samples shared with other tables and figures ---------------------------------------------------------------


def before_and_after(group: Group, variant: Variant, arm: str, task: str) -> tuple[Sample, Sample]:
    """Score of an old task after stage 0 and after the arm, over the seeds."""
    before = group.sample(lambda seed: group.baseline(variant, arm, seed), lambda record: score(record, task))
    return before, group.score(variant, arm, task)


def degradation(group: Group, variant: Variant, arm: str, measure: Callable[..., float | None]) -> Sample:
    """A measure of `benchmark.transfer` on stages 0 and 1, over the seeds."""
    pairs = [before_and_after(group, variant, arm, task) for task in group.old_tasks]
    if not pairs:
        return Sample(codes=dict.fromkeys(group.seeds, "n/a"))
    count = len(pairs)

    def measured(values: list[float]) -> float | None:
        stages = [dict(zip(group.old_tasks, part, strict=True)) for part in (values[:count], values[count:])]
        return measure(stages, group.old_tasks)

    return combine([before for before, _ in pairs] + [after for _, after in pairs], measured)


def new_task_gain(group: Group, variant: Variant, arm: str, task: str) -> Sample:
    return group.score(variant, arm, task).combine(group.single_task(task), transfer.gain)


def trained(record: Record) -> float | None:
    return record.params.trainable if record.params else None


def total(record: Record) -> float | None:
    return record.params.total if record.params else None


def paper_trained(record: Record) -> float | str | None:
    return record.params.paper_trainable if record.params and record.params.paper_trainable is not None else "n/a"


def flops(record: Record) -> float | None:
    """Per example and training step; without the part that a frozen backbone computes once."""
    if record.flops is None:
        return None
    new = record.flops.training_step_new
    return record.flops.training_step if new is None else new


def seconds(record: Record) -> float | None:
    return record.seconds.total if record.seconds else None


def percent(part: Sample, whole: Sample) -> Sample:
    return part.combine(whole, lambda a, b: 100 * a / b if b else None)


def exact(sample: Sample) -> Cell:
    """A number that does not depend on the seed: shown without an interval. If it does differ, with one."""
    interval = sample.interval()
    if interval is None or len(set(sample.values.values())) > 1:
        return sample.cell(0)
    return Cell(interval.mean, None, interval.n, marks=("stale",) if sample.stale & set(sample.values) else ())


def arm_title(arm: str) -> str:
    return ARM_TITLES.get(arm, arm)


def _cell(group: Group, sample: Sample) -> Cell:
    return sample.cell(len(group.seeds))


def _times(sample: Sample, factor: float) -> Sample:
    return Sample({seed: factor * value for seed, value in sample.values.items()}, sample.codes, sample.stale)


def _delta_m(group: Group, scores: Mapping[str, Sample]) -> Sample:
    """Δm in percent, over the seeds."""
    tasks = list(scores)

    def measured(values: list[float]) -> float | None:
        mine, alone = (dict(zip(tasks, part, strict=True)) for part in (values[: len(tasks)], values[len(tasks) :]))
        share = transfer.delta_m(mine, alone)
        return None if share is None else 100 * share

    return combine([*scores.values(), *(group.single_task(task) for task in tasks)], measured)


def _label(group: Group, variant: Variant) -> Cell:
    return Cell(text=group.labels[variant] or "(no name)")


def _reference_cell(variant: Variant) -> Cell | None:
    return Cell(code="n/a") if variant.method == SINGLE_TASK else None


def _share(group: Group, run: Finder, full: Finder, of: Measure, over: Measure) -> Sample:
    return percent(group.sample(run, of), group.sample(full, over))


def _planned(sample: Sample) -> bool:
    return bool(sample.values) or set(sample.codes.values()) != {"n/a"}


def _taken_in(group: Group, with_scratch: str | None = None) -> Iterable[tuple[Variant, str, bool]]:
    """Variant, arm and whether a new variant starts, for every way in which a new task was taken in."""
    for variant in group.variants:
        arms = [arm for arm in group.arms(variant) if arm != SCRATCH or with_scratch]
        for place, arm in enumerate(arms):
            yield variant, arm, place == 0


def _finder(group: Group, variant: Variant, arm: str, task: str) -> Finder:
    return lambda seed: group.find(variant, arm, seed, task)


def _is_auc(group: Group, task: str) -> bool:
    return _metric_title(group, task) == "AUC"


def _metric_title(group: Group, task: str) -> str:
    metrics = {name for r in group.records if task in r.scores for name in r.scores[task].metrics}
    return "R²" if "r2" in metrics and "auc" not in metrics else "AUC"


def _commit(record: Record) -> str:
    p = record.provenance
    if p is None or p.commit is None:
        return "unknown"
    return p.commit[:10] + ("+changes" if p.dirty else "")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
