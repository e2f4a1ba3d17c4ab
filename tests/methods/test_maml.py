"""MAML against finite differences and a hand-written loop."""

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from benchmark.spec.arms import ARMS
from benchmark.training.models import build_model
from benchmark.training.protocol import execute
from methods.base import Task
from methods.batch import Progress
from tests.benchmark.fakes import FakeData
from tests.benchmark.test_protocol import CPU, auc, key
from tests.methods.test_counts import SETTINGS, SINGLE, count, model
from tests.methods.toys import SCHEMA, ToyRows

TASKS = [Task("a"), Task("b")]


def built(**config):
    config = {"hidden": (6, 4), "tower": (5,), "inner_learning_rate": 0.3} | config
    return build_model("maml", config, SCHEMA, TASKS, ("toy", 0))[0].double()


def batch64(rows=20):
    batch = ToyRows(TASKS, rows).take(torch.arange(rows))
    batch.numeric = batch.numeric.double()
    batch.labels = {name: label.double() for name, label in batch.labels.items()}
    return batch


def half(batch, rows):
    return type(batch)(batch.categorical[rows], batch.numeric[rows], {n: v[rows] for n, v in batch.labels.items()})


def meta_gradient(model, batch):
    model.zero_grad()
    sum(model.query_losses(batch).values()).backward()
    return {name: parameter.grad for name, parameter in model.network.named_parameters()}


@pytest.mark.parametrize("steps", [1, 2])
def test_the_second_order_gradient_is_the_slope_of_the_meta_objective(steps):
    maml, batch = built(order=2, inner_steps=steps), batch64()
    gradient = meta_gradient(maml, batch)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in maml.network.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * 1e-6 * direction)
            values.append(sum(float(v.detach()) for v in maml.query_losses(batch).values()))
            with torch.no_grad():
                parameter.sub_(sign * 1e-6 * direction)
        slope = (values[0] - values[1]) / 2e-6
        assert float((gradient[name] * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-8), name


def test_the_first_order_gradient_is_the_query_gradient_at_the_adapted_weights():
    maml, batch = built(order=1), batch64()
    gradient = meta_gradient(maml, batch)
    expected = dict.fromkeys(gradient, 0.0)
    support, query = half(batch, slice(0, 10)), half(batch, slice(10, None))
    for task in "ab":
        theta = {name: p.detach().clone().requires_grad_() for name, p in maml.network.named_parameters()}
        loss = F.binary_cross_entropy_with_logits(
            functional_call(maml.network, theta, (support,)), support.labels[task]
        )
        inner = dict(zip(theta, torch.autograd.grad(loss, list(theta.values()))))
        fast = {name: (theta[name] - 0.3 * inner[name]).detach().requires_grad_() for name in theta}
        loss = F.binary_cross_entropy_with_logits(functional_call(maml.network, fast, (query,)), query.labels[task])
        for name, part in zip(fast, torch.autograd.grad(loss, list(fast.values()))):
            expected[name] = expected[name] + part
    for name in gradient:
        assert torch.allclose(gradient[name], expected[name]), name
    second = meta_gradient(built(order=2), batch)
    assert not torch.allclose(second["body.0.weight"], gradient["body.0.weight"], rtol=1e-3)


def test_old_tasks_are_predicted_with_weights_adapted_on_a_fixed_set_of_training_rows():
    maml = built(adaptation_rows=16)
    rows = ToyRows(TASKS, 64)
    rows.numeric = rows.numeric.double()
    rows.labels = {name: label.double() for name, label in rows.labels.items()}
    maml.end_epoch(1, rows)
    batch = batch64(5)
    support = rows.take(torch.arange(16))
    for task in TASKS:
        fast = maml.adapt(task, support, order=1)
        assert torch.allclose(maml.eval()(batch)[task.name], functional_call(maml.network, fast, (batch,)))


@pytest.mark.parametrize("order", [1, 2])
def test_it_learns_the_old_tasks_and_the_new_one_leaves_them_alone(order, tmp_path):
    config = {"order": order, "hidden": [32, 16], "tower": [8]}
    before = execute(key(method="maml", config=config, epochs=8), FakeData(), CPU)
    assert min(auc(before).values()) > 0.6
    torch.save(before.weights, tmp_path / "weights.pt")
    after = execute(key("finetune", "maml", config=config), FakeData(), CPU, stage0=tmp_path / "weights.pt")
    assert auc(after)["c"] > 0.6
    for task in ("a", "b"):
        assert np.array_equal(after.predictions[task], before.predictions[task])
    # what is trained is a whole single-task model
    assert after.params.trainable == after.params.total == before.params.total


@pytest.mark.parametrize("setting", SETTINGS)
def test_it_has_the_size_of_a_single_task_model(setting):
    assert count(model("maml", setting, "ab").parameters()) == SINGLE[list(SETTINGS).index(setting)]


def test_there_is_room_for_one_new_task():
    maml = built()
    with pytest.raises(UsageError, match="has taken in 'x' and has no room for 'y'"):
        ARMS["finetune"].take_in(maml, [Task("x"), Task("y")])


def test_a_training_step_names_the_loss_of_each_task():
    maml, batch = built(), batch64()
    terms = maml.training_step(batch, Progress(1, 0, 1, 1), torch.optim.Adam(maml.parameters()))
    assert set(terms) == {"a", "b"}
