"""Records are checked when they are read; names and texts do no harm where they are shown."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from benchmark import report
from benchmark.records.record import run_directory
from benchmark.records.tree import read_records
from benchmark.report import writers
from benchmark.report.model import Cell, Column, Row, Table
from tests.report import made
from tests.report.conftest import TITLES

IMPOSSIBLE = {
    "an AUC above 1": ('"auc": 0.', '"auc": 20.', "auc is 20"),
    "an AUC below 0": ('"auc": 0.', '"auc": -0.', "auc is -0."),
    "a negative time": ('"train": ', '"train": -', "greater than or equal to 0"),
    "a negative count": ('"positives": ', '"positives": -', "greater than or equal to 0"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_an_impossible_number_is_refused_with_its_place_and_the_rest_is_shown(tmp_path: Path, what: str) -> None:
    before, after, said = IMPOSSIBLE[what]
    out = made.write(tmp_path, made.study({"shared_bottom": 0.94}))
    path = min(out.glob("runs/census/shared_bottom/joint/*/record.json"))
    content = re.sub(r'\n *"checksum": "[0-9a-f]*"', "", path.read_text()).replace(",\n}", "\n}")
    path.write_text(content.replace(before, after, 1))
    records, problems = read_records(out)
    assert len(problems) == 1 and str(path) in problems[0] and said in problems[0]
    assert len(records) == len(list(out.glob("runs/*/*/*/*/record.json"))) - 1


def test_equal_weights_under_other_seeds_are_copies_and_left_out(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94, "mpt_rec": 0.95})
    for record in records:
        own = "copied" if (record.key.method, record.key.arm) == ("mpt_rec", "joint") else record.run_id
        record.weights_fingerprint = own
    found = report.report(made.write(tmp_path, records), TITLES)
    assert len(found.problems) == 3
    assert all("have the same weights, so they are copies of one run" in problem for problem in found.problems)
    table = next(t for t in found.tables if t.name.startswith("new_task"))
    assert ("MPT-Rec", "joint") not in {(r.cells["method"].text, r.cells["arm"].text) for r in table.rows}


@pytest.mark.parametrize("name", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1"])
def test_a_name_is_no_formula_in_a_spreadsheet(name: str) -> None:
    columns = (Column("method", "Method", "text"), Column("score", "AUC"))
    table = Table("t", "t", columns, (Row({"method": Cell(text=name), "score": Cell(-0.5)}),))
    read = next(csv.DictReader(io.StringIO(writers.comma_separated(table))))
    assert read["method"][0] not in "=+-@\t\r" and name.strip() in read["method"]
    assert read["score"] == "-0.5"  # a number stays a number


def test_a_very_long_name_leaves_the_figures_their_room(tmp_path: Path) -> None:
    titles = {**TITLES, "long": "A method with a name " + "x" * 300}
    records = made.study({"shared_bottom": 0.94, "long": 0.95, "mpt_rec": 0.96})
    found = report.report(made.write(tmp_path, records), titles)
    from matplotlib.image import imread

    for plot in found.plots:
        plot.write(tmp_path / "figures")
        height, width = imread(tmp_path / "figures" / f"{plot.name}.png").shape[:2]
        assert 0.15 < height / width < 3, plot.name
        picture = imread(tmp_path / "figures" / f"{plot.name}.png")[..., :3].min(axis=2)
        inked = (picture < 0.9).any(axis=0)
        assert inked[width // 2 :].any() and inked[: width // 2].any(), plot.name


def times(tmp_path: Path, kernels: dict[str, float | None]) -> Table:
    """A study whose MPT-Rec runs come from another machine; ``kernels``: milliseconds of the step by machine."""
    records = made.study({"shared_bottom": 0.94, "mpt_rec": 0.95})
    for record in records:
        origin = record.provenance
        origin.cpu = "Slow CPU" if record.key.method == "mpt_rec" and record.key.arm == "frozen" else "Example CPU"
        origin.kernel_milliseconds = kernels[origin.cpu]
        origin.kernel = 1
        record.seconds.cpu = 0.9 * record.seconds.total
    made.write(tmp_path, records)
    assert (run_directory(tmp_path, records[0].key) / "record.json").is_file()
    return report.report(tmp_path, TITLES)


def test_times_of_another_machine_are_converted_by_the_calibration_step_and_marked(tmp_path: Path) -> None:
    found = times(tmp_path, {"Example CPU": 2.0, "Slow CPU": 4.0})
    table = next(t for t in found.tables if t.name.startswith("new_task"))
    rows = {(r.cells["method"].text, r.cells["arm"].text): r.cells for r in table.rows}
    slow, quick = rows["MPT-Rec", "frozen"], rows["MPT-Rec", "joint"]
    assert slow["seconds"].value == pytest.approx(21 / 2)  # 21 s on a machine that needs twice as long for a step
    assert slow["seconds"].marks == ("≈", "B") and quick["seconds"].marks == ("A",)
    assert slow["seconds_share"].value == pytest.approx(100 * 10.5 / 91) and "≈" in slow["seconds_share"].marks
    assert all(row.cells["seconds"].emphasis == "" for row in table.rows)  # converted times are not ranked
    assert any("calibration" in line or "fixed training step" in line for line in table.footer)
    cost = next(t for t in found.tables if t.name.startswith("efficiency"))
    cells = {(r.cells["method"].text, r.cells["arm"].text): r.cells for r in cost.rows}["MPT-Rec", "frozen"]
    assert cells["cpu"].value == pytest.approx(0.9 * 21)
    assert cells["steps"].value == pytest.approx(1000 * 0.9 * 21 / 4.0)


def test_times_are_not_converted_where_a_run_did_not_time_the_step(tmp_path: Path) -> None:
    found = times(tmp_path, {"Example CPU": 2.0, "Slow CPU": None})
    table = next(t for t in found.tables if t.name.startswith("new_task"))
    cells = {(r.cells["method"].text, r.cells["arm"].text): r.cells for r in table.rows}["MPT-Rec", "frozen"]
    assert cells["seconds_share"].code == "mixed" and cells["seconds"].marks == ("B",)
