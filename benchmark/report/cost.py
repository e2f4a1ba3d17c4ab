"""Tables of cost: what each way of taking in a task trains, computes and takes, and who is dominated by whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from benchmark.analysis.front import standings
from benchmark.analysis.groups import SCRATCH, STAGE0, Group, Sample, Variant
from benchmark.analysis.measures import cpu_seconds, finder, kernel_steps, planned, seconds, trained
from benchmark.records.record import Record
from benchmark.report.measures import Clock, arm_title, cell, cell_of, exact, footer, label
from benchmark.report.model import Cell, Column, Row, Table

if TYPE_CHECKING:
    pass

COST_NOTE = (
    "FLOPs per example, 2 per multiply-accumulate of the matrix products; new part: without what a frozen backbone "
    "computes once. seconds: wall-clock; all includes loading, caching and prediction. processor: seconds of all its "
    "threads, and the same in calibration steps, a fixed training step that each run times first: the unit in which "
    "runs of different machines compare. A single-task row is the run of the new task. peak: largest over the seeds."
)
FRONT_NOTE = (
    "quality front: no other row has at most this degradation and at least this gain, and one of them better, by the "
    "means (medians where † stands); otherwise how many rows dominate it. on it: share of bootstrap draws (seeds with "
    "replacement, test rows by their recorded influence) in which the row is on that front. front with weights: with "
    "the number of trained weights as a third objective; counts, since shares have different denominators."
)


def efficiency(group: Group, slug: str) -> Table:
    """Parameters by role, FLOPs with and without the frozen part, time by phase, throughput, memory."""
    clock = Clock(group)
    ranked: Literal[-1, 0] = -1 if clock.comparable else 0
    fast: Literal[0, 1] = 1 if clock.comparable else 0
    counts = {
        "total": lambda r: r.params and r.params.total,
        "trained": lambda r: r.params and r.params.trainable,
        "trained_embedding": lambda r: r.params and _role(r, "embedding"),
        "trained_shared": lambda r: r.params and _role(r, "shared"),
        "trained_task": lambda r: r.params and _role(r, "task:"),
        "forward": lambda r: r.flops and r.flops.forward,
        "forward_new": lambda r: r.flops and _or_code(r.flops.forward_new),
        "step": lambda r: r.flops and r.flops.training_step,
        "step_new": lambda r: r.flops and _or_code(r.flops.training_step_new),
    }
    timed = {
        "train": lambda r: r.seconds and r.seconds.train,
        "to_best": lambda r: r.seconds and r.seconds.to_best_epoch,
        "all": lambda r: r.seconds and r.seconds.total,
        "rows_per_second": lambda r: r.rows_per_second,
    }
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("total", "all", "count", group="parameters"),
        Column("trained", "trained", "count", better=-1, group="parameters"),
        Column("trained_embedding", "embedding", "count", group="trained, by role"),
        Column("trained_shared", "shared", "count", group="trained, by role"),
        Column("trained_task", "tasks", "count", group="trained, by role"),
        Column("forward", "all", "count", group="forward FLOPs"),
        Column("forward_new", "new part", "count", group="forward FLOPs"),
        Column("step", "all", "count", group="training-step FLOPs"),
        Column("step_new", "new part", "count", group="training-step FLOPs"),
        Column("epochs", "epochs", "seconds"),
        Column("train", "training", "seconds", better=ranked, group="seconds"),
        Column("to_best", "to best epoch", "seconds", better=ranked, group="seconds"),
        Column("all", "all", "seconds", better=ranked, group="seconds"),
        Column("cpu", "seconds", "seconds", group="processor"),
        Column("steps", "steps", "count", group="processor"),
        Column("rows_per_second", "rows/s", "count", better=fast),
        Column("memory", "memory", "bytes", group="peak"),
        Column("gpu_memory", "GPU", "bytes", group="peak"),
    )
    rows = []
    for variant in group.variants:
        for place, arm in enumerate([STAGE0, *group.arms(variant)]):
            find = _any_run(group, variant, arm)
            if not planned(group.sample(find, lambda r: 1.0)):
                continue
            cells = {"method": label(group, variant), "arm": Cell(text=arm_title(arm))}
            cells |= {name: exact(group.sample(find, measure)) for name, measure in counts.items()}
            cells |= {n: clock.cell(find, measure, rate=n == "rows_per_second") for n, measure in timed.items()}
            cells |= {"cpu": cell(group, group.sample(find, cpu_seconds)), "steps": _steps(group, find)}
            cells["epochs"] = cell(group, group.sample(find, lambda r: r.selection.epochs_run if r.selection else None))
            for name, field in (("memory", "peak_memory_bytes"), ("gpu_memory", "peak_gpu_memory_bytes")):
                cells[name] = _largest(group.sample(find, partial(_field, field)))
            rows.append(Row(cells, rule_above=place == 0))
    return Table(
        f"efficiency-{slug}",
        f"{group.dataset}: cost of each run",
        columns,
        tuple(rows),
        (
            COST_NOTE,
            *clock.notes(),
            *footer(group),
        ),
    ).ranked()


def pareto(group: Group, task: str, slug: str) -> Table:
    """Degradation and gain: which rows no other row beats in both, how surely, and at what cost."""
    clock = Clock(group)
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("degradation", "worst degradation", better=-1, signed=True),
        Column("gain", f"gain of {task}", better=1, signed=True),
        Column("front", "quality front", "text"),
        Column("frequency", "on it, %", "percent"),
        Column("trained", "trained", "count", better=-1),
        Column("front_weights", "front with weights", "text"),
        Column("seconds", "seconds", "seconds", better=-1 if clock.comparable else 0),
    )
    rows = []
    for entry in standings(group, task, slug):
        find = finder(group, entry.variant, entry.arm, task)
        cells = {
            "method": label(group, entry.variant),
            "arm": Cell(text=arm_title(entry.arm)),
            "degradation": cell(group, entry.lost),
            "gain": cell(group, entry.gained),
            "front": _front_cell(entry.dominated_by),
            "frequency": _or_none(entry.frequency),
            "trained": exact(group.sample(find, trained)),
            "front_weights": _front_cell(entry.dominated_with_parameters),
            "seconds": clock.cell(find, seconds),
        }
        rows.append(Row(cells, rule_above=entry.first))
    name = f"pareto-{slug}" if len(group.new_tasks) == 1 else f"pareto-{task}-{slug}"
    return Table(
        name,
        f"{group.dataset}: what {task} costs and gains",
        columns,
        tuple(rows),
        (
            FRONT_NOTE,
            "trained: number of weights. seconds: wall-clock of the whole run; part of neither front.",
            *clock.notes(),
            *footer(group),
        ),
    ).ranked()


def _front_cell(dominated: int | None) -> Cell:
    if dominated is None:
        return Cell(code="n/a")
    return Cell(text=f"dominated by {dominated}" if dominated else "front")


def _any_run(group: Group, variant: Variant, arm: str) -> Callable[[int], Record | None]:
    """The arm's run; of several single-task runs that of the (first) new task."""
    task = group.new_tasks[0] if arm == SCRATCH and group.new_tasks else None
    return lambda seed: group.find(variant, arm, seed, task)


def _role(record: Record, prefix: str) -> int:
    assert record.params is not None
    return sum(n for role, n in record.params.trainable_by_role.items() if role.startswith(prefix))


def _or_none(value: float | None) -> Cell:
    return Cell(code="n/a") if value is None else Cell(value)


def _field(field: str, record: Record) -> float | str:
    return _or_code(getattr(record, field))


def _or_code(value: float | None) -> float | str:
    return "n/a" if value is None else value


def _steps(group: Group, find: Callable[[int], Record | None]) -> Cell:
    """Mean over the seeds, without the interval: a count of tens of thousands."""
    return replace(cell(group, group.sample(find, kernel_steps)), half_width=None)


def _largest(sample: Sample) -> Cell:
    found = cell_of(sample, 0)
    return found if found.value is None else Cell(max(sample.values.values()), n=len(sample.values))
