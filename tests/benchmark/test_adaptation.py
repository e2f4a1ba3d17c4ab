"""Parameter-efficient arms: what they add, what they leave alone, and that they are what their papers write."""

import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.spec.arms import ARMS
from benchmark.training.models import build_model, take_in
from benchmark.training.peft import Bottleneck, LowRank
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


@pytest.mark.parametrize("arm", ["adapter", "lora", "bias_only"])
def test_at_the_start_an_adapted_model_predicts_what_the_frozen_arm_does(arm):
    model, _, _ = grown(arm)
    frozen, _, _ = grown("frozen")
    with torch.no_grad():
        outputs, expected = model.eval()(unlabelled()), frozen.eval()(unlabelled())
    assert outputs.keys() == expected.keys()
    for name in outputs:
        assert torch.equal(outputs[name], expected[name])


@pytest.mark.parametrize("arm", ["lora", "bias_only", "adapter"])
def test_what_is_trained_beside_the_tower_is_what_the_paper_counts(arm):
    model, trained, _ = grown(arm, options={"lora": {"rank": 4, "alpha": 4.0}, "adapter": {"width": 3}}.get(arm))
    _, tower, _ = grown("frozen")
    width = SCHEMA.width(4)
    added = {
        "lora": 4 * (width + 8) + 4 * (8 + 6),
        "bias_only": 8 + 6,
        "adapter": (8 * 3 + 3 + 3 * 8 + 8) + (6 * 3 + 3 + 3 * 6 + 6),
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


@pytest.mark.parametrize("arm", ["adapter", "lora", "bias_only"])
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
