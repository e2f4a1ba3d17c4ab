"""On generated tasks whose relatedness is known, the measured order is the one that theory gives."""

import functools
import statistics
import tempfile
from pathlib import Path

import pytest
import torch

from benchmark.arms import ARMS
from benchmark.protocol import execute
from benchmark.records import Key
from datasets_registry import prepare

BUDGET = {"batch_size": 256, "learning_rate": 5e-3, "epochs": 8, "patience": 8}
SEEDS = (0, 1)


@functools.cache
def outcome(relation, arm, width, seed, task=None):
    data = prepare(f"synthetic_{relation}")
    old, new = list(data.old_tasks), list(data.new_tasks)
    config = {"embedding_dim": 4, "hidden": (width,), "tower": (8,)}
    method = "single_task" if task else "shared_bottom"
    key = Key(
        dataset=data.name, old_tasks=old, new_tasks=new, tasks=[task] if task else ARMS[arm].tasks(old, new),
        method=method, config=config if task else config | {"l2_embedding": 1e-5, "l2_dnn": 1e-5}, arm=arm,
        stage=ARMS[arm].stage, budget=BUDGET, selection="rule", seed=seed,
    )  # fmt: skip
    if not ARMS[arm].from_stage0:
        return execute(key, data, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        torch.save(outcome(relation, "stage0", width, seed).weights, weights)
        return execute(key, data, torch.device("cpu"), stage0=weights)


def auc(relation, arm, task, width=16):
    """Mean test AUC over the seeds."""
    runs = [outcome(relation, arm, width, seed, task if arm == "scratch" else None) for seed in SEEDS]
    return statistics.mean(run.scores[task].metrics["auc"] for run in runs)


def degradation(relation, arm, width=16):
    """Mean over old tasks and seeds of AUC after stage 0 minus AUC after the new task."""
    return statistics.mean(
        auc(relation, "stage0", task, width) - auc(relation, arm, task, width) for task in ("click", "like")
    )


@pytest.fixture(scope="module", autouse=True)
def small_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_an_identical_task_helps_when_trained_jointly():
    assert auc("identical", "joint", "share") > auc("identical", "scratch", "share") + 0.005
    assert degradation("identical", "joint") < 0


def test_an_unrelated_task_hurts_where_capacity_is_scarce():
    """Two shared units hold two related tasks, not a third direction as well."""
    assert degradation("unrelated", "joint", width=2) > 0.01
    assert degradation("unrelated", "joint", width=2) > degradation("identical", "joint", width=2) + 0.01


def test_a_frozen_backbone_serves_an_identical_task_and_fails_an_unrelated_one():
    assert auc("identical", "frozen", "share") > auc("identical", "scratch", "share") - 0.005
    assert auc("unrelated", "frozen", "share") < auc("unrelated", "scratch", "share") - 0.03


@pytest.mark.parametrize("relation", ["identical", "unrelated", "opposed"])
def test_fine_tuning_forgets_and_a_frozen_backbone_does_not(relation):
    assert degradation(relation, "finetune") > 0.005
    assert degradation(relation, "frozen") == 0


def test_an_opposed_task_makes_fine_tuning_forget_more_than_an_identical_one():
    assert degradation("opposed", "finetune") > degradation("identical", "finetune")
