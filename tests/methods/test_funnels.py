"""ESMM and AITM: products and transfer along a funnel, on spaces and on chains."""

import math

import pytest
import torch

from datasets_registry.schema import Task
from methods.batch import Progress
from methods.layers import predecessors

from .toys import ToyRows, build, grow, random_weights, tasks

CLICK, BUY = Task("click"), Task("buy", space="click", partial=True)
START = Progress(1, 0, 1, 1)


def spaced_rows(n=60):
    rows = ToyRows([CLICK, Task("buy")], n)
    rows.numeric = rows.numeric.double()
    rows.labels = {name: label.double() for name, label in rows.labels.items()}
    rows.labels["buy"] = torch.where(rows.labels["click"] == 1, rows.labels["buy"], torch.nan)
    return rows


def test_predecessors_by_space_and_by_name():
    assert predecessors([CLICK, BUY]) == {"click": None, "buy": "click"}
    assert predecessors(tasks("abc"), ("a", "absent", "c")) == {"a": None, "b": None, "c": "a"}
    assert predecessors([BUY]) == {"buy": None}


def test_esmm_learns_a_space_from_all_rows_through_the_product():
    model = random_weights(build("esmm", [CLICK, BUY])).train()
    rows = spaced_rows()
    batch = rows.take(torch.arange(60))
    outputs = model(batch)
    z = model.embed(batch)
    p_click, p_buy = (torch.sigmoid(model.networks[name](z)) for name in ("click", "buy"))
    assert torch.allclose(torch.sigmoid(outputs["buy"]), p_buy)  # the prediction is the conditional one
    joint, both = p_click * p_buy, batch.labels["buy"].nan_to_num(0.0)
    expected = -(both * joint.log() + (1 - both) * (1 - joint).log()).mean()
    terms = model.loss(batch, outputs, START)
    assert torch.allclose(terms["buy"], expected)
    assert set(terms) == {"click", "buy"}
    terms["buy"].backward()
    assert model.networks["click"][0][0].weight.grad.abs().sum() > 0


def test_esmm_chain_predicts_the_product():
    model = random_weights(build("esmm", tasks("abc"), funnel=("c", "a", "b"))).eval()
    rows = ToyRows(tasks("abc"), 30)
    rows.numeric = rows.numeric.double()
    batch = rows.take(torch.arange(30))
    z = model.embed(batch)
    own = {name: torch.sigmoid(model.networks[name](z)) for name in "abc"}
    p = {name: torch.sigmoid(logit) for name, logit in model(batch).items()}
    assert torch.allclose(p["c"], own["c"])
    assert torch.allclose(p["a"], own["c"] * own["a"])
    assert torch.allclose(p["b"], own["c"] * own["a"] * own["b"])


def test_esmm_product_stays_finite_where_probabilities_saturate():
    model = build("esmm", tasks(), funnel=("a", "b"))
    outputs = model._chained({"a": torch.tensor([60.0, -60.0, 60.0]), "b": torch.tensor([60.0, -60.0, -60.0])})
    assert outputs["b"].isfinite().all()


@pytest.mark.parametrize("method", ["esmm", "aitm"])
def test_new_task_in_the_space_of_an_old_one(method):
    model = build(method, [CLICK, Task("like")])
    grow(model, BUY)
    model.eval()
    batch = ToyRows([CLICK], 40).take(torch.arange(40))
    features = model.frozen_features(batch)
    assert torch.equal(model.forward_new(features)["buy"], model(batch)["buy"])
    batch.labels = {"buy": torch.full((40,), torch.nan)}
    assert all(term.isfinite() for term in model.loss(batch, model.forward_new(features), START).values())


def test_aitm_against_plain_loops():
    model = random_weights(build("aitm", tasks("abc"), funnel=("b", "a"))).eval()
    rows = ToyRows(tasks("abc"), 5)
    rows.numeric = rows.numeric.double()
    batch = rows.take(torch.arange(5))
    logits = model(batch)
    q = {name: step.body(model.embed(batch)) for name, step in model.steps.items()}
    for name in "bc":
        assert torch.allclose(logits[name], model.steps[name].head(q[name]).squeeze(1))
        assert model.steps[name].transfer is None
    step = model.steps["a"]
    for row in range(5):
        candidates = [step.transfer(q["b"][row]), q["a"][row]]
        value, key, query = ([layer(u) for u in candidates] for layer in step.attention)
        scores = [(k @ x).item() / math.sqrt(len(k)) for k, x in zip(key, query, strict=True)]
        weights = [math.exp(s) / sum(math.exp(t) for t in scores) for s in scores]
        state = weights[0] * value[0] + weights[1] * value[1]
        assert torch.allclose(logits["a"][row], step.head(state).squeeze())


def test_aitm_punishes_a_later_step_that_is_likelier():
    model = random_weights(build("aitm", tasks(), funnel=("a", "b"), constraint=0.6))
    rows = ToyRows(tasks(), 50)
    rows.numeric = rows.numeric.double()
    rows.labels = {name: label.double() for name, label in rows.labels.items()}
    batch = rows.take(torch.arange(50))
    with torch.no_grad():
        model.steps["b"].head.bias += model(batch)["a"].median() - model(batch)["b"].median()
    outputs = model(batch)
    terms = model.loss(batch, outputs, START)
    p = {name: torch.sigmoid(outputs[name]) for name in "ab"}
    assert torch.allclose(terms["order/b"], 0.6 * torch.relu(p["b"] - p["a"]).mean())
    assert terms["order/b"] > 0
    assert set(terms) == {"a", "b", "order/b"}


def test_aitm_predicts_the_conditional_probability_of_a_space():
    model = random_weights(build("aitm", [CLICK, BUY])).eval()
    batch = spaced_rows().take(torch.arange(60))
    outputs = model(batch)
    reached = torch.sigmoid(outputs["reached/buy"]) / torch.sigmoid(outputs["click"])
    assert torch.allclose(torch.sigmoid(outputs["buy"]), reached.clamp(1e-6, 1 - 1e-6))
