"""The compact tables: few columns, the field's names, uniform digits, and they fit where papers put them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import report
from benchmark.report import paper
from benchmark.report.model import Cell, Column
from tests.report import made
from tests.report.conftest import TITLES

CLASSES = {
    "sigconf": r"\documentclass[sigconf,nonacm]{acmart}",
    "acmsmall": r"\documentclass[acmsmall,nonacm]{acmart}",
    "article": r"\documentclass{article}\usepackage{booktabs}",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> report.Report:
    methods = {"shared_bottom": 0.940, "mmoe": 0.941, "stem_with_a_long_name": 0.9434, "mpt_rec": 0.946}
    records = made.study(methods, seeds=range(5), dataset="census_income", arms=("finetune", "lora"))
    records += [made.record("ple", "stage0", s, {"income": 0.9, "marital": 0.9 - 0.2 * s}, dataset="census_income")
                for s in range(5)]  # fmt: skip
    records += [made.record("ple", "finetune", s, {"income": 0.9 - 0.1 * s, "marital": 0.8, "education": 0.7},
                            dataset="census_income") for s in range(5)]  # fmt: skip
    titles = {**TITLES, "mmoe": "MMoE", "ple": "PLE", "stem_with_a_long_name": "[STEM] & more_words"}
    return report.report(made.write(tmp_path_factory.mktemp("paper"), records), titles)


def test_at_most_seven_columns_with_the_names_of_the_field(found: report.Report) -> None:
    kinds = {table.name.split("-")[0] for table in found.paper}
    assert kinds == {"claims", "old_tasks", "harm", "new_task", "trade_off", "metrics", "published"}
    assert max(len(table.columns) for table in found.paper) <= paper.MOST_COLUMNS
    table = next(t for t in found.paper if t.name.startswith("new_task"))
    names = [row.cells["method"].text for row in table.rows]
    assert {"Shared*", "MMoE*", "MPT-Rec", "MMoE, ft", "MMoE+LoRA", "MMoE, joint"} <= set(names)
    for kind in ("new_task", "trade_off", "harm", "metrics"):
        table = next(t for t in found.paper if t.name.startswith(kind))
        assert "beside all that the frozen row" in table.caption, kind
    files = found.files()
    assert {f"tables/paper/{t.name}.{e}" for t in found.paper for e in ("tex", "md")} <= set(files)


def test_of_many_old_tasks_those_that_lose_most_are_shown_and_the_caption_says_so(tmp_path: Path) -> None:
    old = ["a", "b", "c", "d", "e"]
    records = []
    for seed in range(3):
        before = dict.fromkeys(old, 0.8 + seed / 1000)
        after = before | {"c": 0.75, "e": 0.6, "new": 0.7}
        records += [made.record("m", arm, seed, scores, dataset="x", old=old, new=["new"])
                    for arm, scores in (("stage0", before), ("joint", after))]  # fmt: skip
    tables = report.report(made.write(tmp_path, records), TITLES).paper
    table = next(t for t in tables if t.name.startswith("harm"))
    assert [column.key for column in table.columns][1:5] == ["a", "b", "c", "e"]
    assert "Columns: the 4 of 5 old tasks that lose most" in table.caption


def test_digits_are_the_same_in_a_whole_column(found: report.Report) -> None:
    table = next(t for t in found.paper if t.name.startswith("new_task"))
    shown = [paper.fixed(row.cells["gain"], table.columns[2]) for row in table.rows]
    assert all(re.fullmatch(r"[+-]?0\.\d{4}|--", value) for value, _ in shown)
    assert all(re.fullmatch(r"0\.\d{4}|", half) for _, half in shown)
    assert paper.fixed(Cell(-0.00001), Column("x", "x", signed=True)) == ("0.0000", "")
    assert paper.fixed(Cell(0.5, seeds=(0.1, 0.5, 0.9)), Column("x", "x"))[0] == "0.5000 [0.1000, 0.9000]"


def test_long_tables_are_cut_between_methods_into_parts_of_a_page(found: report.Report) -> None:
    short = next(t for t in found.paper if t.name.startswith("new_task"))
    rows = [replace(row, rule_above=place % 5 == 0) for place, row in enumerate(8 * short.rows)]
    text = paper.latex(replace(short, rows=tuple(rows)))
    parts = text.split(r"\begin{table")[1:]
    lengths = [part.count(r" \\") - 1 for part in parts]
    assert sum(lengths) == len(rows) and max(lengths) <= paper.MOST_LINES and max(lengths) - min(lengths) <= 10
    assert all(length % 5 == 0 for length in lengths[:-1])
    assert "continued" in parts[1] and "continued" not in parts[0]


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no TeX here: apt-get install texlive-publishers texlive-plain-generic"
)
@pytest.mark.parametrize("kind", CLASSES)
def test_every_compact_table_compiles_and_fits(found: report.Report, tmp_path: Path, kind: str) -> None:
    if kind != "article" and subprocess.run(["kpsewhich", "acmart.cls"], capture_output=True, check=False).returncode:
        pytest.skip("acmart is not installed: apt-get install texlive-publishers texlive-plain-generic")
    body = []
    for name, content in found.files().items():
        if name.startswith("tables/paper/") and name.endswith(".tex"):
            (tmp_path / Path(name).name).write_text(content, encoding="utf-8")
            body.append(rf"\input{{{Path(name).stem}}}")
    assert len(body) == len(found.paper)
    text = "\n".join(
        [
            CLASSES[kind],
            r"\title{Tables}\author{Somebody}\begin{document}\maketitle",
            *body,
            r"Text. " * 500,
            r"\end{document}",
        ]
    )
    (tmp_path / "all.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout
    assert "Float too large" not in done.stdout  # LaTeX would push it over the foot of the page
