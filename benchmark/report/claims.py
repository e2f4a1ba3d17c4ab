"""Tables of the tests: paired differences to the reference, and "no degradation"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmark.report import stats
from benchmark.report.comparisons import Comparison
from benchmark.report.groups import Group
from benchmark.report.measures import arm_title, cell, footer, label
from benchmark.report.model import Cell, Column, Row, Table

VERDICT_NOTE = (
    "verdict: unchanged (every seed's score is the same number), equivalent (TOST within the margin, Holm p < .05), "
    "degraded or improved (a difference by both tests), otherwise undecided: neither harm nor its absence is shown."
)
TEST_COLUMNS = (
    Column("p", "p", "p", group="over seeds"),
    Column("p_holm", "p, Holm", "p", group="over seeds"),
    Column("detectable", "detectable", group="over seeds"),
    Column("rows_error", "s.e.", group="over test rows"),
    Column("rows_p_holm", "p, Holm", "p", group="over test rows"),
)


def paired_differences(group: Group, slug: str, comparisons: Sequence[Comparison]) -> Table:
    """Each row's score minus the reference method's: same arm, task, split, data order and seed."""
    reference = group.labels[group.reference] if group.reference else "no reference"
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("task", "Task", "text"),
        Column("difference", "difference", signed=True),
        *TEST_COLUMNS,
        Column("verdict", "verdict", "text"),
    )
    rows = []
    for place, item in enumerate(comparisons):
        cells = {
            "method": label(group, item.variant),
            "arm": Cell(text=arm_title(item.arm)),
            "task": Cell(text=item.task or "(no name)"),
            "difference": _starred(cell(group, item.sample), item),
            **_test_cells(item),
            "verdict": Cell(text=item.verdict("better", "worse")),
        }
        rows.append(Row(cells, rule_above=place > 0 and item.variant != comparisons[place - 1].variant))
    return Table(
        f"paired_differences-{slug}",
        f"{group.dataset}: score minus that of {reference}, same seed",
        columns,
        tuple(rows),
        (
            f"Positive: better than {reference}. A single-task model stands against each arm of {reference}.",
            'verdict: a difference counts if both p (Holm) are below .05; "seeds only": predictions were not stored.',
            _test_note(comparisons),
            *footer(group),
        ),
    )


def no_degradation(group: Group, slug: str, comparisons: Sequence[Comparison]) -> Table:
    """Is an old task's score after the new task the same as before, within the margin?"""
    margin = group.options.margin
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("task", "Task", "text"),
        Column("degradation", "degradation", signed=True),
        Column("p_equivalent", "p, TOST", "p", group="over seeds"),
        Column("p_equivalent_holm", "TOST, Holm", "p", group="over seeds"),
        *TEST_COLUMNS,
        Column("verdict", "verdict", "text"),
    )
    rows = []
    for place, item in enumerate(comparisons):
        cells = {
            "method": label(group, item.variant),
            "arm": Cell(text=arm_title(item.arm)),
            "task": Cell(text=item.task or "(no name)"),
            "degradation": cell(group, item.sample),
            "p_equivalent": _number(item.p_equivalent, "n/a"),
            "p_equivalent_holm": _number(item.p_equivalent_holm, "n/a"),
            **_test_cells(item),
            "verdict": Cell(text=item.verdict("degraded", "improved")),
        }
        rows.append(Row(cells, rule_above=place > 0 and item.variant != comparisons[place - 1].variant))
    return Table(
        f"no_degradation-{slug}",
        f"{group.dataset}: old tasks before minus after the new task",
        columns,
        tuple(rows),
        (
            f"Equivalence margin: {margin:g}, fixed beforehand.",
            VERDICT_NOTE,
            _test_note(comparisons),
            *footer(group),
        ),
    )


def _starred(found: Cell, item: Comparison) -> Cell:
    shown = stats.stars(item.p_holm)
    return replace(found, marks=(shown, *found.marks)) if shown and found.value is not None else found


def _test_cells(item: Comparison) -> dict[str, Cell]:
    lacking = "n/a" if not item.sample.values else "no file"
    return {
        "p": _number(item.p, "n/a"),
        "p_holm": _number(item.p_holm, "n/a"),
        "detectable": _number(item.detectable, "n/a"),
        "rows_error": _number(item.rows.standard_error if item.rows else None, lacking),
        "rows_p_holm": _number(item.p_rows_holm, lacking),
    }


def _number(value: float | None, otherwise: str) -> Cell:
    return Cell(code=otherwise) if value is None else Cell(value)


def _test_note(comparisons: Sequence[Comparison]) -> str:
    family = sum(item.p is not None for item in comparisons)
    return (
        f"Over seeds: paired t-test, Holm over the table's {family} comparisons; detectable: smallest true difference "
        f"found with {stats.POWER:.0%} power at these seeds and this spread. Over test rows: DeLong's paired test on "
        "the mean over seeds, standard error and p (Holm)."
    )
