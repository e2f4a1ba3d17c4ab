"""Each architecture against an independent reference: plain loops over rows and units, float64."""

import math

import pytest
import torch

from benchmark.core.errors import UsageError
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
        return softmax(linear(x, self.state[f"{prefix}.weight"], self.state.get(f"{prefix}.bias")))

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


def omoe(r, name, z):
    return r.tower(f"towers.{name}", weighted(r.gate("gate", z), [r.mlp(f"experts.{e}", z) for e in range(3)]))


def cgc(r, name, z):
    experts = [r.mlp(f"specific.{name}.0", z), r.mlp("shared.0", z)]
    return r.tower(f"towers.{name}", weighted(r.gate(f"gates.{name}", z), experts))


def adatt(r, name, z):
    def old(level):
        """Inputs of the old tasks' units at a level, and their experts' outputs there."""
        if level == 0:
            inputs = {"a": z, "b": z}
        else:
            before, experts = old(level - 1)
            inputs = {t: fuse(t, level - 1, before[t], [experts["a"], experts["b"]], experts[t]) for t in "ab"}
        if level == 2:
            return inputs, {}
        return inputs, {t: r.mlp(f"units.{t}.{level}.experts.0", inputs[t]) for t in "ab"}

    def fuse(t, level, x, experts, own):
        return [f + o for f, o in zip(weighted(r.gate(f"units.{t}.{level}.gate", x), experts), own, strict=True)]

    if name != "new":
        return r.tower(f"towers.{name}", old(2)[0][name])
    x = z
    for level in range(2):
        _, experts = old(level)
        own = r.mlp(f"units.new.{level}.experts.0", x)
        x = fuse("new", level, x, [experts["a"], experts["b"], own], own)
    return r.tower("towers.new", x)


def home(r, name, z):
    def line(prefix, x):
        return linear(x, r.state[f"{prefix}.weight"], r.state[f"{prefix}.bias"])

    def sigmoid(x):
        return [1 / (1 + math.exp(-v)) for v in x]

    def expert(prefix, x):
        gate = sigmoid(linear(linear(x, r.state[f"{prefix}.down.weight"]), r.state[f"{prefix}.up.weight"]))
        h = line(f"{prefix}.linear", [2 * g * v for g, v in zip(gate, x, strict=True)])
        mean, var, gain, shift = (
            vector(r.state[f"{prefix}.norm.{part}"]) for part in ("running_mean", "running_var", "weight", "bias")
        )
        h = [(v - m) / math.sqrt(s + 1e-5) * a + b for v, m, s, a, b in zip(h, mean, var, gain, shift, strict=True)]
        return [v * s for v, s in zip(h, sigmoid(h), strict=True)]

    def self_gated(prefix, x, own, mixture):
        (g,) = sigmoid(line(prefix, x))
        return [m + g * o for m, o in zip(mixture, own, strict=True)]

    meta, shared = expert("meta.rest", z), expert("meta_common", z)
    common = self_gated("meta_common_self", z, shared, weighted(r.gate("meta_common_gate", z), [meta, shared]))
    stream = self_gated("meta_self.rest", z, meta, weighted(r.gate("meta_gates.rest", z), [meta, shared]))
    own = expert(f"specific.{name}", stream)
    experts = [own, expert("group_experts.rest", stream), expert("common", common)]
    mixture = weighted(r.gate(f"gates.{name}", stream + common), experts)
    return r.tower(f"towers.{name}", self_gated(f"self_gates.{name}", stream, own, mixture))


def cross_stitch(r, name, z):
    states, layers = {"a": z, "b": z}, []
    for level in range(2):
        layers.append({t: r.mlp(f"networks.{t}.{level}", x) for t, x in states.items()})
        states = {t: weighted(r.state[f"stitches.{t}.weight"][level].tolist(), list(layers[-1].values())) for t in "ab"}
    if name != "new":
        return r.tower(f"towers.{name}", states[name])
    for level in range(2):
        own = r.mlp(f"networks.new.{level}", z)
        z = weighted(r.state["stitches.new.weight"][level].tolist(), [*layers[level].values(), own])
    return r.tower("towers.new", z)


def sigmoid(x):
    return [1 / (1 + math.exp(-v)) for v in x]


def pepnet(r, name, z):
    """Without named features both gates read the row alone."""

    def gated(prefix, x, context):
        h = relu(linear(context, r.state[f"{prefix}.0.weight"], r.state[f"{prefix}.0.bias"]))
        gate = sigmoid(linear(h, r.state[f"{prefix}.2.weight"], r.state[f"{prefix}.2.bias"]))
        return [2 * g * v for g, v in zip(gate, x, strict=True)]

    e = gated("epnet", z, z)
    x = e
    for level in range(3):
        x = r.mlp(f"networks.{name}.layers.{level}", gated(f"networks.{name}.gates.{level}", x, e))
    x = gated(f"networks.{name}.gates.3", x, e)
    return linear(x, r.state[f"networks.{name}.last.weight"], r.state[f"networks.{name}.last.bias"])[0]


def low_rank_experts(r, name, z):
    seen = ["a", "b"] + (["new"] if name == "new" else [])
    query = vector(r.state[f"adapters.{name}.query"])
    scores = [sum(times(query, vector(r.state[f"adapters.{t}.key"]))) / math.sqrt(len(query)) for t in seen]
    weights = [len(seen) * w for w in softmax(scores)]
    x = z
    for level, layer in enumerate(r.layers("bottom")):
        h = linear(x, r.state[f"bottom.{layer}.weight"], r.state[f"bottom.{layer}.bias"])
        for weight, t in zip(weights, seen, strict=True):
            left, singular, right = (r.state[f"adapters.{t}.{part}.{level}"] for part in ("left", "singular", "right"))
            for rank in range(len(singular)):  # one rank-1 expert after another
                strength = weight * singular[rank].item() * sum(times(vector(right[rank]), x))
                h = [v + strength * u for v, u in zip(h, vector(left[:, rank]), strict=True)]
        x = relu(h)
    return r.tower(f"towers.{name}", x)


def pcl(r, name, z):
    seen = ["a", "b"] + (["new"] if name == "new" else [])
    prompts = [vector(r.state[f"prompts.{t}.weight"]) for t in seen]
    query = linear(z, r.state[f"prompts.{name}.query.weight"])
    keys = [linear(p, r.state[f"prompts.{name}.key.weight"]) for p in prompts]
    context = weighted(softmax([sum(times(query, k)) / math.sqrt(len(query)) for k in keys]), prompts)
    own = vector(r.state[f"prompts.{name}.weight"])
    x = [v + p + c for v, p, c in zip(z, own, context, strict=True)]
    return r.tower(f"towers.{name}", r.mlp("bottom", x))


REFERENCES = [
    shared_bottom, mmoe, ple, mpt_rec, omoe, cgc, adatt, home, cross_stitch, pepnet, low_rank_experts, pcl
]  # fmt: skip


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda f: f.__name__)
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


def test_stem_mixes_all_experts_and_the_new_task_its_own_and_the_shared():
    model = build("stem", tasks())
    grow(model, Task("new"))
    random_weights(model).eval()
    rows = ToyRows(tasks(), ROWS)
    rows.numeric = rows.numeric.double()
    logits = model(rows.take(torch.arange(ROWS)))
    r = Reference(model)
    for row in range(ROWS):
        z = {t: r.embed(f"embed.{t}", rows.categorical[row], rows.numeric[row]) for t in ("a", "b", "new")}
        z_shared = r.embed("shared_embed", rows.categorical[row], rows.numeric[row])
        experts = {t: r.mlp(f"specific.{t}", z[t]) for t in z}
        shared = r.mlp("shared", z_shared)
        for t in z:
            mixed = [experts["new"], shared] if t == "new" else [experts["a"], experts["b"], shared]
            gate = r.gate(f"gates.{t}", [u + v for u, v in zip(z[t], z_shared, strict=True)])
            assert logits[t][row].item() == pytest.approx(r.tower(f"towers.{t}", weighted(gate, mixed)), rel=1e-10)


def test_adatt_weighs_several_native_experts():
    model = random_weights(build("adatt", tasks("a"), experts=2, levels=(6,))).eval()
    unit = model.units["a"][0]
    z = torch.randn(5, model.embed.width, dtype=torch.float64)
    e = [expert(z) for expert in unit.experts]
    g = torch.softmax(z @ unit.gate.weight.T + unit.gate.bias, 1)
    expected = sum((g[:, j : j + 1] + unit.native[j]) * e[j] for j in range(2))
    assert torch.allclose(unit(z, e, e), expected)


def test_adatt_starts_native_weights_as_released():
    model = build("adatt", tasks("a"), experts=4, levels=(6,) * 60)
    drawn = torch.stack([unit.native.detach() for unit in model.units["a"]])
    assert drawn.abs().max() <= 0.5  # uniform within sqrt(1 / 4)
    assert drawn.min() < -0.4 and drawn.max() > 0.4
    assert abs(float(drawn.mean())) < 0.1


def test_ple_experts_of_several_layers():
    model = random_weights(build("ple", tasks(), levels=(6,), expert_hidden=(8, 7))).eval()
    rows = ToyRows(tasks(), ROWS)
    rows.numeric = rows.numeric.double()
    logits = model(rows.take(torch.arange(ROWS)))
    r = Reference(model)
    assert [w.shape[0] for name, w in r.state.items() if name.startswith("shared.0.0") and "weight" in name] == [
        8,
        7,
        6,
    ]
    for row in range(ROWS):
        z = r.embed("embed", rows.categorical[row], rows.numeric[row])
        for name in "ab":
            experts = [r.mlp(f"specific.{name}.0.0", z), r.mlp("shared.0.0", z)]
            expected = r.tower(f"towers.{name}", weighted(r.gate(f"gates.{name}.0", z), experts))
            assert logits[name][row].item() == pytest.approx(expected, rel=1e-10)


def test_home_groups_share_what_they_say():
    model = build("home", tasks("abc"), groups=(("a",), ("b", "c")))
    assert model.groups == ("group0", "group1")
    assert model.group_of == {"a": "group0", "b": "group1", "c": "group1"}
    model.eval()
    batch = ToyRows(tasks("abc"), ROWS).take(torch.arange(ROWS))
    model(batch)["a"].sum().backward()
    assert model.group_experts["group1"].linear.weight.grad is None
    assert model.specific["b"].linear.weight.grad is None
    assert model.group_experts["group0"].linear.weight.grad is not None
    assert model.meta["group1"].linear.weight.grad is not None  # through the common stream
    grow(model, Task("new"))
    assert model.group_of["new"] == "group0"


def test_home_trains_on_a_last_batch_of_one_row():
    rows = ToyRows(tasks(), 3)
    logits = build("home", tasks()).train()(rows.take(torch.arange(1)))
    assert logits["a"].isfinite().all()


def test_home_has_two_levels():
    with pytest.raises(UsageError, match="home.levels is two widths"):
        build("home", tasks(), levels=(8, 6, 4))


def test_cross_stitch_units_start_at_nine_tenths_of_their_own():
    model = build("cross_stitch", tasks("abc"))
    assert torch.allclose(model.stitches["b"].weight, torch.tensor([[0.05, 0.9, 0.05]] * 2))
    assert build("cross_stitch", tasks("a")).stitches["a"].weight.tolist() == [[1.0], [1.0]]
    grow(model, Task("new"))
    assert torch.allclose(model.stitches["new"].weight, torch.tensor([[0.1 / 3] * 3 + [0.9]] * 2))


def test_pepnet_reads_the_named_features_and_sends_no_gradient_through_the_context():
    model = build("pepnet", tasks(), domain=("item", "absent"), prior=("user", "tags"))
    assert model.domain.tolist() == [2 + 4 + d for d in range(4)]  # after two numeric columns and one feature
    assert model.prior.tolist() == [2 + d for d in range(4)] + [2 + 8 + d for d in range(4)]
    width = model.embed.width
    assert model.epnet[0].in_features == 4 + width
    z = model.embed(ToyRows(tasks(), 5).take(torch.arange(5)))
    model.zero_grad()
    gate = model.networks["a"].gates[0]
    e = torch.randn(5, width, requires_grad=True)
    model.networks["a"](torch.ones(5, width), torch.cat([z[:, model.prior].detach(), e.detach()], 1)).sum().backward()
    assert e.grad is None and gate[0].weight.grad is not None


def test_pepnet_starts_from_gates_around_one():
    model = build("pepnet", tasks()).eval()
    z = model.embed(ToyRows(tasks(), 200).take(torch.arange(200)))
    gates = model.epnet(z)
    assert gates.min() > 0 and gates.max() < 2 and 0.8 < gates.mean() < 1.2


def test_a_new_tasks_low_rank_experts_start_from_the_backbone_and_what_the_old_ones_added():
    model = random_weights(build("low_rank_experts", tasks()))
    grow(model, Task("new"))
    model.double().eval()
    adapter = model.adapters["new"]
    assert all(not singular.any() for singular in adapter.singular)
    rows = ToyRows(tasks(), 20)
    rows.numeric = rows.numeric.double()
    batch = rows.take(torch.arange(20))
    before = model(batch)["new"]
    with torch.no_grad():
        adapter.left[0].add_(1.0)
    assert torch.equal(model(batch)["new"], before)
    assert torch.allclose(model.attention("new").sum(), torch.tensor(3.0, dtype=torch.float64))


def test_low_rank_experts_are_drawn_to_orthogonal_factors():
    model = random_weights(build("low_rank_experts", tasks("a"), orthogonal=0.5, rank=2))
    rows = ToyRows(tasks("a"), 8)
    rows.numeric, rows.labels = rows.numeric.double(), {"a": rows.labels["a"].double()}
    batch = rows.take(torch.arange(8))
    term = model.loss(batch, model(batch), None)["orthogonal"]
    expected = 0.0
    for left, right in zip(model.adapters["a"].left, model.adapters["a"].right, strict=True):
        for gram in (left.T @ left, right @ right.T):
            expected += sum((gram[i, j] - int(i == j)) ** 2 for i in range(2) for j in range(2))
    assert torch.allclose(term, 0.5 * expected)


def test_a_shell_of_a_method_says_what_it_lacks():
    assert "without groups" in build("home", tasks()).warnings(1)[0]
    assert build("home", tasks(), groups=(("a",), ("b",))).warnings(1) == []
    assert "without domain and prior" in build("pepnet", tasks()).warnings(1)[0]
    assert "without prior" in build("pepnet", tasks(), domain=("user",)).warnings(1)[0]
    assert build("pepnet", tasks(), domain=("user",), prior=("item",)).warnings(1) == []
