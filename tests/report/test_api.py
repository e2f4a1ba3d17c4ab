"""The suite from Python, as a notebook uses it."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import benchmark as mb
from benchmark.core.errors import UsageError
from tests.report import made

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model.py"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, benchmark; print([m for m in ('torch', 'pandas', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_records_become_one_row_per_run_and_task(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94})
    records.append(made.record("shared_bottom", "lora", 0, status="oom"))
    frame = mb.load(made.write(tmp_path, records))
    assert len(frame) == sum(len(record.scores) or 1 for record in records)
    lost = frame[frame.arm == "lora"].iloc[0]
    assert (lost.status, lost.reason, lost.task) == ("oom", "made to be oom", "education") and pd.isna(lost.auc)
    frozen = frame[(frame.arm == "frozen") & (frame.seed == 1)].set_index("task")
    assert frozen.auc["education"] == pytest.approx(0.941 - 0.081)
    assert list(frozen.role) == ["old", "old", "new"] and list(frozen.trained) == [False, False, True]


def test_the_reference_results_are_at_hand() -> None:
    assert {"single_task", "mpt_rec"} <= set(mb.load().method)
    assert "new_task-census_income" in mb.tables()


def test_a_plan_is_narrowed_and_unknown_names_are_refused_with_the_nearest() -> None:
    plan = mb.plan("smoke", methods="mmoe", arms=["frozen"], seeds=2, settings={"budget.epochs": 1})
    assert {run.key.seed for run in plan.runs} == {0, 1}
    assert {run.key.budget["epochs"] for run in plan.runs} == {1}
    assert {run.key.method for run in plan.runs} == {"single_task", "mmoe"}
    with pytest.raises(UsageError, match="mmoe"):
        mb.plan("smoke", methods=["mmoee"])
    with pytest.raises(UsageError, match="Did you mean 'methods'"):
        mb.plan("smoke", method=["mmoe"])


def test_own_predictions_stand_beside_those_of_the_runs(predicted: Path) -> None:
    path = next(predicted.glob("runs/census/mpt_rec/frozen/*/predictions.npz"))
    labels = np.load(path)["labels_education"]
    own = np.random.default_rng(1).normal(size=(3, len(labels))) + labels
    frame = mb.compare_predictions({"education": own}, predicted).set_index(["method", "arm"])
    assert frame.own_auc.iloc[0] == pytest.approx(np.mean([roc_auc_score(labels, row) for row in own]))
    theirs = frame.loc[("mpt_rec", "frozen")]
    assert theirs.seeds == 3 and theirs.difference == pytest.approx(theirs.own_auc - theirs.auc)
    assert (frame.p_holm >= frame.p).all()
    same = mb.compare_predictions({"education": np.load(path)["logits_education"]}, predicted)
    assert ((same.difference == 0) | (same.p < 1)).all()


def test_predictions_that_do_not_fit_are_refused(predicted: Path) -> None:
    with pytest.raises(UsageError, match="3 values for 400 test rows"):
        mb.compare_predictions({"education": [1.0, 2.0, 3.0]}, predicted)
    with pytest.raises(UsageError, match="education"):
        mb.compare_predictions({"educaton": np.zeros(400)}, predicted)
    with pytest.raises(UsageError, match="have stored predictions|has stored predictions"):
        mb.compare_predictions({"education": np.zeros(400)}, mb.reference())


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_records_can_be_exported(mpt, tmp_path: Path, ending: str) -> None:
    tree = made.write(tmp_path / "tree", made.study({"shared_bottom": 0.94}))
    result = mpt("tables", "--out", tree, "--export", f"runs.{ending}")
    assert result.code == 0, result.text
    read = pd.read_csv if ending == "csv" else pd.read_parquet
    frame = read(tmp_path / f"runs.{ending}")
    pd.testing.assert_series_equal(frame.auc, mb.load(tree).auc)
    assert "has to end in" in mpt("tables", "--out", tree, "--export", "runs.xlsx").text


def test_the_example_runs(mpt, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("own_model", EXAMPLE)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    compared = example.main(str(tmp_path / "out"))
    assert set(compared.arm) == {"joint", "frozen", "scratch"}
    assert compared.own_auc.between(0.55, 1).all()


def test_compare_sets_a_new_method_beside_the_reference_and_says_what_does_not_compare(mpt, tmp_path: Path) -> None:
    theirs = made.write(tmp_path / "theirs", made.study({"shared_bottom": 0.94}))
    own = [r for r in made.study({"my_method": 0.96}) if r.key.method == "my_method"]
    mine = made.write(tmp_path / "mine", [*own, *made.study({"my_method": 0.9}, dataset="elsewhere")])
    result = mpt("compare", mine, "--to", theirs)
    assert result.code == 0, result.text
    assert "my_method (yours)" in result.text and "Not compared: elsewhere: no reference records" in result.text
    assert "my_method (yours)" in (mine / "comparison/report.html").read_text()
    with (mine / "comparison/tables/new_task-census.csv").open() as stream:
        assert {"my_method (yours)", "Shared-Bottom"} <= {row["method"] for row in csv.DictReader(stream)}


def test_compare_counts_runs_that_another_kind_of_machine_may_have_made_and_those_that_differ(
    mpt, tmp_path: Path
) -> None:
    theirs = made.study({"shared_bottom": 0.94})
    mine = made.study({"shared_bottom": 0.94})
    near, far = (next(r for r in mine if r.key.seed == seed and r.key.arm == "joint") for seed in (0, 1))
    for record, distance in ((near, 0.001), (far, 0.5)):
        next(iter(record.scores.values())).metrics["auc"] -= distance
        record.provenance = record.provenance.model_copy(update={"bits_kind": "another"})
    result = mpt("compare", made.write(tmp_path / "mine", mine), "--to", made.write(tmp_path / "theirs", theirs))
    assert result.code == 1
    assert f"{len(mine) - 2} are equal bit for bit, 1 within what 'verify' allows" in result.text
    assert "1 differ; largest difference of an AUC 5.0e-01" in result.text


def test_compare_of_the_reference_with_itself_says_that_every_run_agrees(mpt) -> None:
    result = mpt("compare", mb.reference())
    runs = mb.load().run_id.nunique()
    assert result.code == 1
    assert f"of {runs} runs of the same name {runs} are equal bit for bit" in result.text
