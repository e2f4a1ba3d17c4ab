"""The table model: columns, rows and cells, whatever the output format.

A cell is a number (with or without an interval), a text, or a code that says why there is no number; it cannot be
blank. How many digits a number gets is decided here, once for all formats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from benchmark.analysis.codes import CODES

Kind = Literal["text", "score", "count", "percent", "seconds", "bytes", "p"]
Emphasis = Literal["", "best", "second"]

MARKS = {
    "stale": "made by code or data that changed since",
    "†": "a seed collapsed or the seeds are not normal: median [lowest, highest], no test",
    "≈": "time of another kind of machine, converted",
    "↓": "worse than the column's best by the same test, adjusted over the column",
    "*": "differs from the reference method, adjusted p < .05",
    "**": "differs from the reference method, adjusted p < .01",
    "***": "differs from the reference method, adjusted p < .001",
}
"""Marks behind a number. "n=3" is a further one: fewer seeds than the table says."""


@dataclass(frozen=True)
class Cell:
    """One of value, text, code. ``half_width`` is that of the interval around ``value``, ``n`` how many seeds.

    ``kind`` overrides the column's where a column holds numbers of several kinds. ``seeds``: where no mean and
    interval may stand, the numbers of all seeds; ``value`` is then their median.
    """

    value: float | None = None
    half_width: float | None = None
    n: int | None = None
    text: str | None = None
    code: str | None = None
    marks: tuple[str, ...] = ()
    emphasis: Emphasis = ""
    kind: Kind | None = None
    seeds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        given = [item for item in (self.value, self.text or None, self.code) if item is not None]
        if len(given) != 1:
            raise ValueError(f"a cell holds one of value, text and code, never none: {self!r}")
        if self.code is not None and self.code not in CODES:
            raise ValueError(f"unknown code {self.code!r}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError("a number that is not finite has to become a code")


@dataclass(frozen=True)
class Column:
    """``key`` names the column in CSV, ``header`` for readers; neighbours of one ``group`` share a spanning header.

    ``wrap``: a text that may be broken into lines. ``better``: +1 if larger is better, -1 if smaller, 0 if the column
    is not ranked. ``signed`` prints a plus.
    """

    key: str
    header: str
    kind: Kind = "score"
    better: Literal[-1, 0, 1] = 0
    group: str = ""
    signed: bool = False
    wrap: bool = False


@dataclass(frozen=True)
class Row:
    cells: Mapping[str, Cell]
    rule_above: bool = False


@dataclass(frozen=True)
class Table:
    """``name`` is the file's stem and the LaTeX label's end; ``caption`` one sentence; ``footer`` plain lines."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if set(row.cells) != {column.key for column in self.columns}:
                raise ValueError(f"table {self.name}: a row's cells do not match the columns")

    def codes(self) -> list[str]:
        """Codes used, in the order of CODES."""
        used = {cell.code for row in self.rows for cell in row.cells.values()}
        return [code for code in CODES if code in used]

    def marks(self) -> list[str]:
        """Marks used, in the order of MARKS."""
        used = {mark for row in self.rows for cell in row.cells.values() for mark in cell.marks}
        return [mark for mark in MARKS if mark in used]

    def ranked(self) -> Table:
        """The same table with the best value of each ranked column marked, and the second best. Ties share.

        A number that rests on fewer seeds than planned, on a stale run or on unstable seeds is not ranked.
        """
        rows = [dict(row.cells) for row in self.rows]
        for column in self.columns:
            # Rounded, so that the last bits of a difference of floats cannot part a tie.
            values = [None if (v := _rankable(cells[column.key])) is None else round(v, 10) for cells in rows]
            order = sorted({value for value in values if value is not None}, reverse=column.better > 0)
            if not column.better or len(order) < 2:
                continue  # nothing to compare: a lone value is not "best"
            for cells, value in zip(rows, values, strict=True):
                if value is not None and value in order[:2]:
                    emphasis: Emphasis = "best" if value == order[0] else "second"
                    cells[column.key] = replace(cells[column.key], emphasis=emphasis)
        return replace(self, rows=tuple(replace(row, cells=cells) for row, cells in zip(self.rows, rows, strict=True)))


def _rankable(cell: Cell) -> float | None:
    return None if any(mark in ("stale", "†") or mark.startswith("n=") for mark in cell.marks) else cell.value


@dataclass(frozen=True)
class Digits:
    """A number as text: ``value`` and, where there is an interval, ``half_width`` with the same decimals; ``span``
    is "[lowest, highest]" where seeds are shown instead."""

    value: str
    half_width: str = ""
    span: str = ""
    unit: str = field(default="")


def digits(cell: Cell, column: Column) -> Digits:
    """Number to text. Decimals follow the interval: its half-width keeps two significant digits.

    Scores have two to five decimals, four where there is no interval or it is exactly 0.
    """
    value, kind = cell.value, cell.kind or column.kind
    if value is None:
        raise ValueError("only a number has digits")
    if kind == "count":
        return Digits(f"{round(value):+,}" if column.signed and round(value) else f"{round(value):,}")
    if kind == "p":
        return Digits("<0.001" if value < 0.001 else f"{value:.3f}")
    if kind == "bytes":
        return Digits(f"{value / 2**20:.0f}", unit="MiB")
    if cell.seeds:
        shown = [digits(Cell(seed, kind=kind), column).value for seed in (value, min(cell.seeds), max(cell.seeds))]
        return Digits(shown[0], span=f"[{shown[1]}, {shown[2]}]")
    low, high, default = {"score": (2, 5, 4), "percent": (0, 3, 2), "seconds": (0, 3, 1)}[kind]
    places = default
    if cell.half_width:
        places = min(high, max(low, 1 - math.floor(math.log10(cell.half_width))))
    elif kind != "score" and value:
        places = min(high, max(low, 2 - math.floor(math.log10(abs(value)))))  # three significant digits
    half_width = "" if cell.half_width is None else f"{cell.half_width:.{places}f}"
    text = f"{value:+.{places}f}" if column.signed else f"{value:.{places}f}"
    if not any(character in "123456789" for character in text):
        text = text.lstrip("+-")  # neither +0 nor -0
    return Digits(text, half_width)
