"""Text that fits the terminal: listings whose texts wrap, tables of results that leave out columns and say so."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from benchmark.report import writers
from benchmark.report.model import Table

NARROWEST = 8
"""No column of a listing becomes narrower."""
GAP = 2


def width() -> int | None:
    """Columns of the terminal; None where the output is none (a file or a pipe takes any width)."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def listing(rows: Sequence[Mapping[str, Any]], fit: int | None) -> str:
    """Rows as a table at most ``fit`` wide: its widest columns are wrapped, down to `NARROWEST`."""
    if not rows:
        return ""
    headers = list(rows[0])
    cells = [["" if row[name] is None else str(row[name]) for name in headers] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(headers)]
    while fit is not None and sum(widths) + GAP * (len(widths) - 1) > fit and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    wrapped = [[textwrap.fill(text, size, drop_whitespace=True) for text, size in zip(line, widths)] for line in cells]
    named = [textwrap.fill(name, size) for name, size in zip(headers, widths)]
    numbers = ["right" if all(_is_number(row[name]) for row in rows) else "left" for name in headers]
    return tabulate(wrapped, headers=named, colalign=numbers, disable_numparse=True)


def paragraph(text: str, fit: int | None, indent: str = "        ") -> str:
    """A line wrapped at the terminal's width, further lines indented."""
    if fit is None:
        return text
    return textwrap.fill(text, fit, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def results(table: Table, fit: int | None, colour: bool, file: str) -> str:
    """A table of results at most ``fit`` wide: columns that are too much are left out from the right, and a line says
    that ``file`` has them."""
    if fit is None:
        return writers.terminal(table, colour)
    for kept in range(len(table.columns), 1, -1):
        shown = _grid(_with_columns(table, kept), colour)
        if max(map(_length, shown.splitlines())) <= fit:
            break
    left = len(table.columns) - kept
    lines = [textwrap.fill(writers.printable(table.caption), fit), "", shown, ""]
    if left:
        lines.append(paragraph(f"{left} more column{'s' if left > 1 else ''} in {file}", fit))
    footer = map(writers.printable, writers.footer(table, not colour))
    return "\n".join([*lines, *(paragraph(line, fit, "  ") for line in footer)])


def _grid(table: Table, colour: bool) -> str:
    """The table without caption and footer."""
    bare = writers.terminal(dataclasses.replace(table, caption="-", footer=()), colour)
    return bare.split("\n\n")[1]


def _with_columns(table: Table, kept: int) -> Table:
    columns = table.columns[:kept]
    names = [column.key for column in columns]
    rows = tuple(dataclasses.replace(row, cells={name: row.cells[name] for name in names}) for row in table.rows)
    return dataclasses.replace(table, columns=columns, rows=rows)


def _length(line: str) -> int:
    """Characters that a terminal shows: escapes for bold and underlined take no room."""
    for code in ("\x1b[1m", "\x1b[4m", "\x1b[0m"):
        line = line.replace(code, "")
    return len(line)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
