"""Figure of what methods say of the inside of their trained models (a record's ``diagnostics``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmark.analysis.groups import SCRATCH, STAGE0, Group
from benchmark.analysis.stats import mean
from benchmark.report.figures.plot import Plot, Row, few_ticks
from benchmark.report.measures import arm_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LINES = 9
"""Lines of a panel: of a longer one (a table that grows with the epochs, say) the first and the last are shown."""
NUMBERS = "numbers"


def diagnostics(group: Group, slug: str) -> list[Plot]:
    """For every method with diagnostics its numbers: mean over the seeds, whisker from the lowest to the highest."""
    made = []
    for place, variant in enumerate(group.variants):
        rows: list[Row] = []
        for arm in (STAGE0, *(arm for arm in group.arms(variant) if arm not in (SCRATCH, STAGE0))):
            tasks = group.old_tasks[:1] if arm == STAGE0 else group.new_tasks[:1]
            runs = [group.find(variant, arm, seed, tasks[0]) for seed in group.seeds] if tasks else []
            found: dict[tuple[str, str], list[float]] = {}
            for run in runs:
                for key, value in _numbers(run.diagnostics) if run is not None and run.status == "ok" else ():
                    found.setdefault(key, []).append(value)
            rows += [
                {
                    "method": group.labels[variant], "arm": arm, "panel": panel, "line": line,
                    "mean": mean(values), "low": min(values), "high": max(values), "n": len(values),
                }
                for (panel, line), values in found.items()
            ]  # fmt: skip
        if rows:
            name = "".join(c if c.isalnum() else "_" for c in variant.method)
            height = min(12.0, 0.4 + 0.36 * len(_panels(rows)) + 0.15 * sum(map(len, _panels(rows).values())))
            siblings = sum(other.method == variant.method for other in group.variants)
            name += f"_{place}" if siblings > 1 else ""
            made.append(Plot(f"diagnostics-{name}-{slug}", rows, draw_diagnostics, height))
    return made


def draw_diagnostics(drawn: Figure, rows: Sequence[Row]) -> None:
    panels = _panels(rows)
    all_axes = drawn.subplots(
        len(panels), 1, squeeze=False, height_ratios=[len(lines) + 0.8 for lines in panels.values()]
    )[:, 0]
    for axes, ((arm, panel), lines) in zip(all_axes, panels.items(), strict=True):
        means = [row["mean"] for row in lines]
        # The mean of equal numbers may be a last bit beside them.
        ends = [
            [max(0.0, row["mean"] - row["low"]) for row in lines],
            [max(0.0, row["high"] - row["mean"]) for row in lines],
        ]
        axes.barh(range(len(lines)), means, xerr=ends, height=0.6, color="#4477AA", error_kw={"linewidth": 0.8})
        axes.set_yticks(range(len(lines)), [row["line"] for row in lines])
        axes.set_ylim(len(lines) - 0.4, -0.6)
        # A long title reaches back over the lines' names, where there is room; from the left it would run off the edge.
        axes.set_title(f"{arm_title(arm)}: {panel.replace('_', ' ')}", loc="right", pad=2)
        axes.grid(axis="y", visible=False)
        few_ticks(axes)


def _panels(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Lines by panel, long panels without their middle."""
    panels: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        panels.setdefault((row["arm"], row["panel"]), []).append(row)
    half = MOST_LINES // 2
    return {
        key: lines if len(lines) <= MOST_LINES else [*lines[:half], *lines[-half:]] for key, lines in panels.items()
    }


def _numbers(content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float]]:
    """Every number with its panel, the first name, and its line, the further ones; single numbers share a panel."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from (((name, line), number) for line, number in _lines(value))
        elif isinstance(value, int | float):
            yield (NUMBERS, name.replace("_", " ")), float(value)


def _lines(content: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}, {line}", number) for line, number in _lines(value))
        elif isinstance(value, int | float):
            yield name, float(value)
