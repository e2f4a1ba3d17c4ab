"""Each architecture against an independent reference: plain loops over rows and units, float64."""

import math

import pytest
import torch

from datasets_registry.schema import Task

from .toys import SCHEMA, ToyRows, build, grow, random_weights, tasks

ROWS = 7


def vector(x):
    return [float(v) for v in x]


def linear(x, weights, bias=None):
    out = [sum(w * v for w, v in zip(row, x, strict=True)) for row in weights.tolist()]
    return out if bias is None else [o + b for o, b in zip(out, bias.tolist(), strict=True)]


def relu(x):
    return [max(v, 0.0) for v in x]


def softmax(x):
    top = [math.exp(v) for v in x]
    return [v / sum(top) for v in top]


def weighted(weights, vectors):
    return [sum(w * v[i] for w, v in zip(weights, vectors, strict=True)) for i in range(len(vectors[0]))]


def times(x, y):
    return [a * b for a, b in zip(x, y, strict=True)]


class Reference:
    """Evaluates parts of a model from its state dict, for one row."""

    def __init__(self, model):
        self.state = {name: tensor.double() for name, tensor in model.state_dict().items()}

    def layers(self, prefix):
        numbers = {name[len(prefix) + 1 :].split(".")[0] for name in self.state if name.startswith(prefix + ".")}
        return sorted((n for n in numbers if n.isdigit()), key=int)

    def mlp(self, prefix, x):
        for layer in self.layers(prefix):
            x = relu(linear(x, self.state[f"{prefix}.{layer}.weight"], self.state[f"{prefix}.{layer}.bias"]))
        return x

    def tower(self, prefix, x):
        *hidden, last = self.layers(prefix)
        for layer in hidden:
            x = relu(linear(x, self.state[f"{prefix}.{layer}.weight"], self.state[f"{prefix}.{layer}.bias"]))
        return linear(x, self.state[f"{prefix}.{last}.weight"], self.state[f"{prefix}.{last}.bias"])[0]

    def gate(self, prefix, x):
        return softmax(linear(x, self.state[f"{prefix}.weight"]))

    def embed(self, prefix, codes, numeric):
        table = self.state[f"{prefix}.table.weight"].tolist()
        x, column = vector(numeric), 0
        for feature, offset in zip(SCHEMA.categorical, SCHEMA.offsets, strict=True):
            mine = codes[column : column + feature.length].tolist()
            column += feature.length
            if feature.length > 1:
                mine = [code for code in mine if code != offset] or mine
            x += [sum(table[code][d] for code in mine) / len(mine) for d in range(len(table[0]))]
        return x


def shared_bottom(r, name, z):
    return r.tower(f"towers.{name}", r.mlp("bottom", z))


def mmoe(r, name, z):
    experts = [r.mlp(f"experts.{e}", z) for e in range(3)]
    return r.tower(f"towers.{name}", weighted(r.gate(f"gates.{name}", z), experts))


def ple(r, name, z):
    if name == "new":
        s, h = r.mlp("specific.new.0.0", z), r.mlp("shared.0.0", z)
        x = weighted(r.gate("gates.new.0", z), [s, h])
        u = weighted(r.gate("own_shared_gates.new.0", z), [s, h])
        s, h = r.mlp("specific.new.1.0", x), r.mlp("shared.1.0", u)
        return r.tower("towers.new", weighted(r.gate("gates.new.1", x), [s, h]))
    a, b, h = r.mlp("specific.a.0.0", z), r.mlp("specific.b.0.0", z), r.mlp("shared.0.0", z)
    u = weighted(r.gate("shared_gates.0", z), [a, b, h])
    x = weighted(r.gate(f"gates.{name}.0", z), [{"a": a, "b": b}[name], h])
    s, h = r.mlp(f"specific.{name}.1.0", x), r.mlp("shared.1.0", u)
    return r.tower(f"towers.{name}", weighted(r.gate(f"gates.{name}.1", x), [s, h]))


def mpt_rec(r, name, z):
    g = r.mlp("general", z)
    specific = [r.mlp(f"specific.{task}", z) for task in "ab"]
    prompts = [vector(r.state[f"task_embeddings.{task}.weight"]) for task in "ab"]
    if name != "new":
        i = "ab".index(name)
        return r.tower(f"towers.{name}", weighted(r.gate(f"gates.{name}", z), [times(specific[i], prompts[i]), g]))
    h = linear(
        relu(linear(z, r.state["heads.new.projection.0.weight"])),
        r.state["heads.new.projection.2.weight"],
    )
    mean = sum(h) / len(h)
    spread = math.sqrt(sum((v - mean) ** 2 for v in h) / len(h) + 1e-5)
    gain, shift = vector(r.state["heads.new.projection.3.weight"]), vector(r.state["heads.new.projection.3.bias"])
    h = [(v - mean) / spread * a + b for v, a, b in zip(h, gain, shift, strict=True)]
    attention = softmax([sum(times(h, prompt)) / 150 for prompt in prompts])
    adapted = times(weighted(attention, specific), vector(r.state["heads.new.embedding.weight"]))
    return r.tower("heads.new.tower", weighted(r.gate("heads.new.gate", z), [adapted, g]))


@pytest.mark.parametrize("reference", [shared_bottom, mmoe, ple, mpt_rec], ids=lambda f: f.__name__)
def test_logits_of_old_and_new_tasks(reference):
    model = build(reference.__name__, tasks())
    grow(model, Task("new"))
    random_weights(model).eval()
    rows = ToyRows(tasks(), ROWS)
    rows.numeric = rows.numeric.double()
    logits = model(rows.take(torch.arange(ROWS)))
    assert set(logits) == {"a", "b", "new"}
    r = Reference(model)
    for row in range(ROWS):
        z = r.embed("embed", rows.categorical[row], rows.numeric[row])
        for name in logits:
            assert logits[name][row].item() == pytest.approx(reference(r, name, z), rel=1e-10, abs=1e-10), name


def test_single_task():
    model = random_weights(build("single_task", tasks("a"))).eval()
    rows = ToyRows(tasks("a"), ROWS)
    rows.numeric = rows.numeric.double()
    logits = model(rows.take(torch.arange(ROWS)))["a"]
    r = Reference(model)
    for row in range(ROWS):
        z = r.embed("networks.a.embed", rows.categorical[row], rows.numeric[row])
        assert logits[row].item() == pytest.approx(r.tower("networks.a.tower", r.mlp("networks.a.body", z)), rel=1e-10)
