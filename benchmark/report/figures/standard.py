"""Figures from a group of comparable records. Each is drawn from the rows that are written beside it as CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from benchmark.analysis.comparisons import Comparison
from benchmark.analysis.front import standings
from benchmark.analysis.groups import PRIMARY, SCRATCH, STAGE0, Group, Variant
from benchmark.analysis.measures import finder, trained
from benchmark.analysis.stats import Interval, mean
from benchmark.analysis.verdicts import Outcome
from benchmark.report.figures.answers import LINES, caption_above
from benchmark.report.figures.plot import (
    Plot,
    Row,
    area,
    below,
    colour,
    few_ticks,
    legend_below,
    legend_height,
    logarithmic_counts,
    palette,
    rank_lines,
    scatter_rows,
    short,
    short_count,
    unique,
)
from benchmark.report.measures import arm_title, exact, metric_title
from benchmark.report.verdicts import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def trade_off(group: Group, task: str, slug: str) -> Plot | None:
    """Degradation of the old task that loses most against the gain of the new one, with the front of both (as in table
    pareto); area of a marker: trained parameters."""
    rows: list[Row] = []
    for entry in standings(group, task, slug):
        variant, arm, lost, gained = entry.variant, entry.arm, entry.lost, entry.gained
        loss, gain = lost.interval(), gained.interval()
        size = exact(group.sample(finder(group, variant, arm, task), trained)).value
        if loss is None or gain is None or size is None:
            continue
        rows.append(
            {
                "method": group.labels[variant], "place": group.variants.index(variant), "arm": arm,
                "gain": gained.centre, "gain_half_width": None if gained.unstable else gain.half_width,
                "degradation": lost.centre, "degradation_half_width": None if lost.unstable else loss.half_width,
                "trained_parameters": int(size), "n": min(gain.n, loss.n), "front": entry.dominated_by == 0,
            }
        )  # fmt: skip
    ahead = [row for row in rows if row["front"]]
    answer = f"{len(ahead)} of {len(rows)} ways are on the front: {_listed(ahead)}."
    return _captioned(_name("trade_off", group, task, slug), rows, draw_trade_off, _height(3.0, rows), answer)


NAMED = 3


def _listed(rows: Sequence[Row]) -> str:
    """The first few rows by method and arm, and how many more there are."""
    names = [_named(row) for row in rows[:NAMED]]
    return "; ".join(names) + (f" and {len(rows) - NAMED} more" if len(rows) > NAMED else "")


def _named(row: Row) -> str:
    return short(row["method"]) + (f", {arm_title(row['arm'])}" if row["arm"] != SCRATCH else "")


def _captioned(
    name: str, rows: list[Row], draw: Callable[[Figure, Sequence[Row]], None], height: float, answer: str
) -> Plot | None:
    """The plot with its finding in every row, where the drawing and readers of the data find it."""
    if not rows:
        return None
    return Plot(name, [{**row, "answer": answer} for row in rows], draw, height + CAPTION_INCHES)


CAPTION_INCHES = 0.35


def draw_trade_off(drawn: Figure, rows: Sequence[Row]) -> None:
    axes = drawn.add_subplot()
    methods, arms = palette(rows), unique(rows, "arm")
    largest = max(row["trained_parameters"] for row in rows)
    sizes = [area(row["trained_parameters"], largest) for row in rows]
    scatter_rows(
        axes, rows, ("degradation", "gain"), ("degradation_half_width", "gain_half_width"), methods, arms, sizes
    )
    ahead = sorted((row["degradation"], row["gain"]) for row in rows if row["front"])
    steps = [place for place in ahead for _ in (0, 1)]
    axes.plot(
        [x for x, _ in steps][1:], [y for _, y in steps][:-1], color="black", linewidth=0.9, linestyle="--", zorder=2.5
    )
    axes.axvline(0, color="#888888", linewidth=0.6, zorder=1)
    axes.axhline(0, color="#888888", linewidth=0.6, zorder=1)
    _split_scale(axes, [row["degradation"] for row in rows])
    axes.set_xlabel("worst degradation of an old task (smaller is\nbetter; logarithmic beyond .001)")
    axes.set_ylabel("gain of the new task (larger is better)")
    axes.margins(0.12)
    legend_below(drawn, methods, arms, [largest / 100, largest / 10, largest], largest)
    caption_above(drawn, rows)


def _split_scale(axes: Axes, values: Sequence[float]) -> None:
    """Linear to .001, logarithmic beyond: one that forgets all must not press the others onto a line."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = min(-0.002, 1.6 * min(values)), max(0.002, 1.6 * max(values))
    axes.set_xscale("symlog", linthresh=0.001, linscale=1.0)
    ticks = [sign * 10.0**power for power in range(-3, 1) for sign in (-1, 1) if low < sign * 10.0**power < high]
    axes.xaxis.set_major_locator(FixedLocator([0.0, *ticks]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(low, high)


def parameters(group: Group, task: str, slug: str) -> Plot | None:
    """Trained parameters against the new task's score."""
    rows: list[Row] = []
    for variant in group.variants:
        for arm in group.arms(variant):
            found = group.score(variant, arm, task).interval()
            size = exact(group.sample(finder(group, variant, arm, task), trained)).value
            if found is not None and size:
                rows.append(
                    {
                        "method": group.labels[variant], "place": group.variants.index(variant), "arm": arm,
                        "trained_parameters": int(size),
                        "score": found.mean, "score_half_width": found.half_width, "n": found.n,
                        "metric": metric_title(group, task), "task": task,
                    }
                )  # fmt: skip
    name = _name("parameters", group, task, slug)
    return _captioned(name, rows, draw_parameters, _height(2.6, rows), _cheapest(rows)) if rows else None


def _cheapest(rows: Sequence[Row]) -> str:
    """Who has the highest mean, and who with a tenth of its weights."""

    def spoken(row: Row) -> str:
        return f"{_named(row)} ({row['score']:.4f}, {short_count(row['trained_parameters'])} weights)"

    best = max(rows, key=lambda row: row["score"])
    light = [row for row in rows if row["trained_parameters"] <= best["trained_parameters"] / 10]
    found = f"Highest mean of {best['task']}: {spoken(best)}; with at most a tenth of its weights: "
    return found + (f"{spoken(max(light, key=lambda row: row['score']))}." if light else "nobody.")


def draw_parameters(drawn: Figure, rows: Sequence[Row]) -> None:
    axes = drawn.add_subplot()
    methods, arms = palette(rows), unique(rows, "arm")
    scatter_rows(
        axes, rows, ("trained_parameters", "score"), ("", "score_half_width"), methods, arms, [30.0] * len(rows)
    )
    axes.set_xscale("log")
    logarithmic_counts(axes.xaxis)
    axes.set_xlabel("trained parameters")
    axes.set_ylabel(f"{rows[0]['metric']} of {rows[0]['task']}")
    axes.margins(0.08)
    legend_below(drawn, methods, arms)
    caption_above(drawn, rows)


def forest(group: Group, slug: str, comparisons: Sequence[Comparison]) -> Plot | None:
    """Paired differences to the reference with their intervals, one line each."""
    rows: list[Row] = []
    for item in sorted(comparisons, key=lambda c: (c.arm != STAGE0, c.arm, c.task)):
        found = item.sample.interval()
        if found is not None and group.reference is not None:
            rows.append(
                {
                    "arm": item.arm, "task": item.task, "method": group.labels[item.variant],
                    "difference": found.mean, "half_width": _adjusted(item), "n": found.n,
                    "verdict": words(item.verdict()), "reference": group.labels[group.reference],
                }
            )  # fmt: skip
    panels = len({(row["arm"], row["task"]) for row in rows})
    height = min(12.0, 0.8 + 0.46 * panels + 0.14 * len(rows))
    outcomes = Counter(item.verdict().outcome for item in comparisons)
    counts = [outcomes[Outcome.WORSE], outcomes[Outcome.BETTER]]
    reference = short(rows[0]["reference"]) if rows else ""
    answer = (
        f"Of {len(rows)} comparisons with {reference} {counts[0]} are worse and {counts[1]} better; the other "
        f"{len(rows) - sum(counts)} are not told apart."
    )
    return _captioned(f"forest-{slug}", rows, draw_forest, height, answer)


def _adjusted(item: Comparison) -> float | None:
    """Half of the interval that covers together with those of its family: the one that the verdict goes by."""
    return None if item.bounds is None else (item.bounds[1] - item.bounds[0]) / 2


def draw_forest(drawn: Figure, rows: Sequence[Row]) -> None:
    panels = list(dict.fromkeys((row["arm"], row["task"]) for row in rows))
    members = [[row for row in rows if (row["arm"], row["task"]) == panel] for panel in panels]
    all_axes = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=[len(lines) + 0.6 for lines in members])[
        :, 0
    ]
    size = 7 if len(rows) <= 60 else 4
    for axes, (arm, task), lines in zip(all_axes, panels, members, strict=True):
        shades = {"better": "#009E73", "worse": "#D55E00"}
        rank_lines(
            axes, lines, "difference", [shades.get(row["verdict"].split()[0].strip(","), "#555555") for row in lines]
        )
        axes.axvline(0, color="#888888", linewidth=0.8, zorder=1)
        axes.set_yticks(range(len(lines)), [short(row["method"]) for row in lines], fontsize=size)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_title(f"{task}, {arm_title(arm)}", loc="left", pad=2)
        axes.grid(axis="y", visible=False)
        few_ticks(axes)
    drawn.supxlabel(
        f"score minus that of {short(rows[0]['reference'])} (larger is better);\neach axis its own scale, intervals "
        "adjusted for the rows of a panel", fontsize=6,
    )  # fmt: skip
    caption_above(drawn, rows)


MOST_EPOCHS = 500
"""Of a curve: more cannot be told apart at column width, and a hundred thousand would take minutes to draw."""


def curves(group: Group, slug: str) -> Plot | None:
    """Validation score by epoch: mean over the seeds, band from the lowest to the highest seed."""
    rows: list[Row] = []
    for arm, task in _curve_panels(group):
        for variant in group.variants:
            own = SCRATCH if _is_scratch(group, variant) else arm
            found = list(_validation(group, variant, own, task).items())
            for epoch, scores in found[:: -(-len(found) // MOST_EPOCHS) or 1]:
                rows.append(
                    {
                        "arm": arm, "task": task, "method": group.labels[variant],
                        "place": group.variants.index(variant), "epoch": epoch,
                        "mean": mean(scores), "low": min(scores), "high": max(scores), "n": len(scores),
                    }
                )  # fmt: skip
    panels = len({(row["arm"], row["task"]) for row in rows})
    height = 0.5 + 1.15 * panels + _legend_height(rows)
    return _captioned(f"curves-{slug}", rows, draw_curves, height, _still_rising(rows))


def _still_rising(rows: Sequence[Row]) -> str:
    """How many curves have their best mean at the end: there the budget ends before training does."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault((row["arm"], row["task"], row["method"]), []).append(row)
    rising = sum(max(points, key=lambda p: p["mean"])["epoch"] == points[-1]["epoch"] for points in found.values())
    said = "the budget ends before training does" if 2 * rising > len(found) else "most had levelled off before"
    return f"{rising} of {len(found)} curves are highest in their last epoch: {said}."


def _stroke(place: int) -> dict[str, Any]:
    """Line and marker by a method's place: with the colour, which repeats after eight, no two of 32 look alike."""
    return {"linestyle": LINES[place % len(LINES)], "marker": "os^DvPX<"[place // len(LINES) % 8], "markersize": 2.5}


def draw_curves(drawn: Figure, rows: Sequence[Row]) -> None:
    panels = list(dict.fromkeys((row["arm"], row["task"]) for row in rows))
    methods = palette(rows)
    all_axes = drawn.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (arm, task) in zip(all_axes, panels, strict=True):
        for method in unique(rows, "method"):
            points = [row for row in rows if (row["arm"], row["task"], row["method"]) == (arm, task, method)]
            # Where early stopping has ended some seeds, the mean is over other seeds than before: no line there.
            most = max((point["n"] for point in points), default=0)
            points = [point for point in points if point["n"] == most]
            epochs = [point["epoch"] for point in points]
            place = methods.index(method)
            axes.plot(
                epochs, [point["mean"] for point in points], color=colour(method, methods), **_stroke(place),
                markevery=max(1, len(epochs) // 8),
            )  # fmt: skip
            axes.fill_between(
                epochs, [p["low"] for p in points], [p["high"] for p in points], color=colour(method, methods),
                alpha=0.15, linewidth=0,
            )  # fmt: skip
        axes.set_title(f"{task}, {arm_title(arm)}", loc="left", pad=2)
        axes.xaxis.get_major_locator().set_params(integer=True)
    all_axes[-1].set_xlabel("epoch")
    drawn.supylabel("validation score", fontsize=8)
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour(m, methods), label=short(m), **_stroke(i)) for i, m in enumerate(methods) if m
    ]
    below(drawn, handles)
    caption_above(drawn, rows)


def variants(group: Group, slug: str) -> list[Plot]:
    """Scores of each method's variants (form of the paper's Figures 4 to 6)."""
    made = []
    for method in dict.fromkeys(variant.method for variant in group.variants):
        own = [variant for variant in group.variants if variant.method == method]
        if len(own) < 2:
            continue
        rows: list[Row] = []
        arms = list(dict.fromkeys(arm for variant in own for arm in group.arms(variant) if arm != SCRATCH))
        for arm, tasks in [(STAGE0, group.old_tasks), *((arm, group.new_tasks) for arm in arms)]:
            for task in tasks:
                for variant in own:
                    found = group.score(variant, arm, task).interval()
                    if found is not None:
                        rows.append({"arm": arm, "task": task, "method": group.labels[variant], **_spread(found)})
        panels = len({(row["arm"], row["task"]) for row in rows})
        name = "".join(c if c.isalnum() else "_" for c in method)
        height = min(12.0, 0.7 + 0.4 * panels + 0.14 * len(rows))
        if rows:
            made.append(Plot(f"variants-{name}-{slug}", rows, draw_variants, height))
    return made


def draw_variants(drawn: Figure, rows: Sequence[Row]) -> None:
    panels = list(dict.fromkeys((row["arm"], row["task"]) for row in rows))
    members = [[row for row in rows if (row["arm"], row["task"]) == panel] for panel in panels]
    all_axes = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=[len(lines) + 0.8 for lines in members])
    names = unique(rows, "method")
    for axes, (arm, task), lines in zip(all_axes[:, 0], panels, members, strict=True):
        rank_lines(axes, lines, "mean", [colour(row["method"], names) for row in lines])
        axes.set_yticks(range(len(lines)), [short(row["method"]) for row in lines])
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_title(f"{task}, {arm_title(arm)}", loc="left", pad=2)
        axes.grid(axis="y", visible=False)
        few_ticks(axes)
    all_axes[-1, 0].set_xlabel("test score (larger is better)")


def _spread(interval: Interval) -> Row:
    return {"mean": interval.mean, "half_width": interval.half_width, "n": interval.n}


def _curve_panels(group: Group) -> list[tuple[str, str]]:
    arms = sorted({arm for variant in group.variants for arm in group.arms(variant)} - {SCRATCH})
    return [(STAGE0, task) for task in group.old_tasks] + [(arm, task) for arm in arms for task in group.new_tasks]


def _is_scratch(group: Group, variant: Variant) -> bool:
    return group.arms(variant) == [SCRATCH]


def _validation(group: Group, variant: Variant, arm: str, task: str) -> dict[int, list[float]]:
    """Validation scores of all seeds by epoch."""
    found: dict[int, list[float]] = {}
    for seed in group.seeds:
        run = group.find(variant, arm, seed, task)
        for epoch in run.curve if run is not None and run.status == "ok" else ():
            scores = epoch.validation.get(task, {})
            value = next((scores[name] for name in PRIMARY if scores.get(name) is not None), None)
            if value is not None:
                found.setdefault(epoch.epoch, []).append(value)
    return dict(sorted(found.items()))


def _name(kind: str, group: Group, task: str, slug: str) -> str:
    """Several new tasks have figures of their own."""
    safe = "".join(c if c.isalnum() else "_" for c in task)
    return f"{kind}-{slug}" if len(group.new_tasks) == 1 else f"{kind}-{safe}-{slug}"


def _height(picture: float, rows: Sequence[Row]) -> float:
    return picture + _legend_height(rows)


def _legend_height(rows: Sequence[Row]) -> float:
    """Inches for the legend: methods, arms and three sizes."""
    return legend_height(
        [*(f"16 {short(name)}" for name in unique(rows, "method")), *map(arm_title, unique(rows, "arm")), "", "", ""]
    )
