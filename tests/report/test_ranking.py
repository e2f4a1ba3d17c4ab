"""The ranking over problems, and the site that shows it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark as mb
from tests.report import made

ROOT = Path(__file__).resolve().parents[2]


def test_entries_are_ranked_within_their_problem_by_what_the_new_task_gains(tmp_path):
    tree = made.write(tmp_path / "tree", made.study({"shared_bottom": 0.940, "mpt_rec": 0.946}))
    rows = mb.ranking(tree)
    for _, problem in rows.groupby(["dataset", "task"]):
        ordered = problem.sort_values("gain", ascending=False)
        assert list(ordered["rank"]) == sorted(problem["rank"]) and ordered["rank"].iloc[0] == 1
        best, worst = ordered.iloc[0], ordered.iloc[-1]
        assert best.beaten == (problem.gain < best.gain).sum() / (len(problem) - 1) and worst.beaten == 0
    frozen = rows[rows.frozen]
    assert len(frozen) and (frozen.degradation == 0).all() and all(rows.runs.str.len() == rows.seeds)
    alone = rows[rows.arm == "no sharing"]
    assert (alone.gain == 0).all() and len(alone)


def test_all_reference_results_come_as_one_frame():
    everything = mb.load_all()
    assert everything.tree.nunique() > 10 and len(everything) > 5000


def test_the_site_builds_with_every_page_linked(tmp_path):
    pytest.importorskip("mkdocs_gen_files", reason="mkdocs is not installed: pip install -e .[site]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("index.html", "ranking.html", "ranking.json", "findings.html", "api/benchmark.html"):
        assert (tmp_path / "site" / name).is_file(), name
