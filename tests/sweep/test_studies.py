"""What the studies' suites plan, and a chain through kill, loss and verification."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from benchmark.core.errors import UsageError
from benchmark.execution.executor import Options
from benchmark.execution.verify import verify
from benchmark.planning import plan as planning
from benchmark.planning.estimate import at_hand
from benchmark.planning.fitting import fitted
from benchmark.planning.plan import make_plan
from benchmark.planning.suite import Suite, load_suite
from benchmark.records.tree import read_records
from benchmark.spec.arms import ARMS
from datasets_registry import prepare
from tests.sweep.trees import HERE, without_times

STUDIES = ("chains", "each_task", "equal_size", "relatedness", "scarce_labels")


def suite(**changes):
    wanted = {
        "datasets": ("synthetic",),
        "methods": ("shared_bottom",),
        "arms": ("joint", "frozen", "lora"),
        "seeds": (0,),
    }
    return Suite(name="study", title="", **wanted | changes)


def cells(plan):
    return Counter((run.key.arm, tuple(run.key.tasks)) for run in plan.runs)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_can_be_planned_without_its_data(name):
    plan = make_plan(load_suite(name))
    known = {run.id for run in plan.runs}
    assert len(known) == len(plan.runs) and plan.runs
    for run in plan.runs:
        assert run.parent is None or any(other.key == run.parent for other in plan.runs), run.label


@pytest.mark.parametrize("name", sorted(set(STUDIES) - {"equal_size", "each_task"}))  # they are fitted to the data
def test_the_page_on_studies_counts_the_runs_of_each(name):
    page = (HERE.parents[1] / "docs" / "studies.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}`")]
    assert int(row.split("|")[3]) == len(make_plan(load_suite(name)).runs)


def test_each_task_is_new_once_and_what_knows_no_partition_is_run_once():
    plan = make_plan(suite(new_tasks="each"))
    assert plan.skips == []
    tasks = ("click", "like", "share")
    expected = Counter({("scratch", (task,)): 1 for task in tasks} | {("joint", tasks): 1})
    for new in tasks:
        old = tuple(task for task in tasks if task != new)
        expected += Counter({("stage0", old): 1, ("frozen", (new,)): 1, ("lora", (new,)): 1})
    assert cells(plan) == expected


@pytest.mark.parametrize(
    ("dataset", "number"),
    [("census_income", 5), ("kuairand_pure", 6), ("tenrec_qk_video", 4), ("tenrec_ctr_1m", 4), ("vk_lsvd", 6)],
)
def test_a_dataset_has_as_many_problems_as_tasks_that_may_be_new(dataset, number):
    plan = make_plan(suite(datasets=(dataset,), arms=("frozen",), new_tasks="each"))
    new = {run.key.new_tasks[0]: run.key.old_tasks for run in plan.runs if run.key.arm == "frozen"}
    assert len(new) == number and all(set(old) == set(new) - {task} for task, old in new.items())


def test_a_dataset_without_a_chain_is_skipped_beside_one_that_has_one():
    plan = make_plan(suite(datasets=("kuairand_pure", "synthetic"), chain="declared"))
    orders = {tuple(run.key.chain) for run in plan.runs if len(run.key.chain) == 3}
    assert orders == {("complete", "profile_enter", "like"), ("like", "profile_enter", "complete")}
    assert {(skip.dataset, skip.arm) for skip in plan.skips} == {("synthetic", a) for a in ("joint", "frozen", "lora")}
    assert all("no chain for synthetic; name its tasks" in skip.reason for skip in plan.skips)


def test_orders_of_a_chain_share_stage_0_and_sets_of_tasks_one_joint_run():
    plan = make_plan(suite(chain=[["like", "share"], ["share", "like"]]))
    arms = Counter(run.key.arm for run in plan.runs)
    assert arms == {"scratch": 3, "stage0": 1, "joint": 3, "frozen": 4, "lora": 4}
    again = make_plan(suite(chain=["like", "share"]))  # one order is a part of two
    assert {run.id for run in again.runs} < {run.id for run in plan.runs}
    assert [run.key.chain for run in again.runs if run.key.arm == "frozen"] == [["like"], ["like", "share"]]


def test_a_method_that_has_no_room_for_a_second_task_is_skipped_with_its_own_words():
    plan = make_plan(suite(methods=("maml",), arms=("finetune",), chain=["like", "share"]))
    (skip,) = plan.skips
    assert (skip.method, skip.arm) == ("maml", "finetune") and "no room for 'share'" in skip.reason
    assert not [run for run in plan.runs if run.key.arm == "finetune"]


def test_shares_of_labels_continue_one_stage_0_and_too_few_positives_are_skipped():
    prepare("synthetic")
    plan = make_plan(suite(label_shares=(0.1, 1, 100)), look=at_hand)
    assert {skip.dataset for skip in plan.skips} == {"synthetic@new0.1pct"}
    assert all("positive training labels, the suite asks for 20" in skip.reason for skip in plan.skips)
    assert sum(run.key.arm == "stage0" for run in plan.runs) == 1
    frozen = [run for run in plan.runs if run.key.arm == "frozen"]
    assert [run.key.dataset for run in frozen] == ["synthetic@new1pct", "synthetic"]
    assert frozen[0].parent == frozen[1].parent
    old, new = at_hand("synthetic@new1pct"), at_hand("synthetic")
    few, all_labels = old.labels("train", "share"), new.labels("train", "share")
    assert 0 < (few == few).sum() < 0.02 * len(few)
    assert (few[few == few] == all_labels[few == few]).all()
    assert (old.labels("train", "click") == new.labels("train", "click")).all()


def test_options_are_fitted_to_a_size_and_what_cannot_reach_it_is_skipped():
    prepare("synthetic")
    plan = make_plan(suite(arms=("frozen", "lora", "lwf"), trained_weights=(2000, 40_000, 10**9)), look=at_hand)
    sizes = [int(run.note.split()[1].replace(",", "")) for run in plan.runs if run.key.arm == "lora"]
    assert any(abs(size - 40_000) < 1000 for size in sizes)
    (own,) = [run for run in plan.runs if run.key.arm == "frozen"]
    assert own.note.startswith("trains ") and own.key.arm_config == {}
    (whole,) = [run for run in plan.runs if run.key.arm == "lwf"]  # a warm-up in epochs is no size
    assert whole.note.startswith("trains ") and whole.key.arm_config == {"strength": 1.0, "warm_up": 1}
    assert plan.skips and all("the nearest is" in s.reason for s in plan.skips)
    assert not {"frozen", "lwf"} & {skip.arm for skip in plan.skips}  # they run, so nothing of them is left out


def test_weights_are_counted_once_for_all_seeds_and_sizes(monkeypatch):
    prepare("synthetic")
    asked = []
    real = planning.trained_weights
    monkeypatch.setattr(planning, "trained_weights", lambda *words: asked.append(words[-1]) or real(*words))
    plan = make_plan(suite(arms=("lora",), trained_weights=(20_000, 40_000), seeds=(0, 1, 2)), look=at_hand)
    assert len([run for run in plan.runs if run.key.arm == "lora"]) == 6
    assert sorted(options["rank"] for options in asked) == [1, 2]


def test_a_variant_of_the_reference_is_refused_where_it_would_be_passed_over():
    with pytest.raises(UsageError, match=r"variant 'plain': .*\[dataset_config\.synthetic\.single_task\]"):
        make_plan(suite(variants={"plain": {"method": "single_task", "l2_embedding": 0.0}}))


@pytest.mark.parametrize("target", [1, 130, 1000, 99_999])
def test_the_fitted_size_is_the_nearest_there_is(target):
    def count(options):
        return 60 + 48 * options["rank"]

    found = fitted(count, ARMS["lora"], {"rank": 8, "alpha": 8.0}, target)
    nearest = min((count({"rank": rank}) for rank in range(1, 3000)), key=lambda size: abs(size - target))
    assert abs(found.trained - target) == abs(nearest - target) and found.options["alpha"] == found.options["rank"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chain": ["like", "like"]}, "different tasks"),
        ({"chain": [["like", "share"], ["click", "share"]]}, "the same tasks"),
        ({"chain": ["like", "shore"]}, "Did you mean"),
        ({"chain": ["like", "share"], "new_tasks": ("like",)}, "not both"),
        ({"label_shares": (1,), "new_tasks": "each"}, "label_shares"),
        ({"chain": "declared"}, "no chain for synthetic"),
    ],
)
def test_contradictions_are_refused_before_anything_runs(changes, said):
    with pytest.raises(UsageError, match=said):
        make_plan(suite(**changes))


def test_a_chain_that_was_killed_or_has_lost_weights_ends_with_the_same_bits(mpt, tmp_path):
    """Killed in the middle, gone on with; then a middle stage's weights and the last record are lost."""
    (tmp_path / "chain.toml").write_text(
        'title = "a chain"\ndatasets = ["tiny"]\nmethods = ["shared_bottom"]\narms = ["frozen"]\nseeds = [0]\n'
        'chain = ["like", "share"]\n[budget]\nbatch_size = 128\nepochs = 2\n'
    )
    words = ("run", "--suite", tmp_path / "chain.toml", "--dataset-file", HERE / "tiny.py", "--jobs", 1)
    driver = [sys.executable, "-m", "tests.faults.driver", *map(str, words), "--out", str(tmp_path / "killed")]
    killed = subprocess.Popen(driver, cwd=HERE.parents[1], start_new_session=True, stdout=subprocess.DEVNULL)
    for _ in range(600):
        if list((tmp_path / "killed").glob("runs/*/*/stage0/*/record.json")) or killed.poll() is not None:
            break
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert mpt(*words, "--out", tmp_path / "killed").code == 0
    whole = without_times(tmp_path / "killed")
    last = next(run for run in whole.values() if run["key"]["chain"] == ["like", "share"])
    middle = whole[last["parent"]]
    assert middle["key"]["chain"] == ["like"] and last["invariants"]["old_tasks_unchanged"]
    assert {task: last["scores"][task] for task in middle["scores"]} == middle["scores"]
    shutil.rmtree(next((tmp_path / "killed").glob(f"runs/*/*/*/{last['run_id']}")))
    next((tmp_path / "killed").glob(f"runs/*/*/*/{middle['run_id']}/weights.pt")).unlink()
    assert mpt(*words, "--out", tmp_path / "killed").code == 0
    assert without_times(tmp_path / "killed") == whole
    record = next(r for r in read_records(tmp_path / "killed")[0] if r.run_id == last["run_id"])
    assert verify(record, Options(tmp_path / "again", dataset_files=(HERE / "tiny.py",))).state == "equal"
    assert list(itertools.chain((tmp_path / "killed" / "tables").glob("study_chains.*")))
