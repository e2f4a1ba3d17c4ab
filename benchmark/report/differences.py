"""Tables of the tests: paired differences to the reference, across arms, and harm to the old tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmark.analysis import stats
from benchmark.analysis.comparisons import Comparison, across_arms
from benchmark.analysis.groups import Group, Variant, arm_name
from benchmark.analysis.measures import adds_to_frozen, finder, reference_row, trained
from benchmark.report.measures import arm_title, cell, exact, footer, label
from benchmark.report.model import Cell, Column, Row, Table
from benchmark.report.verdicts import VERDICTS, words

TESTED = (
    Column("error_seeds", "seeds", group="standard error"),
    Column("error_rows", "rows", group="standard error"),
    Column("p", "p", "p"),
    Column("detectable", "detectable"),
    Column("verdict", "verdict", "text"),
)
EQUAL_WEIGHTS = 1.25
"""Trained weights within this factor count as equal."""


def paired_differences(group: Group, slug: str, comparisons: Sequence[Comparison]) -> Table:
    """Each row's score minus the reference method's: same arm, task, split, data order and seed."""
    reference = group.labels[group.reference] if group.reference else "no reference"
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("task", "Task", "text"),
        Column("difference", "difference", signed=True),
        Column("worst", "at most worse by", signed=True),
        *TESTED,
    )
    rows = []
    for place, item in enumerate(comparisons):
        cells = {
            "method": label(group, item.variant),
            "arm": Cell(text=arm_title(item.arm)),
            "task": Cell(text=item.task or "(no name)"),
            "difference": starred(cell(group, item.sample), item),
            **_tested(item),
        }
        rows.append(Row(cells, rule_above=place > 0 and item.variant != comparisons[place - 1].variant))
    return Table(
        f"paired_differences-{slug}",
        f"{group.dataset}: score minus that of {reference}, same seed",
        columns,
        tuple(rows),
        (
            f"Positive: better than {reference}. A single-task model stands against each arm of {reference}.",
            *_notes(group, comparisons),
        ),
    )


def no_degradation(group: Group, slug: str, comparisons: Sequence[Comparison]) -> Table:
    """How much worse is an old task at most after the new task, and is that shown to be below the margin?"""
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("task", "Task", "text"),
        Column("degradation", "degradation", signed=True),
        Column("worst", "at most worse by", signed=True),
        Column("margin", "margin"),
        *TESTED,
    )
    rows = []
    for place, item in enumerate(comparisons):
        cells = {
            "method": label(group, item.variant),
            "arm": Cell(text=arm_title(item.arm)),
            "task": Cell(text=item.task or "(no name)"),
            "degradation": cell(group, item.sample),
            "margin": Cell(item.margin),
            **_tested(item),
        }
        rows.append(Row(cells, rule_above=place > 0 and item.variant != comparisons[place - 1].variant))
    return Table(
        f"no_degradation-{slug}",
        f"{group.dataset}: old tasks before minus after the new task",
        columns,
        tuple(rows),
        ("degradation: positive is worse than before.", *_notes(group, comparisons)),
    )


def every_arm(group: Group, task: str, slug: str) -> Table | None:
    """Every way of taking the new task in against one row, with the weights that each trains."""
    reference = reference_row(group)
    if reference is None:
        return None
    name = f"{group.labels[reference[0]]}, {arm_title(reference[1])}"
    own = _trained(group, *reference, task)
    found = across_arms(group, task, reference)
    rows = []
    for item in sorted(found, key=lambda item: _trained(group, item.variant, item.arm, task) or 0):
        weights = _trained(group, item.variant, item.arm, task)
        cells = {
            "method": label(group, item.variant),
            "arm": Cell(text=arm_title(item.arm)),
            "trained": exact(group.sample(finder(group, item.variant, item.arm, task), trained)),
            "times": Cell(weights / own) if weights and own else Cell(code="n/a"),
            "weights": Cell(text=_compared(weights, own)),
            "difference": starred(cell(group, item.sample), item),
            **_tested(item),
        }
        rows.append(Row(cells))
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("trained", "trained", "count", group="weights"),
        Column("times", "times", "percent", group="weights"),
        Column("weights", "compared", "text", group="weights"),
        Column("difference", "difference", signed=True),
        Column("worst", "at most worse by", signed=True),
        *TESTED,
    )
    stem = "across_arms" if len(group.new_tasks) == 1 else f"across_arms-{task}"
    return Table(
        f"{stem}-{slug}",
        f"{group.dataset}: {task} in every arm minus {name}",
        columns,
        tuple(rows),
        (
            f"Positive: better than {name}. weights: those trained for {task}, as a multiple of that row's "
            f"{own or 0:,.0f}; equal: within a factor of {EQUAL_WEIGHTS:g}.",
            *_additions(found),
            *_notes(group, found),
        ),
    )


def _additions(found: Sequence[Comparison]) -> list[str]:
    """What has to be known to read a light row of the method that it is compared with."""
    arms = dict.fromkeys(arm_title(arm_name(item.arm)) for item in found if adds_to_frozen(item.arm))
    named = ", ".join(arms)
    return [f"{named}: trained beside all that the frozen row of the same method trains."] if arms else []


def starred(found: Cell, item: Comparison) -> Cell:
    """The cell with the stars of its own test."""
    shown = stats.stars(item.p)
    return replace(found, marks=(shown, *found.marks)) if shown and found.value is not None else found


def _trained(group: Group, variant: Variant, arm: str, task: str) -> float | None:
    return exact(group.sample(finder(group, variant, arm, task), trained)).value


def _compared(weights: float | None, own: float | None) -> str:
    if not weights or not own:
        return "unknown"
    ratio = weights / own
    return "fewer" if ratio < 1 / EQUAL_WEIGHTS else "more" if ratio > EQUAL_WEIGHTS else "equal"


def _tested(item: Comparison) -> dict[str, Cell]:
    found = item.estimate if item.tested else None
    lacking = "n/a" if item.fact or found is None else "no rows"
    return {
        "worst": _number(item.worst, "n/a"),
        "error_seeds": _number(found.seed_error if found else None, "n/a"),
        "error_rows": _number(found.row_error if found else None, lacking),
        "p": _number(item.p, "n/a"),
        "detectable": _number(item.detectable, "n/a"),
        "verdict": Cell(text=words(item.verdict())),
    }


def _number(value: float | None, otherwise: str) -> Cell:
    return Cell(code=otherwise) if value is None else Cell(value)


def _notes(group: Group, comparisons: Sequence[Comparison]) -> list[str]:
    sizes = sorted({item.family for item in comparisons if item.tested})
    spoken = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}" if sizes else "no"
    return [
        VERDICTS,
        f"at most worse by: bound of the {stats.LEVEL:.0%} interval that covers together with those of its family, "
        f"which is the rows of one arm and task that a test is made for ({spoken} tests; Bonferroni). p: of the same "
        f"test. detectable: smallest true difference that this test finds with {stats.POWER:.0%} power.",
        *footer(group),
    ]
