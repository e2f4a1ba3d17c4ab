"""Text that fits the terminal: listings whose texts wrap, tables of results that leave out columns and say so."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmark.report import writers
from benchmark.report.build import MAIN
from benchmark.report.model import Table

NARROWEST = 20
"""No column of a listing becomes narrower by wrapping."""
GAP, HEADER = 2, 2
"""Spaces between columns; tabulate makes a column so much wider than its header."""


def width() -> int | None:
    """Columns of the terminal; None where the output is none (a file or a pipe takes any width)."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def listing(rows: Sequence[Mapping[str, Any]], fit: int | None, longest: int | None = None) -> str:
    """Rows as a table at most ``fit`` wide: its widest columns are wrapped, the first never, since names are to be
    copied. Where a column would become too narrow to be read, each row becomes a paragraph instead.

    ``longest``: cells of a table are cut there; a paragraph has all of them.
    """
    if not rows:
        return ""
    headers = list(rows[0])
    full = [["" if row[name] is None else str(row[name]) for name in headers] for row in rows]
    cells = [[text[: longest - 1] + "…" if longest and len(text) > longest else text for text in line] for line in full]
    least = [len(name) + HEADER for name in headers]
    widths = [max(size, *(len(line[i]) for line in cells)) for i, size in enumerate(least)]
    while fit is not None and sum(widths) + GAP * (len(widths) - 1) > fit:
        widest = max(range(1, len(widths)), key=lambda i: widths[i] - least[i], default=0)
        if widths[widest] <= max(NARROWEST, least[widest]):
            return _paragraphs(headers, full, fit)
        widths[widest] -= 1
    wrapped = [[textwrap.fill(text, size, drop_whitespace=True) for text, size in zip(line, widths)] for line in cells]
    numbers = ["right" if all(_is_number(row[name]) for row in rows) else "left" for name in headers]
    return tabulate(wrapped, headers=headers, colalign=numbers, disable_numparse=True)


def _paragraphs(headers: Sequence[str], rows: Sequence[Sequence[str]], fit: int) -> str:
    """A line with each row's name, and below it, indented, what else is known."""
    lines = []
    for name, *values in rows:
        lines.append(paragraph(name, fit, "  "))
        for header, value in zip(headers[1:], values, strict=True):
            if value not in ("", "n/a"):
                text = f"    {header}: {value}"
                lines.append(textwrap.fill(text, fit, subsequent_indent=" " * 8, break_on_hyphens=False))
    return "\n".join(lines)


def paragraph(text: str, fit: int | None, indent: str = "        ") -> str:
    """A line wrapped at the terminal's width, further lines indented."""
    if fit is None:
        return text
    return textwrap.fill(text, fit, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def results(table: Table, fit: int | None, colour: bool, file: str, known: Collection[str] = ()) -> str:
    """A table of results at most ``fit`` wide: columns that are too much are left out from the right, and a line says
    that ``file`` has them. Lines of its footer that are ``known`` are left out, too."""
    table = dataclasses.replace(table, footer=tuple(line for line in table.footer if line not in known))
    if fit is None:
        return writers.terminal(table, colour)
    for kept in range(len(table.columns), 1, -1):
        shown = _grid(_with_columns(table, kept), colour)
        if max(map(_length, shown.splitlines())) <= fit:
            break
    else:  # sentences, as those of claims: a paragraph for each row
        kept = len(table.columns)
        shown = _sentences(table, fit)
    left = len(table.columns) - kept
    lines = [textwrap.fill(writers.printable(table.caption), fit), "", shown, ""]
    if left:
        lines.append(paragraph(f"{left} more column{'s' if left > 1 else ''} in {file}", fit))
    footer = map(writers.printable, writers.footer(table, not colour))
    return "\n".join([*lines, *(paragraph(line, fit, "  ") for line in footer)])


def main_tables(tables: Sequence[Table], folder: Path, colour: bool) -> Iterator[str]:
    """The tables that a command ends with, at the terminal's width; ``folder`` has all of them as files. What stands
    below several of them is said once, in the end."""
    shown = [table for table in tables if table.name.startswith(MAIN)]
    counts = Counter(line for table in shown for line in table.footer)
    known = [line for line, count in counts.items() if count > 1]
    fit = width()
    for table in shown:
        yield results(table, fit, colour, f"{folder}/{table.name}.md", known) + "\n"
    yield from (paragraph(writers.printable(line), fit, "  ") for line in known)


def _sentences(table: Table, fit: int) -> str:
    """The cells of each row, as they are read one after the other."""
    bare = [dataclasses.replace(column, group="") for column in table.columns]
    headers = [column.header for column in bare]
    rows = [[writers.text(row.cells[column.key], column) for column in bare] for row in table.rows]
    return _paragraphs(headers, rows, fit)


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
