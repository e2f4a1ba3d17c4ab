"""The track "equal": one command searches every method and arm with equal passes, then runs with what it finds."""

import csv
import json
import tomllib

import pytest

from benchmark.analysis.groups import group_records
from benchmark.core.errors import UsageError
from benchmark.planning.plan import make_plan
from benchmark.planning.suite import SearchBudget, Suite
from benchmark.planning.tracks import untuned
from benchmark.records.guard import reasons_against
from benchmark.records.record import Key, run_id
from benchmark.records.tree import read_records
from benchmark.spec.arms import ARMS
from benchmark.tuning.equal import SPACE, Entry, Halving, cost, entries, points, sample_name, with_found
from tests.report import made
from tests.sweep.trees import HERE

SUITE = """\
title = "equal"
datasets = ["tiny"]
methods = ["shared_bottom", "logistic_regression"]
arms = ["joint", "lora"]
seeds = [0]
track = "equal"
[budget]
batch_size = 256
epochs = 20
patience = 1
[search_budget]
rounds = [[2, 1], [2, 1]]
share = 0.5
"""


def suite(**changes):
    wanted = {"datasets": ("synthetic",), "methods": ("shared_bottom",), "arms": ("joint", "frozen", "lora", "lwf")}
    return Suite(name="equal", title="", track="equal", **wanted | changes)


@pytest.fixture
def tree(mpt, tmp_path):
    (tmp_path / "equal.toml").write_text(SUITE)
    words = ("--suite", tmp_path / "equal.toml", "--dataset-file", HERE / "tiny.py", "--jobs", 2)
    return words, tmp_path / "out"


def test_one_command_searches_and_runs_and_goes_on_where_it_stopped(mpt, tree):
    words, out = tree
    result = mpt("run", *words, "--out", out)
    assert result.code == 0, result.text
    assert "4 for each method and arm" in result.text and "The search took " in result.text
    trials, records = read_records(out / "search")[0], read_records(out)[0]
    assert {t.key.scored for t in trials} == {"validation"} and not any(t.scores for t in trials)
    assert {(r.key.track, r.key.scored) for r in records} == {("equal", "test")}
    spent = {(r.key.method, r.key.search_passes) for r in records}
    assert spent == {("single_task", 4), ("shared_bottom", 4), ("logistic_regression", 0)}
    assert reasons_against(records) == []

    found = tomllib.loads((out / "equal.toml").read_text())
    by_arm = {r.key.arm: r.key for r in records if r.key.method == "shared_bottom"}
    chosen = found["dataset_config"]["tiny"]["shared_bottom"]
    assert chosen.items() <= by_arm["joint"].config.items() and by_arm["stage0"].config == by_arm["joint"].config
    own = found.get("dataset_arm_config", {}).get("tiny", {}).get("shared_bottom", {}).get("lora", {})
    assert by_arm["lora"].arm_config == {"rank": 8, "alpha": 8.0} | own  # its size is fixed

    rows = {(row["method"], row["arm"]): row for row in csv.DictReader((out / "search_worth.csv").open())}
    assert set(rows) == {("single_task", "scratch"), ("shared_bottom", "joint"), ("shared_bottom", "lora")}
    for row in rows.values():
        assert float(row["best"]) >= float(row["default"]) and row["trials"] == "2" and row["passes"] == "4.0"

    (table,) = (out / "tables").glob("search-*.csv")
    shown = list(csv.DictReader(table.open()))
    assert len(shown) == 3 and {row["passes"] for row in shown} == {"4"}
    assert sum(float(row["gain"]) for row in shown) == pytest.approx(sum(float(r["gain"]) for r in rows.values()))

    lost = next((out / "search").glob("runs/*/*/lora/*/record.json"))
    lost.unlink()
    before = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/*/*/*/record.json")}
    again = mpt("run", *words, "--out", out)
    assert again.code == 0 and lost.exists(), again.text
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert tomllib.loads((out / "equal.toml").read_text()) == found
    dry = mpt("run", *words, "--dry-run", "--json", "--out", out)
    assert len(json.loads(dry.text)["searches"]) == 3


def test_a_search_that_costs_more_than_its_share_is_refused_before_it_starts(mpt, tree):
    words, out = tree
    path = words[1]
    path.write_text(SUITE.replace("share = 0.5", "share = 0.1"))
    result = mpt("run", *words, "--out", out)
    assert result.code == 2 and "the suite allows 10%" in result.text and not (out / "search").exists()


def test_the_cost_is_counted_in_passes():
    asked = suite(seeds=(0, 1), search_budget=SearchBudget(rounds=((4, 2), (2, 5)), share=1))
    said = cost(asked, make_plan(untuned(asked)).runs)
    # 5 searches of 18 passes and a stage 0 of 10; 2 seeds of 3 references, stage 0 and 4 arms, 10 of 30 epochs each
    assert "100 passes" in said and "of the 160 of the 16 runs" in said


def test_all_entries_try_the_same_points_and_the_space_of_what_they_have():
    asked = suite()
    first, then = entries(asked, "synthetic")
    assert first == [Entry("synthetic", "single_task", "scratch"), Entry("synthetic", "shared_bottom", "joint")]
    assert [entry.arm for entry in then] == ["frozen", "lora", "lwf"]
    searches = [Halving(asked, entry, "synthetic") for entry in [*first, *then]]
    for search in searches:
        after = search.entry.after_stage0
        assert list(search.dimensions) == [name for name in SPACE if not (after and name == "dropout")]
        assert [t.values.get("learning_rate") for t in search.trials] == [
            t.values.get("learning_rate") for t in searches[0].trials
        ]
    lora = next(search for search in searches if search.entry.arm == "lora")
    assert all(t.values["l2"] == t.values["l2_dnn"] and "rank" not in t.values for t in lora.trials[1:])
    drawn = points("synthetic", 0, 5)
    for coordinate in zip(*drawn, strict=True):
        assert sorted(int(5 * value) for value in coordinate) == [0, 1, 2, 3, 4]


def test_halving_keeps_the_untuned_config_and_the_best_of_the_others():
    search = Halving(
        suite(search_budget=SearchBudget(rounds=((4, 1), (2, 3)))),
        Entry("synthetic", "shared_bottom", "joint"),
        "synthetic",
    )
    scores = {0: 0.5, 1: 0.7, 2: 0.9, 3: 0.8}
    asked = search.ask()
    assert sorted(asked) == [0, 1, 2, 3]
    search.tell(asked, {runs[0].id: recorded(runs[0], scores[n]) for n, runs in asked.items()})
    asked = search.ask()
    assert sorted(asked) == [0, 2] and asked[2][0].key.budget["epochs"] == 3
    search.tell(asked, {runs[0].id: recorded(runs[0], {0: 0.6, 2: 0.65}[n]) for n, runs in asked.items()})
    assert search.ask() == {} and search.best.number == 2 and search.searched().default == 0.6
    assert with_found(suite(), [search]).dataset_config["synthetic"]["shared_bottom"] == search.trials[2].values


def test_what_the_search_chose_for_an_arm_is_no_other_way():
    own = {"one": {"learning_rate": 0.003}, "two": {}}
    records = made.study(dict.fromkeys(own, 0.94), range(2), arms=("lora",))
    for record in records:
        if record.key.arm == "lora":
            record.key.arm_config = {"rank": 8} | own[record.key.method]
        record.key.track = "equal"
    (group,) = group_records(records, {})
    assert {group.arm(record) for record in records} == {"scratch", "stage0", "joint", "frozen", "lora"}
    for record in records:
        record.key.track = "published"
    (group,) = group_records(records, {})
    assert "lora (learning_rate=0.003)" in {group.arm(record) for record in records}


def recorded(run, score):
    """A trial's record whose old tasks say the opposite of its new one: the new one decides."""
    from benchmark.records.record import Epoch, Record, Selection

    validation = {task: {"auc": score if task in run.key.new_tasks else 1 - score} for task in run.key.tasks}
    times = {"train_seconds": 1, "validate_seconds": 1}
    curve = [Epoch(epoch=1, loss={"a": 1.0}, validation=validation, selection=0.5, **times)]
    kept = Selection(rule="", epoch=1, score=0.5, epochs_run=1)
    return Record(run_id=run.id, key=run.key, status="ok", curve=curve, selection=kept)


def test_a_plan_of_the_track_needs_equal_passes_for_all():
    with pytest.raises(UsageError, match="nothing was searched for .*shared_bottom"):
        make_plan(suite())


def test_large_datasets_are_searched_on_a_sample():
    budget = SearchBudget(rows=1000)
    assert sample_name("tiny", 1000, budget) == "tiny"
    assert sample_name("tiny", 4000, budget) == "tiny@25pct"
    assert sample_name("tiny@no_weight", 3000, budget) == "tiny@no_weight+33.333pct"


def test_keys_without_a_search_keep_their_names_and_arms_take_their_own_training():
    key = Key(
        dataset="d", old_tasks=["a"], new_tasks=["b"], tasks=["b"], method="m", config={}, arm="lora", stage=1,
        budget={}, selection="", seed=0,
    )  # fmt: skip
    assert run_id(key) == run_id(key.model_copy(update={"search_passes": 0.0})) == run_id_before(key)
    assert ARMS["lora"].resolve({}) == {"rank": 8, "alpha": 8.0}
    assert ARMS["frozen"].resolve({"learning_rate": 0.01, "l2_dnn": 0}) == {"learning_rate": 0.01, "l2_dnn": 0.0}
    with pytest.raises(UsageError, match="learning_rate"):
        ARMS["joint"].resolve({"learning_rate": 0.01})  # it has the method's own


def run_id_before(key):
    """The name that the run had before keys told of searches."""
    from benchmark.core.canonical import short_hash

    later = ("arm_config", "scored", "chain", "track", "search_passes")
    return short_hash({name: value for name, value in key.model_dump().items() if name not in later})
