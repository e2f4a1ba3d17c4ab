"""Figures from a group of comparable records. Each is drawn from the rows that are written beside it as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import transfer
from benchmark.records import write_atomically
from benchmark.report import style
from benchmark.report.runs import SCRATCH, Group
from benchmark.report.tables import arm_title, degradation, exact, new_task_gain, trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]


@dataclass(frozen=True)
class Plot:
    """``rows`` is all that ``draw`` may look at: what is in the picture is in the CSV."""

    name: str
    rows: Sequence[Row]
    draw: Callable[[Figure, Sequence[Row]], None]
    height: float = 2.8
    width: float = style.COLUMN_INCHES

    def data(self) -> str:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow(
                {k: f"{v:.10g}" if isinstance(v, float) else "" if v is None else v for k, v in row.items()}
            )
        return stream.getvalue()

    def write(self, directory: Path) -> list[Path]:
        with style.figure(self.height, self.width) as drawn:
            self.draw(drawn, self.rows)
            paths = style.save(drawn, directory / self.name)
        table = directory / f"{self.name}.csv"
        write_atomically(table, self.data())
        return [*paths, table]


def trade_off(group: Group, task: str, slug: str) -> Plot | None:
    """Mean degradation of the old tasks against the gain of the new one; area of a marker: trained parameters."""
    rows: list[Row] = []
    for variant in group.variants:
        for arm in group.arms(variant):
            gain = new_task_gain(group, variant, arm, task).interval()
            loss = degradation(group, variant, arm, transfer.mean_degradation).interval()
            size = exact(group.sample(lambda seed, v=variant, a=arm: group.find(v, a, seed, task), trained)).value
            if arm == SCRATCH or gain is None or loss is None or size is None:
                continue
            rows.append(
                {
                    "method": group.labels[variant], "arm": arm, "gain": gain.mean, "gain_half_width": gain.half_width,
                    "degradation": loss.mean, "degradation_half_width": loss.half_width, "trained_parameters": int(size),
                    "n": min(gain.n, loss.n),
                }
            )  # fmt: skip
    return Plot(f"trade_off-{slug}", rows, draw_trade_off, height=3.5) if rows else None


def draw_trade_off(drawn: Figure, rows: Sequence[Row]) -> None:
    axes = drawn.add_subplot()
    methods, arms = _unique(rows, "method"), _unique(rows, "arm")
    largest = max(row["trained_parameters"] for row in rows)
    for row in rows:
        colour = style.COLOURS[methods.index(row["method"]) % len(style.COLOURS)]
        x, y = row["degradation"], row["gain"]
        axes.errorbar(
            x, y, row["gain_half_width"] or 0, row["degradation_half_width"] or 0,
            ecolor=colour, elinewidth=0.7, alpha=0.5, fmt="none", zorder=2,
        )  # fmt: skip
        axes.scatter(
            x, y, _area(row["trained_parameters"], largest), colour, marker=style.marker(row["arm"], arms),
            alpha=0.75, edgecolors="black", linewidths=0.4, zorder=3,
        )  # fmt: skip
        if len(methods) > len(style.COLOURS):  # colours repeat: numbers tell the methods apart
            axes.annotate(str(methods.index(row["method"]) + 1), (x, y), fontsize=5, ha="center", va="center", zorder=4)
    axes.axvline(0, color="#888888", linewidth=0.6, zorder=1)
    axes.axhline(0, color="#888888", linewidth=0.6, zorder=1)
    axes.set_xlabel("mean degradation of the old tasks (← better)")
    axes.set_ylabel("new-task gain over single-task (better →)")
    axes.margins(0.12)
    legend_below(drawn, methods, arms, [largest / 100, largest / 10, largest], largest)


def legend_below(
    drawn: Figure, methods: list[str], arms: list[str], sizes: Sequence[float] = (), largest: float = 1.0
) -> None:
    """Methods by colour, arms by shape, trained parameters by area."""
    from matplotlib.lines import Line2D

    def point(colour: str, shape: str, diameter: float, label: str) -> Line2D:
        return Line2D([], [], linestyle="", marker=shape, color=colour, markersize=diameter, markeredgecolor="black",
                      markeredgewidth=0.4, label=label)  # fmt: skip

    many = len(methods) > len(style.COLOURS)
    handles = [
        point(style.COLOURS[i % len(style.COLOURS)], "o", 5, f"{i + 1} {name}" if many else name)
        for i, name in enumerate(methods)
    ]
    handles += [point("white", style.marker(arm, arms), 5, arm_title(arm)) for arm in arms]
    handles += [
        point("#BBBBBB", "o", math.sqrt(_area(size, largest)), f"{_short_count(size)} trained") for size in sizes
    ]
    drawn.legend(handles=handles, loc="outside lower center", ncols=3, handletextpad=0.3, columnspacing=1.0)


def _area(count: float, largest: float) -> float:
    """Marker area in square points: logarithmic over three decades, because counts span them."""
    decades = min(3.0, math.log10(largest / max(count, 1)))
    return 110 - 30 * decades


def _short_count(count: float) -> str:
    return f"{count / 1e6:.2g}M" if count >= 999_500 else f"{count / 1e3:.3g}k" if count >= 1000 else f"{count:.0f}"


def _unique(rows: Sequence[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))
