"""Tuning: equal and repeatable trials that no test row enters, and a file that a suite takes its configs from."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from benchmark.core.errors import DataError, UsageError
from benchmark.planning.configs import resolve_config
from benchmark.planning.plan import make_plan
from benchmark.planning.suite import Suite
from benchmark.records.tree import read_records
from benchmark.spec.arms import ARMS
from benchmark.tuning.space import ARM_OPTIONS, DIMENSIONS, search_space, split_values
from datasets_registry import load_file, prepare
from methods import METHODS
from methods.base import Among, Between
from tests.sweep.trees import HERE

ROOT = HERE.parents[1]
SEARCHED = HERE / "searched.py"
QUICK = (
    "--suite", "smoke", "--dataset-file", HERE / "tiny.py", "--method-file", SEARCHED, "--datasets", "tiny",
    "--set", "budget.epochs=1",
)  # fmt: skip
METHODS_TUNED = ("shared_bottom", "plain")


def trials(out, method, dataset="tiny"):
    return list(csv.DictReader((out / "trials" / f"{dataset}.{method}.csv").read_text().splitlines()))


def tune(mpt, out, *more, methods=METHODS_TUNED, jobs=2, count=5):
    words = ("--methods", ",".join(methods), "--trials", count, "--jobs", jobs, "--out", out)
    return mpt("tune", *QUICK, *words, *more)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    return tmp_path_factory.mktemp("tuned") / "tree"


@pytest.fixture
def tuned(mpt, searched):
    """A tree with a search that has ended; made once."""
    if not (searched / "tuned.toml").exists():
        assert tune(mpt, searched).code == 0
    return searched


def test_every_method_gets_the_same_number_of_trials_and_none_is_worse_than_the_default(mpt, searched):
    result = tune(mpt, searched)
    assert result.code == 0, result.text
    assert f"--config {searched}/tuned.toml" in result.text and "5 of 5" in result.text
    records, problems = read_records(searched / "trials")
    assert problems == [] and len(records) == 10
    assert all(r.key.scored == "validation" and r.key.arm == "joint" and not r.scores for r in records)
    assert not list(searched.rglob("predictions.npz")) and not (searched / "runs").exists()
    best = tomllib.loads((searched / "tuned.toml").read_text())["dataset_config"]["tiny"]
    scores = {r.run_id: r.selection.score for r in records}
    for method in METHODS_TUNED:
        found = trials(searched, method)
        assert [float(t["score"]) for t in found] == [scores[t["runs"]] for t in found] and len(found) == 5
        assert len({t["runs"] for t in found}) == 5
        default = next(r for r in records if r.run_id == found[0]["runs"])
        assert default.key.config == make_plan(suite(methods=(method,))).runs[-1].key.config
        winner = max(found, key=lambda t: float(t["score"]))
        chosen = {name: json.loads(winner[name]) for name in best[method]}
        assert best[method] == chosen and (chosen or winner is found[0])


def test_the_same_command_asks_for_the_same_trials_whatever_the_jobs_and_the_order(mpt, tuned, tmp_path):
    result = tune(mpt, tmp_path / "again", methods=reversed(METHODS_TUNED), jobs=1)
    assert result.code == 0, result.text
    assert (tmp_path / "again/tuned.toml").read_bytes() == (tuned / "tuned.toml").read_bytes()
    for method in METHODS_TUNED:
        assert trials(tmp_path / "again", method) == trials(tuned, method)


def test_a_search_that_was_killed_goes_on_with_what_it_has(mpt, tuned, tmp_path):
    out = tmp_path / "out"
    words = map(str, ("tune", *QUICK, "--methods", ",".join(METHODS_TUNED), "--trials", 5, "--jobs", 2, "--out", out))
    search = subprocess.Popen(
        [sys.executable, ROOT / "run_all.py", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while len(before := records_of(out)) < 2 and time.monotonic() < until and search.poll() is None:
            time.sleep(0.02)
    finally:
        os.killpg(search.pid, signal.SIGKILL)
        search.wait()
    assert 2 <= len(before) < 10 and not (out / "tuned.toml").exists()
    result = tune(mpt, out)
    assert result.code == 0, result.text
    assert (out / "tuned.toml").read_bytes() == (tuned / "tuned.toml").read_bytes()
    assert before.items() <= records_of(out).items()


def records_of(out):
    return {path: path.stat().st_ino for path in out.glob("trials/runs/*/*/*/*/record.json")}


def test_further_trials_and_further_methods_join_what_is_there(mpt, tmp_path):
    assert tune(mpt, tmp_path / "out", methods=("plain",), count=2).code == 0
    first = trials(tmp_path / "out", "plain")
    before = records_of(tmp_path / "out")
    assert tune(mpt, tmp_path / "out", methods=("plain",), count=3).code == 0
    assert trials(tmp_path / "out", "plain")[:2] == first and before.items() <= records_of(tmp_path / "out").items()
    missing = tune(mpt, tmp_path / "out", "--mode", "only-read", methods=("plain",))
    assert missing.code == 1 and "Records are missing" in missing.text
    assert tune(mpt, tmp_path / "out", methods=("single_task",), count=1).code == 0
    assert len(trials(tmp_path / "out", "single_task")[0]["runs"].split()) == 3  # one model for each task
    assert set(tomllib.loads((tmp_path / "out/tuned.toml").read_text())["dataset_config"]["tiny"]) == {
        "plain",
        "single_task",
    }


def test_no_test_row_is_read_in_a_trial(mpt, tmp_path):
    """The arrays of the test split are deleted: a trial works, what reads them does not."""
    (tmp_path / "blind.py").write_text((HERE / "tiny.py").read_text().replace('"tiny"', '"blind"'))
    load_file(tmp_path / "blind.py")
    data = prepare("blind")
    for path in data.directory.glob("test.*"):
        path.unlink()
    with pytest.raises(DataError, match="damaged"):
        data.labels("test", data.new_tasks[0])
    result = mpt(
        "tune", "--suite", "smoke", "--dataset-file", tmp_path / "blind.py", "--method-file", SEARCHED,
        "--methods", "plain", "--arms", "joint,frozen", "--trials", 1, "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.code == 0, result.text
    records = {r.key.arm: r for r in read_records(tmp_path / "out/trials")[0]}
    assert set(records) == {"joint", "stage0", "frozen"} and records["frozen"].invariants["old_tasks_unchanged"]
    (trial,) = trials(tmp_path / "out", "plain", "blind")
    mean = sum(r.selection.score for r in records.values()) / 3
    assert float(trial["score"]) == pytest.approx(mean, abs=1e-12)


def test_trials_that_fail_are_spent_and_stop_nothing(mpt, tmp_path):
    result = tune(mpt, tmp_path / "out", "--seeds", "0,1", methods=("hopeless", "picky"), count=6)
    assert result.code == 1, result.text
    records = {r.run_id: r for r in read_records(tmp_path / "out/trials")[0]}
    found = trials(tmp_path / "out", "picky")
    reasons = {t["mode"]: t["reason"] for t in found if t["mode"] != '"good"'}
    assert "cannot be rejected" in reasons['"rejected"'] and "failed on purpose" in reasons['"fails"']
    for t in found:
        runs = [records[run] for run in t["runs"].split()]
        if t["mode"] == '"good"':
            assert [(r.key.arm, r.key.seed) for r in runs] == [
                ("stage0", 0), ("frozen", 0), ("stage0", 1), ("frozen", 1),
            ]  # fmt: skip
            assert float(t["score"]) == pytest.approx(sum(r.selection.score for r in runs) / 4, abs=1e-12)
        else:
            assert not t["score"] and {r.status for r in runs} <= {"failed", "skipped"}
    assert {json.loads(t["experts"]) for t in found} <= {1, 2, 3, 4}
    assert not list((tmp_path / "out").rglob("weights.pt"))
    assert len(trials(tmp_path / "out", "hopeless")) == 6
    assert list(tomllib.loads((tmp_path / "out/tuned.toml").read_text())["dataset_config"]["tiny"]) == ["picky"]


def test_a_suite_takes_its_configs_from_the_file(mpt, tmp_path):
    (tmp_path / "tuned.toml").write_text("[dataset_config.tiny.shared_bottom]\nl2_dnn = 0.5\nlearning_rate = 0.004\n")
    (tmp_path / "mine.toml").write_text(
        'title = "mine"\ndatasets = ["tiny"]\nmethods = ["shared_bottom"]\nconfig_file = "tuned.toml"\n'
    )

    def ids(*words):
        result = mpt("run", "--dataset-file", HERE / "tiny.py", "--dry-run", "--json", *words)
        return [run["run"] for run in json.loads(result.text)["runs"]]

    (tmp_path / "other.toml").write_text("[dataset_config.tiny.shared_bottom]\nl2_dnn = 0.25\n")
    by_hand = ("--set", "shared_bottom.l2_dnn=0.5", "--set", "shared_bottom.learning_rate=0.004")
    assert ids("--suite", "mine.toml") == ids("--suite", "mine.toml", "--config", "other.toml", *by_hand)
    options = ("--suite", "smoke", "--datasets", "tiny", "--methods", "shared_bottom")
    assert ids(*options, "--config", "tuned.toml") == ids(*options, *by_hand) != ids(*options)


def test_a_suite_with_the_file_of_a_search_is_of_the_track_tuned_and_shows_what_was_spent(mpt, tmp_path):
    found = tmp_path / "found"
    words = (
        *QUICK,
        "--methods",
        "shared_bottom",
        "--arms",
        "joint,frozen",
        "--config",
        found / "tuned.toml",
        "--jobs",
        2,
    )
    assert tune(mpt, found, methods=("shared_bottom",), count=2, jobs=2).code == 0
    lacking = mpt("run", *words, "--out", tmp_path / "out")
    assert lacking.code == 2 and "no config was searched for single_task on tiny" in lacking.text
    assert tune(mpt, found, methods=("single_task",), count=1).code == 0
    unequal = mpt("run", *words, "--out", tmp_path / "out")
    assert unequal.code == 2 and "shared_bottom on tiny 2" in unequal.text and "--trials 2" in unequal.text
    assert tune(mpt, found, methods=("single_task",), count=2).code == 0
    result = mpt("run", *words, "--figures", "--out", tmp_path / "out")
    assert result.code == 0, result.text
    records, _ = read_records(tmp_path / "out")
    assert {record.key.track for record in records} == {"tuned"}
    (table,) = (tmp_path / "out/tables").glob("search-*.csv")
    rows = {row["method"]: row for row in csv.DictReader(table.read_text().splitlines())}
    assert set(rows) == {"Single-Task", "Shared-Bottom"} and {row["trials"] for row in rows.values()} == {"2"}
    assert {row["seeds"] for row in rows.values()} == {"1"}
    assert "learning_rate: 0.0001 to 0.01, logarithmic" in rows["Shared-Bottom"]["space"]
    assert "Track: tuned." in (tmp_path / "out/tables" / f"{table.stem}.md").read_text()
    mixed = mpt("run", *QUICK, "--methods", "shared_bottom", "--out", tmp_path / "out")
    assert mixed.code == 2 and "never mixed in one table" in mixed.text
    assert mpt("tables", "--check", "--out", tmp_path / "out").code == 0


def test_options_found_for_an_arm_hold_for_its_method_and_dataset_below_the_suites_own():
    def rank(**changes):
        plan = make_plan(suite(methods=("mmoe", "ple"), arms=("lora",), **changes))
        return {run.key.method: run.key.arm_config["rank"] for run in plan.runs if run.key.arm == "lora"}

    found = {"tiny": {"mmoe": {"lora": {"rank": 2}}}}
    assert rank() == {"mmoe": 8, "ple": 8}
    assert rank(dataset_arm_config=found) == {"mmoe": 2, "ple": 8}
    assert rank(dataset_arm_config=found, arm_config={"lora": {"rank": 4}}) == {"mmoe": 4, "ple": 4}
    with pytest.raises(
        UsageError, match=r"\[dataset_arm_config.tiny.mmoe.lora\]: Unknown option of the arm lora 'rnak'"
    ):
        rank(dataset_arm_config={"tiny": {"mmoe": {"lora": {"rnak": 2}}}})


def suite(**changes):
    load_file(HERE / "tiny.py")
    return Suite(**{"name": "made", "title": "", "datasets": ("tiny",), "methods": (), "arms": ("joint",)} | changes)


def test_presets_are_weaker_than_the_file_and_the_suite_is_stronger():
    tables = {"ali_ccp": {"mmoe": {"embedding_dim": 8, "experts": 5}}, "ali_ccp@first1m": {"mmoe": {"experts": 7}}}

    def config(dataset="ali_ccp", **changes):
        runs = make_plan(suite(datasets=(dataset,), methods=("mmoe",), **changes)).runs
        found = next(run.key.config for run in runs if run.key.method == "mmoe")
        return found["embedding_dim"], found["experts"]

    assert config() == (5, 3)
    assert config(dataset_config=tables) == (8, 5)
    assert config(dataset_config=tables, config={"mmoe": {"experts": 2}}) == (8, 2)
    assert config("ali_ccp@first1m", dataset_config=tables) == (5, 7)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "[dataset_config.tiny.mpt_rec]\nenv_coef = 1.0",
            "[dataset_config.tiny.mpt_rec]: Unknown config key of mpt_rec",
        ),
        ("[dataset_config.tiny.mpt_rec]\nenv_coef = 1.0", "Did you mean 'env_coe'?"),
        ("[dataset_config.tiny.mpt_rek]", "Did you mean 'mpt_rec'?"),
        ("[dataset_config.tinny.mpt_rec]", "Did you mean 'tiny'?"),
        ("[dataset_konfig.tiny.mpt_rec]", "Did you mean 'dataset_config'?"),
        ("[dataset_config.tiny]\nmpt_rec = 1", "'dataset_config.tiny.mpt_rec'"),
        ("[dataset_config", "not valid TOML"),
        (None, "run_all.py tune"),
    ],
)
def test_a_bad_config_file_is_named_with_what_is_wrong_in_it(mpt, tmp_path, content, expected):
    if content is not None:
        (tmp_path / "bad.toml").write_text(content)
    result = mpt("run", *QUICK, "--methods", "shared_bottom", "--config", "bad.toml", "--out", tmp_path / "out")
    assert result.code == 2 and expected in result.text and "bad.toml" in result.text
    assert not (tmp_path / "out").exists()


def space(method, dataset="tiny", arms=None, **fixed):
    model = METHODS.get(method)
    config = resolve_config(model.Config, method, model.info.presets.get(dataset, {}), fixed)
    return search_space(method, config, 1e-3, fixed, arms)


def test_every_method_is_searched_in_the_same_number_of_dimensions():
    """The single-task reference too; a method that brings knobs of its own has fewer of the common ones."""
    spaces = {
        method: set(space(method).dimensions)
        for method in METHODS
        if method not in ("plain", "picky", "hopeless", "logistic_regression")
    }
    assert {len(names) for names in spaces.values()} == {DIMENSIONS}, spaces
    assert "learning_rate" not in spaces.pop("gbdt")  # it is not trained by steps
    assert all({"learning_rate", "l2_embedding"} <= names for names in spaces.values())
    assert {"gen_coe", "env_coe", "hidden", "l2_dnn"} <= spaces["mpt_rec"]
    assert {"experts", "hidden"} <= spaces["mmoe"] and {"experts", "levels"} <= spaces["adatt"]
    assert {"shared_experts", "specific_experts", "levels"} <= spaces["ple"]
    assert spaces["single_task"] == spaces["shared_bottom"]
    own = {
        "escm2": {"counterfactual", "entire"}, "dcmt": {"counterfactual", "soft"}, "aitm": {"constraint"},
        "maml": {"inner_learning_rate"}, "cs_rec": {"threshold"}, "low_rank_experts": {"rank"}, "pcl": {"key"},
    }  # fmt: skip
    assert all(names <= spaces[method] for method, names in own.items())


def test_a_space_always_has_the_default_and_what_is_set_by_hand_makes_room_for_another():
    mpt_rec = space("mpt_rec", env_coe=0.2, hidden=[32, 16])
    assert set(mpt_rec.dimensions) == {"learning_rate", "l2_embedding", "gen_coe", "l2_dnn", "dropout", "tower"}
    assert mpt_rec.values({**mpt_rec.default_parameters(), "dropout": 1})["dropout"] == [0.1, 0.1]
    preset = space("shared_bottom", "ali_ccp")
    assert preset.dimensions["dropout"] == Among((0.0, 0.1, 0.3, 0.2))  # the mean of its preset (0.1, 0.3)
    values = preset.values(preset.default_parameters())
    assert values["hidden"] == preset.defaults["hidden"] and values["l2_dnn"] == preset.defaults["l2_dnn"]


def test_options_of_the_arms_of_a_trial_are_searched_beside_the_methods_own():
    arms = {"lora": {"rank": 8, "alpha": 8.0}, "adapter": {"width": 5}}
    searched = space("mmoe", arms=arms)
    assert set(searched.dimensions) == set(space("mmoe").dimensions) | {"lora.rank", "lora.alpha", "adapter.width"}
    assert searched.dimensions["adapter.width"].choices[-1] == 5
    values = searched.values({**searched.default_parameters(), "lora.rank": 0})
    own, options = split_values(values)
    assert options == {"lora": {"rank": 1, "alpha": 8.0}, "adapter": {"width": 5}}
    assert own["experts"] == 3 and not any("." in name for name in own)
    for arm, declared in ARM_OPTIONS.items():
        assert declared.keys() <= ARMS[arm].options.keys(), arm
    assert {arm for arm in ARMS if ARMS[arm].options} == set(ARM_OPTIONS)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"gen_koe": Between(0.0, 1.0)}, "Did you mean 'gen_coe'?"),
        ({"gen_coe": (0.0, 1.0)}, "must be Between"),
        ({"use": Between(0.0, 1.0)}, "its default is 'both'"),
        ({"clustering_interval": Between(1.0, 2.0)}, "its default is 2"),
    ],
)
def test_a_space_that_cannot_be_searched_names_the_methods_file(monkeypatch, declared, expected):
    monkeypatch.setattr(METHODS.get("mpt_rec"), "search_space", declared)
    with pytest.raises(UsageError, match=r"mpt_rec\.py: search_space of mpt_rec") as raised:
        space("mpt_rec")
    assert expected in str(raised.value)


def test_a_dry_run_counts_the_runs_and_writes_nothing(mpt, tmp_path):
    result = mpt("tune", *QUICK, "--methods", "shared_bottom,single_task", "--seeds", "0-1", "--dry-run")
    assert result.code == 0 and "160 runs for 40 trials" in result.text, result.text
    assert [Path(name).name for name in os.listdir(tmp_path)] == []
