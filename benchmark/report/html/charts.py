"""Charts as plain geometry, which the page's template writes as inline SVG. All numbers are in units of the view box.

The rows are those of the figures (`benchmark.report.figures.standard`), so page and paper show the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmark.report.figures.plot import Row, short_count, unique
from benchmark.report.figures.style import COLOURS, MARKERS, OTHER_MARKERS, Marker, marker
from benchmark.report.measures import arm_title

WIDTH, HEIGHT = 640.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 72.0, 16.0, 14.0, 52.0
LONGEST_LINE = 200


def _star(points: int, degrees: int) -> str:
    """A path with this many points, turned counter-clockwise; the inner corners lie where matplotlib has them."""
    corners = []
    for place in range(2 * points):
        angle = math.pi * (place / points + degrees / 180)
        radius = 1.5 if place % 2 == 0 else 0.57
        corners.append(f"{-radius * math.sin(angle):.2f},{-radius * math.cos(angle):.2f}")
    return f"M{'L'.join(corners)}Z"


SHAPES: dict[Marker, str] = {
    "s": "M-1,-1H1V1H-1Z",
    "o": "M-1.1,0A1.1,1.1 0 1 1 1.1,0A1.1,1.1 0 1 1 -1.1,0Z",
    "^": "M0,-1.3L1.2,.9H-1.2Z",
    "X": "M-1,-.4L-.4,-1L0,-.6L.4,-1L1,-.4L.6,0L1,.4L.4,1L0,.6L-.4,1L-1,.4L-.6,0Z",
    "D": "M0,-1.4L1.4,0L0,1.4L-1.4,0Z",
    "v": "M0,1.3L1.2,-.9H-1.2Z",
    "P": "M-.4,-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z",
    "<": "M-1.3,0L.9,-1.2V1.2Z",
    ">": "M1.3,0L-.9,-1.2V1.2Z",
    "p": "M0,-1.3L1.24,-.4L.76,1.05H-.76L-1.24,-.4Z",
    "h": "M0,-1.3L1.13,-.65V.65L0,1.3L-1.13,.65V-.65Z",
    "d": "M0,-1.5L.9,0L0,1.5L-.9,0Z",
    **{shape: _star(shape[0], shape[2]) for shape in OTHER_MARKERS if not isinstance(shape, str)},
}
assert {*MARKERS.values(), *OTHER_MARKERS} <= set(SHAPES)


@dataclass(frozen=True)
class Tick:
    place: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A point: where it lies, its bars (ends of the intervals), its shape, size and colour, and what it says."""

    x: float
    y: float
    text: str
    colour: int
    shape: str = SHAPES["o"]
    size: float = 5.0
    bars: tuple[tuple[float, float, float, float], ...] = ()
    method: str = ""
    arm: str = ""


@dataclass(frozen=True)
class Line:
    points: str
    band: str
    colour: int
    method: str


@dataclass(frozen=True)
class Chart:
    """``data``: the rows behind it as (column names, rows of texts), for the table beside the picture."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    lines: tuple[Line, ...] = ()
    zero_x: float | None = None
    zero_y: float | None = None
    methods: tuple[tuple[str, int], ...] = ()
    arms: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ()
    data: tuple[tuple[str | float | int | None, ...], ...] = ()
    note: str = ""
    width: float = WIDTH
    height: float = HEIGHT
    frame: tuple[float, float, float, float] = field(default=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM))


def scatter(
    rows: Sequence[Row], title: str, x: str, y: str, labels: tuple[str, str], *, logarithmic: bool = False
) -> Chart:
    """One mark per row with its intervals; colour by method, shape by arm."""
    across = _Axis(_reach(rows, x), LEFT, WIDTH - RIGHT, logarithmic)
    along = _Axis(_reach(rows, y), HEIGHT - BOTTOM, TOP)
    arms = unique(rows, "arm")
    largest = max(row["trained_parameters"] for row in rows)
    marks = []
    for row in rows:
        px, py = across(row[x]), along(row[y])
        bars = []
        if row.get(f"{x}_half_width"):
            bars.append((*(across(v) for v in _ends(row, x)), py, py))
        if row.get(f"{y}_half_width"):
            bars.append((px, px, *(along(v) for v in _ends(row, y))))
        text = f"{row['method']}, {arm_title(row['arm'])}: " + "; ".join(
            f"{label.partition(' (')[0]} {_spoken(row, name)}" for name, label in ((x, labels[0]), (y, labels[1]))
        )
        text += f"; {row['trained_parameters']:,} trained; n = {row['n']}"
        shape = SHAPES[marker(row["arm"], arms)]
        size = 5.0 if logarithmic else 3.5 + 4.0 * _area_share(row["trained_parameters"], largest)
        bars_of = tuple((bar[0], bar[2], bar[1], bar[3]) for bar in bars)
        marks.append(
            Mark(px, py, text, row["place"] % len(COLOURS), shape, size, bars_of, row["method"], arm_title(row["arm"]))
        )
    note = "" if logarithmic else "A larger mark: more trained parameters. Bars: 95 % intervals, cut at the edge."
    shapes = tuple((arm_title(arm), SHAPES[marker(arm, arms)]) for arm in arms)
    columns, data = _table(rows)
    return Chart(
        title, *labels, across.ticks(), along.ticks(), tuple(marks), zero_x=across.zero(), zero_y=along.zero(),
        methods=_methods(rows), arms=shapes, columns=columns, data=data, note=note,
    )  # fmt: skip


def curves(rows: Sequence[Row], title: str) -> Chart:
    """Mean validation score by epoch and the band from the lowest to the highest seed."""
    across = _Axis([row["epoch"] for row in rows], LEFT, WIDTH - RIGHT, whole=True)
    along = _Axis([v for row in rows for v in (row["low"], row["high"])], HEIGHT - BOTTOM, TOP)
    lines, marks = [], []
    for method in unique(rows, "method"):
        own = [row for row in rows if row["method"] == method]
        own = [row for row in own if row["n"] == max(r["n"] for r in own)]
        own = own[:: -(-len(own) // LONGEST_LINE)]
        place = own[0]["place"] % len(COLOURS)
        points = [(across(r["epoch"]), along(r["mean"])) for r in own]
        band = [(across(r["epoch"]), along(r["high"])) for r in own]
        band += [(across(r["epoch"]), along(r["low"])) for r in reversed(own)]
        lines.append(Line(_points(points), _points(band), place, method))
        marks += [
            Mark(px, py, f"{method}, epoch {r['epoch']}: {r['mean']:.5f} ({r['low']:.5f} to {r['high']:.5f})", place,
                 size=3.0, method=method)
            for (px, py), r in zip(points, own, strict=True)
        ]  # fmt: skip
    return Chart(
        title, "epoch", "validation score", across.ticks(), along.ticks(), tuple(marks), tuple(lines),
        None, None, _methods(rows), (), *_table(rows), note="Band: from the lowest to the highest seed.",
    )  # fmt: skip


class _Axis:
    """Values to places, with a margin and round ticks."""

    def __init__(
        self, values: Sequence[float], start: float, end: float, logarithmic: bool = False, whole: bool = False
    ) -> None:
        self._scale: Callable[[float], float] = math.log10 if logarithmic else float
        self._log, self._whole, self._start, self._end = logarithmic, whole, start, end
        scaled = [self._scale(value) for value in values]
        low, high = min(scaled), max(scaled)
        margin = 0.06 * (high - low) or 0.5 * (abs(high) or 1.0) * (0.1 if not whole else 1.0)
        self.low, self.high = low - margin, high + margin

    def __call__(self, value: float) -> float:
        share = (min(max(self._scale(value), self.low), self.high) - self.low) / (self.high - self.low)
        return round(self._start + share * (self._end - self._start), 2)

    def zero(self) -> float | None:
        return self(0.0) if not self._log and self.low < 0 < self.high else None

    def ticks(self) -> tuple[Tick, ...]:
        if self._log:
            found = [m * 10.0**e for e in range(math.floor(self.low), math.ceil(self.high) + 1) for m in (1, 2, 5)]
            inside = [value for value in found if self.low <= math.log10(value) <= self.high]
            thin = inside if len(inside) <= 8 else [v for v in inside if f"{v:.0e}"[0] == "1"]
            return tuple(Tick(self(value), short_count(value)) for value in thin)
        step = _round_step((self.high - self.low) / 5)
        if self._whole:
            step = max(1.0, math.ceil(step))
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        places = max(0, -math.floor(math.log10(step)))
        return tuple(Tick(self(i * step), f"{i * step:.{places}f}" if i else "0") for i in range(first, last + 1))


def _round_step(rough: float) -> float:
    size = 10.0 ** math.floor(math.log10(rough))
    return next(m * size for m in (1, 2, 5, 10) if m * size >= rough * 0.999)


def _reach(rows: Sequence[Row], name: str) -> list[float]:
    """What an axis has to show: every mean, and of its interval at most half the means' range (one seed that went
    astray would else press all others into a corner)."""
    means = [row[name] for row in rows]
    most = 0.5 * (max(means) - min(means)) or math.inf
    halves = [min(row.get(f"{name}_half_width") or 0.0, most) for row in rows]
    return [mean + sign * half for mean, half in zip(means, halves, strict=True) for sign in (-1, 1)]


def _ends(row: Row, name: str) -> tuple[float, float]:
    half = row.get(f"{name}_half_width") or 0.0
    return row[name] - half, row[name] + half


def _spoken(row: Row, name: str) -> str:
    half = row.get(f"{name}_half_width")
    value = row[name]
    text = f"{value:,}" if isinstance(value, int) else f"{value:.5f}"
    return text + (f" ± {half:.5f}" if half else "")


def _area_share(count: float, largest: float) -> float:
    """From 0 to 1 over three decades."""
    return 1.0 - min(3.0, math.log10(largest / max(count, 1))) / 3.0


def _methods(rows: Sequence[Row]) -> tuple[tuple[str, int], ...]:
    places = {row["method"]: row["place"] % len(COLOURS) for row in rows}
    return tuple(places.items())


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _table(rows: Sequence[Row]) -> tuple[tuple[str, ...], tuple[tuple, ...]]:
    columns = tuple(name for name in rows[0] if name != "place")
    return columns, tuple(tuple(row.get(name) for name in columns) for row in rows)
