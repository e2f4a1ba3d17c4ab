"""From a result tree to files and back: what is written, what is noticed, what it costs to import."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import report
from benchmark.analysis.groups import group_records
from benchmark.records.record import run_directory, run_id, write_record
from benchmark.records.tree import read_records
from benchmark.report.build import slugs
from tests.report import made
from tests.report.conftest import TITLES


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "out"))


def read(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(newline="") as stream:
        return {(row["method"], row.get("arm", "")): row for row in csv.DictReader(stream)}


def test_build_writes_every_table_and_figure_in_every_format(built: Path) -> None:
    written = {
        str(path.relative_to(built))
        for folder in ("tables", "figures")
        for path in built.glob(f"{folder}/*")
        if path.is_file()
    }
    for table in ("old_tasks-census", "old_task_effect-census", "new_task-census"):
        assert {f"tables/{table}.{ending}" for ending in ("md", "tex", "csv")} <= written
    assert {f"figures/trade_off-census.{ending}" for ending in ("pdf", "png", "csv")} <= written
    assert all((built / name).stat().st_size > 0 for name in written)


def test_numbers_are_those_worked_out_by_hand(built: Path) -> None:
    effect = read(built / "tables/old_task_effect-census.csv")
    joint = effect["Shared-Bottom", "joint"]
    assert float(joint["income_degradation"]) == pytest.approx(0.002)
    assert float(joint["marital_degradation"]) == pytest.approx(0.001)
    assert float(joint["degradation_mean"]) == pytest.approx(0.0015)
    assert float(joint["degradation_worst"]) == pytest.approx(0.002)
    assert float(effect["Shared-Bottom", "frozen"]["degradation_worst"]) == 0.0
    new = read(built / "tables/new_task-census.csv")
    frozen = new["Shared-Bottom", "frozen"]
    assert float(frozen["trained_share"]) == pytest.approx(100 * 1000 / 10_000)
    assert float(frozen["paper_share"]) == pytest.approx(100 * 2000 / 10_000)
    assert float(frozen["flops_share"]) == pytest.approx(10.0)
    assert float(frozen["seconds_share"]) == pytest.approx(100 * 20 / 90)
    assert float(frozen["distance_to_joint"]) == pytest.approx(0.001)
    # Shared-Bottom's levels are .9395, .9410 (+.001 shift), .9425: income .9395 + ..., minus .081 for the new task.
    scores = [0.940 + 0.001 * s + 0.0005 * (s - 1) - 0.081 for s in range(3)]
    assert float(frozen["score"]) == pytest.approx(sum(scores) / 3)
    assert float(frozen["gain"]) == pytest.approx(sum(x - 0.860 - 0.0001 * s for s, x in enumerate(scores)) / 3)


def test_trials_of_a_search_leave_every_table_as_it_is(out: Path) -> None:
    for record in read_records(out)[0]:
        key = record.key.model_copy(update={"scored": "validation", "config": {"width": 5}})
        trial = record.model_copy(update={"key": key, "run_id": run_id(key), "scores": {}})
        write_record(run_directory(out, key), trial)
    assert report.check(out, TITLES) == []


def test_building_twice_gives_the_same_bytes(out: Path) -> None:
    written = [path for folder in ("tables", "figures") for path in out.glob(f"{folder}/**/*") if path.is_file()]
    before = {path: path.read_bytes() for path in written}
    shutil.rmtree(out / "figures")
    assert {path: path.read_bytes() for path in report.build(out, TITLES)} == before


def test_check_is_silent_after_build_and_names_what_changed(out: Path) -> None:
    assert report.check(out, TITLES) == []
    table = out / "tables/new_task-census.md"
    table.write_text(table.read_text().replace("0.86", "0.96", 1))
    (out / "tables/old_tasks-census.tex").unlink()
    (out / "tables/old_tasks-gone.md").write_text("from records that are no more\n")
    assert report.check(out, TITLES) == [
        "tables/old_tasks-census.tex: missing",
        "tables/new_task-census.md: differs from the records",
        "tables/old_tasks-gone.md: no records behind it",
    ]


@pytest.mark.parametrize("ending", ["tex", "csv"])
def test_a_tree_may_leave_out_a_whole_kind_of_files_but_not_one_of_them(out: Path, ending: str) -> None:
    first, *others = sorted((out / "tables").glob(f"*.{ending}"))
    first.unlink()
    assert report.check(out, TITLES) == [f"tables/{first.name}: missing"]
    for path in others:
        path.unlink()
    assert report.check(out, TITLES) == []


def test_the_command_says_what_building_anew_does_not_mend(mpt, out: Path) -> None:
    assert mpt("tables", "--out", out).code == 0
    (out / "tables/old_tasks-gone.md").write_text("from records that are no more\n")
    found = mpt("tables", "--out", out, "--check")
    assert found.code == 1
    assert "stay until you remove them" in found.text and "builds them anew" not in found.text
    (out / "tables/old_tasks-census.md").unlink()
    assert "builds them anew" in mpt("tables", "--out", out, "--check").text


def test_a_picture_of_other_data_is_noticed(out: Path) -> None:
    shutil.copy(out / "figures/parameters-census.png", out / "figures/trade_off-census.png")
    assert report.check(out, TITLES) == ["figures/trade_off-census.png or .pdf: drawn from other data"]
    report.build(out, TITLES)
    assert report.check(out, TITLES) == []


def test_a_figure_that_was_not_drawn_is_no_difference_and_half_of_one_is(out: Path) -> None:
    for path in out.glob("figures/trade_off-census.*"):
        path.unlink()
    (out / "figures/forest-census.png").unlink()
    assert report.check(out, TITLES) == ["figures/forest-census.png: missing"]


def test_an_appendix_without_latex_is_no_difference_and_with_some_of_it_is(out: Path) -> None:
    appendix = sorted(out.glob("tables/*.tex"))
    for path in appendix[1:]:
        path.unlink()
    assert sorted(report.check(out, TITLES)) == [f"tables/{path.name}: missing" for path in appendix[1:]]
    appendix[0].unlink()
    assert report.check(out, TITLES) == []
    next(out.glob("tables/paper/*.tex")).unlink()  # what goes into a paper is looked for
    assert len(report.check(out, TITLES)) == 1


def test_pictures_that_are_up_to_date_are_kept_and_others_drawn_again(out: Path) -> None:
    places = sorted(out.glob("figures/*.p*"))
    for path in places:
        os.utime(path, (0, 0))
    path = out / "figures/forest-census.pdf"
    path.write_bytes(path.read_bytes().replace(b"code ", b"c0de "))
    report.build(out, TITLES)
    drawn = {path.name for path in places if path.stat().st_mtime > 0}
    assert drawn == {"forest-census.pdf", "forest-census.png"}


def test_a_changed_record_is_noticed(out: Path) -> None:
    path = min(out.glob("runs/census/mpt_rec/joint/*/record.json"))
    path.write_text(path.read_text().replace('"education":', '"education" :', 1).replace("0.3", "0.31", 1))
    assert any("differs" in line for line in report.check(out, TITLES))  # its hash stands in the footer


def test_an_empty_tree_gives_nothing_and_no_error(tmp_path: Path) -> None:
    assert report.build(tmp_path, TITLES) == []
    assert report.check(tmp_path, TITLES) == []


def test_a_damaged_record_is_reported_and_left_out(out: Path) -> None:
    path = min(out.glob("runs/*/*/*/*/record.json"))
    path.write_text("{")
    assert [str(path) in problem for problem in report.report(out, TITLES).problems] == [True]


def test_reporting_imports_neither_torch_nor_matplotlib() -> None:
    code = "import sys, benchmark.report; print([m for m in ('torch', 'matplotlib', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_of_several_problems_of_a_dataset_bear_the_new_task_and_a_hash_only_where_that_is_not_enough() -> None:
    def problem(old: list[str], new: list[str]):
        return made.record("mpt_rec", "stage0", 0, {old[0]: 0.9}, old=old, new=new)

    one, two = problem(["income"], ["education"]), problem(["education"], ["income"])
    assert slugs(group_records([one], TITLES)) == ["census"]
    assert sorted(slugs(group_records([one, two], TITLES))) == ["census-education", "census-income"]
    third = problem(["marital", "sex"], ["income"])
    found = sorted(slugs(group_records([one, two, third], TITLES)))
    assert "census-education" in found
    assert len(set(found)) == 3 and "census-income" not in found, "two problems with the same new task need more"


def test_tables_say_how_many_runs_the_budget_ended(tmp_path: Path) -> None:
    """A run whose best epoch is its last might have gone on; one that patience ended has it before."""
    records = []
    for seed in range(3):
        for arm in ("stage0", "joint", "frozen"):
            run = made.record("m", arm, seed, {"income": 0.9, "marital": 0.9, "education": 0.8})
            run.selection.epoch = 3 if arm == "joint" or (arm == "frozen" and seed == 0) else 1  # of three
            records.append(run)
    tables = report.report(made.write(tmp_path, records), TITLES).tables
    (said,) = {line for table in tables for line in table.footer if line.startswith("Still improving")}
    assert said.endswith("(best epoch: the last): 4 of 9 runs; joint 3 of 3, frozen 1 of 3.")
    for run in records:
        run.selection.epoch = 2
    tables = report.report(made.write(tmp_path / "calm", records), TITLES).tables
    assert not [line for table in tables for line in table.footer if line.startswith("Still improving")]
