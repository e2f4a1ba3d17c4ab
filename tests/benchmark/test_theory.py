"""On generated tasks whose relatedness is known, the measured order is the one that theory gives."""

import functools
import statistics
import tempfile
from pathlib import Path

import pytest
import torch

from benchmark.records.record import Key
from benchmark.spec.arms import ARMS
from benchmark.training.protocol import execute
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


def trained(method, relation, arm, seed, config, stage0=None, **budget):
    """Outcome of a method with small sizes on generated tasks."""
    data = prepare(f"synthetic_{relation}")
    old, new = list(data.old_tasks), list(data.new_tasks)
    tasks = new if arm == "scratch" else ARMS[arm].tasks(old, new)
    key = Key(
        dataset=data.name, old_tasks=old, new_tasks=new, tasks=tasks, method=method, config={"tower": (8,)} | config,
        arm=arm, stage=ARMS[arm].stage, budget=BUDGET | budget, selection="rule", seed=seed,
    )  # fmt: skip
    return execute(key, data, torch.device("cpu"), stage0=stage0)


def test_subnetworks_of_the_same_task_overlap_more_than_those_of_unrelated_tasks():
    """What Sparse Sharing argues: masks found apart from each other agree where tasks do."""

    def overlap(relation, seed):
        config = {"hidden": (32,), "mask": "last", "warm_up_epochs": 2, "round_epochs": 1}
        weights = trained("sparse_sharing", relation, "joint", seed, config, epochs=1).weights
        click, share = weights["masks.click.layer0"], weights["masks.share.layer0"]
        return float((click * share).sum() / ((click + share) > 0).sum())

    identical, unrelated = ([overlap(relation, seed) for seed in SEEDS] for relation in ("identical", "unrelated"))
    assert min(identical) > max(unrelated) + 0.02


@pytest.mark.parametrize("relation, ahead", [("identical", 0.1), ("related", 0.05), ("unrelated", None)])
def test_maml_adapts_fast_to_a_task_like_the_old_ones_and_not_to_an_unrelated_one(relation, ahead, tmp_path):
    """One short epoch on the new task, from the meta-weights and from scratch."""
    config, short = {"hidden": (32,)}, {"epochs": 1, "patience": 1, "learning_rate": 1e-3}
    torch.save(trained("maml", relation, "stage0", 0, config, epochs=4).weights, tmp_path / "weights.pt")
    adapted = trained("maml", relation, "finetune", 0, config, tmp_path / "weights.pt", **short)
    scratch = trained("single_task", relation, "scratch", 0, config, **short)
    gain = adapted.scores["share"].metrics["auc"] - scratch.scores["share"].metrics["auc"]
    assert gain > ahead if ahead is not None else abs(gain) < 0.06
