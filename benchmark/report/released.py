"""What published code does otherwise, one switch at a time: which of them explains a number that is not reproduced?

Built where a tree holds a dataset both as it is and with ``separate_encoders`` (the suite ``released``). Each row is
the score with one switch thrown, minus the score without it, paired by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmark.analysis import stats
from benchmark.analysis.groups import SCRATCH, SINGLE_TASK, STAGE0, Group, Sample, Variant, score
from benchmark.records.record import Record
from benchmark.report.measures import cell, footer
from benchmark.report.model import Cell, Column, Row, Table

ENCODERS = "separate_encoders"
"""The word of a dataset's name for encoders that are fitted on the test file again."""


def released(groups: Sequence[Group], slugs: Sequence[str]) -> list[Table]:
    """A table for each dataset that is there with and without the released encoders."""
    known = {group.identity: group for group in groups}
    found = []
    for group, slug in zip(groups, slugs, strict=True):
        joined = "+" if "@" in group.dataset else "@"
        other = known.get((f"{group.dataset}{joined}{ENCODERS}", *group.identity[1:]))  # the same budget, split, tasks
        if other is not None:
            found.append(_table(group, other, slug))
    return found


def _table(group: Group, other: Group, slug: str) -> Table:
    rows: list[Row] = []
    main = group.reference
    for variant in group.variants:
        if variant in other.variants:
            rows += _rows(group, "encoders fitted on the test file, too", variant, variant, other)
    if main is not None:
        siblings = [v for v in group.variants if v.method == main.method]
        for variant in siblings:
            if variant != main:
                rows += _rows(group, f"config: {group.labels[variant]}", main, variant)
        if len(siblings) > 1:
            rows += _selection(group, main, siblings)
    columns = (
        Column("switch", "Switch", "text", wrap=True),
        Column("method", "Method", "text"),
        Column("task", "Task", "text"),
        Column("without", "without"),
        Column("thrown", "thrown"),
        Column("difference", "difference", signed=True),
        Column("p", "p", "p"),
    )
    notes = (
        "difference: thrown minus without, the same seeds and test rows; p: two-sided, of this row alone. config "
        "chosen by test score: of all configs in the table the one with the best mean test score of a seed, against "
        "the one with the best mean validation score (the released search goes by the first task's test score).",
        *footer(group),
    )
    return Table(
        f"released-{slug}", f"{group.dataset}: what the released code does otherwise", columns, tuple(rows), notes
    )


def _rows(group: Group, switch: str, without: Variant, thrown: Variant, other: Group | None = None) -> list[Row]:
    arm = SCRATCH if without.method == SINGLE_TASK else STAGE0
    made: list[Row] = []
    for task in group.old_tasks:
        before, after = group.score(without, arm, task), (other or group).score(thrown, arm, task)
        if before.values and after.values:
            made.append(_row(group, switch, group.labels[without], task, before, after, first=not made))
    return made


def _selection(group: Group, main: Variant, siblings: Sequence[Variant]) -> list[Row]:
    """Configs chosen on validation rows against configs chosen on test rows, seed by seed."""

    def test(record: Record) -> float:
        return stats.mean([value for t in group.old_tasks if isinstance(value := score(record, t), float)])

    def validation(record: Record) -> float:
        return record.selection.score if record.selection and record.selection.score is not None else float("-inf")

    def best(by: Callable[[Record], float]) -> Callable[[int], Record | None]:
        def find(seed: int) -> Record | None:
            runs = [run for v in siblings if (run := group.find(v, STAGE0, seed)) is not None and run.status == "ok"]
            return max(runs, key=by, default=None) if len(runs) == len(siblings) else None

        return find

    rows: list[Row] = []
    for task in group.old_tasks:
        before, after = (group.scores_of(best(by), task) for by in (validation, test))
        if before.values:
            rows.append(
                _row(group, "config chosen by test score", group.labels[main], task, before, after, first=not rows)
            )
    return rows


def _row(group: Group, switch: str, method: str, task: str, before: Sample, after: Sample, first: bool) -> Row:
    difference = after.combine(before, lambda a, b: a - b)
    found = None if difference.constant == 0.0 else difference.estimate()
    cells = {
        "switch": Cell(text=switch),
        "method": Cell(text=method),
        "task": Cell(text=task),
        "without": cell(group, before),
        "thrown": cell(group, after),
        "difference": cell(group, difference),
        "p": Cell(code="n/a") if found is None else Cell(found.p()),
    }
    return Row(cells, rule_above=first)
