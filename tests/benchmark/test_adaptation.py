"""Parameter-efficient arms: what they add, what they leave alone, and that they are what their papers write."""

import math

import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.spec.arms import ARMS
from benchmark.training.meters import count_parameters
from benchmark.training.models import build_model, take_in
from benchmark.training.peft.inputs import Prefix
from benchmark.training.peft.layers import Bottleneck, FeatureWise, LowRank
from methods.base import Task
from methods.batch import Batch
from tests.methods.toys import SCHEMA, ToyRows

TASKS = [Task("a"), Task("b")]
WORDS = ("toy", "m", 0)


def grown(arm, method="shared_bottom", options=None):
    config = {"hidden": (8, 6), "tower": (5,)}
    model, _ = build_model(method, config, SCHEMA, TASKS, WORDS)
    arm = ARMS[arm]
    return take_in(model, arm, [Task("new")], arm.resolve(options or {}), WORDS)


def unlabelled(rows=16):
    batch = ToyRows(TASKS, rows).take(torch.arange(rows))
    return Batch(batch.categorical, batch.numeric)


PARTS = ["adapter", "lora", "bias_only", "ia3", "film", "soft_prompt", "prefix", "table_delta"]


@pytest.mark.parametrize("arm", PARTS)
def test_at_the_start_an_adapted_model_predicts_what_the_frozen_arm_does(arm):
    model, _, _ = grown(arm)
    frozen, _, _ = grown("frozen")
    with torch.no_grad():
        outputs, expected = model.eval()(unlabelled()), frozen.eval()(unlabelled())
    assert outputs.keys() == expected.keys()
    for name in outputs:
        assert torch.equal(outputs[name], expected[name])


OPTIONS = {
    "lora": {"rank": 4, "alpha": 4.0},
    "adapter": {"width": 3},
    "prefix": {"length": 5},
    "table_delta": {"rank": 2},
}


@pytest.mark.parametrize("arm", PARTS)
def test_what_is_trained_beside_the_tower_is_what_the_paper_counts(arm):
    model, trained, _ = grown(arm, options=OPTIONS.get(arm))
    _, tower, _ = grown("frozen")
    width = SCHEMA.width(4)
    assert width == 2 + 3 * 4
    added = {
        "lora": 4 * (width + 8) + 4 * (8 + 6),
        "bias_only": 8 + 6,
        "adapter": (8 * 3 + 3 + 3 * 8 + 8) + (6 * 3 + 3 + 3 * 6 + 6),
        "ia3": 8 + 6,
        "film": 2 * (8 + 6),
        "soft_prompt": width,
        "prefix": 2 * 5 * width,
        "table_delta": 2 * ((20 + 30 + 9) + 4),
    }[arm]
    assert sum(p.numel() for p in trained) == added + sum(p.numel() for p in tower)
    roles = model.parameter_roles()
    assert sum(p.numel() for members in roles.values() for p in members) == sum(p.numel() for p in model.parameters())
    assert {id(p) for p in trained} == {id(p) for p in roles["task:new"]}


def test_lora_and_adapter_against_the_formulas_of_their_papers():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(5, 3).double(), torch.randn(4, 5, dtype=torch.float64)
    lora = LowRank(layer, rank=2, alpha=6.0).double()
    torch.nn.init.normal_(lora.up.weight)
    merged = layer.weight + 6.0 / 2 * lora.up.weight @ lora.down.weight
    assert torch.allclose(lora(x, layer(x)), x @ merged.T + layer.bias)
    adapter = Bottleneck(3, 2).double()
    torch.nn.init.normal_(adapter.up.weight)
    for row, out in zip(layer(x), adapter(x, layer(x))):
        inner = [max(0.0, (adapter.down.weight[i] @ row + adapter.down.bias[i]).item()) for i in range(2)]
        expected = [row[o].item() + sum(adapter.up.weight[o, i].item() * inner[i] for i in range(2)) for o in range(3)]
        assert torch.allclose(out, torch.tensor(expected, dtype=torch.float64))


def test_table_deltas_count_no_rows_that_the_encoder_reserves():
    model, trained, _ = grown("table_delta", options={"rank": 2})
    counted = count_parameters(model, trained)
    tower = 6 * 5 + 5 + 5 + 1
    assert counted.trainable == tower + 2 * ((20 + 30 + 9 - 2) + 4)
    assert counted.reserved == 2 * 4 + 2 * 2


def test_scaling_and_prompts_against_the_formulas_of_their_papers():
    torch.manual_seed(0)
    x, y = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    film = FeatureWise(4).double()
    with torch.no_grad():
        film.gamma.normal_(), film.beta.normal_()
    expected = [[(film.gamma[j] * y[i, j] + film.beta[j]).item() for j in range(4)] for i in range(3)]
    assert torch.allclose(film(x, y), torch.tensor(expected, dtype=torch.float64))
    prefix = Prefix(5, 2).double()
    torch.nn.init.normal_(prefix.values)
    for row, out in zip(x, prefix(None, x)):
        scores = [math.exp((row @ key).item() / math.sqrt(5)) for key in prefix.keys]
        read = sum(score / sum(scores) * value for score, value in zip(scores, prefix.values))
        assert torch.allclose(out, row + read)


def test_a_table_delta_is_a_low_rank_change_of_every_table():
    """Multi-valued and numeric features included: the same logits as with the sum of tables written into the model."""
    model, _, _ = grown("table_delta", options={"rank": 2})
    (part,) = model.parts.values()
    torch.manual_seed(0)
    torch.nn.init.normal_(part.down.table.weight)
    with torch.no_grad():
        new = model.eval()(unlabelled())["new"]
        table = model.backbone.embed.table.weight
        table += part.down.table.weight @ part.up.weight.T
        merged = model.backbone(unlabelled())["new"]
    assert torch.allclose(new, merged, atol=1e-6)


def test_a_side_network_mixes_the_frozen_representation_with_one_of_its_own():
    model, trained, _ = grown("side", options={"width": 3})
    width = SCHEMA.width(4)
    assert sum(p.numel() for p in trained) == (width * 3 + 3) + (3 * 6 + 6) + 1 + (6 * 3 + 3 + 3 + 1)
    batch, side = unlabelled(), model.sides["new"]
    with torch.no_grad():
        side.share.fill_(math.log(3))  # a = sigmoid(log 3) = 3/4
        outputs = model.eval()(batch)
        z = model.backbone.embed(batch)
        first, last = side.network[0][0], side.network[1]
        own = torch.relu(z @ first.weight.T + first.bias) @ last.weight.T + last.bias
        expected = side.tower(0.75 * model.backbone.bottom(z) + 0.25 * own)
        assert torch.allclose(outputs["new"], expected, atol=1e-6)
        assert torch.equal(model.forward_new(model.frozen_features(batch))["new"], outputs["new"])


@pytest.mark.parametrize("arm", [*PARTS, "side", "linear_probe"])
def test_a_second_new_task_gets_parts_of_its_own_and_leaves_the_first_ones_alone(arm):
    model, trained, _ = grown(arm)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(torch.randn_like(parameter))
        before = model.eval()(unlabelled())
        later, second, _ = take_in(model, ARMS[arm], [Task("newer")], ARMS[arm].resolve({}), WORDS)
        started = later.eval()(unlabelled())
        for parameter in second:
            parameter.add_(torch.randn_like(parameter))
        after = later(unlabelled())
    assert {id(p) for p in trained}.isdisjoint({id(p) for p in second})
    assert {"a", "b", "new", "newer"} <= after.keys()
    for name in ("a", "b", "new"):
        assert torch.equal(after[name], before[name]), name
    assert not torch.allclose(started["newer"], after["newer"])
    assert {id(p) for p in second} <= {id(p) for p in later.parameter_roles()["task:newer"]}


@pytest.mark.parametrize("arm", PARTS)
def test_parts_act_on_the_new_task_alone(arm):
    model, trained, _ = grown(arm)
    model.eval()
    with torch.no_grad():
        before = model(unlabelled())
        for parameter in trained:
            parameter.add_(0.5)
        after = model(unlabelled())
    assert torch.equal(before["a"], after["a"]) and torch.equal(before["b"], after["b"])
    assert not torch.allclose(before["new"], after["new"])


def test_a_linear_probe_is_linear_in_what_the_old_towers_read():
    model, trained, _ = grown("linear_probe")
    assert sum(p.numel() for p in trained) == 6 + 1  # both towers read the same six numbers
    batch = unlabelled()
    with torch.no_grad():
        outputs = model.eval()(batch)
        hidden = model.backbone.bottom(model.backbone.embed(batch))
        probe = model.probes["new"]
        assert torch.allclose(outputs["new"], hidden @ probe.weight[0] + probe.bias[0])
        assert torch.equal(model.forward_new(model.frozen_features(batch))["new"], outputs["new"])


def test_a_backbone_that_shares_no_layer_cannot_be_adapted_and_says_so():
    with pytest.raises(UsageError, match="esmm has no linear layer that old and new tasks share"):
        grown("lora", method="esmm")


@pytest.mark.parametrize(
    "arm, options, message",
    [
        ("lora", {"rnak": 3}, "Unknown option of the arm lora 'rnak'. Did you mean 'rank'"),
        ("lora", {"rank": 2.5}, "rank must be a whole number above 0, not 2.5"),
        ("ewc", {"strength": -1}, "strength must be a number above 0, not -1"),
        ("frozen", {"rank": 2}, "Unknown option of the arm frozen"),
    ],
)
def test_wrong_options_of_an_arm_are_refused_by_name(arm, options, message):
    with pytest.raises(UsageError, match=message):
        ARMS[arm].resolve(options)
