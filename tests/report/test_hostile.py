"""Records that a real sweep leaves behind: correct, complete tables with a number or a code in every cell."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmark import report
from benchmark.analysis.groups import group_records
from benchmark.cli.trees import report_options
from benchmark.planning.plan import make_plan
from benchmark.planning.suite import load_suite
from benchmark.records.record import Record, run_id
from benchmark.report import writers
from benchmark.report.figures import arrays
from benchmark.report.figures import standard as figures
from benchmark.report.model import Table
from tests.report import made
from tests.report.conftest import TITLES


def tables(out: Path, records: list[Record], **options: object) -> dict[str, Table]:
    found = report.report(made.write(out, records), TITLES, **options)
    assert found.problems == ()
    for table in found.tables:
        for write in (writers.markdown, writers.latex, writers.comma_separated, writers.terminal):
            assert write(table)
    return {table.name.split("-")[0]: table for table in found.tables}


def cell(table: Table, column: str, **where: str) -> object:
    """The value or else the code of the one row whose texts agree."""
    rows = [r for r in table.rows if all(r.cells[k].text == v for k, v in where.items())]
    assert len(rows) == 1, f"{len(rows)} rows for {where}"
    found = rows[0].cells[column]
    return found.code if found.value is None else found.value


def marks(table: Table, column: str, **where: str) -> tuple[str, ...]:
    return next(r.cells[column].marks for r in table.rows if all(r.cells[k].text == v for k, v in where.items()))


def test_failed_cells_show_their_code_and_leave_the_others_alone(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94})
    for arm, status in (("joint", "oom"), ("frozen", "timeout"), ("finetune", "failed")):
        records += [made.record("mmoe", "stage0", s, {"income": 0.95, "marital": 0.99}) for s in range(3)]
        records += [made.record("mmoe", arm, s, status=status) for s in range(3)]
    found = tables(tmp_path, records)
    for arm, code in (("joint", "OOM"), ("frozen", "T/O"), ("fine-tuned", "failed")):
        assert cell(found["new_task"], "score", method="mmoe", arm=arm) == code
        assert cell(found["old_task_effect"], "degradation_worst", method="mmoe", arm=arm) == code
        assert cell(found["old_task_effect"], "income_before", method="mmoe", arm=arm) == pytest.approx(0.95)
        assert cell(found["new_task"], "trained", method="mmoe", arm=arm) == code
    assert cell(found["new_task"], "score", method="Shared-Bottom", arm="joint") == pytest.approx(0.861)


def test_missing_seeds_are_counted_in_the_cell(tmp_path: Path) -> None:
    records = [r for r in made.study({"shared_bottom": 0.94}) if not (r.key.arm == "frozen" and r.key.seed == 2)]
    found = tables(tmp_path, records)
    assert marks(found["new_task"], "score", method="Shared-Bottom", arm="frozen") == ("n=2",)
    assert "n=2" not in marks(found["new_task"], "score", method="Shared-Bottom", arm="joint")


def test_a_one_class_task_is_a_code_and_is_never_averaged_away(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94})
    records += [made.record("mmoe", "stage0", s, {"income": 0.95, "marital": None}) for s in range(3)]
    records += [made.record("mmoe", "joint", s, {"income": 0.95, "marital": None, "education": 0.8}) for s in range(3)]
    found = tables(tmp_path, records)
    assert cell(found["old_tasks"], "marital_score", method="mmoe") == "one-class"
    assert cell(found["old_tasks"], "delta_m", method="mmoe") == "one-class"
    assert cell(found["old_task_effect"], "degradation_mean", method="mmoe", arm="joint") == "one-class"
    assert cell(found["old_task_effect"], "income_degradation", method="mmoe", arm="joint") == 0.0


def test_stale_runs_are_marked_wherever_they_are_shown_and_not_ranked(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94, "mpt_rec": 0.95})
    stale = [r.run_id for r in records if r.key.method == "mpt_rec" and r.key.arm == "frozen"][:1]
    found = tables(tmp_path, records, stale=stale)
    for name, column in (("new_task", "score"), ("old_task_effect", "degradation_mean"), ("pareto", "gain")):
        assert "stale" in marks(found[name], column, method="MPT-Rec", arm="frozen")
        assert "stale" not in marks(found[name], column, method="MPT-Rec", arm="joint")


def test_two_machines_share_no_ranking_of_times_and_no_mean(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94, "mpt_rec": 0.95})
    for record in records:
        if record.key.method == "mpt_rec" and (record.key.arm == "frozen" or record.key.seed == 0):
            record.provenance.cpu = "Another CPU"
    found = tables(tmp_path, records)["new_task"]
    assert cell(found, "seconds", method="MPT-Rec", arm="joint") == "mixed"
    assert cell(found, "seconds_share", method="MPT-Rec", arm="frozen") == "mixed"
    assert marks(found, "seconds", method="MPT-Rec", arm="frozen") == ("A",)
    assert marks(found, "seconds", method="Shared-Bottom", arm="frozen") == ("B",)
    assert all(row.cells["seconds"].emphasis == "" for row in found.rows)
    assert any("A: Another CPU" in line for line in found.footer)
    assert cell(found, "score", method="MPT-Rec", arm="joint") is not None


def test_one_seed_has_no_interval_and_no_verdict(tmp_path: Path) -> None:
    found = tables(tmp_path, made.study({"shared_bottom": 0.94, "mpt_rec": 0.95}, seeds=range(1)))
    assert all(cell.half_width is None for row in found["new_task"].rows for cell in row.cells.values())
    assert {row.cells["verdict"].text for row in found["paired_differences"].rows} == {"one seed"}
    assert any("One seed" in line for line in found["new_task"].footer)


def test_a_hundred_seeds(tmp_path: Path) -> None:
    found = tables(tmp_path, made.study({"mpt_rec": 0.95}, seeds=range(100), arms=()))
    assert found["new_task"].rows[0].cells["score"].n == 100
    assert len(found["per_seed"].rows) == 100 * (3 + 3)


def test_forty_methods(tmp_path: Path) -> None:
    methods = {f"method_{i:02d}": 0.92 + 0.001 * i for i in range(40)}
    found = report.report(made.write(tmp_path, made.study(methods, arms=())), TITLES)
    table = next(t for t in found.tables if t.name.startswith("old_tasks"))
    assert [row.cells["method"].text for row in table.rows] == ["SingleTask", *methods]
    best = [row.cells["method"].text for row in table.rows if row.cells["income_score"].emphasis == "best"]
    assert best == ["method_39"]


def test_hostile_names_of_everything(tmp_path: Path) -> None:
    bad = "m_1 & 50%\u202e|中$"
    records = made.study({"shared_bottom": 0.94})
    records += [made.record("x", "stage0", s, {"a|b_%": 0.9}, old=["a|b_%"], new=["n&\\"], dataset="d") for s in (0, 1)]
    records += [made.record("x", "joint", s, {"a|b_%": 0.9, "n&\\": 0.8}, old=["a|b_%"], new=["n&\\"], dataset="d")
                for s in (0, 1)]  # fmt: skip
    found = report.report(made.write(tmp_path, records), {"x": bad})
    text = "".join(content for name, content in found.files().items() if name.endswith(".tex"))
    assert "\u202e" not in text and r"m\_1 \& 50\%" in text and r"a|b\_\%" in text
    assert "\u202e" not in found.terminal(names=("",))


def test_nan_in_a_record_is_a_damaged_record_and_the_rest_is_shown(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94})
    out = made.write(tmp_path, records)
    path = min(out.glob("runs/census/shared_bottom/joint/*/record.json"))
    path.write_text(
        path.read_text().replace('"auc":0.', '"auc":NaN,"x":0.').replace('"auc": 0.', '"auc": NaN, "x": 0.')
    )
    found = report.report(out, TITLES)
    assert len(found.problems) == 1 and str(path) in found.problems[0]
    table = next(t for t in found.tables if t.name.startswith("new_task"))
    assert marks(table, "score", method="Shared-Bottom", arm="joint") == ("n=2",)


def test_variants_of_a_method_are_rows_of_their_own_named_by_what_differs(tmp_path: Path) -> None:
    records = made.study({"mpt_rec": 0.94})
    for record in made.study({"mpt_rec": 0.95}):
        if record.key.method == "mpt_rec":
            record.key.config = {"width": 4, "fusion": "fw"}
            record.run_id = run_id(record.key)
            records.append(record)
    found = tables(tmp_path / "a", records)
    names = [row.cells["method"].text for row in found["old_tasks"].rows]
    assert names == ["SingleTask", "MPT-Rec (fusion=fw)", "MPT-Rec"]
    assert found["variants"].caption == "census: variants of MPT-Rec"


def test_of_the_variants_that_a_suite_declares_the_method_as_it_is_bears_the_plain_name_and_is_what_claims_speak_of(
    tmp_path: Path,
) -> None:
    records = made.study({"mpt_rec": 0.94})
    for config, value in (({"width": 4, "fusion": "kl"}, 0.95), ({"width": 8, "fusion": "fw"}, 0.96)):
        for record in made.study({"mpt_rec": value}):
            if record.key.method == "mpt_rec":
                record.key.config = config
                record.run_id = run_id(record.key)
                records.append(record)
    for record in records:
        if record.key.method == "mpt_rec" and record.key.config == {"width": 4}:
            record.key.config = {"width": 4, "fusion": "fw"}
            record.run_id = run_id(record.key)
    declared = {"kl": {"method": "mpt_rec", "fusion": "kl"}, "wide": {"method": "mpt_rec", "width": 8}}
    found = tables(tmp_path, records, variants=declared)
    names = [row.cells["method"].text for row in found["old_tasks"].rows]
    assert names == ["SingleTask", "MPT-Rec", "MPT-Rec (fusion=kl)", "MPT-Rec (width=8)"]
    contests = [row.cells["contest"].text or "" for row in found["claims"].rows]
    assert any("MPT-Rec" in text for text in contests) and not any("=" in text for text in contests)


def test_variants_come_from_the_tree_s_own_suite_and_what_is_none_is_passed_over(tmp_path: Path) -> None:
    suite = {"variants": {"kl": {"method": "mpt_rec", "fusion": "kl"}, "broken": 3}}
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    assert report_options(tmp_path)["variants"] == {"kl": suite["variants"]["kl"]}
    (tmp_path / "suite.json").write_text('{"variants": [1]}')
    assert "variants" not in report_options(tmp_path)


def test_a_method_s_own_values_on_a_dataset_are_looked_up_and_unknown_names_are_passed_over(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94, "nobody_s": 0.94}, dataset="census_income")
    records += made.study({"shared_bottom": 0.94}, dataset="nowhere")
    own = report_options(made.write(tmp_path, records))["own_configs"]
    assert set(own) == {("census_income", "single_task"), ("census_income", "shared_bottom")}
    # They are what a suite that sets nothing runs.
    planned = {(run.key.dataset, run.key.method): run.key.config for run in make_plan(load_suite("census")).runs}
    assert own == {pair: planned[pair] for pair in own}


def test_no_single_task_reference_means_no_gain(tmp_path: Path) -> None:
    records = [r for r in made.study({"shared_bottom": 0.94}) if r.key.method != "single_task"]
    found = tables(tmp_path, records)
    assert cell(found["new_task"], "gain", method="Shared-Bottom", arm="joint") == "n/a"
    assert cell(found["old_tasks"], "delta_m", method="Shared-Bottom") == "n/a"


def test_other_budgets_never_meet_in_one_table(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94})
    for record in made.study({"shared_bottom": 0.90}):
        record.key.budget = {"epochs": 1}
        record.run_id = run_id(record.key)
        records.append(record)
    found = report.report(made.write(tmp_path, records), TITLES)
    assert sum(t.name.startswith("new_task") for t in found.tables) == 2
    assert len({t.name for t in found.tables}) == len(found.tables)


def test_two_new_tasks_have_a_table_each_and_a_regression_task_shows_r2(tmp_path: Path) -> None:
    new = ["education", "age"]
    records = []
    for seed in range(3):
        for task, level in (("income", 0.94), ("education", 0.86), ("age", 0.3)):
            records.append(
                made.record("single_task", "scratch", seed, {task: level}, old=["income"], new=new, tasks=[task])
            )
        records.append(made.record("m", "stage0", seed, {"income": 0.95}, old=["income"], new=new))
        after = {"income": 0.94, "education": 0.87, "age": 0.35}
        records.append(made.record("m", "joint", seed, after, old=["income"], new=new))
    for record in records:
        if "age" in record.scores:
            record.scores["age"].metrics = {"r2": record.scores["age"].metrics["auc"], "rmse": 1.0}
    found = {table.name: table for table in report.report(made.write(tmp_path, records), {}).tables}
    age = found["new_task-age-census"]
    assert next(c.header for c in age.columns if c.key == "score") == "R²"
    assert cell(age, "gain", method="m", arm="joint") == pytest.approx(0.05)
    assert cell(age, "gain_above_chance", method="m", arm="joint") == "n/a"  # R² has no chance level of one half
    assert cell(found["new_task-education-census"], "gain", method="m", arm="joint") == pytest.approx(0.01)
    assert cell(found["old_task_effect-census"], "degradation_worst", method="m", arm="joint") == pytest.approx(0.01)


def test_an_arm_that_nobody_knew_yet_is_shown_under_its_own_name(tmp_path: Path) -> None:
    records = made.study({"mpt_rec": 0.94}, arms=("frozen_lora", "finetune_ewc"))
    found = tables(tmp_path, records)
    arms = [row.cells["arm"].text for row in found["new_task"].rows]
    assert arms == ["single task", "joint", "finetune_ewc", "frozen", "frozen_lora"]
    assert cell(found["old_task_effect"], "degradation_worst", method="MPT-Rec", arm="frozen_lora") == pytest.approx(
        0.06
    )


HUGE = {
    "a score": ('"auc": 0.', '"auc": 1e308, "mine": 0.'),
    "a score of one's own": ('"auc": 0.', '"mine": -1e308, "auc": 0.'),
    "a score without end": ('"auc": 0.', '"mine": 1' + "0" * 400 + ', "auc": 0.'),
    "seconds": ('"train": ', '"train": 1e308'),
    "seconds without end": ('"train": ', '"train": 1' + "0" * 400),
    "weights": ('"total": ', '"total": 1' + "0" * 400),
    "weights by a float": ('"total": ', '"total": 1e308'),
    "operations": ('"forward": ', '"forward": 1e308'),
}


@pytest.mark.parametrize("what", HUGE)
def test_a_number_beyond_all_measure_is_a_damaged_record_and_the_rest_is_shown(tmp_path: Path, what: str) -> None:
    before, after = HUGE[what]
    out = made.write(tmp_path, made.study({"shared_bottom": 0.94}))
    path = min(out.glob("runs/census/shared_bottom/joint/*/record.json"))
    content = re.sub(r'\n *"checksum": "[0-9a-f]*"', "", path.read_text()).replace(",\n}", "\n}")
    number = r"[0-9.e+]*" if after[-1].isdigit() and before.endswith(" ") else ""
    changed = re.sub(re.escape(before) + number, after, content, count=1)
    assert changed != content
    path.write_text(changed)
    found = report.report(out, TITLES)
    assert len(found.problems) == 1 and str(path) in found.problems[0] and "checksum" not in found.problems[0]
    table = next(t for t in found.tables if t.name.startswith("new_task"))
    assert marks(table, "score", method="Shared-Bottom", arm="joint") == ("n=2",)


def test_of_a_hundred_thousand_points_no_more_are_placed_than_end_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(arrays, "MAXIMAL_POINTS", 60)
    generator = np.random.default_rng(0)
    many = {name: generator.normal(size=(100_000, 8)) for name in ("general", "specific_income")}
    assert len(arrays.embedded(many, {"method": "m"})) == 60


def test_a_curve_of_a_hundred_thousand_epochs_is_drawn_by_some_hundred_points(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94})
    for record in records:
        first = record.curve[0]
        record.curve = [first.model_copy(update={"epoch": epoch}) for epoch in range(1, 100_001)]
    groups = group_records(records, TITLES)
    plot = figures.curves(groups[0], "census")
    assert plot is not None
    for arm in {row["arm"] for row in plot.rows}:
        for task in {row["task"] for row in plot.rows}:
            own = [row for row in plot.rows if (row["arm"], row["task"], row["method"]) == (arm, task, "Shared-Bottom")]
            assert len(own) <= figures.MOST_EPOCHS and (not own or own[-1]["epoch"] > 99_000)
