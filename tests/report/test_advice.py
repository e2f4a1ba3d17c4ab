"""Which way to take in a new task: chosen on validation rows, said with evidence, and nothing said without it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from benchmark.analysis.groups import group_records
from benchmark.cli.advise import deadline
from benchmark.planning import advice
from benchmark.planning.advice import Way, finalists, screening, step, suite_for, validation_scores
from benchmark.records.record import Record
from benchmark.report.advice import Answer, answer, seeds_needed
from tests.report import made

TASK = "education"


def study(gains: dict[tuple[str, str], list[float]], loss: float = 0.05) -> list[Record]:
    """Single-task at .86 and, by (method, arm), runs with these gains; ways that are not frozen cost ``loss``."""
    records = []
    for seed in range(max(map(len, gains.values()))):
        records.append(made.record("single_task", "scratch", seed, {TASK: 0.86}, tasks=[TASK]))
        for method in {method for method, _ in gains}:
            records.append(made.record(method, "stage0", seed, {"income": 0.9, "marital": 0.95}))
    for (method, arm), values in gains.items():
        for seed, gain in enumerate(values):
            lost = 0.0 if arm == "frozen" else loss + 1e-4 * seed
            scores = {"income": 0.9 - lost, "marital": 0.95 - lost, TASK: 0.86 + gain}
            run = made.record(method, arm, seed, scores, curve=[0.5, 0.86 + gain, 0.6])
            if arm == "frozen":
                run.invariants = {"old_tasks_unchanged": True}
            records.append(run)
    return records


def advised(records: list[Record], **options: float) -> Answer:
    (group,) = group_records(records, {"m": "M"})
    scores = validation_scores(records, TASK)
    return answer(group, TASK, {(way.method, way.arm): values for way, values in scores.items()})


def test_a_frozen_way_with_a_sure_gain_is_recommended_with_its_evidence() -> None:
    found = advised(study({("m", "frozen"): [0.010, 0.011, 0.012], ("m", "joint"): [0.015, 0.016, 0.018]}))
    assert found.sentence == "Take education in with M, frozen: it gains +0.0110 ± 0.0025 over a model of its own."
    text = found.text()
    assert "bit-equal" in text and "1,000 weights" in text
    assert "Retraining everything jointly would add +0.0053" in text
    assert "cost the worst old task +0.0501" in text


def test_a_better_way_that_costs_the_old_tasks_is_passed_over() -> None:
    gains = {("m", "frozen"): [0.010, 0.011, 0.012], ("m", "finetune"): [0.03, 0.031, 0.032]}
    assert advised(study(gains)).chosen.arm == "frozen"
    assert advised(study(gains, loss=-0.01)).chosen.arm == "finetune"


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ([0.010, 0.011], "too few seeds"),
        ([0.020, -0.010, 0.001], "is not shown"),
        ([-0.010, -0.011, -0.012], "a model of education alone beats M, frozen"),
    ],
)
def test_nothing_is_recommended_where_the_data_cannot_carry_it(gains: list[float], said: str) -> None:
    found = advised(study({("m", "frozen"): gains}))
    assert found.chosen is None and found.sentence.startswith("No recommendation") and said in found.sentence


def test_as_good_as_a_model_of_its_own_is_enough_within_the_margin() -> None:
    found = advised(study({("m", "frozen"): [0.0001, -0.0001, 0.0]}))
    assert found.chosen is not None and "as good as a model of its own within 0.001" in found.sentence


def test_harm_that_is_not_ruled_out_is_no_recommendation() -> None:
    found = advised(study({("m", "finetune"): [0.03, 0.031, 0.032]}))
    assert found.chosen is None and "harm" in found.sentence


def test_test_scores_do_not_choose() -> None:
    records = study({("m", "frozen"): [0.010, 0.011, 0.012], ("n", "frozen"): [0.02, 0.021, 0.022]})
    for record in records:
        if record.key.method == "m" and TASK in record.scores:
            record.scores[TASK].metrics["auc"] = 0.999
    assert advised(records).chosen.variant.method == "n"
    assert finalists(records, TASK)[0] == Way("n", "frozen")


def test_finalists_hold_a_way_that_leaves_the_old_tasks_alone_and_joint_retraining() -> None:
    gains = {("m", arm): [gain] for arm, gain in (("finetune", 0.04), ("ewc", 0.03), ("lwf", 0.02), ("frozen", 0.0))}
    assert set(finalists(study(gains), TASK)) == {Way("m", a) for a in ("finetune", "ewc", "lwf", "frozen", "joint")}


def test_seeds_needed_agrees_with_the_interval() -> None:
    values = [0.01, 0.02, -0.005]
    needed = seeds_needed(values)
    assert needed is not None and 3 < needed < 30
    assert seeds_needed([0.01, 0.0101, 0.0099]) <= 3
    assert seeds_needed([0.0, 0.0]) is None


def test_steps_share_stage_0_and_run_no_reference_of_an_old_task() -> None:
    suite = suite_for("synthetic", None, 20_000, ("shared_bottom", "mmoe"))
    plans = screening(suite)
    assert sorted(run.key.arm for run in plans[0].runs) == ["finetune", "frozen", "joint", "scratch", "stage0"]
    assert plans[0].runs[0].key.tasks == ["share"]
    again = step(suite, [Way("shared_bottom", "frozen")], seed=0)
    assert {run.id for run in again.runs} < {run.id for run in plans[0].runs}


def test_the_deadline_strikes_once_and_not_after_its_block() -> None:
    with pytest.raises(KeyboardInterrupt), deadline(0.05) as late:
        while not late():
            pass
        for _ in range(2000):
            time.sleep(0.01)
    with deadline(30.0) as late:
        assert not late()


def test_the_deadline_is_kept_in_the_background_of_a_script_where_ctrl_c_is_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), deadline(0.05):
            for _ in range(2000):
                time.sleep(0.01)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_command_ends_with_a_page_and_an_answer_and_runs_nothing_twice(
    mpt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advice, "LADDER", (("shared_bottom", ("frozen",)),))
    monkeypatch.setattr(advice, "MOST_SEEDS", 1)
    tiny, out = Path(__file__).parents[1] / "sweep" / "tiny.py", tmp_path / "out"
    words = (
        "advise",
        "--dataset",
        tiny,
        "--minutes",
        20,
        "--methods",
        "shared_bottom",
        "--out",
        out,
        "--device",
        "cpu",
    )
    result = mpt(*words)
    assert result.code == 1 and "No recommendation yet: too few seeds." in result.text
    assert (out / "advice.md").read_text().startswith("# No recommendation yet")
    assert "No recommendation yet: too few seeds." in (out / "report.html").read_text()
    records = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/*/*/record.json")}
    assert len(records) == 3
    assert mpt(*words).code == 1
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/*/*/record.json")} == records


def test_a_bare_table_of_columns_is_told_what_it_lacks(mpt, tmp_path: Path) -> None:
    result = mpt("advise", "--dataset", tmp_path / "mine.csv")
    assert result.code == 2 and "schema file" in result.text
