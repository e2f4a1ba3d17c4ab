"""Published numbers against ours, with a verdict (reached, above, not reached, open, not comparable) and why."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.analysis.groups import JOINT, SCRATCH, SINGLE_TASK, Group, Sample, Variant
from benchmark.analysis.measures import before_and_after, finder, forward, paper_trained, share, total, trained
from benchmark.report.measures import arm_title, cell, exact, footer
from benchmark.report.model import Cell, Column, Kind, Row, Table

FILE = Path(__file__).with_name("published.toml")

KINDS: Mapping[str, Kind] = {
    "trained": "count",
    "paper_trained": "count",
    "paper_share": "percent",
    "forward_share": "percent",
}
TOLERANCE = 0.002
"""What machines and libraries of different kinds may differ by at the same seed (as in `verify`)."""

TWO_TASK = "two_task"
"""The profile that trains the old tasks alone, with the new task's column among the inputs."""

TITLES = {
    "auc": "AUC",
    "change": "AUC change",
    "trained": "trained parameters",
    "paper_trained": "parameters, paper's count",
    "paper_share": "parameters, paper's %",
    "forward_share": "forward FLOPs, %",
}


@dataclass(frozen=True)
class Printed:
    """A number as it was printed: its value, half a unit of its last digit, and its standard deviation if given."""

    value: float
    rounding: float
    deviation: float | None


def published(group: Group, slug: str) -> Table | None:
    """Every published number for the group's problem beside ours; None if nothing was published for it.

    A problem is a dataset with its old and new tasks: another task taken in, or other old tasks, is another problem,
    and a published number of the same task says nothing about it.
    """
    content = _content()
    base, _, profile = group.dataset.partition("@")
    tasks = content["tasks"].get(base)
    if tasks and not _same_problem(group, tasks):
        return None
    rows: list[Row] = []
    for block in content["block"]:
        if block["dataset"] != base:
            continue
        first = True
        for name, values in block["methods"].items():
            for place, (number, text) in enumerate(zip(block["tasks"], values, strict=True)):
                rows.append(_row(group, block, name, number, text, place, profile, first))
                first = False
    if not rows:
        return None
    columns = (
        Column("title", "Published as", "text", wrap=True),
        Column("source", "Source", "text"),
        Column("method", "Method", "text", wrap=True),
        Column("arm", "Arm", "text"),
        Column("task", "Task", "text"),
        Column("quantity", "Quantity", "text", wrap=True),
        Column("published", "published", "text"),
        Column("ours", "ours"),
        Column("difference", "ours − published", signed=True),
        Column("verdict", "Verdict", "text"),
        Column("why", "Why", "text", wrap=True),
    )
    return Table(
        f"published-{slug}",
        f"{group.dataset}: published numbers and ours",
        columns,
        tuple(rows),
        (
            counted(rows),
            SOURCE_NOTE,
            REACHED_NOTE,
            content["not_found"]["text"],
            *footer(group),
        ),
    )


def _same_problem(group: Group, tasks: list[str]) -> bool:
    """Whether the group's tasks are the published ones, of which the last is the new one."""
    here = [*group.old_tasks, *group.new_tasks]
    return here == tasks[: len(here)] and list(group.new_tasks) in ([], tasks[-1:])


SOURCE_NOTE = (
    "Source: P* the paper (arXiv:2408.17214) as relayed by a third-party reproduction, R that reproduction, R! the "
    "same where suspect. published ±: standard deviation over its seeds."
)
REACHED_NOTE = (
    "reached: the score's whole interval lies above the published value less .002, a count or share rounds to it (up "
    "to rounding: within one unit of the last printed digit); above: all of it lies more than .002 above; not reached: "
    "all of it lies below; open: the noise of the seeds decides nothing. Why: for numbers that are off the likely "
    "cause, which nobody tested unless it says so; for not comparable ones the first condition that differs, and the "
    "difference judges nothing."
)
WORDS = ("reached", "above", "not reached", "open", "not comparable")


def counted(rows: Sequence[Row]) -> str:
    """How many numbers got which verdict, in a sentence."""
    found = Counter(_word(row) for row in rows)
    runs = sum(row.cells["ours"].value is not None for row in rows)
    spoken = ", ".join(f"{found[word]} {word}" for word in WORDS if found[word])
    return f"{len(rows)} published numbers, {runs} with a run of ours: {spoken}."


def _word(row: Row) -> str:
    return (row.cells["verdict"].text or "").partition(",")[0]


def parse(text: str) -> Printed:
    """``0.9448 +- 0.0016``, ``21K`` or ``9.3`` with the rounding that its digits imply."""
    match = re.fullmatch(r"([+-]?)(\d+)(?:\.(\d+))?(K?)(?: \+- (\d+\.\d+))?", text)
    if match is None:
        raise ValueError(f"{FILE.name}: cannot read the number {text!r}")
    sign, whole, decimals, kilo, deviation = match.groups()
    scale = 1000.0 if kilo else 1.0
    value = float(f"{sign}{whole}.{decimals or 0}") * scale
    return Printed(value, 0.5 * 10.0 ** -len(decimals or "") * scale, float(deviation) if deviation else None)


def verdict(quantity: str, theirs: Printed, ours: Cell) -> tuple[str, str]:
    """One of `WORDS` for conditions that agree, and for open ones why: a rounding is no miss, noise no hit.

    A score is reached if its whole interval lies above the published value less `TOLERANCE`, "above" if it lies that
    much over it, not reached if all of it lies below; what the noise of the seeds leaves open stays open. A count may
    differ by one unit of the last printed digit: papers round before they divide.
    """
    assert ours.value is not None
    if quantity not in ("auc", "change"):
        distance = abs(ours.value - theirs.value)
        if distance <= theirs.rounding * (1 + 1e-9):
            return "reached", ""
        near = distance <= 2 * theirs.rounding * (1 + 1e-9)
        return "reached, up to rounding" if near else "not reached", ""
    if ours.seeds:
        return "open", "seeds unstable"
    if ours.half_width is None:
        return "open", "one seed"
    low, high = ours.value - ours.half_width, ours.value + ours.half_width
    if high < theirs.value - theirs.rounding:
        return "not reached", ""
    if low > theirs.value + theirs.rounding + TOLERANCE:
        return "above", ""
    if low >= theirs.value - theirs.rounding - TOLERANCE:
        return "reached", ""
    return "open", f"± {ours.half_width:.2g} of the seeds"


def _cause(block: Mapping[str, Any], method: str, word: str) -> str:
    """The likely reason for a number that is off, from the file; "" if it knows none."""
    quantity = block.get("quantity", "auc")
    side = {"not reached": "below", "above": "above"}.get(word, "")
    if quantity not in ("auc", "change"):
        side = "" if word == "reached" else "other"
    for cause in _content()["cause"] if side else ():
        fits = {"quantity": quantity, "arm": block["arm"]}
        named = all(cause.get(name, value) == value for name, value in fits.items())
        if cause["side"] == side and named and method in cause.get("method", method).split():
            return str(cause["text"])
    return ""


def _row(
    group: Group,
    block: Mapping[str, Any],
    name: str,
    number: int,
    text: str,
    place: int,
    profile: str,
    first: bool,
) -> Row:
    method, _, word = name.partition(" ")
    quantity = block.get("quantity", "auc")
    kind = KINDS.get(quantity, "score")
    theirs = parse(text)
    known = (*group.old_tasks, *group.new_tasks)
    task = known[number - 1] if number <= len(known) else None
    arm = SCRATCH if method == SINGLE_TASK else block["arm"]
    variant = _variant(group, method, word)
    sample = _ours(group, variant, arm, task, quantity) if variant and task else None
    if sample is None:
        ours = Cell(code="n/a")
    else:
        ours = replace(cell(group, sample) if kind == "score" else exact(sample), kind=kind)
    if variant is None or task is None or ours.code == "n/a":
        judged, why = "not comparable", "no such task here" if task is None else "no such run here"
    elif ours.value is None:
        judged, why = "not comparable", f"ours is {ours.code}"
    elif reason := _not_comparable(group, block, profile) or _other_config(group, variant):
        judged, why = "not comparable", reason
    else:
        judged, why = verdict(quantity, theirs, ours)
        why = why or _cause(block, method, judged)
    title = group.titles.get(method) or method
    return Row(
        {
            "title": Cell(text=block["title"] + (f" (seed {place + 1})" if block.get("per_seed") else "")),
            "source": Cell(text=block["source"]),
            "method": Cell(text=f"{title} ({word})" if word else title),
            "arm": Cell(text=arm_title(arm)),
            "task": Cell(text=task or f"task {number}"),
            "quantity": Cell(text=TITLES[quantity]),
            "published": Cell(text=text.replace(" +- ", " ± ")),
            "ours": ours,
            "difference": Cell(code="n/a") if ours.value is None else Cell(ours.value - theirs.value, kind=kind),
            "verdict": Cell(text=judged),
            "why": Cell(text=why) if why else Cell(code="n/a"),
        },
        rule_above=first,
    )


def _not_comparable(group: Group, block: Mapping[str, Any], profile: str) -> str | None:
    """Why the number was measured under other conditions, or None."""
    if group.track != "published":
        return "here the configs were searched for"
    if block.get("two_task") and profile == TWO_TASK:
        profile = ""
    elif profile == TWO_TASK:
        return "here the old tasks are trained alone"
    if block.get("profile", "") != profile:
        return f"other rows (there {block.get('profile') or 'all'}, here {profile or 'all'})"
    if block.get("two_task") and group.new_tasks:
        return f"there {' and '.join(group.new_tasks)} is an input feature (run {group.dataset}@{TWO_TASK})"
    here = json.loads(group.budget)
    for name, value in block.get("budget", {}).items():
        mine = here.get(name)
        if mine is None and name.startswith("new_task_"):
            mine = here.get(name.removeprefix("new_task_"))
        if mine != value:
            return f"{name.replace('_', ' ')} {value} there, {mine} here"
    if "budget" not in block and block.get("quantity", "auc") in ("auc", "change"):
        return block.get("doubt", "what they were trained with is not stated")
    if block.get("per_seed"):
        return "other seeds; a single seed is no target"
    if block.get("doubt"):
        return str(block["doubt"])
    return None


def _other_config(group: Group, variant: Variant) -> str | None:
    """What was set in place of the method's own values, and is no part of what the number is published for, or None."""
    said = [f"{name} {own} there, {value} here" for name, (value, own) in group.set_values(variant).items()]
    return said[0] if said else None


def _ours(group: Group, variant: Variant, arm: str, task: str, quantity: str) -> Sample:
    run, full = finder(group, variant, arm, task), finder(group, variant, JOINT, task)
    if quantity == "auc":
        return group.score(variant, arm, task, "auc")
    if quantity == "change":
        before, after = before_and_after(group, variant, arm, task)
        return after.combine(before, lambda a, b: a - b)
    if quantity == "forward_share":
        return share(group, run, full, forward, forward)
    if quantity == "paper_share":
        return share(group, run, full, paper_trained, total)
    return group.sample(run, trained if quantity == "trained" else paper_trained)


def _variant(group: Group, method: str, word: str) -> Variant | None:
    """The method's row; with ``name=value`` the one whose config says so."""
    found = [variant for variant in group.variants if variant.method == method]
    if word:
        name, _, value = word.partition("=")
        found = [v for v in found if str(json.loads(v.config).get(name)) == value]
    return group.main_variant(found)


@cache
def _content() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))
