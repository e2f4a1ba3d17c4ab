"""One table, four outputs: Markdown, LaTeX (booktabs), CSV, terminal. Each escapes what its format would act on."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from tabulate import tabulate

from benchmark.analysis.codes import CODES
from benchmark.report.model import MARKS, Cell, Column, Table, digits


def markdown(table: Table, shown: Callable[[Cell, Column], str] | None = None) -> str:
    """A pipe table with the caption above and the footer below. Bold is best, underlined second.

    ``shown``: what a cell says, escaped; None: with the digits that its interval leaves.
    """

    def cell(cell: Cell, column: Column) -> str:
        text = _text(cell, column, " ± ", escape_markdown) if shown is None else shown(cell, column)
        text = {"best": f"**{text}**", "second": f"<u>{text}</u>", "": text}[cell.emphasis]
        return text + "".join(f" <sup>{escape_markdown(mark)}</sup>" for mark in cell.marks)

    body = [[cell(row.cells[column.key], column) for column in table.columns] for row in table.rows]
    lines = [
        f"**{escape_markdown(table.caption)}**",
        "",
        _grid(body, [escape_markdown(_spoken(column)) for column in table.columns], table.columns, "pipe"),
        "",
        *(f"{escape_markdown(line)}  " for line in footer(table)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def terminal(table: Table, colour: bool = False) -> str:
    """Plain text; with ``colour`` the best is bold and the second underlined, otherwise they are starred in words."""

    def cell(cell: Cell, column: Column) -> str:
        text = _text(cell, column, " ± ", printable)
        if colour and cell.emphasis:
            text = f"\x1b[{'1' if cell.emphasis == 'best' else '4'}m{text}\x1b[0m"
        elif cell.emphasis:
            text = f"{'[1]' if cell.emphasis == 'best' else '[2]'} {text}"
        return text + "".join(f" {printable(mark)}" for mark in cell.marks)

    body = [[cell(row.cells[column.key], column) for column in table.columns] for row in table.rows]
    headers = [printable("\n".join(filter(None, (column.group, column.header))), keep="\n") for column in table.columns]
    grid = _grid(body, headers, table.columns, "simple")
    return "\n".join([printable(table.caption), "", grid, "", *(printable(line) for line in footer(table, not colour))])


def text(cell: Cell, column: Column) -> str:
    """A cell as plain text."""
    return _text(cell, column, " ± ", printable)


def comma_separated(table: Table) -> str:
    """For programs: full precision; each number has its half-width, n, code and marks in columns of their own."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    header = []
    for column in table.columns:
        header.append(column.key)
        if column.kind != "text":
            header += [f"{column.key}{suffix}" for suffix in ("_half_width", "_n", "_code", "_marks")]
    writer.writerow([spreadsheet_safe(name) for name in header])
    for row in table.rows:
        line: list[Any] = []
        for column in table.columns:
            cell = row.cells[column.key]
            if column.kind == "text":
                line.append(spreadsheet_safe(printable(cell.text)) if cell.text is not None else cell.code)
                continue
            number = ["" if x is None else f"{x:.10g}" for x in (cell.value, cell.half_width)]
            line += [*number, "" if cell.n is None else cell.n, cell.code or "", " ".join(cell.marks)]
        writer.writerow(line)
    return stream.getvalue()


LONG = 45
"""More rows than this do not fit a page: then a longtable."""
WIDE = 9
"""More columns than this are set sideways: shrunk to the width of the text they could not be read."""
WRAPPED = 0.11
"""Share of the line that a wrapped text gets in a longtable."""


def latex(table: Table) -> str:
    r"""A table with caption and label, to be ``\input``; its first line says which packages it needs.

    Numbers are arguments of ``\mptnum{mean}{half-width}`` and ``\mptval{number}``, which a document that loads
    siunitx may define for itself, e.g. ``\newcommand{\mptnum}[2]{\num{#1 \pm #2}}``.
    """

    def cell(cell: Cell, column: Column) -> str:
        if cell.value is None:
            text = escape_latex(cell.text or cell.code or "")
            if column.wrap:  # names with underscores have no other place to break
                text = text.replace(r"\_", r"\_\allowbreak{}").replace("=", r"=\allowbreak{}")
        else:
            number = digits(cell, column)
            text = rf"\mptval{{{number.value}}}" if column.kind != "count" else number.value
            text = rf"\mptnum{{{number.value}}}{{{number.half_width}}}" if number.half_width else text
            text += f"~{number.span}" if number.span else ""
            text += f"~{number.unit}" if number.unit else ""
        text = {"best": rf"{{\bfseries\boldmath {text}}}", "second": rf"\underline{{{text}}}", "": text}[cell.emphasis]
        return text + "".join(rf"\textsuperscript{{{escape_latex(mark)}}}" for mark in cell.marks)

    columns = table.columns
    body = []
    for number, row in enumerate(table.rows):
        if row.rule_above and number:
            body.append(r"    \addlinespace")
        body.append("    " + " & ".join(cell(row.cells[column.key], column) for column in columns) + r" \\")
    head = [
        "% needs booktabs and graphicx; longtable, lscape and rotating where it uses their environments",
        r"\providecommand{\mptnum}[2]{\ensuremath{#1 \pm #2}}",
        r"\providecommand{\mptval}[1]{\ensuremath{#1}}",
    ]
    long = len(table.rows) > LONG
    notes = [f"  {escape_latex(line)}\\par" for line in footer(table)]
    names = [
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9:.-]', '-', table.name)}}}",
    ]
    kinds = "".join("l" if column.kind == "text" else "r" for column in columns)
    if long:
        kinds = "".join(
            f"p{{{WRAPPED}\\linewidth}}" if column.wrap else kind for column, kind in zip(columns, kinds, strict=True)
        )
        lscape = len(columns) > WIDE
        lines = [
            *([r"\begin{landscape}"] if lscape else []),
            rf"{{\tiny\setlength{{\tabcolsep}}{{1.5pt}}\begin{{longtable}}{{{kinds}}}",
            rf"  {''.join(names)}\\",
            r"    \toprule",
            *_latex_headers(columns),
            r"    \midrule",
            r"  \endhead",
            *body,
            r"    \bottomrule",
            r"\end{longtable}}",
            r"{\noindent\footnotesize",
            *notes,
            "}",
            *([r"\end{landscape}"] if lscape else []),
            "",
        ]
    else:
        place = "sidewaystable" if len(columns) > WIDE else "table"
        lines = [
            rf"\begin{{{place}}}",
            r"  \centering\small\setlength{\tabcolsep}{4pt}",
            *(f"  {line}" for line in names),
            r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"  \begin{{tabular}}{{{kinds}}}",
            r"    \toprule",
            *_latex_headers(columns),
            r"    \midrule",
            *body,
            r"    \bottomrule",
            r"  \end{tabular}}",
            r"  \par\medskip\begin{minipage}{\linewidth}\footnotesize",
            *notes,
            r"  \end{minipage}",
            rf"\end{{{place}}}",
            "",
        ]
    return "\n".join(head + lines)


def _latex_headers(columns: Sequence[Column]) -> list[str]:
    lines = []
    if any(column.group for column in columns):
        spans, rules, place = [], [], 1
        for group, members in groupby(columns, key=lambda column: column.group):
            width = len(list(members))
            spans.append(
                rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(group)}}}" if group else " & ".join([""] * width)
            )
            if group:
                rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
            place += width
        lines += ["    " + " & ".join(spans) + r" \\", "    " + " ".join(rules)]
    heads = [rf"\multicolumn{{1}}{{{'l' if c.kind == 'text' else 'r'}}}{{{escape_latex(c.header)}}}" for c in columns]
    return [*lines, "    " + " & ".join(heads) + r" \\"]


def footer(table: Table, words: bool = False) -> list[str]:
    """The table's own lines, then the meaning of every code and mark that it uses."""
    lines = list(table.footer)
    emphasis = {cell.emphasis for row in table.rows for cell in row.cells.values()} - {""}
    if emphasis:
        best, second = ("[1]", "[2]") if words else ("bold", "underlined")
        lines.append(f"Per column: best mean {best}, second {second}; ties share.")
    used = [f"{code}: {CODES[code]}" for code in table.codes()] + [f"{mark}: {MARKS[mark]}" for mark in table.marks()]
    if any(mark.startswith("n=") for row in table.rows for cell in row.cells.values() for mark in cell.marks):
        used.append("n=: fewer seeds than the rest of the table")
    return [*lines, *(["; ".join(used) + "."] if used else [])]


def _text(cell: Cell, column: Column, plus_minus: str, escape: Callable[[str], str]) -> str:
    if cell.value is None:
        return escape(cell.text or cell.code or "")
    number = digits(cell, column)
    text = number.value + (plus_minus + number.half_width if number.half_width else "")
    text += f" {number.span}" if number.span else ""
    return escape(text + (f" {number.unit}" if number.unit else ""))


def _spoken(column: Column) -> str:
    return f"{column.group}: {column.header}" if column.group else column.header


def _grid(body: list[list[str]], headers: list[str], columns: Sequence[Column], style: str) -> str:
    if not body:
        return "(no rows)"
    alignment = ["left" if column.kind == "text" else "right" for column in columns]
    return tabulate(body, headers, tablefmt=style, disable_numparse=True, colalign=alignment)


def printable(text: str, keep: str = "") -> str:
    r"""Control and formatting characters shown as ``\x1b``, so that a name can neither move the cursor nor hide."""
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        else character.encode("unicode_escape").decode()
        for character in text
    )


def spreadsheet_safe(text: str) -> str:
    """A text that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def escape_markdown(text: str) -> str:
    """What Markdown or HTML would act on is shown as it is."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)


LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "[": "{[}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': "''",
    "±": r"\ensuremath{\pm}",
    "≥": r"\ensuremath{\ge}",
    "≤": r"\ensuremath{\le}",
    "≈": r"\ensuremath{\approx}",
    "†": r"\ensuremath{\dagger}",
    "↓": r"\ensuremath{\downarrow}",
    "×": r"\ensuremath{\times}",
    "−": r"\ensuremath{-}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "²": r"\textsuperscript{2}",
}
GREEK = {
    character: unicodedata.name(character).split()[-1].lower() for character in "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ"
}


def escape_latex(text: str) -> str:
    """Text that any LaTeX engine sets as it reads: a letter that pdfLaTeX does not know shows its code point."""
    return "".join(_latex_character(character) for character in printable(text))


def _latex_character(character: str) -> str:
    if character in LATEX:
        return LATEX[character]
    if character in GREEK:
        name = {"lamda": "lambda"}.get(GREEK[character], GREEK[character])
        return rf"\ensuremath{{\{name.capitalize() if character.isupper() else name}}}"
    if " " <= character <= "~" or "\u00c0" <= character <= "\u017f":
        return character
    return f"[U+{ord(character):04X}]"
