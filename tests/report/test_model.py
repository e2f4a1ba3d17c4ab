"""Cells, digits, ranking and the four writers' escaping."""

from __future__ import annotations

import csv
import io
import re

import pytest

from benchmark.report import writers
from benchmark.report.model import Cell, Column, Row, Table, digits

SCORE = Column("score", "AUC", better=1)
NAME = Column("name", "Name", "text")
HOSTILE = "a_b & 50% $x$ #1 {y} \\cmd ~^ <b> | *c* `d` [e] Ünï 中文 α ± \x1b[31m"


def table(*cells: Cell, column: Column = SCORE) -> Table:
    return Table("t", "caption", (column,), tuple(Row({column.key: cell}) for cell in cells))


@pytest.mark.parametrize(
    "wrong",
    [{}, {"text": ""}, {"value": 1.0, "code": "OOM"}, {"code": "no such code"}, {"value": float("nan")}],
)
def test_a_cell_is_never_blank_and_never_ambiguous(wrong: dict) -> None:
    with pytest.raises(ValueError, match="cell|code|number"):
        Cell(**wrong)


def test_a_row_has_exactly_the_columns_cells() -> None:
    with pytest.raises(ValueError, match="columns"):
        Table("t", "c", (SCORE, NAME), (Row({"score": Cell(0.5)}),))


@pytest.mark.parametrize(
    ("cell", "column", "expected"),
    [
        (Cell(0.94837, 0.0032), SCORE, ("0.9484", "0.0032")),
        (Cell(0.94837, 0.0123), SCORE, ("0.948", "0.012")),
        (Cell(0.94837, 0.00041), SCORE, ("0.94837", "0.00041")),
        (Cell(0.94837, 0.3), SCORE, ("0.95", "0.30")),
        (Cell(0.94837, 1e-9), SCORE, ("0.94837", "0.00000")),
        (Cell(0.94837, 0.0), SCORE, ("0.9484", "0.0000")),
        (Cell(0.94837), SCORE, ("0.9484", "")),
        (Cell(0.0021), Column("d", "d", signed=True), ("+0.0021", "")),
        (Cell(-1e-9), Column("d", "d", signed=True), ("0.0000", "")),
        (Cell(27063.0), Column("n", "n", "count"), ("27,063", "")),
        (Cell(9.2346), Column("p", "p", "percent"), ("9.23", "")),
        (Cell(0.153), Column("p", "p", "percent"), ("0.153", "")),
        (Cell(0.0), Column("p", "p", "percent"), ("0.00", "")),
        (Cell(123.456, 2.3), Column("s", "s", "seconds"), ("123.5", "2.3")),
        (Cell(0.00004), Column("p", "p", "p"), ("<0.001", "")),
    ],
)
def test_digits_follow_the_interval(cell: Cell, column: Column, expected: tuple[str, str]) -> None:
    found = digits(cell, column)
    assert (found.value, found.half_width) == expected


def emphases(made: Table) -> list[str]:
    return [row.cells["score"].emphasis for row in made.ranked().rows]


def test_best_and_second_are_marked_ties_share_and_a_lone_value_is_no_best() -> None:
    assert emphases(table(Cell(0.7), Cell(0.9), Cell(0.8))) == ["", "best", "second"]
    assert emphases(table(Cell(0.9), Cell(0.1 + 0.8), Cell(0.8))) == ["best", "best", "second"]
    assert emphases(table(Cell(0.9), Cell(code="OOM"))) == ["", ""]
    lower = Column("score", "loss", better=-1)
    assert emphases(table(Cell(0.7), Cell(0.9), Cell(0.8), column=lower)) == ["best", "", "second"]


def test_what_rests_on_fewer_seeds_or_stale_runs_is_not_ranked() -> None:
    assert emphases(table(Cell(0.9, marks=("n=1",)), Cell(0.8), Cell(0.7))) == ["", "best", "second"]
    assert emphases(table(Cell(0.9, marks=("stale",)), Cell(0.8), Cell(0.7))) == ["", "best", "second"]


def hostile() -> Table:
    columns = (NAME, Column("s", HOSTILE, group=HOSTILE, better=1))
    rows = (
        Row({"name": Cell(text=HOSTILE), "s": Cell(0.5, 0.01, 3)}),
        Row({"name": Cell(text="b"), "s": Cell(code="T/O")}),
    )
    return Table("t_1", HOSTILE, columns, rows, (HOSTILE,))


def test_latex_leaves_no_active_character_and_no_letter_that_pdflatex_lacks() -> None:
    text = writers.latex(hostile())
    assert r"a\_b \& 50\% \$x\$ \#1 \{y\} \textbackslash{}cmd" in text
    assert "[U+4E2D]" in text and r"\ensuremath{\alpha}" in text and "Ünï" in text
    assert "\x1b" not in text
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert [line.count(" & ") for line in body.splitlines()[1:-1]] == [1, 1]
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_markdown_has_one_cell_per_column_and_no_html() -> None:
    lines = [line for line in writers.markdown(hostile()).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}
    assert "<b>" not in "".join(lines) and "\x1b" not in "".join(lines)


def test_terminal_shows_control_characters_instead_of_sending_them() -> None:
    text = writers.terminal(hostile())
    assert "\x1b" not in text and r"\x1b[31m" in text
    assert "\x1b[1m" in writers.terminal(table(Cell(0.7), Cell(0.9)).ranked(), colour=True)


def test_csv_keeps_full_precision_and_hostile_names() -> None:
    rows = list(csv.DictReader(io.StringIO(writers.comma_separated(hostile()))))
    # full precision of numbers; letters as they are, but nothing that a terminal would act on
    assert rows[0]["name"] == HOSTILE.replace("\x1b", "\\x1b")
    assert (rows[0]["s"], rows[0]["s_half_width"], rows[0]["s_n"], rows[1]["s_code"]) == ("0.5", "0.01", "3", "T/O")


def test_the_footer_explains_every_code_and_mark_that_is_used_and_no_other() -> None:
    lines = "\n".join(writers.footer(table(Cell(code="OOM"), Cell(0.5, marks=("stale", "n=2")))))
    assert "out of memory" in lines and "changed since" in lines and "fewer seeds" in lines
    assert "time limit" not in lines
