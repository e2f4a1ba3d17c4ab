"""A figure and its data; the parts that several figures share."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import visible
from benchmark.core.files import write_atomically
from benchmark.report import measures
from benchmark.report.figures import style
from benchmark.report.measures import arm_title
from benchmark.report.writers import spreadsheet_safe

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Row = dict[str, Any]

STAMP = re.compile(rb"mpt-bench data ([0-9a-f]{16}) code ([0-9a-f]{16})")


@dataclass(frozen=True)
class Plot:
    """``rows`` is all that ``draw`` may look at: what is in the picture is in the CSV."""

    name: str
    rows: Sequence[Row]
    draw: Callable[[Figure, Sequence[Row]], None]
    height: float = 2.8
    width: float = style.COLUMN_INCHES
    late: Callable[[], list[Row]] | None = None
    """Makes the rows when the figure is drawn: for what takes long and differs in the last bits between machines."""
    source: str = ""
    """What ``late`` works on, as a hash."""

    @property
    def data_hash(self) -> str:
        """Hash of what is in the picture. It is written into the picture's metadata."""
        return blake2b((self.source or self.data()).encode(), digest_size=8).hexdigest()

    def drawn_from(self, directory: Path) -> tuple[str, str] | None:
        """Data hash and code hash that the existing pictures carry; None if one is absent or they disagree."""
        found = set()
        for path in self.files(directory)[:2]:
            match = STAMP.search(path.read_bytes()) if path.is_file() else None
            found.add((match[1].decode(), match[2].decode()) if match else None)
        return found.pop() if len(found) == 1 else None

    def data(self) -> str:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({key: _written(value) for key, value in row.items()})
        return stream.getvalue()

    def write(self, directory: Path) -> list[Path]:
        """Draw the pictures and write the data beside them; pictures of the same data by the same code are kept."""
        paths = self.files(directory)
        if self.drawn_from(directory) == (self.data_hash, code_hash()) and paths[-1].is_file():
            if self.late is None:
                write_atomically(paths[-1], self.data())
            return paths
        if self.late is not None:
            return replace(self, rows=self.late(), late=None).write(directory)
        with style.figure(self.height, self.width) as drawn:
            self.draw(drawn, self.rows)
            style.save(drawn, directory / self.name, f"mpt-bench data {self.data_hash} code {code_hash()}")
        write_atomically(paths[-1], self.data())
        return paths

    def files(self, directory: Path) -> list[Path]:
        """What `write` writes."""
        return [directory / f"{self.name}.{ending}" for ending in ("pdf", "png", "csv")]


def _written(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.10g}"
    return spreadsheet_safe(visible(value)) if isinstance(value, str) else "" if value is None else value


@cache
def code_hash() -> str:
    """Hash of what draws: this folder, the titles of arms and the version of the drawing library."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(measures.__file__)]
    sources = b"".join(file.read_bytes() for file in files)
    return blake2b(sources + version("matplotlib").encode(), digest_size=8).hexdigest()


def legend_below(
    drawn: Figure, methods: list[str], arms: list[str], sizes: Sequence[float] = (), largest: float = 1.0
) -> None:
    """Methods by colour, arms by shape, trained parameters by area."""
    from matplotlib.lines import Line2D

    def point(colour: str, shape: style.Marker, diameter: float, label: str) -> Line2D:
        return Line2D([], [], linestyle="", marker=shape, color=colour, markersize=diameter, markeredgecolor="black",
                      markeredgewidth=0.4, label=label)  # fmt: skip

    several = numbered(methods)
    handles = [
        point(style.COLOURS[i % len(style.COLOURS)], "o", 5, f"{i + 1} {short(name)}" if several else short(name))
        for i, name in enumerate(methods)
        if name
    ]
    handles += [point("white", style.marker(arm, arms), 5, arm_title(arm)) for arm in arms]
    handles += [point("#BBBBBB", "o", math.sqrt(area(size, largest)), f"{short_count(size)} trained") for size in sizes]
    below(drawn, handles)


def area(count: float, largest: float) -> float:
    """Marker area in square points: logarithmic over three decades, because counts span them."""
    decades = min(3.0, math.log10(largest / max(count, 1)))
    return 110 - 30 * decades


def short_count(count: float) -> str:
    return f"{count / 1e6:.2g}M" if count >= 999_500 else f"{count / 1e3:.3g}k" if count >= 1000 else f"{count:.3g}"


def unique(rows: Sequence[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def palette(rows: Sequence[Row]) -> list[str]:
    """Methods at their places among the group's rows, "" where one is not shown: one colour in all figures."""
    names = {row["place"]: row["method"] for row in rows}
    return [names.get(place, "") for place in range(max(names) + 1)]


def colour(name: str, names: Sequence[str]) -> str:
    return style.COLOURS[list(names).index(name) % len(style.COLOURS)]


LONGEST = 28


def short(name: str) -> str:
    """A name as it stands in a picture: a long one is cut in its middle, its ends tell variants apart."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-(LONGEST // 2 - 1) :]}"


def numbered(names: Sequence[str]) -> bool:
    """Several names: then numbers tell them apart where colours repeat, in grey and for colour-blind readers."""
    return sum(map(bool, names)) > 1


def ink(colour: str) -> str:
    """Black or white, whichever can be read on the colour."""
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.45 else "black"


def below(drawn: Figure, handles: Sequence[Artist]) -> None:
    """A legend under the axes with as many columns as its longest name leaves room for."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(3, int(drawn.get_figwidth() / (0.28 + 0.058 * longest))))
    drawn.legend(handles=handles, loc="outside lower center", ncols=columns, handletextpad=0.3, columnspacing=1.0)


def legend_height(entries: Sequence[str], width: float = style.COLUMN_INCHES) -> float:
    """Inches that `below` needs for these entries."""
    columns = max(1, min(3, int(width / (0.28 + 0.058 * max(map(len, entries))))))
    return 0.16 * -(-len(entries) // columns) + 0.1


def scatter_rows(
    axes: Axes,
    rows: Sequence[Row],
    places: tuple[str, str],
    errors: tuple[str, str],
    methods: Sequence[str],
    arms: list[str],
    sizes: Sequence[float],
) -> None:
    """One marker per row with its intervals: colour by method, shape by arm. Few artists: each costs time."""
    x, y = ([row[name] for row in rows] for name in places)
    across, along = ([row.get(name) or 0.0 for row in rows] for name in errors)
    shades: Any = [colour(row["method"], methods) for row in rows]  # one for each bar; the stub knows one for all
    axes.errorbar(x, y, along, across, ecolor=shades, elinewidth=0.7, alpha=0.5, fmt="none", zorder=2)
    for arm in arms:
        mine = [place for place, row in enumerate(rows) if row["arm"] == arm]
        axes.scatter(
            [x[i] for i in mine], [y[i] for i in mine], [sizes[i] for i in mine], [shades[i] for i in mine],
            marker=style.marker(arm, arms), alpha=0.85, edgecolors="black", zorder=3,
            linewidths=[1.6 if rows[i].get("front") else 0.4 for i in mine],
        )  # fmt: skip
    if numbered(methods):
        for row, shade, *place in zip(rows, shades, x, y, strict=True):
            text = str(list(methods).index(row["method"]) + 1)
            axes.annotate(text, (place[0], place[1]), fontsize=5, ha="center", va="center", zorder=4, color=ink(shade))


def rank_lines(axes: Axes, rows: Sequence[Row], value: str, shades: Sequence[str]) -> None:
    """One line per row from above: mean and interval."""
    x, y = [row[value] for row in rows], range(len(rows))
    colours: Any = list(shades)
    axes.errorbar(x, y, xerr=[row["half_width"] or 0.0 for row in rows], ecolor=colours, elinewidth=1.0, fmt="none")
    axes.scatter(x, y, 12, list(shades), zorder=3)


def logarithmic_counts(axis: Axis, unit: str = "", at: Sequence[float] = ()) -> None:
    """Ticks such as 1k, 20k, 3M on a logarithmic axis; few enough not to touch, or ``at`` what was tried."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(FixedLocator(sorted(set(at))) if at else LogLocator(10, subs=(1.0, 3.0), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value) + unit))
    axis.set_minor_formatter(NullFormatter())


def few_ticks(axes: Axes) -> None:
    """At most five numbers along the bottom: more touch each other at column width."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(4))
