"""Tables of cost: what each way of taking in a task trains, computes and takes, and who is dominated by whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmark.records.record import Record
from benchmark.report import transfer
from benchmark.report.groups import JOINT, SCRATCH, STAGE0, Group, Sample, Variant
from benchmark.report.measures import (
    Clock,
    arm_title,
    cell,
    degradation,
    exact,
    finder,
    footer,
    label,
    planned,
    seconds,
    share,
    taken_in,
    total,
    trained,
)
from benchmark.report.model import Cell, Column, Row, Table

COST_NOTE = (
    "FLOPs per example, 2 per multiply-accumulate of the matrix products; new part: without what a frozen backbone "
    "computes once. seconds: wall-clock; all includes loading, caching and prediction. A single-task row is the run of "
    "the new task. peak: largest over the seeds."
)
FRONT_NOTE = (
    "Pareto: front if no other row is at least as good in every numeric column and better in one, by the means; "
    "otherwise the number of rows that dominate it. Intervals are not part of this."
)


def efficiency(group: Group, slug: str) -> Table:
    """Parameters by role, FLOPs with and without the frozen part, time by phase, throughput, memory."""
    clock = Clock(group)
    ranked = -1 if clock.comparable else 0
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
        Column("rows_per_second", "rows/s", "count", better=-ranked),
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
            cells |= {name: clock.cell(find, measure) for name, measure in timed.items()}
            cells["epochs"] = cell(group, group.sample(find, lambda r: r.selection and r.selection.epochs_run))
            for name, field in (("memory", "peak_memory_bytes"), ("gpu_memory", "peak_gpu_memory_bytes")):
                cells[name] = _largest(group.sample(find, lambda r, field=field: _or_code(getattr(r, field))))
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
    """Degradation, gain, trained share and seconds together: which rows no other row beats in all of them."""
    clock = Clock(group)
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("degradation", "worst degradation", better=-1, signed=True),
        Column("gain", f"gain of {task}", better=1, signed=True),
        Column("trained_share", "trained, %", "percent", better=-1),
        Column("seconds", "seconds", "seconds", better=-1 if clock.comparable else 0),
        Column("front", "Pareto", "text"),
    )
    objectives = {"degradation": -1, "gain": 1, "trained_share": -1} | ({"seconds": -1} if clock.comparable else {})
    rows: list[Row] = []
    for variant, arm, first in taken_in(group):
        find, full = finder(group, variant, arm, task), finder(group, variant, JOINT, task)
        gained = group.score(variant, arm, task).combine(group.single_task(task), transfer.gain)
        cells = {
            "method": label(group, variant),
            "arm": Cell(text=arm_title(arm)),
            "degradation": cell(group, degradation(group, variant, arm, transfer.worst_degradation)),
            "gain": cell(group, gained),
            "trained_share": exact(share(group, find, full, trained, total)),
            "seconds": clock.cell(find, seconds),
        }
        rows.append(Row({**cells, "front": Cell(text="pending")}, rule_above=first))
    decided = fronts([row.cells for row in rows], objectives)
    rows = [Row({**row.cells, "front": found}, row.rule_above) for row, found in zip(rows, decided, strict=True)]
    name = f"pareto-{slug}" if len(group.new_tasks) == 1 else f"pareto-{task}-{slug}"
    return Table(
        name,
        f"{group.dataset}: what {task} costs and gains",
        columns,
        tuple(rows),
        (
            FRONT_NOTE,
            "trained: share of the same method's full joint model. seconds: wall-clock of the whole run"
            + ("." if clock.comparable else "; left out of the dominance, as it comes from several machine kinds."),
            *clock.notes(),
            *footer(group),
        ),
    ).ranked()


def fronts(rows: Sequence[Mapping[str, Cell]], objectives: Mapping[str, int]) -> list[Cell]:
    """Per row "front" or how many rows dominate it; a row that lacks a number takes no part."""
    vectors = []
    for cells in rows:
        values = [(cells[name].value, sign) for name, sign in objectives.items()]
        complete = all(value is not None for value, _ in values)
        vectors.append(tuple(round(sign * value, 12) for value, sign in values) if complete else None)  # type: ignore[operator]
    found = []
    for mine in vectors:
        if mine is None:
            found.append(Cell(code="n/a"))
            continue
        above = sum(
            other is not None and other != mine and all(a >= b for a, b in zip(other, mine, strict=True))
            for other in vectors
        )
        found.append(Cell(text=f"dominated by {above}" if above else "front"))
    return found


def _any_run(group: Group, variant: Variant, arm: str) -> Callable[[int], Record | None]:
    """The arm's run; of several single-task runs that of the (first) new task."""
    task = group.new_tasks[0] if arm == SCRATCH and group.new_tasks else None
    return lambda seed: group.find(variant, arm, seed, task)


def _role(record: Record, prefix: str) -> int:
    assert record.params is not None
    return sum(n for role, n in record.params.trainable_by_role.items() if role.startswith(prefix))


def _or_code(value: float | None) -> float | str:
    return "n/a" if value is None else value


def _largest(sample: Sample) -> Cell:
    found = sample.cell(0)
    return found if found.value is None else Cell(max(sample.values.values()), n=len(sample.values))
