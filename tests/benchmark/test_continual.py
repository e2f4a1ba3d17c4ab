"""Arms that fight forgetting, against slow versions of their definitions."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmark.records.record import Key
from benchmark.spec.arms import ARMS
from benchmark.spec.budget import Budget
from benchmark.training.forgetting import Setting, distillation, elastic, fisher_information, replay
from benchmark.training.learner import Learner, Streams
from benchmark.training.models import build_model, take_in
from benchmark.training.protocol import execute
from benchmark.training.rows import DataRows
from benchmark.training.warm_up import warm_up
from methods.batch import Batch, Progress
from tests.benchmark.fakes import FakeData

CPU = torch.device("cpu")
PROGRESS = Progress(1, 0, 1, 1)


@pytest.fixture()
def setting():
    data = FakeData()
    schema = data.schema(())
    model, _ = build_model(
        "shared_bottom", {"hidden": (8, 6), "tower": (5,)}, schema, [data.tasks[t] for t in "ab"], ("f", 0)
    )
    take_in(model, ARMS["finetune"], [data.tasks["c"]], {}, ("f", 0))
    labels = {name: data.labels("train", name) for name in "abc"}
    rows = DataRows(data.split("train", schema), {"c": labels["c"]}, CPU)
    return Setting(
        model, rows, lambda others: rows.with_labels({"c": labels["c"], **others}), labels, ("a", "b"), ("f", 0)
    )


def test_fisher_information_is_the_mean_square_of_single_rows_gradients(setting):
    """Exact Fisher information of every row: p (1 - p) times the square of the logit's gradient."""
    model, rows = setting.model.double(), setting.rows
    count = len(rows)
    exact = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(count):
        batch = rows.gather(slice(i, i + 1))
        outputs = model.eval()(Batch(batch.categorical, batch.numeric.double()))
        for task in "ab":
            model.zero_grad()
            outputs[task].sum().backward(retain_graph=True)
            p = torch.sigmoid(outputs[task]).item()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    exact[name] += p * (1 - p) * parameter.grad.square() / count
    model.float()
    # one draw of the labels per pass: the mean over many passes comes near
    draws = [
        fisher_information(Setting(model, rows, setting.with_labels, setting.labels, ("a", "b"), ("f", seed)))
        for seed in range(300)
    ]
    for name in ("bottom.0.weight", "towers.a.0.weight", "embed.table.weight"):
        mean = torch.stack([draw[name] for draw in draws]).mean(0)
        assert abs(float(mean.sum() / exact[name].sum()) - 1) < 0.1, name
        assert float(torch.corrcoef(torch.stack([mean.flatten(), exact[name].float().flatten()]))[0, 1]) > 0.98, name
    assert not any(name.startswith("towers.c") for name in draws[0])


def test_ewc_adds_half_strength_times_fisher_times_squared_distance(setting):
    model = setting.model
    _, loss = elastic(setting, strength=7.0)
    fisher = fisher_information(setting)
    batch = setting.rows.gather(slice(0, 32))
    assert loss(batch, model(batch), PROGRESS)["ewc"].item() == 0.0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    expected = 7.0 / 2 * sum(float(f.double().sum()) * 0.1**2 for f in fisher.values())
    assert loss(batch, model(batch), PROGRESS)["ewc"].item() == pytest.approx(expected, rel=1e-3)


def test_distillation_trains_old_tasks_on_the_stage_0_probabilities(setting):
    model = setting.model.eval()
    rows, loss = distillation(setting, strength=0.5)
    batch = rows.gather(slice(5, 25))
    with torch.no_grad():
        before = model(Batch(batch.categorical, batch.numeric))
        for name in "ab":
            assert torch.allclose(batch.labels[name], torch.sigmoid(before[name]))
        outputs = model(batch)
        terms = loss(batch, outputs, PROGRESS)
    p = torch.sigmoid(before["a"])
    cross_entropy = -(p * F.logsigmoid(outputs["a"]) + (1 - p) * F.logsigmoid(-outputs["a"])).mean()
    assert float(terms["a"]) == pytest.approx(0.5 * float(cross_entropy), rel=1e-5)
    assert float(terms["c"]) == pytest.approx(
        float(F.binary_cross_entropy_with_logits(outputs["c"], batch.labels["c"]))
    )


def test_lwf_warms_up_what_is_the_new_tasks_own_and_nothing_else(setting):
    model, streams = setting.model, Streams("f", "shared_bottom", 0)
    learner = Learner(model, setting.rows, list(model.parameters()), streams, CPU)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    budget = Budget(batch_size=64, learning_rate=1e-2, epochs=4, patience=4)
    assert warm_up(learner, ["c"], budget, 0) == 0
    batch = setting.rows.gather(slice(0, len(setting.rows)))

    def loss():
        with torch.no_grad():
            return float(F.binary_cross_entropy_with_logits(model(batch)["c"], batch.labels["c"]))

    cold = loss()
    calls = []
    warm = dataclasses.replace(setting, warm_up=lambda epochs: calls.append(warm_up(learner, ["c"], budget, epochs)))
    rows, _ = distillation(warm, strength=1.0, warm_up=3)
    assert calls == [sum(p.numel() for p in model.towers["c"].parameters())]
    assert loss() < cold - 0.01
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (not name.startswith("towers.c")), name
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    plain, _ = distillation(setting, strength=1.0)  # the old tasks' targets are the stage-0 model's either way
    assert torch.equal(rows.gather(slice(0, 50)).labels["a"], plain.gather(slice(0, 50)).labels["a"])


def test_replay_sees_old_labels_of_its_memory_alone(setting):
    kept = set()
    poisoned = {name: labels.copy() for name, labels in setting.labels.items()}
    share = 0.1

    def spy(model):
        forward = model.forward

        def wrapped(batch):
            if "a" in batch.labels:
                kept.update(batch.index.tolist())
            return forward(batch)

        model.forward = wrapped

    spy(setting.model)
    _, loss = replay(setting, share=share, strength=1.0)
    batch = setting.rows.gather(slice(0, 64))
    for _ in range(60):
        terms = loss(batch, setting.model(batch), PROGRESS)
    assert len(kept) == round(share * len(setting.rows))
    assert set(terms) == {"c", "replay/a", "replay/b"}
    # labels outside of the memory are never read: poisoning them changes nothing
    outside = np.setdiff1d(np.arange(len(setting.rows)), sorted(kept))
    for name in "ab":
        poisoned[name][outside] = np.nan
    other = Setting(
        setting.model,
        setting.rows,
        lambda o: setting.rows.with_labels({"c": poisoned["c"], **o}),
        poisoned,
        ("a", "b"),
        ("f", 0),
    )
    _, loss = replay(other, share=share, strength=1.0)
    for _ in range(20):
        assert all(torch.isfinite(term) for term in loss(batch, setting.model(batch), PROGRESS).values())


def test_each_way_forgets_less_than_plain_fine_tuning(tmp_path):
    def run(arm, **arm_config):
        key = Key(
            dataset="fake", old_tasks=["a", "b"], new_tasks=["c"], tasks=ARMS[arm].tasks("ab", "c"),
            method="shared_bottom",
            config={}, arm=arm, stage=ARMS[arm].stage, selection="rule", seed=0, arm_config=arm_config,
            budget={"batch_size": 64, "learning_rate": 1e-2, "epochs": 4, "patience": 4},
        )  # fmt: skip
        weights = tmp_path / "weights.pt"
        outcome = execute(key, FakeData(), CPU, stage0=weights if arm != "stage0" else None)
        if arm == "stage0":
            torch.save(outcome.weights, weights)
        return {task: scores.metrics["auc"] for task, scores in outcome.scores.items()}

    before, plain = run("stage0"), run("finetune")
    lost = sum(before[task] - plain[task] for task in "ab")
    assert lost > 0.1
    for arm in ("ewc", "lwf", "replay"):
        after = run(arm)
        assert sum(before[task] - after[task] for task in "ab") < 0.7 * lost, arm
        assert after["c"] > 0.6
    # the stronger the pull, the less is forgotten
    assert sum(run("ewc", strength=1e4)[task] for task in "ab") > sum(run("ewc", strength=1.0)[task] for task in "ab")
