"""ESMM and AITM: products and transfer along a funnel, on spaces and on chains."""

import math

import numpy as np
import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.planning.plan import make_plan
from benchmark.planning.suite import Suite
from datasets_registry.schema import CategoricalFeature, Schema, Task
from methods import METHODS
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
    outputs = model.chained({"a": torch.tensor([60.0, -60.0, 60.0]), "b": torch.tensor([60.0, -60.0, -60.0])})
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


def test_aitm_is_the_released_network():
    """Towers 128-64-32 with dropout .1, .3, .3; 32 to 32 with dropout .3 handed on; no bias in the attention."""
    schema = Schema(tuple(CategoricalFeature(f"f{i}", 2) for i in range(18)), ())
    aitm = METHODS.get("aitm")
    model = aitm(
        schema, [Task("click"), Task("conversion")], aitm.Config(embedding_dim=5, funnel=("click", "conversion"))
    )
    towers = 2 * (90 * 128 + 128 + 128 * 64 + 64 + 64 * 32 + 32)
    transfer, attention, heads = 32 * 32 + 32, 3 * 32 * 32, 2 * 33
    assert sum(p.numel() for p in model.parameters()) == 36 * 5 + towers + transfer + attention + heads
    later = model.steps["conversion"]
    assert [layer.p for layer in later.modules() if isinstance(layer, torch.nn.Dropout)] == [0.1, 0.3, 0.3, 0.3]
    assert model.steps["click"].transfer is None
    wider = aitm(schema, [Task("click")], aitm.Config(tower=(16, 8), dropout=()))
    assert wider.steps["click"].head.in_features == 8


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


def funnel_plan(dataset, **config):
    methods = ("esmm", "aitm")
    configs = dict.fromkeys(methods, config)
    return make_plan(Suite(name="t", title="t", datasets=(dataset,), methods=methods, seeds=(0, 1), config=configs))


@pytest.mark.parametrize(
    ("dataset", "funnel"),
    [
        ("ali_ccp@first10m", ["click", "conversion"]),
        ("aliexpress_nl", ["click", "conversion"]),
        ("kuairand_pure", ["click", "long_view", "complete"]),
    ],
)
def test_a_datasets_funnel_is_part_of_the_runs_config(dataset, funnel):
    plan = funnel_plan(dataset)
    configs = [run.key.config["funnel"] for run in plan.runs if run.key.method in ("esmm", "aitm")]
    assert configs and all(config == funnel for config in configs)


def test_without_a_funnel_the_methods_for_funnels_are_declared_skips():
    plan = funnel_plan("census_income")
    assert {run.key.method for run in plan.runs} == {"single_task"}
    assert [(skip.method, skip.arm) for skip in plan.skips] == [
        (method, arm) for method in ("esmm", "aitm") for arm in ("joint", "frozen", "finetune")
    ]
    assert "--set 'esmm.funnel=" in plan.skips[0].reason


def test_a_funnel_named_by_hand_is_run_and_a_misspelt_one_is_not():
    plan = funnel_plan("census_income", funnel=("income", "marital"))
    assert not plan.skips
    with pytest.raises(UsageError, match=r"(?s)esmm.funnel.*'maritel'.*marital"):
        funnel_plan("census_income", funnel=("income", "maritel"))


def counterfactual_batch(n=60):
    """Rows of which some are clicked, and the terms of the formulas as plain tensors."""
    batch = spaced_rows(n).take(torch.arange(n))
    return batch, (batch.labels["click"] == 1).double(), batch.labels["buy"].nan_to_num(0.0)


def cross_entropy(label, p):
    return -(label * p.log() + (1 - label) * (1 - p).log())


@pytest.mark.parametrize("risk", ["ips", "dr"])
def test_escm2_adds_the_counterfactual_risk(risk):
    model = random_weights(build("escm2", [CLICK, BUY], risk=risk, counterfactual=0.3, entire=0.7, floor=0.4)).train()
    batch, clicked, bought = counterfactual_batch()
    outputs = model(batch)
    terms = model.loss(batch, outputs, START)
    p_click, p_buy = torch.sigmoid(outputs["click"]), torch.sigmoid(outputs["buy"])
    e, weight = cross_entropy(bought, p_buy), clicked / p_click.detach().clamp(min=0.4)
    assert torch.allclose(terms["buy"], 0.7 * cross_entropy(bought, p_click * p_buy).mean())
    if risk == "ips":
        assert torch.allclose(terms["counterfactual/buy"], 0.3 * (weight * e).mean())
        assert set(terms) == {"click", "buy", "counterfactual/buy"}
    else:
        imputed = torch.log1p(outputs["second/buy"].exp())
        assert torch.allclose(terms["counterfactual/buy"], 0.3 * (imputed + weight * (e - imputed)).mean())
        assert torch.allclose(terms["imputation/buy"], 0.3 * (weight * (e - imputed) ** 2).mean())
        assert set(terms) == {"click", "buy", "counterfactual/buy", "imputation/buy"}
    terms["counterfactual/buy"].backward()  # the propensity is given, not learnt by the risk
    assert model.networks["click"][0][0].weight.grad is None


def test_dcmt_against_its_formula():
    model = random_weights(build("dcmt", [CLICK, BUY], counterfactual=0.5, soft=0.2, floor=0.3)).train()
    batch, clicked, bought = counterfactual_batch()
    outputs = model(batch)
    terms = model.loss(batch, outputs, START)
    o = torch.sigmoid(outputs["click"]).clamp(0.3, 0.7)
    factual, twin = torch.sigmoid(outputs["buy"]), torch.sigmoid(outputs["second/buy"])
    w, w_star = clicked / o, (1 - clicked) / (1 - o)
    assert torch.allclose(terms["factual/buy"], 0.5 * (w * cross_entropy(bought, factual)).sum() / w.sum())
    assert torch.allclose(terms["counterfactual/buy"], 0.5 * (w_star * -twin.log()).sum() / w_star.sum())
    assert torch.allclose(terms["tie/buy"], 0.2 * (1 - factual - twin).abs().mean())


@pytest.mark.parametrize("method", ["escm2", "dcmt"])
def test_counterfactual_terms_along_a_chain_whose_labels_lie_on_all_rows(method):
    model = build(method, tasks(), funnel=("a", "b")).train()
    batch = ToyRows(tasks(), 40).take(torch.arange(40))
    terms = model.loss(batch, model(batch), START)
    assert "counterfactual/b" in terms and all(term.isfinite() for term in terms.values())
    batch.labels.pop("a")  # the frozen arm of b: who reached it is not known
    assert set(model.loss(batch, model(batch), START)) == {"b"}


def test_counts_of_the_counterfactual_methods():
    """ESMM and one more tower, m x 5 + 5 + 5 + 1, for the task that follows."""
    sizes = {name: sum(p.numel() for p in build(name, [CLICK, BUY]).parameters()) for name in ("esmm", "escm2", "dcmt")}
    assert sizes["escm2"] - sizes["esmm"] == sizes["dcmt"] - sizes["esmm"] == 6 * 5 + 5 + 5 + 1


@pytest.mark.parametrize("method", ["esmm", "aitm", "escm2", "dcmt"])
def test_a_task_with_a_space_can_be_added_by_every_frozen_strategy(method, tmp_path):
    """The second tower of a new task learns in the frozen arm, whose backbone stays in evaluation mode."""
    from benchmark.training.protocol import execute
    from tests.benchmark.fakes import FakeData
    from tests.benchmark.test_protocol import CPU, key

    data = FakeData()
    reached = {split: data._labels[split, "b"] == 1 for split in ("train", "valid", "test")}
    data.tasks["c"] = Task("c", space="b", partial=True)
    for split, rows in reached.items():
        data._labels[split, "c"] = np.where(rows, data._labels[split, "c"], np.nan).astype(np.float32)
    path = {"config": {"funnel": ["a", "b", "c"]}}
    before = execute(key(method=method, **path), data, CPU)
    torch.save(before.weights, tmp_path / "weights.pt")
    for arm in ("frozen", "finetune"):
        outcome = execute(key(arm, method, **path), data, CPU, stage0=tmp_path / "weights.pt")
        assert outcome.scores["c"].metrics["auc"] is not None
        moved = [name for name, weight in outcome.weights.items() if name.startswith("second.c")]
        assert bool(moved) == (method in ("escm2", "dcmt"))
