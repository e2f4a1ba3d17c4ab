"""AutoInt, MultiTab-Net and ResFlow against plain implementations, and their exact counts."""

import math

import pytest
import torch

from benchmark.training.operations import forward_flops
from datasets_registry.schema import Task

from .toys import SCHEMA, ToyRows, build, grow, random_weights, tasks

FIELDS, NUMBERS = 3, 2


def doubles(rows, of="ab"):
    batch = ToyRows(tasks(of), rows)
    batch.numeric = batch.numeric.double()
    return batch.take(torch.arange(rows))


def tokens_of(model, batch):
    """[B, T, d] by loops: x_j u_j + c_j, then the features' embeddings."""
    z, part = model.fields.embed(batch), model.fields
    numbers = [z[:, j, None] * part.slopes[j] + part.constants[j] for j in range(NUMBERS)]
    d = part.dim
    return torch.stack([*numbers, *(z[:, NUMBERS + f * d : NUMBERS + (f + 1) * d] for f in range(FIELDS))], 1)


def attended(layer, x, mask, scale):
    """Attention of all tokens [B, T, d] to those that ``mask`` [T, T] lets them read, by loops over heads and rows."""
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    size = q.shape[-1] // layer.heads
    heads = []
    for h in range(layer.heads):
        part = slice(h * size, (h + 1) * size)
        scores = scale(size) * q[..., part] @ k[..., part].transpose(1, 2)
        heads.append(torch.softmax(scores.masked_fill(~mask, -math.inf), -1) @ v[..., part])
    return layer.out(torch.cat(heads, -1))


def test_auto_int_against_its_equations():
    model = random_weights(build("auto_int", tasks(), width=6)).eval()
    batch = doubles(7)
    x = tokens_of(model, batch)
    everything = torch.ones(FIELDS + NUMBERS, FIELDS + NUMBERS, dtype=torch.bool)
    for layer in model.interactions:
        x = torch.relu(attended(layer.attention, x, everything, lambda _: 1.0) + x @ layer.residual.weight.T)
    for name, logits in model(batch).items():
        assert torch.allclose(logits, model.towers[name](x.flatten(1)), atol=1e-12)


def test_multitab_is_one_transformer_under_the_multi_task_mask():
    """All T + K tokens in one pass: fields read fields, a task's token fields and itself."""
    model = random_weights(build("multitab", tasks("abc"), embedding_dim=4, inner=5)).eval()
    batch = doubles(7, "abc")
    fields, names = tokens_of(model, batch), list(model.tokens)
    own = torch.stack([model.tokens[name].weight for name in names]).expand(7, -1, -1)
    x, t = torch.cat([fields, own], 1), FIELDS + NUMBERS
    mask = torch.eye(t + len(names), dtype=torch.bool)
    mask[:, :t] = True
    for block in model.blocks:
        x = x + attended(block.attention, block.before_attention(x), mask, lambda size: size**-0.5)
        x = x + block.up(torch.relu(block.down(block.before_network(x))))
    for at, name in enumerate(names):
        assert torch.allclose(model(batch)[name], model.towers[name](model.norm(x[:, t + at])), atol=1e-12)


def test_adding_a_task_to_multitab_is_adding_a_token_and_a_tower():
    model = build("multitab", tasks(), embedding_dim=4, tower=(5,))
    batch = doubles(6).unlabelled()
    batch.numeric = batch.numeric.float()
    before = model.eval()(batch)
    trained = grow(model, Task("new"))
    assert sum(p.numel() for p in trained) == 4 + (4 * 5 + 5 + 5 + 1)
    after = model.eval()(batch)
    assert all(torch.equal(before[name], after[name]) for name in "ab")
    assert torch.equal(model.forward_new(model.frozen_features(batch))["new"], after["new"])


def test_resflow_adds_what_the_task_before_it_gives_in_every_layer():
    model = random_weights(build("resflow", tasks("abc"), funnel=("c", "a", "b"))).eval()
    batch = doubles(9, "abc")
    z, links = model.embed(batch), None
    logits = model(batch)
    for name in "cab":
        network, h, states = model.networks[name], z, []
        for number, layer in enumerate(network.layers):
            h = torch.relu(h @ layer[0].weight.T + layer[0].bias)
            h = h if links is None else h + links[number]
            states.append(h)
        logit = h @ network.head.weight[0] + network.head.bias + (0 if links is None else links[-1])
        links = [*states, logit]
        assert torch.allclose(logits[name], logit, atol=1e-12)
    alone = random_weights(build("resflow", tasks("abc"), funnel=("a", "b"))).eval()
    assert torch.allclose(alone(batch)["c"], alone.networks["c"](alone.embed(batch), None)[-1].squeeze(-1))


@pytest.mark.parametrize("funnel", [("a", "b", "new"), ("new", "a"), ()])
def test_a_new_task_of_resflow_is_linked_to_the_one_before_it(funnel):
    model = build("resflow", tasks(), funnel=funnel)
    trained = grow(model, Task("new"))
    assert sum(p.numel() for p in trained) == (SCHEMA.width(4) * 8 + 8) + (8 * 6 + 6) + 7
    batch = doubles(6).unlabelled()
    batch.numeric = batch.numeric.float()
    assert torch.allclose(model.forward_new(model.frozen_features(batch))["new"], model.eval()(batch)["new"])


def test_counts_of_the_token_models():
    numbers, rows = 2 * NUMBERS * 4, 20 + 30 + 9
    auto = build("auto_int", tasks(), width=6, layers=2)
    attention = (3 + 1) * 4 * 6 + (3 + 1) * 6 * 6  # three projections and the residual
    towers = 2 * (5 * 6 * 5 + 5 + 5 + 1)
    assert sum(p.numel() for p in auto.parameters()) == 4 * rows + numbers + attention + towers
    net = build("multitab", tasks(), embedding_dim=4, inner=7, layers=2)
    block = 4 * (4 * 4 + 4) + (4 * 7 + 7) + (7 * 4 + 4) + 2 * 2 * 4
    assert sum(p.numel() for p in net.parameters()) == (
        4 * rows + numbers + 2 * block + 2 * 4 + 2 * 4 + 2 * (4 * 5 + 5 + 5 + 1)
    )


def test_operations_of_multitab_are_those_counted_by_hand():
    """The fields go through all blocks but the last; each task's token through all, reading fields and itself."""
    model, batch = build("multitab", tasks()).eval(), doubles(8)
    batch.numeric = batch.numeric.float()
    t, d, inner, tower = FIELDS + NUMBERS, 16, 32, 16 * 5 + 5
    fields = 4 * t * d * d + 2 * t * t * d + 2 * t * d * inner
    token = 2 * d * d + 2 * (t + 1) * d * d + 2 * (t + 1) * d + 2 * d * inner
    pooling = 2 * 5 * FIELDS + FIELDS * 5 * d  # the mean of the feature with several values
    assert forward_flops(model, batch) == 2 * (fields + 2 * (2 * token + tower) + pooling)
