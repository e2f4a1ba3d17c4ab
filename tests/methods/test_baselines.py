"""Baselines that share nothing and are no networks: what they predict is what the library's models predict."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.metrics import log_loss, roc_auc_score

from benchmark.planning.plan import make_plan
from benchmark.planning.suite import Suite
from benchmark.records.record import Key
from benchmark.training.meters import weights_fingerprint
from benchmark.training.protocol import execute
from datasets_registry.schema import CategoricalFeature, Schema, SequenceFeature, Task
from methods.batch import Batch
from methods.gbdt import GradientBoostedTrees
from methods.logistic_regression import LogisticRegression
from tests.benchmark.fakes import FakeData

CPU = torch.device("cpu")
SCHEMA = Schema((CategoricalFeature("c", 6, 2), CategoricalFeature("tags", 9, 2, length=3)), ("x",))


class Rows:
    """Training and validation rows in memory, with a label that follows from the inputs."""

    seed = 5

    def __init__(self, schema=SCHEMA, rows=(800, 400)):
        rng = np.random.default_rng(0)
        self.splits = {split: self._batch(rng, schema, n) for split, n in zip(("train", "valid"), rows, strict=True)}

    def _batch(self, rng, schema, n):
        codes, numeric = [], rng.random((n, 1)).astype(np.float32)
        for feature, offset in zip(schema.categorical, schema.offsets, strict=True):
            drawn = rng.integers(2 if feature.length == 1 else 0, feature.size, (n, feature.length))
            codes.append(np.sort(drawn, 1)[:, ::-1] + offset)
        score = 1.5 * (codes[0][:, 0] % 3 - 1) + 2 * numeric[:, 0] - 1
        label = (rng.random(n) < special.expit(score)).astype(np.float32)
        codes = torch.from_numpy(np.ascontiguousarray(np.concatenate(codes, 1))).int()
        return Batch(codes, torch.from_numpy(numeric), {"a": torch.from_numpy(label)})

    def labelled(self, split, task):
        return self.splits[split].labels[task].numpy(), self.splits[split]

    def score(self, task, outputs):
        return roc_auc_score(self.splits["valid"].labels[task].numpy(), outputs)


@pytest.mark.parametrize("method", [GradientBoostedTrees, LogisticRegression])
def test_the_best_step_is_kept_and_predicts_with_its_validation_score(method):
    data = Rows()
    model = method(SCHEMA, [Task("a")], method.Config())
    scores = model.fit(data)
    with torch.no_grad():
        logits = model(data.splits["valid"])["a"].numpy()
    assert data.score("a", logits) == pytest.approx(max(scores), abs=1e-6) and max(scores) > 0.75
    labels = data.splits["valid"].labels["a"].numpy()  # logits, not scores of another scale
    assert log_loss(labels, special.expit(logits)) < 0.58


@pytest.mark.parametrize("method", [GradientBoostedTrees, LogisticRegression])
def test_an_ordered_sequence_is_no_input(method):
    """Data with sequences has its baselines, too: they are fitted to everything else."""
    steps = (SequenceFeature("seen", 6, 4, shares="c"), SequenceFeature("own", 5, 3))
    plain, ordered = (
        method(schema, [Task("a")], method.Config()) for schema in (SCHEMA, replace(SCHEMA, sequences=steps))
    )
    assert plain.fit(Rows()) == ordered.fit(Rows())


def test_logistic_regression_is_the_librarys_on_one_hot_rows_with_averaged_tags():
    data = Rows()
    model = LogisticRegression(SCHEMA, [Task("a")], LogisticRegression.Config(inverse_penalties=(1.0,)))
    model.fit(data)
    module, batch = model.linear["a"], data.splits["valid"]
    design = module.design(batch).toarray()
    assert design.shape == (400, 1 + SCHEMA.embedding_rows)
    for row, codes in zip(design, batch.categorical.numpy(), strict=True):
        assert row[1 + codes[0]] == 1
        tags = codes[1:][codes[1:] != SCHEMA.offsets[1]]  # padding is no value
        expected = {int(tag): 1 / len(tags) * list(tags).count(tag) for tag in tags} or {SCHEMA.offsets[1]: 1.0}
        assert {i: pytest.approx(v) for i, v in expected.items()} == {
            i - 1: row[i] for i in np.flatnonzero(row) if i > SCHEMA.offsets[1]
        }
    weights = np.concatenate([module.weight.detach(), module.embed.table.weight.detach()[:, 0]])
    with torch.no_grad():
        np.testing.assert_allclose(module(batch), design @ weights + float(module.bias), rtol=1e-4, atol=1e-5)


def test_a_large_vocabulary_is_encoded_out_of_fold():
    """Ids that occur once or twice say nothing; labels that leaked into their codes would."""
    schema = Schema((CategoricalFeature("id", 1000, 2), CategoricalFeature("c", 6, 2)), ("x",))
    data = Rows(schema, (800, 800))
    for batch in data.splits.values():
        batch.numeric.zero_()
        batch.categorical[:, 1] = schema.offsets[1] + 2
    model = GradientBoostedTrees(schema, [Task("a")], GradientBoostedTrees.Config(trees=30))
    model.fit(data)
    with torch.no_grad():
        train, valid = (model(data.splits[s])["a"].numpy() for s in ("train", "valid"))
    labels = {split: data.splits[split].labels["a"].numpy() for split in ("train", "valid")}
    seen = {split: log_loss(labels[split], special.expit(z)) for split, z in (("train", train), ("valid", valid))}
    base = log_loss(labels["valid"], np.full(800, labels["train"].mean()))
    assert seen["valid"] < base + 0.05  # trees that trusted leaked codes would be sure, and wrong


def key(method, seed=0):
    return Key(
        dataset="fake", old_tasks=["a", "b"], new_tasks=["c"], tasks=["c"], method=method, config={}, arm="scratch",
        stage=1, budget={"batch_size": 64, "learning_rate": 1e-2, "epochs": 4, "patience": 4}, selection="rule",
        seed=seed,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["gbdt", "logistic_regression"])
def test_a_run_repeats_bit_for_bit_and_differs_by_seed(method):
    one, again, other = (execute(key(method, seed), FakeData(), CPU) for seed in (0, 0, 1))
    assert weights_fingerprint(one.weights) == weights_fingerprint(again.weights) != weights_fingerprint(other.weights)
    assert one.scores == again.scores and one.scores["c"].metrics["auc"] > 0.65
    assert one.params.trainable == one.params.total > 0
    assert one.selection.epoch == 1 + int(np.argmax([epoch.selection for epoch in one.curve]))
    noisy = execute(key(method), FakeData(test_noise=0.4), CPU)
    assert weights_fingerprint(noisy.weights) == weights_fingerprint(one.weights)


def test_they_are_planned_for_every_task_and_skip_no_arm():
    plan = make_plan(Suite(name="s", title="", datasets=("synthetic",), methods=("gbdt",), arms=("joint", "frozen")))
    planned = {(run.key.arm, *run.key.tasks) for run in plan.runs if run.key.method == "gbdt"}
    assert planned == {("scratch", task) for task in ("click", "like", "share")} and plan.skips == []
