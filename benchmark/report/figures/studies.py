"""The studies that compare problems: each task as the new one, scarce labels, equal size, relatedness.

Each is found in the records themselves, gives one table and one figure, and answers its question in one sentence,
which stands in the table's caption and over the figure. Problems of one dataset share rows and are no independent
datasets: means over problems bear no interval. Chains have a module of their own, `benchmark.report.figures.chains`.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.analysis.groups import JOINT, Group, Sample, arm_name
from benchmark.report.figures.answers import (
    WIDTH,
    Way,
    caption_above,
    clearly,
    half_width_of,
    how,
    legend,
    light,
    lines,
    mean_of,
    origin,
    sentence,
    shade,
    tall,
    ways,
    where,
)
from benchmark.report.figures.plot import Plot, Row, logarithmic_counts, unique
from benchmark.report.measures import arm_title, cell_of
from benchmark.report.model import Cell, Column, Table
from benchmark.report.model import Row as Line
from benchmark.spec.labels import without_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RHO = re.compile(r"synthetic@rho(-?\d+(?:\.\d+)?)")
SAME_SIZE = 1.5
"""Counts of trained weights belong to one size while the next larger is below this many times the one before."""

Study = tuple[Table, Plot | None]


def studies(groups: Sequence[Group]) -> list[Study]:
    """Tables and figures of all studies that these groups hold."""
    made = [each_task(groups), *scarce_labels(groups), *equal_size(groups), relatedness(groups)]
    return [study for study in made if study is not None]


# ---- each task as the new one -------------------------------------------------------------------------------------


def each_task(groups: Sequence[Group]) -> Study | None:
    """Every way on every problem of datasets that have more than one."""
    by_dataset: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        if len(group.new_tasks) == 1 and without_share(group.dataset)[1] is None:
            by_dataset[group.dataset].append(group)
    problems = [group for found in by_dataset.values() if len({g.new_tasks for g in found}) > 1 for group in found]
    if not problems:
        return None
    said = _answer_each(problems)
    rows = [
        {
            "dataset": Cell(text=group.dataset),
            "task": Cell(text=group.new_tasks[0]),
            **_cells(way),
        }
        for group in problems
        for way in ways(group)
    ]
    table = Table(
        "study_each_task",
        f"Each task as the new one. {said}",
        (Column("dataset", "Dataset", "text"), Column("task", "New task", "text"), *COLUMNS),
        _ruled(rows, "task"),
        (
            MEANS,
            "Problems of one dataset share rows and references: they say how much the answer depends on the task, not "
            f"how sure it is over datasets ({len(by_dataset)} here).",
            *_origin(problems),
        ),
    )
    points = [
        {
            "problem": f"{way.group.dataset}: {way.group.new_tasks[0]}",
            **_point(way, said),
            "arm": group.common_name(way.variant, way.arm),
        }
        for group in problems
        for way in ways(group)
    ]
    return table, Plot("study_each_task", points, draw_each, tall(0.7 + 0.42 * len(problems), said), WIDTH)


def _answer_each(problems: Sequence[Group]) -> str:
    wins: dict[str, int] = defaultdict(int)
    helped = total = 0
    for group in problems:
        gains = {", ".join(way.common_name): way.gain() for way in ways(group) if light(way)}
        known = {name: mean for name, gain in gains.items() if (mean := mean_of(gain)) is not None}
        if known:
            wins[max(known, key=lambda name: known[name])] += 1
            total += 1
            helped += any(clearly(gain, 1) for gain in gains.values())
    if not total:
        return "No problem is complete yet."
    best = max(wins, key=lambda name: wins[name])
    return sentence(
        f"of {total} new tasks {helped} gain {how(problems)} over a model of their own by at least one way that starts "
        f"from stage 0; highest most often is {best} ({wins[best]} of {total})"
    )


def draw_each(drawn: Figure, rows: Sequence[Row]) -> None:
    caption_above(drawn, rows)
    left, right = drawn.subplots(1, 2, sharey=True)
    problems, arms, methods = unique(rows, "problem"), unique(rows, "arm"), unique(rows, "method")
    shapes = "osD^vP<>"
    for axes, name, title in ((left, "gain", "gain over single task"), (right, "degradation", "loss of old tasks")):
        axes.axvline(0, color="#999999", linewidth=0.7)
        for row in rows:
            if row[name] is None:
                continue
            place = arms.index(row["arm"]) * len(methods) + methods.index(row["method"])
            step = (place + 0.5) / (len(arms) * len(methods))
            axes.errorbar(
                row[name], problems.index(row["problem"]) + 0.8 * (step - 0.5), xerr=row[f"{name}_half_width"] or 0,
                color=shade(row["arm"], arms), marker=shapes[methods.index(row["method"]) % len(shapes)], markersize=3,
                elinewidth=0.5,
            )  # fmt: skip
        axes.set_xlabel(title)
    left.set_yticks(range(len(problems)), problems)
    left.invert_yaxis()
    _legend_shapes(drawn, arms, methods, shapes)


def _legend_shapes(drawn: Figure, arms: Sequence[str], methods: Sequence[str], shapes: str) -> None:
    from matplotlib.lines import Line2D

    from benchmark.report.figures.plot import below

    below(
        drawn,
        [Line2D([], [], color=shade(arm, arms), label=arm_title(arm)) for arm in arms]
        + [
            Line2D([], [], color="black", linestyle="", marker=shapes[i % len(shapes)], markersize=3, label=name)
            for i, name in enumerate(methods)
        ],
    )


# ---- scarce labels ------------------------------------------------------------------------------------------------


def scarce_labels(groups: Sequence[Group]) -> list[Study]:
    """Every way at every share of the new task's labels, dataset by dataset."""
    families: dict[tuple, list[tuple[float, Group]]] = defaultdict(list)
    for group in groups:
        dataset, share = without_share(group.dataset)
        families[dataset, *group.identity[1:]].append((1.0 if share is None else share, group))
    several = [sorted(found, key=lambda member: member[0]) for found in families.values() if len(found) > 1]
    return [_scarce_labels(members, len(several) > 1) for members in several]


def _scarce_labels(members: Sequence[tuple[float, Group]], several: bool) -> Study:
    said = _answer_scarce(members)
    rows, points = [], []
    for share, group in members:
        for way in ways(group):
            rows.append(
                {
                    "share": Cell(100 * share, kind="percent"),
                    **_cells(way),
                    "ahead": cell_of(_ahead(way), len(group.seeds)) if way.arm != JOINT else Cell(code="n/a"),
                }
            )
            points.append({"share": 100 * share, **_point(way, said)})
    dataset = without_share(members[0][1].dataset)[0]
    name = f"study_scarce_labels{_ending(dataset, several)}"
    table = Table(
        name,
        f"{dataset}: a share of the labels of {', '.join(members[0][1].new_tasks)}. {said}",
        (
            Column("share", "labels, %", "percent"),
            *COLUMNS,
            Column("ahead", "ahead of joint retraining", signed=True),
        ),
        _ruled(rows, "share"),
        (
            MEANS,
            "Shares are nested: the rows of a smaller one are among those of a larger. One draw of rows for all seeds. "
            "Validation and test labels are whole at every share.",
            *_origin([group for _, group in members]),
        ),
    )
    return table, Plot(name, points, draw_scarce, tall(2.9, said), WIDTH)


def _answer_scarce(members: Sequence[tuple[float, Group]]) -> str:
    """At which shares each way lies ahead of joint retraining and of a model of the new task alone."""
    over_joint: dict[tuple[str, str], list[str]] = {}
    over_single: dict[tuple[str, str], list[str]] = {}
    for share, group in members:
        for way in filter(light, ways(group)):
            over_joint.setdefault(way.name, []).extend([f"{100 * share:g}"] if clearly(_ahead(way), 1) else [])
            over_single.setdefault(way.name, []).extend([f"{100 * share:g}"] if clearly(way.gain(), 1) else [])
    if not over_joint:
        return "No share is complete yet."
    sure = how([group for _, group in members])
    joint, single = (where(found, "no way at any share") for found in (over_joint, over_single))
    return (
        f"{sentence(f'{sure} ahead of joint retraining at these shares of the labels, in %: {joint}')} "
        f"{sentence(f'{sure} ahead of a single-task model: {single}')}"
    )


def _ahead(way: Way) -> Sample:
    """Score of the new task over that of joint retraining of the same method, seed by seed."""
    return way.score().combine(Way(way.group, way.variant, JOINT).score(), lambda mine, theirs: mine - theirs)


def draw_scarce(drawn: Figure, rows: Sequence[Row]) -> None:
    caption_above(drawn, rows)
    left, right = drawn.subplots(1, 2)
    for axes, name, title in ((left, "score", "test score of the new task"), (right, "gain", "gain over single task")):
        axes.set_xscale("log")
        lines(axes, rows, "share", name, apart=0.12)
        logarithmic_counts(axes.xaxis, " %", [row["share"] for row in rows])
        axes.set_xlabel("labels of the new task")
        axes.set_ylabel(title)
    right.axhline(0, color="#999999", linewidth=0.7)
    legend(drawn, rows)


# ---- equal size ---------------------------------------------------------------------------------------------------


def equal_size(groups: Sequence[Group]) -> list[Study]:
    """Ways that train about equally many weights side by side, where an arm was run at several sizes."""
    found = [group for group in groups if any(_several_sizes(group.arms(variant)) for variant in group.variants)]
    problems = Counter(group.dataset for group in found)
    return [_equal_size(group, len(found) > 1, problems[group.dataset] > 1) for group in found]


def _several_sizes(arms: Sequence[str]) -> bool:
    """Whether one method takes part in an arm more than once, with other options."""
    return max(Counter(map(arm_name, arms)).values(), default=0) > 1


def _equal_size(group: Group, several: bool, by_task: bool) -> Study:
    sized = sorted(
        ((count, way) for way in ways(group) if light(way) and (count := _trained(way)) is not None),
        key=lambda found: (found[0], found[1].label),
    )
    classes = size_classes([count for count, _ in sized])
    said = _answer_sizes(sized, classes)
    rows, points = [], []
    for (count, way), size in zip(sized, classes, strict=True):
        rows.append({"size": Cell(float(size)), "trained": Cell(float(count)), **_cells(way)})
        points.append({"trained": count, "size": size, **_point(way, said), "arm": arm_name(way.arm)})
    name = f"study_equal_size{_ending(group.dataset, several)}" + (f"-{'_'.join(group.new_tasks)}" if by_task else "")
    table = Table(
        name,
        f"{group.dataset}: ways that train about equally many weights. {said}",
        (Column("size", "about", "count"), Column("trained", "trained weights", "count"), *COLUMNS),
        _ruled(rows, "size"),
        (
            MEANS,
            "Within a size: the options of an arm that bring its count nearest to what the suite asks for.",
            *_origin([group]),
        ),
    )
    return table, Plot(name, points, draw_sizes, tall(2.9, said), WIDTH)


def size_classes(counts: Sequence[int]) -> list[int]:
    """For ascending counts the size that each belongs to: the median of its neighbours without a gap of SAME_SIZE."""
    runs: list[list[int]] = []
    for count in counts:
        if runs and count < SAME_SIZE * runs[-1][-1]:
            runs[-1].append(count)
        else:
            runs.append([count])
    return [sorted(run)[len(run) // 2] for run in runs for _ in run]


def _trained(way: Way) -> int | None:
    found = [way.group.find(way.variant, way.arm, seed) for seed in way.group.seeds]
    return next((run.params.trainable for run in found if run is not None and run.params), None)


def _answer_sizes(sized: Sequence[tuple[int, Way]], classes: Sequence[int]) -> str:
    best: dict[int, tuple[float, str]] = {}
    for (_, way), size in zip(sized, classes, strict=True):
        if (value := mean_of(way.score())) is not None:
            best[size] = max(best.get(size, (-math.inf, "")), (value, way.label))
    if not best:
        return "No run is complete yet."
    parts = [f"{name} at about {size:,} ({value:.4f})" for size, (value, name) in sorted(best.items())]
    return sentence(f"highest score of the new task among ways of one size: {'; '.join(parts)}")


def draw_sizes(drawn: Figure, rows: Sequence[Row]) -> None:
    caption_above(drawn, rows)
    axes = drawn.add_subplot()
    axes.set_xscale("log")
    lines(axes, rows, "trained", "score")
    logarithmic_counts(axes.xaxis)
    axes.set_xlabel("trained weights")
    axes.set_ylabel("test score of the new task")
    legend(drawn, rows)


# ---- relatedness --------------------------------------------------------------------------------------------------


def relatedness(groups: Sequence[Group]) -> Study | None:
    """Every way against the correlation rho of the new task's weights with the first old task's."""
    dial = sorted(
        ((float(match[1]), group) for group in groups if (match := RHO.fullmatch(group.dataset))),
        key=lambda found: found[0],
    )
    if len({rho for rho, _ in dial}) < 2:
        return None
    said = _answer_related(dial)
    rows, points = [], []
    for rho, group in dial:
        for way in ways(group):
            rows.append({"rho": Cell(text=f"{rho:+.2f}"), **_cells(way)})
            points.append({"rho": rho, **_point(way, said)})
    table = Table(
        "study_relatedness",
        f"Generated data: how alike the new task is to an old one. {said}",
        (Column("rho", "rho", "text"), *COLUMNS),
        _ruled(rows, "rho"),
        (
            MEANS,
            "rho = 1: the new task is the first old one over again; 0: unrelated; -1: opposed. Rows and old labels are "
            "the same at every rho.",
            *_origin([group for _, group in dial]),
        ),
    )
    return table, Plot("study_relatedness", points, draw_related, tall(2.9, said), WIDTH)


def _answer_related(dial: Sequence[tuple[float, Group]]) -> str:
    losing: dict[tuple[str, str], list[str]] = {}
    for rho, group in dial:
        for way in ways(group):
            losing.setdefault(way.name, []).extend([f"{rho:+g}"] if clearly(way.gain(), -1) else [])
    if not losing:
        return "No rho is complete yet."
    sure = how([group for _, group in dial])
    return sentence(f"{sure} below a model of the new task alone, by rho: {where(losing, 'no way at any rho')}")


def draw_related(drawn: Figure, rows: Sequence[Row]) -> None:
    caption_above(drawn, rows)
    left, right = drawn.subplots(1, 2)
    for axes, name, title in ((left, "gain", "gain over single task"), (right, "degradation", "loss of old tasks")):
        axes.axhline(0, color="#999999", linewidth=0.7)
        lines(axes, rows, "rho", name, apart=0.08)
        axes.set_xlabel("opposed   -   rho   -   identical")
        axes.set_ylabel(title)
    legend(drawn, rows)


# ---- what they share ----------------------------------------------------------------------------------------------

COLUMNS = (
    Column("method", "Method", "text"),
    Column("arm", "Arm", "text"),
    Column("score", "new task"),
    Column("gain", "gain over single task", signed=True),
    Column("degradation", "loss of old tasks", signed=True),
)
MEANS = (
    "Mean over seeds with a 95 % interval: scores by Student t over seeds, differences (gain, loss, lead) by seeds and "
    "test rows together; clearly: the interval does not hold 0. Loss of old tasks: stage 0 minus after, mean over the "
    "old tasks."
)


def _origin(groups: Sequence[Group]) -> tuple[str, ...]:
    return origin([record for group in groups for record in group.records])


def _ending(dataset: str, several: bool) -> str:
    """What parts the files of several datasets."""
    return f"-{re.sub(r'[^A-Za-z0-9.]+', '_', dataset)}" if several else ""


def _cells(way: Way) -> dict[str, Cell]:
    planned = len(way.group.seeds)
    return {
        "method": Cell(text=way.group.labels[way.variant]),
        "arm": Cell(text=arm_title(way.arm)),
        "score": cell_of(way.score(), planned),
        "gain": cell_of(way.gain(), planned),
        "degradation": cell_of(way.degradation(), planned),
    }


def _point(way: Way, said: str) -> Row:
    point: Row = {"answer": said, "method": way.group.labels[way.variant], "arm": way.arm}
    for name, sample in (("score", way.score()), ("gain", way.gain()), ("degradation", way.degradation())):
        point[name], point[f"{name}_half_width"] = mean_of(sample), half_width_of(sample)
    return point


def _ruled(rows: Sequence[dict[str, Cell]], by: str) -> tuple[Line, ...]:
    """Rows with a rule where the value of a column changes."""
    return tuple(
        Line(cells, rule_above=place > 0 and cells[by] != rows[place - 1][by]) for place, cells in enumerate(rows)
    )
