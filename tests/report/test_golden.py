"""All tables of one fixed set of records, byte for byte in every format.

After a wanted change of the tables: ``MPTBENCH_UPDATE_GOLDEN=1 pytest tests/report/test_golden.py``, then read the
difference before committing it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmark import report
from benchmark.records.record import run_directory
from tests.report import made
from tests.report.conftest import TITLES

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> report.Report:
    """Two datasets; on one of them a method with failures, another machine and stored predictions."""
    records = made.study({"shared_bottom": 0.940, "mpt_rec": 0.946}, dataset="census_income")
    records += made.study({"shared_bottom": 0.930, "mpt_rec": 0.929}, seeds=range(5), dataset="other & more")
    records += [
        made.record("p_le", "stage0", s, {"income": 0.95, "marital": None}, dataset="census_income") for s in range(3)
    ]
    records += [made.record("p_le", "joint", 0, status="oom", dataset="census_income")]
    records += [
        made.record(
            "p_le", "frozen", s, {"income": 0.95, "education": 0.87 - 0.001 * s}, dataset="census_income", cpu="B"
        )
        for s in range(2)
    ]
    out = made.write(tmp_path_factory.mktemp("golden"), records)
    # Integers, so that the logits are the same floats on every platform.
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 200).astype(np.float32)
    for place, record in enumerate(records):
        if record.status == "ok" and record.key.dataset == "census_income" and "education" in record.scores:
            better = 1 if record.key.method == "mpt_rec" else 0
            logits = (generator.integers(0, 20, 200) + (4 + 6 * better) * labels + place % 2).astype(np.float32)
            np.savez(
                run_directory(out, record.key) / "predictions.npz", logits_education=logits, labels_education=labels
            )
    stale = [r.run_id for r in records if r.key.method == "shared_bottom" and r.key.arm == "finetune"][:1]
    return report.report(out, TITLES, stale=stale)


def test_every_table_is_the_same_byte_for_byte(found: report.Report) -> None:
    files = {name.replace("/", "."): content for name, content in found.files().items()}
    files["terminal.txt"] = found.terminal(names=("",))
    if os.environ.get("MPTBENCH_UPDATE_GOLDEN"):
        shutil.rmtree(GOLDEN, ignore_errors=True)
        GOLDEN.mkdir()
        for name, content in files.items():
            (GOLDEN / name).write_text(content, encoding="utf-8", newline="")
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(files)
    assert [name for name, content in files.items() if (GOLDEN / name).read_bytes() != content.encode()] == []


DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx,longtable,lscape,rotating%s}
%s\begin{document}
%s
\end{document}
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX here; the structure is checked elsewhere")
@pytest.mark.parametrize("siunitx", [False, True])
def test_every_latex_table_compiles(found: report.Report, tmp_path: Path, siunitx: bool) -> None:
    names = []
    for name, content in found.files().items():
        if name.endswith(".tex"):
            names.append(Path(name).name)
            (tmp_path / names[-1]).write_text(content, encoding="utf-8")
    macros = "\\newcommand{\\mptnum}[2]{\\num{#1 \\pm #2}}\n\\newcommand{\\mptval}[1]{\\num{#1}}\n" if siunitx else ""
    body = "\\clearpage\n".join(f"\\input{{{name}}}" for name in names)
    (tmp_path / "all.tex").write_text(DOCUMENT % (",siunitx" if siunitx else "", macros, body), encoding="utf-8")
    if siunitx and subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True, check=False).returncode:
        pytest.skip("siunitx is not installed")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    for _ in range(3):  # longtable settles its columns over several passes
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout


def test_latex_tables_have_the_structure_that_booktabs_wants(found: report.Report) -> None:
    for name, content in found.files().items():
        if not name.endswith(".tex"):
            continue
        for place in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{", r"\label{tab:"):
            floats = content.count(r"\begin{tabular}") if "/paper/" in name else 1  # one a page
            assert content.count(place) == floats, (name, place)
        lines = content.splitlines()
        columns = lines[next(i for i, line in enumerate(lines) if r"\multicolumn{1}" in line)].count(" & ") + 1
        body = content[content.index(r"\midrule") : content.index(r"\bottomrule")].splitlines()[1:]
        for line in body:
            if line.strip() not in (r"\addlinespace", r"\endhead", ""):
                assert line.endswith(r" \\") and line.count(" & ") == columns - 1, (name, line)
