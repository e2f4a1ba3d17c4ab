"""SparseSharing and CSRec: the mask search against its definition, the steps against plain torch."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from benchmark.spec.arms import ARMS
from benchmark.spec.budget import Budget
from benchmark.training.learner import Learner, Streams
from benchmark.training.meters import weights_fingerprint
from benchmark.training.models import build_model
from benchmark.training.preparation import Preparation
from benchmark.training.protocol import execute
from benchmark.training.rows import DataRows
from methods import METHODS
from methods.base import Task
from methods.batch import Progress
from methods.masks import Level, pruned
from tests.benchmark.fakes import FakeData
from tests.benchmark.test_protocol import CPU, _through_disk, key
from tests.methods.toys import SCHEMA, ToyRows

TASKS = [Task("a"), Task("b")]
PROGRESS = Progress(1, 0, 1, 1)


def built(method="sparse_sharing", **config):
    return build_model(method, {"hidden": (40, 30), "tower": (5,)} | config, SCHEMA, TASKS, ("toy", 0))[0]


def preparation(model, score=lambda forward, task: 0.5):
    data = FakeData(tasks=("a", "b"))
    rows = DataRows(data.split("train", data.schema(())), {t: data.labels("train", t) for t in "ab"}, CPU)
    learner = Learner(model, rows, list(model.parameters()), Streams("toy", model.info.name, 0), CPU)
    return Preparation(learner, score, Budget(batch_size=100, learning_rate=1e-2))


def on_fake_data(method="sparse_sharing", **config):
    data = FakeData()
    return build_model(method, {"hidden": (40, 30)} | config, data.schema(()), TASKS, ("toy", 0))[0]


def test_every_level_prunes_a_tenth_of_what_is_left():
    model = on_fake_data()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    levels = model.search(preparation(model), TASKS[0], start)
    assert [level.pruned for level in levels] == pytest.approx([1 - 0.9**k for k in range(10)], abs=3e-3)
    for before, after in itertools.pairwise(levels):  # a weight that is gone stays gone
        assert all(((a <= b).all()) for a, b in zip(after.mask, before.mask))


def test_pruning_takes_the_smallest_magnitudes_that_are_alive():
    weight = torch.tensor([[5.0, -0.1, 3.0, 0.2, -4.0], [0.3, 6.0, -7.0, 8.0, 0.05]])
    mask = torch.ones_like(weight)
    mask[1, 4] = 0.0  # the smallest is gone already
    assert pruned(weight, mask, 0.3).tolist() == [[1, 0, 1, 0, 1], [0, 1, 1, 1, 0]]
    for size, share in ((11, 0.1), (100, 0.1), (37, 0.25)):
        weight = torch.randn(1, size, generator=torch.Generator().manual_seed(size))
        kept = weight.abs() >= np.quantile(weight.abs().numpy(), share)
        assert torch.equal(pruned(weight, torch.ones_like(weight), share).bool(), kept)


def test_each_round_starts_from_the_warm_up_weights(monkeypatch):
    model = on_fake_data(rounds=3)
    seen = []
    fit = type(model)._fit

    def spied(self, training, optimizer, tasks, masks, epochs):
        seen.append(weights_fingerprint(self.state_dict()))
        return fit(self, training, optimizer, tasks, masks, epochs)

    monkeypatch.setattr(type(model), "_fit", spied)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.search(preparation(model), TASKS[0], start)
    assert seen == [weights_fingerprint(start)] * 3


def test_the_chosen_mask_is_the_best_candidates_and_later_rounds_do_not_touch_it():
    model = built()
    masks = [(torch.full((2, 2), float(k)),) for k in range(5)]
    scores = [0.99, 0.70, 0.90, 0.90, 0.80]
    levels = [Level(share, score, mask) for share, score, mask in zip((0, 0.38, 0.42, 0.47, 0.52), scores, masks)]
    assert model.choose(levels) is masks[2]  # 0.99 is not sparse enough; of the two at 0.90 the earlier
    assert built(mask="last").choose(levels) is masks[4]
    assert model.choose(levels[:2]) is masks[1]  # no candidate: the sparsest there is


def test_preparing_leaves_fresh_weights_and_masks_above_the_threshold():
    for choice, expected in (("best", None), ("last", 0.6126)):
        model = on_fake_data(mask=choice)
        before = {name: p.clone() for name, p in model.named_parameters()}
        scores = iter(np.linspace(0.4, 0.9, 1000))
        model.prepare(preparation(model, lambda forward, task, scores=scores: next(scores)))
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
        for mask in model.masks.values():
            share = 1 - float(sum(m.sum() for m in mask.layers()) / sum(m.numel() for m in mask.layers()))
            assert share > 0.4
            # scores rise with every round here, so the best is the last
            assert share == pytest.approx(expected or 0.6126, abs=3e-3)
        assert not torch.equal(model.masks["a"].layers()[0], model.masks["b"].layers()[0])
        assert not model.warnings(1)


def test_a_search_too_short_to_prune_enough_says_so():
    model = on_fake_data(rounds=3)
    model.prepare(preparation(model))
    (warning,) = model.warnings(1)
    assert "19 %" in warning and "40 %" in warning


def test_masks_are_chosen_on_validation_scores_of_the_task():
    model = on_fake_data()
    asked = []
    model.prepare(preparation(model, lambda forward, task: asked.append(task) or 0.5))
    assert asked == ["a", "b"] + ["a"] * 10 + ["b"] * 10


def with_masks(method, **config):
    model = built(method, **config).double()
    generator = torch.Generator().manual_seed(1)
    for mask in model.masks.values():
        mask.set([(torch.rand(part.shape, generator=generator) > 0.5).double() for part in mask.layers()])
    return model


def batch64(rows=32):
    batch = ToyRows(TASKS, rows).take(torch.arange(rows))
    batch.numeric = batch.numeric.double()
    batch.labels = {name: label.double() for name, label in batch.labels.items()}
    return batch


def logits(model, task, masks, batch):
    """Plain reference: row by row, weight by weight."""
    rows = []
    for z in model.embed(batch):
        for layer, mask in zip(model.layers, masks):
            z = torch.stack(
                [
                    sum(layer.weight[o, i] * mask[o, i] * z[i] for i in range(len(z))) + layer.bias[o]
                    for o in range(len(mask))
                ]
            ).clamp(min=0)
        rows.append(model.towers[task](z[None])[0])
    return torch.stack(rows)


def test_a_task_reads_the_bottom_through_its_mask():
    model, batch = with_masks("sparse_sharing", hidden=(6, 4)), batch64(3)
    outputs = model.eval()(batch)
    for task in "ab":
        assert torch.allclose(outputs[task], logits(model, task, model.masks[task].layers(), batch))


class Recorder(torch.optim.SGD):
    """Remembers the gradients of every step."""

    def __init__(self, model):
        super().__init__(model.parameters(), lr=0.0)
        self.model, self.steps = model, []

    def step(self):
        self.steps.append({n: None if p.grad is None else p.grad.clone() for n, p in self.model.named_parameters()})


def test_csrecs_step_against_hand_computation():
    model, batch = with_masks("cs_rec", hidden=(6, 4)), batch64(8)
    recorder = Recorder(model)
    model.training_step(batch, PROGRESS, recorder)
    shared = [a * b for a, b in zip(model.masks["a"].layers(), model.masks["b"].layers())]
    for task, got in zip("ab", recorder.steps, strict=True):
        away = -F.binary_cross_entropy_with_logits(
            logits(model, task, [1 - s for s in shared], batch), batch.labels[task]
        )
        towards = F.binary_cross_entropy_with_logits(
            logits(model, task, model.masks[task].layers(), batch), batch.labels[task]
        )
        weights = [layer.weight for layer in model.layers]
        pushed = torch.autograd.grad(away, weights)
        names = [name for name, _ in model.named_parameters()]
        expected = dict(zip(names, torch.autograd.grad(towards, list(model.parameters()), allow_unused=True)))
        for layer, push in zip((0, 2), pushed):
            expected[f"bottom.{layer}.weight"] = expected[f"bottom.{layer}.weight"] + push
        for name in names:
            assert (got[name] is None) == (expected[name] is None), name
            assert got[name] is None or torch.allclose(got[name], expected[name]), name


def test_only_in_turn_do_masked_weights_drift_by_other_tasks_momentum():
    """Adam step of a alone after both have trained: together never moves a weight outside of all masks."""
    for update in ("together", "in_turn"):
        model = with_masks("sparse_sharing", update=update).float()
        batch = ToyRows(TASKS, 64).take(torch.arange(64))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        a, b = model.masks["a"].layers()[0], model.masks["b"].layers()[0]
        before = model.layers[0].weight.detach().clone()
        if update == "in_turn":
            drifts = []
            step = optimizer.step

            def spied(drifts=drifts, step=step, model=model):
                weight = model.layers[0].weight.detach().clone()
                step()
                drifts.append((model.layers[0].weight - weight).abs())

            optimizer.step = spied
            for _ in range(2):
                model.training_step(batch, PROGRESS, optimizer)
            # the third step is a's: what only b uses has no gradient and moves all the same
            assert drifts[2][(a == 0) & (b == 1)].max().item() > 1e-4
        else:
            assert model.training_step is None
            for _ in range(3):
                optimizer.zero_grad()
                sum(model.loss(batch, model(batch), PROGRESS).values()).backward()
                optimizer.step()
            assert (model.layers[0].weight - before)[(a == 1) | (b == 1)].abs().max().item() > 1e-3
        moved = (model.layers[0].weight - before).abs()[(a == 0) & (b == 0)]
        assert moved.max().item() == 0.0


@pytest.mark.parametrize("method", ["sparse_sharing", "cs_rec"])
def test_a_resumed_run_does_not_search_again_and_ends_with_the_same_bits(method, monkeypatch):
    wanted = key("joint", method, config={"rounds": 6, "threshold": 0.2}, epochs=2)
    states = []
    whole = execute(wanted, FakeData(), CPU, checkpoint=(lambda s: states.append(torch.load(_through_disk(s))), None))
    assert [("curve" in state) for state in states] == [False, True]
    assert min(s.metrics["auc"] for s in whole.scores.values()) > 0.6
    monkeypatch.setattr(METHODS.get(method), "search", None)
    for state in states:
        resumed = execute(wanted, FakeData(), CPU, checkpoint=(lambda _: None, state))
        assert weights_fingerprint(resumed.weights) == weights_fingerprint(whole.weights)
        assert resumed.seconds.train >= state["prepare_seconds"]


def test_bad_settings_are_named():
    config = METHODS.get("sparse_sharing").Config
    for values, message in (
        ({"mask": "first"}, "mask must be best or last"),
        ({"prune": 1.0}, "prune must lie"),
        ({"rounds": 0}, "rounds"),
        ({"update": "both"}, "update must be together or in_turn"),
    ):
        with pytest.raises(UsageError, match=message):
            config(**values)
    assert not ARMS["frozen"].supported_by(METHODS.get("sparse_sharing").info.arms)
