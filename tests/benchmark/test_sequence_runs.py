"""Runs on a dataset with sequences: every method, every way to add the task, and what the pooling option means."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.planning import plan
from benchmark.planning.suite import apply_settings, load_suite
from benchmark.records.record import Key
from benchmark.spec.arms import ARMS
from benchmark.training.protocol import execute
from datasets_registry import prepare
from datasets_registry.base import Chunk, Dataset, Feature
from datasets_registry.schema import Task
from methods import METHODS

ROWS, ITEMS = 1200, 12
BUDGET = {"batch_size": 128, "learning_rate": 0.01, "epochs": 3, "patience": 3}
CPU = torch.device("cpu")
NO_NETWORK = {"gbdt", "logistic_regression"}  # no embedding, hence no sequence


class Visits(Dataset):
    """A user clicks what is in the history already: only the two together tell."""

    def read(self, files, chunk_rows):
        draw = np.random.default_rng(3)
        item, history = draw.integers(0, ITEMS, ROWS), draw.integers(0, ITEMS, (ROWS, 5))
        click = (history == item[:, None]).any(1) ^ (draw.random(ROWS) < 0.05)
        buy = draw.integers(0, 2, ROWS)
        labels = {"click": click.astype(np.uint8), "buy": buy.astype(np.uint8)}
        yield Chunk({"item": item, "history": pa.array(history.tolist())}, labels)


VISITS = Visits(
    name="visits",
    title="visits",
    tasks=(Task("click"), Task("buy")),
    old_tasks=("click",),
    new_tasks=("buy",),
    features=(Feature("item"), Feature("history", "sequence", length=5, shares="item")),
    split="random",
    splits=("random",),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(VISITS, cache_dir=tmp_path_factory.mktemp("visits"))


def key(method, arm="joint", pooling="mean", **budget):
    return Key(
        dataset="visits",
        old_tasks=["click"],
        new_tasks=["buy"],
        tasks=ARMS[arm].tasks(["click"], ["buy"]),
        method=method,
        config=small(method) | ({} if pooling == "mean" else {"sequence_pooling": pooling}),
        arm=arm,
        stage=ARMS[arm].stage,
        budget=BUDGET | budget,
        selection="rule",
        seed=0,
    )


def small(method):
    own = {"hidden": (16, 8), "tower": (5,), "levels": (16, 8), "dropout": ()}
    return {name: value for name, value in own.items() if hasattr(METHODS.get(method).Config(), name)}


def test_target_attention_learns_what_the_mean_cannot(data):
    auc = {
        pooling: execute(key("shared_bottom", "stage0", pooling, epochs=25, patience=25), data, CPU).scores["click"]
        for pooling in ("mean", "target")
    }
    assert auc["target"].metrics["auc"] > auc["mean"].metrics["auc"] + 0.05


@pytest.mark.parametrize("method", sorted(set(METHODS) - NO_NETWORK))
def test_every_method_trains_on_sequences(data, method):
    arm = "stage0" if "joint" not in METHODS.get(method).info.arms else "joint"
    outcome = execute(key(method, arm, "target", epochs=1), data, CPU)
    plain = execute(key(method, arm, "mean", epochs=1), data, CPU)
    assert outcome.flops.forward > plain.flops.forward > 0
    assert outcome.params.total > plain.params.total


@pytest.mark.parametrize("pooling", ["mean", "self"])
def test_every_way_to_add_the_task_works_on_sequences(data, tmp_path, pooling):
    before = execute(key("shared_bottom", "stage0", pooling, epochs=1), data, CPU)
    torch.save(before.weights, tmp_path / "weights.pt")
    for name, arm in ARMS.items():
        if not arm.from_stage0:
            continue
        outcome = execute(key("shared_bottom", name, pooling, epochs=1), data, CPU, stage0=tmp_path / "weights.pt")
        assert "buy" in outcome.scores, name
        assert all(outcome.invariants.values()), name


def test_stems_cached_codes_hold_the_sequences_too(data, tmp_path):
    before = execute(key("stem", "stage0", "target", epochs=1), data, CPU)
    torch.save(before.weights, tmp_path / "weights.pt")
    outcome = execute(key("stem", "frozen", "target", epochs=1), data, CPU, stage0=tmp_path / "weights.pt")
    assert all(outcome.invariants.values()) and outcome.flops.forward_new < outcome.flops.forward


def test_pooling_is_one_option_for_all_methods_and_leaves_other_runs_their_names(monkeypatch):
    classes = {name: METHODS.get(name).Config for name in ("shared_bottom", "mmoe")}
    suite = apply_settings(load_suite("smoke"), ["all.sequence_pooling=target"], classes)
    monkeypatch.setattr(plan, "_dataset", lambda name: VISITS if name == "visits" else without)
    without = dataclasses.replace(VISITS, features=VISITS.features[:1])
    for method in classes:
        assert plan._config(suite, method, "visits")["sequence_pooling"] == "target"
        assert "sequence_pooling" not in plan._config(suite, method, "other")
    with pytest.raises(UsageError, match="hidden"):
        apply_settings(load_suite("smoke"), ["all.hidden=3"], classes)
    with pytest.raises(UsageError, match="target"):
        plan._config(apply_settings(suite, ["all.sequence_pooling=targt"], classes), "mmoe", "visits")
