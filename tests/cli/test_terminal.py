"""What people see: within the terminal's width, grouped, and with a way to go on."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.cli import terminal
from benchmark.cli.listing import plan_rows, skip_lines
from benchmark.planning.plan import Skip
from benchmark.records.record import read_record, write_record
from benchmark.report.model import Cell, Column, Row, Table
from tests.report import made
from tests.sweep.trees import TINY

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("fit", [80, 120])
def test_a_listing_wraps_its_widest_columns_and_loses_nothing(fit):
    rows = [{"name": "census_income", "n": 1234567, "text": "some words " * 30}, {"name": "b", "n": None, "text": "x"}]
    text = terminal.listing(rows, fit)
    assert max(map(len, text.splitlines())) <= fit
    assert text.count("some") == text.count("words") == 30 and "1234567" in text and "census_income" in text
    assert max(map(len, terminal.listing(rows, None).splitlines())) > fit


def test_names_are_never_broken_and_too_many_columns_become_paragraphs():
    name = "mpt_rec_specific_only_with_a_long_name"
    rows = [
        {"name": name, **{f"c{i}": "several words to wrap " * 3 for i in range(5)}},
        {"name": "b"} | {f"c{i}": "x" for i in range(5)},
    ]
    text = terminal.listing(rows, 80, longest=30)
    assert max(map(len, text.splitlines())) <= 80
    assert name in text.splitlines() and "    c4: x" in text and "…" not in text
    assert "…" in terminal.listing(rows, None, longest=30)


def test_claims_are_read_as_sentences_and_what_all_tables_have_below_is_said_once(monkeypatch):
    claim = Table(
        "claims",
        "Claims",
        (Column("claim", "Claim", "text"), Column("verdict", "Verdict", "text"), Column("where", "where", "text")),
        (Row({"claim": Cell(text="Taking a new task in harms nobody " * 3), "verdict": Cell(text="supported"),
              "where": Cell(code="n/a")}),),
    )  # fmt: skip
    tables = [claim, *(dataclasses.replace(wide_table(2), footer=("Budget: x", f"own {i}")) for i in range(2))]
    monkeypatch.setattr(terminal, "width", lambda: 60)
    text = "\n".join(terminal.main_tables(tables, Path("out/tables"), False))
    assert max(map(len, text.splitlines())) <= 60
    assert "    Verdict: supported" in text and "where" not in text
    assert text.count("Budget: x") == 1 and "own 0" in text and "own 1" in text


def wide_table(columns=9):
    names = [f"task_{number}" for number in range(columns)]
    return Table(
        "old_tasks-x",
        "A caption that goes on and on " * 6,
        (Column("method", "Method", "text"), *(Column(name, name) for name in names)),
        (Row({"method": Cell(text="MPT-Rec"), **{name: Cell(value=0.91234, half_width=0.001) for name in names}}),),
        ("A footer that goes on and on " * 8,),
    )


@pytest.mark.parametrize("fit", [80, 120])
@pytest.mark.parametrize("colour", [False, True])
def test_a_table_of_results_leaves_out_what_is_too_wide_and_names_the_file(fit, colour):
    text = terminal.results(wide_table().ranked(), fit, colour, "results/x/tables/old_tasks-x.md")
    assert max(terminal._length(line) for line in text.splitlines()) <= fit
    shown = sum(f"task_{number}" in text for number in range(9))
    assert 1 < shown < 9 and f"{9 - shown} more columns in results/x/tables/old_tasks-x.md" in text
    assert "A footer that goes on" in text and "MPT-Rec" in text


def test_a_table_that_fits_is_whole():
    text = terminal.results(wide_table(3), 80, False, "file")
    assert "task_2" in text and "more column" not in text


def test_skips_are_grouped_by_their_reason():
    skips = [
        Skip(name, method, arm, "register first") for name in ("a", "b") for method in "vwxyz" for arm in ("j", "f")
    ]
    skips += [Skip("c", method, "frozen", f"{method} does not support the arm 'frozen'") for method in ("maml", "aitm")]
    assert skip_lines([*skips, skips[0]]) == [
        "skip    a, b / 5 methods / j, f (20 cells): register first",
        "skip    c / maml, aitm / frozen (2 cells): the method does not support the arm 'frozen'",
    ]


def test_a_dry_run_has_a_line_for_each_dataset_and_method(mpt):
    result = mpt("--suite", "smoke", "--methods", "shared_bottom,mmoe", "--seeds", "0-2", "--dry-run")
    lines = [line for line in result.text.splitlines() if line.startswith("synthetic")]
    assert result.code == 0 and len(lines) == 3 and "stage0, joint, frozen, finetune" in lines[1]
    runs = json.loads(mpt("--suite", "smoke", "--methods", "mmoe", "--seeds", "0-2", "--dry-run", "--json").text)[
        "runs"
    ]
    assert sum(row["runs"] for row in plan_rows(runs)) == len(runs)


def test_status_says_how_much_of_the_plan_is_there_and_what_is_left(mpt, tmp_path):
    out = tmp_path / "out"
    words = [*TINY, "--methods", "shared_bottom", "--arms", "joint", "--seeds", "0", "--out", out]
    out.mkdir()
    (out / "suite.json").write_text('{"name": "paper", "margin": 0.001}')
    result = mpt(*words)
    assert result.code == 0 and "has results of the suite 'paper'" in result.text
    planned = len(json.loads((out / "plan.json").read_text())["runs"])
    assert f"planned {planned}: {planned} have numbers, 0 are left" in mpt("status", "--out", out).text
    next(out.glob("runs/*/shared_bottom/joint/*/record.json")).unlink()
    text = mpt("status", "--out", out).text
    assert f"{planned - 1} have numbers, 1 are left" in text and "tiny/shared_bottom/joint/seed 0" in text


def test_stale_runs_are_told_by_reason_and_a_sweep_that_keeps_them_says_so(mpt, tmp_path):
    out = tmp_path / "out"
    words = [*TINY, "--methods", "shared_bottom", "--arms", "joint", "--seeds", "0", "--out", out]
    assert mpt(*words, "--no-figures").code == 0
    files = sorted(out.glob("runs/*/*/*/*/record.json"))
    for file in files:
        record = read_record(file)
        old = record.provenance.model_copy(update={"code_fingerprint": "0" * 16})
        write_record(file.parent, record.model_copy(update={"provenance": old}))
    text = mpt("status", "--out", out).text
    assert f"Stale: {len(files)} runs" in text and text.count("the code has changed since") == 1
    assert f"{len(files)} runs are stale" in mpt(*words, "--no-figures").text


def test_a_run_of_somebody_s_own_data_is_verified_with_its_file_or_says_that_it_is_needed(mpt, tmp_path):
    record = made.record("shared_bottom", "joint", 0, dataset="own_clicks")
    made.write(tmp_path / "out", [record])
    result = mpt("verify", record.run_id, "--out", "out")
    assert result.code == 2 and "--dataset-file FILE" in result.text


def test_a_task_that_is_named_twice_is_refused(mpt, tmp_path):
    (tmp_path / "own.csv").write_text("user,click\n1,0\n")
    (tmp_path / "own.toml").write_text(
        'name = "own_twice"\nfiles = "own.csv"\ncategorical = ["user"]\nold_tasks = ["click", "click"]\n'
    )
    result = mpt("validate", "own_twice", "--dataset-file", "own.toml")
    assert result.code == 2 and "a task twice: click" in result.text


def test_a_gpu_is_not_taken_for_a_misspelt_cpu(mpt):
    result = mpt("--suite", "smoke", "--device", "gpu", "--dry-run")
    assert result.code == 2 and "Did you mean 'cuda'?" in result.text and "Did you mean 'cpu'?" not in result.text


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"margin": 1' + "0" * 400 + "}", '{"margin": NaN}', '{"margin": -1e308}', "[]", "\0"]
)
def test_a_suite_file_of_any_content_ends_in_tables_or_a_sentence(content, mpt, tmp_path):
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    (out / "suite.json").write_text(content)
    (out / "plan.json").write_text(content)
    assert mpt("status", "--out", out).code == 0
    result = mpt("tables", "--out", out)
    assert result.code == 0 or (result.code == 2 and "margin" in result.text)


@pytest.mark.parametrize("margin", ["1" + "0" * 400, "nan", "-1e308", "0", "2", "[" * 3000, "1" + "0" * 5000])
def test_a_suite_with_a_margin_that_cannot_be_is_refused(margin, mpt, tmp_path):
    (tmp_path / "mine.toml").write_text(
        f'title = "x"\ndatasets = ["synthetic"]\nmethods = ["shared_bottom"]\nmargin = {margin}\n'
    )
    result = mpt("--suite", "mine.toml", "--dry-run")
    assert result.code == 2 and "mine.toml" in result.text


def test_a_terminal_that_knows_ascii_alone_gets_a_whole_sweep_s_output(tmp_path):
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [*TINY, "--methods", "shared_bottom", "--arms", "joint", "--seeds", "0", "--out", "out"]
    done = subprocess.run(
        [sys.executable, ROOT / "run_all.py", *map(str, words)],
        env={**os.environ, **ascii_only}, cwd=tmp_path, capture_output=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert b"runs have numbers" in done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of a terminal")
def test_a_second_ctrl_c_leaves_neither_lock_nor_process(tmp_path):
    words = [*TINY, "--methods", "shared_bottom", "--arms", "joint", "--set", "budget.epochs=500",
             "--set", "budget.patience=500", "--out", tmp_path / "out"]  # fmt: skip
    done = subprocess.Popen(
        [sys.executable, ROOT / "run_all.py", *map(str, words)], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 90
    while not list(tmp_path.glob("out/runs/*/*/*/*/lock.json")):
        assert time.monotonic() < until and done.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    for _ in range(6):
        if done.poll() is None:
            done.send_signal(signal.SIGINT)
        time.sleep(0.03)
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 130 and "Traceback" not in errors, errors
    assert not list(tmp_path.glob("out/runs/*/*/*/*/lock.json"))
