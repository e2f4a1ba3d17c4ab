"""Shared blocks: layout, roles, weight decay, gradient reversal, partial labels."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from benchmark.core.errors import UsageError
from datasets_registry.schema import CategoricalFeature, Schema, SequenceFeature, Task
from methods.batch import Batch, mean_loss, random_inputs, row_losses
from methods.layers import MLP, FeatureEmbedding, Gate, Tower, decayed_parameters, default_roles, mix, reverse_gradient
from methods.sequences import SequencePool

from .toys import SCHEMA, ToyRows, build, tasks


def test_dense_columns_come_first_and_multi_valued_features_are_averaged():
    embed = FeatureEmbedding(SCHEMA, 4)
    user, item, tag = 3, 20 + 5, 50
    codes = torch.tensor([[user, item, tag + 2, tag + 4, tag], [user, item, tag, tag, tag]], dtype=torch.int32)
    numeric = torch.tensor([[0.5, -1.0], [2.0, 3.0]])
    out = embed(Batch(codes, numeric))
    table = embed.table.weight
    assert out.shape == (2, embed.width) == (2, 14)
    assert torch.equal(out[:, :2], numeric)
    assert torch.allclose(out[0, 2:], torch.cat([table[user], table[item], (table[tag + 2] + table[tag + 4]) / 2]))
    assert torch.allclose(out[1, 10:], table[tag], atol=1e-6)  # nothing but padding


@pytest.mark.parametrize(("categorical", "numeric"), [((), ("x",)), ((CategoricalFeature("c", 3),), ())])
def test_a_schema_may_lack_one_kind_of_feature(categorical, numeric):
    schema = Schema(categorical, numeric)
    rows = ToyRows(tasks("a"), 10, schema)
    embed = FeatureEmbedding(schema, 4)
    assert embed(rows.take(torch.arange(10))).shape == (10, embed.width)


def test_mlp_ends_in_relu_and_dropout_and_wants_a_rate_per_layer():
    mlp = MLP(4, (8, 6), (0.1, 0.3))
    assert [type(layer).__name__ for layer in mlp] == ["Linear", "ReLU", "Dropout"] * 2
    assert (mlp(torch.randn(50, 4)) >= 0).all()
    with pytest.raises(UsageError, match="one rate for each of the 2 layers"):
        MLP(4, (8, 6), (0.1,))


def test_mix_is_the_weighted_sum():
    weights, experts = torch.rand(5, 3), [torch.randn(5, 4) for _ in range(3)]
    expected = torch.stack([sum(weights[b, e] * experts[e][b] for e in range(3)) for b in range(5)])
    assert torch.allclose(mix(weights, experts), expected, atol=1e-6)


def test_reversed_gradient_against_a_hand_written_derivative():
    # y = sum (w x)^2 has dy/dx = 2 w^2 x; through a reversal of strength c it arrives as -c times that, while the
    # gradient of w, which sits above the reversal, is 2 w x^2 as ever.
    x = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64, requires_grad=True)
    w = torch.tensor([0.5, 1.5, -1.0], dtype=torch.float64, requires_grad=True)
    out = reverse_gradient(x, 0.3)
    assert torch.equal(out, x)
    (w * out).square().sum().backward()
    assert torch.allclose(x.grad, -0.3 * 2 * w.detach() ** 2 * x.detach())
    assert torch.allclose(w.grad, 2 * w.detach() * x.detach() ** 2)


@pytest.mark.parametrize("method", ["single_task", "shared_bottom", "mmoe", "ple", "mpt_rec"])
def test_weight_decay_is_the_gradient_of_the_explicit_penalty(method):
    model = build(method, tasks(), l2_embedding=0.02, l2_dnn=0.03)
    penalty = torch.zeros(())
    for name, parameter in model.named_parameters():
        if name.endswith("table.weight"):
            penalty = penalty + 0.02 / 2 * parameter.square().sum()
        elif name.endswith("weight") and not any(word in name for word in ("gate", "task_embedding", "discriminator")):
            penalty = penalty + 0.03 / 2 * parameter.square().sum()
    gradients = torch.autograd.grad(penalty, list(model.parameters()), allow_unused=True)
    decay = {id(parameter): coefficient for parameter, coefficient in model.weight_decay()}
    for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
        explicit = torch.zeros_like(parameter) if gradient is None else gradient
        assert torch.allclose(decay.get(id(parameter), 0.0) * parameter, explicit), name


def test_no_decay_without_coefficient():
    assert build("single_task", tasks("a")).weight_decay() == []
    assert decayed_parameters(nn.Sequential(Gate(3, 2)), 1.0, 1.0) == []


def test_roles_refuse_what_belongs_to_two():
    model = nn.Module()
    model.towers = nn.ModuleDict({"a": Tower(3, (2,)), "b": Tower(3, (2,))})
    model.body = MLP(3, (3,))
    roles = default_roles(model, ["a", "b"])
    assert {role: len(members) for role, members in roles.items()} == {
        "embedding": 0,
        "shared": 2,
        "task:a": 4,
        "task:b": 4,
    }
    model.towers["a"][0].weight = model.towers["b"][0].weight
    with pytest.raises(UsageError, match="same tensor"):
        default_roles(model, ["a", "b"])
    model.towers["a"] = nn.ModuleDict({"b": Tower(3, (2,))})
    with pytest.raises(UsageError, match="several tasks"):
        default_roles(model, ["a", "b"])


def test_a_submodule_that_merely_has_a_tasks_name_is_shared():
    model = nn.Module()
    model.click = MLP(3, (3,))  # an attribute, not an entry of a ModuleDict
    assert len(default_roles(model, ["click"])["shared"]) == 2


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_partial_labels_are_averaged_over_defined_rows(kind):
    task = Task("t", kind=kind, partial=True)
    outputs = torch.tensor([0.3, -2.0, 1.0, 0.7], requires_grad=True)
    labels = torch.tensor([1.0, math.nan, 0.0, math.nan])
    loss = mean_loss(task, outputs, labels)
    expected = mean_loss(Task("t", kind=kind), outputs[[0, 2]], labels[[0, 2]])
    assert torch.allclose(loss, expected)
    loss.backward()
    assert torch.equal(outputs.grad == 0, labels.isnan())
    nothing = mean_loss(task, outputs, torch.full((4,), math.nan))
    assert nothing == 0
    outputs.grad = None
    nothing.backward()
    assert torch.equal(outputs.grad, torch.zeros(4))


def test_row_losses_average_to_the_mean_loss():
    for kind in ("binary", "regression"):
        task, outputs, labels = Task("t", kind=kind), torch.randn(9), torch.ones(9)
        assert torch.allclose(row_losses(task, outputs, labels).mean(), mean_loss(task, outputs, labels))


HISTORY = Schema(
    (CategoricalFeature("item", 9, reserved=2), CategoricalFeature("user", 5, reserved=2)),
    ("age",),
    (
        SequenceFeature("history", 9, 4, reserved=2, shares="item"),
        SequenceFeature("words", 7, 3, reserved=2),
    ),
)


def history_batch(rows=6):
    batch = random_inputs(HISTORY, rows, torch.Generator().manual_seed(3))
    batch.sequences["history"][0] = -1  # a row without any history
    return batch


@pytest.mark.parametrize("pool", ["mean", "target", "self"])
def test_pools_of_sequences_are_those_of_a_plain_loop(pool):
    """Against the equations row by row, place by place, from the module's own weights."""
    embed, batch = FeatureEmbedding(HISTORY.pooled(pool), 3).double(), history_batch()
    batch.numeric = batch.numeric.double()
    out = embed(batch)
    assert out.shape == (6, HISTORY.width(3)) == (6, embed.width)
    table, items = embed.table.weight, batch.categorical[:, 0].tolist()
    for row in range(6):
        places = [(place, code) for place, code in enumerate(batch.sequences["history"][row].tolist()) if code >= 0]
        expected = torch.zeros(3, dtype=torch.float64)
        h = [table[code] for _, code in places]
        if pool == "mean" and h:
            expected = sum(h) / len(h)
        if pool == "target":
            t, unit = table[items[row]], embed.pools[0].attention.unit
            for value in h:
                expected = expected + unit(torch.cat([value, t, value - t, value * t])) * value
        if pool == "self" and h:
            part = embed.pools[0].attention
            placed = [value + part.positions[place] for (place, _), value in zip(places, h, strict=True)]
            for mine, value in zip(placed, h, strict=True):
                scores = torch.stack([part.query(mine) @ part.key(other) / 3**0.5 for other in placed])
                read = sum(w * part.value(v) for w, v in zip(torch.softmax(scores, 0), h, strict=True))
                expected = expected + (value + read) / len(h)
        assert torch.allclose(out[row, 7:10], expected, atol=1e-12), row


@pytest.mark.parametrize("pool", ["mean", "target", "self"])
def test_what_an_empty_place_of_a_sequence_holds_changes_nothing(pool):
    """The mask is exact: other rows of the table under the empty places give the same bits and get no gradient."""
    sequence = dataclasses.replace(HISTORY.sequences[0], pool=pool)
    module = SequencePool(sequence, 3)
    inside = torch.tensor([[False, False, True, True], [False] * 4])
    values = torch.randn(2, 4, 3, requires_grad=True)
    other = torch.where(inside.unsqueeze(-1), values, torch.randn(2, 4, 3)).detach().requires_grad_()
    target = torch.randn(2, 3)
    assert torch.equal(module(values, inside, target), module(other, inside, target))
    module(values, inside, target).square().sum().backward()
    assert not values.grad[~inside].any() and values.grad[inside].any()
    assert torch.equal(module(values, inside, target)[1], torch.zeros(3))


def test_only_self_attention_sees_the_order_of_a_sequence():
    batch = history_batch()
    batch.sequences["history"] = torch.tensor([[2, 3, 4, 5]] * 6, dtype=torch.int32)
    turned = dataclasses.replace(batch, sequences=batch.sequences | {"history": batch.sequences["history"].flip(1)})
    changes = {}
    for pool in ("mean", "target", "self"):
        torch.manual_seed(0)
        embed = FeatureEmbedding(HISTORY.pooled(pool), 3)
        changes[pool] = (embed(batch) - embed(turned)).abs().max().item()
    assert changes["mean"] < 1e-6 and changes["target"] < 1e-4 and changes["self"] > 1e-3


def test_target_attention_needs_a_candidate():
    alone = Schema((CategoricalFeature("user", 5),), (), (SequenceFeature("words", 7, 3),))
    with pytest.raises(ValueError, match="words"):
        alone.pooled("target")
    mixed = HISTORY.pooled("target")
    assert [one.pool for one in mixed.sequences] == ["target", "mean"]
