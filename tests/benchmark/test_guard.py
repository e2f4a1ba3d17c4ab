"""The guard and unfinished runs, on records whose faults are put in one by one, and on committed trees."""

from pathlib import Path

import pytest

from benchmark.records.guard import reasons_against
from benchmark.records.record import Record, run_id
from benchmark.records.tree import read_records
from benchmark.records.unfinished import is_unfinished, unfinished_by_cell
from tests.report import made

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
PENALTY = {"l2_embedding": 3e-4, "l2_dnn": 3e-4}


def changed(record: Record, **key: object) -> Record:
    new = record.key.model_copy(update=key)
    return record.model_copy(update={"key": new, "run_id": run_id(new), "train_rows": 1000})


@pytest.fixture
def fair() -> list[Record]:
    """Methods whose penalties differ as a search of equal passes chose them."""
    records = made.study({"one": 0.93, "two": 0.94}, range(2))
    l2 = {"single_task": 0.0, "one": 3e-4, "two": 6e-3}
    return [changed(r, track="equal", search_passes=20.0, config={"l2_embedding": l2[r.key.method]}) for r in records]


def ended(record: Record, *, best: int, last: int) -> Record:
    assert record.selection is not None
    return record.model_copy(
        update={"selection": record.selection.model_copy(update={"epoch": best, "epochs_run": last})}
    )


def test_a_fair_comparison_passes(fair):
    assert reasons_against(fair) == []


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"track": "published"}, ("published", "l2_embedding 0 (single_task), 0.0003 (one), 0.006 (two)")),
        ({"track": "tuned"}, ("tuned",)),
        ({"search_passes": 10.0}, ("passes of the search", "10 (two ", "20 (")),
        ({"budget": made.BUDGET | {"epochs": 12}}, ("budgets differ", '"epochs":12', "two ")),
    ],
)
def test_what_one_method_has_otherwise_is_named(fair, fault, named):
    unfair = [changed(r, **fault) if r.key.method == "two" else r for r in fair]
    (reason,) = reasons_against(unfair)
    assert all(word in reason for word in named)


def test_other_rows_and_other_data_are_named(fair):
    fewer = [r.model_copy(update={"train_rows": 500}) if r.key.method == "two" else r for r in fair]
    assert any("training rows differ" in reason and "two 500" in reason for reason in reasons_against(fewer))
    provenance = fair[0].provenance.model_copy(update={"data_fingerprint": "other"})
    (reason,) = reasons_against([*fair, fair[0].model_copy(update={"provenance": provenance})])
    assert "the data differs" in reason


def test_more_than_a_twentieth_of_unfinished_runs_is_too_much(fair):
    many = [ended(fair[0], best=9, last=14) for _ in range(20)]
    unfinished = ended(changed(fair[0], method="slow"), best=28, last=30)
    assert reasons_against([*many[:19], unfinished]) == []  # 1 of 20
    (reason,) = reasons_against([*many[:18], unfinished])
    assert "1 of 19 runs are unfinished" in reason and "slow" in reason


@pytest.mark.parametrize(
    ("best", "last", "expected"),
    [(30, 30, True), (26, 30, True), (25, 30, False), (10, 15, False), (12, 17, False)],
)
def test_a_run_is_unfinished_whose_patience_was_unspent_at_the_cap(best, last, expected):
    record = ended(made.record("one", "joint", 0, {"income": 0.9}), best=best, last=last)
    assert is_unfinished(record) is expected  # 30 epochs, patience 5
    assert unfinished_by_cell([record]) == {("one", "joint"): (int(expected), 1)}


def test_epochs_of_probing_are_no_patience():
    record = made.record("one", "lp_ft", 0, {"education": 0.9})
    record = changed(record, arm_config={"share": 0.9})  # 27 of 30 epochs train the head alone
    assert is_unfinished(ended(record, best=20, last=30))
    assert not is_unfinished(ended(changed(record, arm_config={"share": 0.3}), best=20, last=30))


def test_what_fits_itself_or_failed_is_never_unfinished():
    trees = made.record("gbdt", "scratch", 0, {"education": 0.9})
    trees = trees.model_copy(update={"curve": [epoch.model_copy(update={"loss": {}}) for epoch in trees.curve]})
    assert not is_unfinished(ended(trees, best=300, last=300))
    assert not is_unfinished(made.record("one", "joint", 0, status="failed"))


@pytest.mark.parametrize(
    ("tree", "dataset", "unfinished"),
    [
        ("census", "census_income", "82 of 180"),
        ("each_task", "census_income", "runs are unfinished"),
        ("kuairand", "", ""),
    ],
)
def test_committed_trees_of_the_published_track_are_refused(tree, dataset, unfinished):
    records = [r for r in read_records(REFERENCE / tree)[0] if r.key.dataset.startswith(dataset)]
    track, *others = reasons_against(records)
    assert "the track is 'published'" in track
    assert unfinished in " ".join(others)
