"""MPT-Rec: losses, reversal schedule, environments, prompt head, variants."""

import math

import pytest
import torch
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from datasets_registry.schema import Task
from methods.batch import Progress

from .toys import ToyRows, build, fit, grow, random_weights, tasks


def at(epoch, step, epochs, steps):
    return Progress(epoch, step, epochs, steps)


# steps per epoch, batch size, epochs, then (lambda, rounded) at: last step of epoch 1, first and last of epoch 2
CORRECT = [(780, 256, 30, 0.165, 0.165, 0.321), (5000, 2000, 10, 0.462, 0.462, 0.762)]
RELEASED = [
    (780, 256, 30, 0.468, 0.165, 0.587),
    (5000, 2000, 10, 0.848, 0.462, 0.941),
    (3925, 4000, 10, 0.455, 0.462, 0.758),
]


@pytest.mark.parametrize(
    ("reversal", "case"),
    [("progress", case) for case in CORRECT] + [("as_released", case) for case in RELEASED],
)
def test_reversal_schedule(reversal, case):
    steps, size, epochs, *expected = case
    model = build("mpt_rec", tasks(), reversal=reversal, adversary="as_released")
    batch, short = ToyRows(tasks(), size).take(torch.arange(size)), ToyRows(tasks(), 3).take(torch.arange(3))
    assert model.reversal_strength(batch, at(1, 0, epochs, steps)) == 0
    found = [model.reversal_strength(short, at(1, steps - 1, epochs, steps))]  # the last batch is a short one
    found.append(model.reversal_strength(batch, at(2, 0, epochs, steps)))
    found.append(model.reversal_strength(short, at(2, steps - 1, epochs, steps)))
    assert [round(value, 3) for value in found] == expected


def test_reversal_ends_at_one_or_beyond_it_as_released():
    batch = ToyRows(tasks(), 256).take(torch.arange(256))
    last = build("mpt_rec", tasks(), adversary="as_released").reversal_strength(batch, at(30, 779, 30, 780))
    assert last == pytest.approx(math.tanh(5 * (30 * 780 - 1) / (30 * 780)))
    model = build("mpt_rec", tasks(), reversal="as_released", adversary="as_released")
    model.reversal_strength(batch, at(30, 0, 30, 780))
    assert model.reversal_strength(batch, at(30, 779, 30, 780)) == pytest.approx(math.tanh(5 * 1.0681), abs=1e-4)


def test_loss_terms_against_their_formula():
    rows = ToyRows(tasks(), 50)
    rows.numeric = rows.numeric.double()
    model = random_weights(build("mpt_rec", tasks()))
    model.start_training(rows, torch.Generator().manual_seed(0))
    model.train()
    batch = rows.take(torch.arange(10, 40))
    batch.labels = {name: label.double() for name, label in batch.labels.items()}
    progress = at(3, 5, 10, 8)
    terms = model.loss(batch, model(batch), progress)
    assert set(terms) == {"a", "b", "general/a", "general/b", "environment"}
    model.eval()
    general = model.general(model.embed(batch))
    for name, logits in model(batch).items():
        p = torch.sigmoid(logits)
        y = batch.labels[name]
        assert torch.allclose(terms[name], -(y * p.log() + (1 - y) * (1 - p).log()).mean())
        p = torch.sigmoid(model.towers[name](general))
        assert torch.allclose(terms[f"general/{name}"], -0.9 * (y * p.log() + (1 - y) * (1 - p).log()).mean())
    scores = general @ model.discriminator.weight.T + model.discriminator.bias
    chosen = scores.log_softmax(1)[torch.arange(30), model.environments[10:40].long()]
    assert torch.allclose(terms["environment"], -0.1 * chosen.mean())


def test_only_what_flows_back_from_the_discriminator_is_reversed():
    rows = ToyRows(tasks(), 40)
    model = build("mpt_rec", tasks(), adversary="as_released").train()
    model.start_training(rows, torch.Generator().manual_seed(0))
    batch = rows.take(torch.arange(40))
    progress = at(6, 0, 10, 8)
    strength = 2 / (1 + math.exp(-5)) - 1
    outputs = model(batch)
    model.loss(batch, outputs, progress)["environment"].backward(retain_graph=True)
    reversed_gradients = [p.grad.clone() for p in (*model.general.parameters(), *model.embed.parameters())]
    own = model.discriminator.weight.grad.clone()
    model.zero_grad()
    plain = 0.1 * F.cross_entropy(model.discriminator(outputs["general"]), model.environments.long())
    plain.backward()
    assert torch.allclose(own, model.discriminator.weight.grad)
    for gradient, parameter in zip(
        reversed_gradients, (*model.general.parameters(), *model.embed.parameters()), strict=True
    ):
        assert torch.allclose(gradient, -strength * parameter.grad, atol=1e-8)


def test_environments_follow_row_indices_under_shuffling():
    rows = ToyRows(tasks(), 100)
    model = build("mpt_rec", tasks()).train()
    model.start_training(rows, torch.Generator().manual_seed(0))
    model.environments = (torch.arange(100) % 2).to(torch.uint8)  # the environment of a row is its index's parity
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))[:30]
    batch = rows.take(order)
    term = model.loss(batch, model(batch), at(1, 0, 2, 4))["environment"]
    logits = model.discriminator(model(batch)["general"])
    assert torch.allclose(term, 0.1 * F.cross_entropy(logits, order % 2))
    assert not torch.allclose(term, 0.1 * F.cross_entropy(logits, torch.arange(30) % 2))


def test_first_environments_come_from_the_given_stream_alone():
    rows = ToyRows(tasks("abc"), 3000)
    drawn = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        model = build("mpt_rec", tasks("abc"))
        model.start_training(rows, torch.Generator().manual_seed(5))
        drawn.append(model.environments)
    assert torch.equal(*drawn)
    assert torch.bincount(drawn[0].long()).tolist() == pytest.approx([1000] * 3, rel=0.1)


@pytest.mark.parametrize("cluster_on", ["general", "fused"])
def test_rows_go_to_the_task_with_the_smallest_loss(cluster_on):
    rows = ToyRows(tasks(), 80)
    model = build("mpt_rec", tasks(), cluster_on=cluster_on).eval()
    model.start_training(rows, torch.Generator().manual_seed(0))
    first = model.environments.clone()
    model.end_epoch(1, rows)
    assert torch.equal(model.environments, first)
    model.end_epoch(2, rows)
    batch = rows.take(torch.arange(80))
    general = model.general(model.embed(batch))
    outputs = model(batch) if cluster_on == "fused" else {n: model.towers[n](general) for n in "ab"}
    for row in range(80):
        losses = [
            F.binary_cross_entropy_with_logits(outputs[n][row], batch.labels[n][row]).item() for n in sorted(outputs)
        ]
        assert model.environments[row] == losses.index(min(losses))


def test_rank_scale_balances_tasks_of_different_difficulty():
    rows = ToyRows(tasks(), 400)
    shares = {}
    for scale in ("raw", "rank"):
        model = build("mpt_rec", tasks(), cluster_scale=scale).eval()
        with torch.no_grad():  # task b's loss is tiny on its frequent class, as for a rare label
            model.towers["b"][-1].bias.fill_(-6.0)
        rows.labels["b"] = torch.zeros(400)
        model.start_training(rows, torch.Generator().manual_seed(0))
        model.assign_environments(rows)
        shares[scale] = model.environments.float().mean().item()
    assert shares["raw"] == 1.0
    assert 0.3 < shares["rank"] < 0.7


def test_rows_without_any_label_keep_their_environment():
    of = [Task("a", partial=True), Task("b", partial=True)]
    rows = ToyRows(of, 60)
    rows.labels["b"][1::3] = torch.nan
    model = build("mpt_rec", of).eval()
    model.start_training(rows, torch.Generator().manual_seed(0))
    before = model.environments.clone()
    model.assign_environments(rows)
    assert torch.equal(model.environments[0::3], before[0::3])
    assert (model.environments[1::3] == 0).all()  # only a is defined there


def test_training_state_restores_the_environments():
    rows = ToyRows(tasks(), 60)
    model, other = (build("mpt_rec", tasks(), adversary="assigned") for _ in range(2))
    model.start_training(rows, torch.Generator().manual_seed(0))
    other.start_training(rows, torch.Generator().manual_seed(1))
    assert not torch.equal(model.environments, other.environments)
    model.eval()
    other.load_training_state(model.training_state())
    assert torch.equal(model.environments, other.environments)
    assert other.reversal_strength(None, at(3, 1, 10, 4)) == 0  # not assigned yet
    model.end_epoch(2, rows)
    other.load_training_state(model.training_state())
    assert other.reversal_strength(None, at(3, 1, 10, 4)) == model.reversal_strength(None, at(3, 1, 10, 4)) > 0


@pytest.mark.parametrize(("epochs", "first"), [(30, 2), (5, 2), (4, 2), (3, 1), (2, 1)])
def test_nothing_is_reversed_before_environments_are_assigned(epochs, first):
    """They are after the interval's two epochs, or half-way through the budget; the ramp starts there."""
    rows = ToyRows(tasks(), 64)
    model = build("mpt_rec", tasks(), adversary="assigned")
    model.start_training(rows, torch.Generator().manual_seed(0))
    batch = rows.take(torch.arange(64))
    for epoch in range(1, epochs + 1):
        model.train()
        for step in range(4):
            progress = at(epoch, step, epochs, 4)
            share = (4 * (epoch - 1 - first) + step) / (4 * (epochs - first))
            expected = 2 / (1 + math.exp(-10 * share)) - 1 if epoch > first else 0.0
            assert model.reversal_strength(batch, progress) == pytest.approx(expected)
        model.loss(batch, model(batch), progress)
        model.eval()
        before = model.environments.clone()
        model.end_epoch(epoch, rows)
        assert torch.equal(before, model.environments) or epoch == first or epoch % 2 == 0
    model.train()
    first_epoch = build("mpt_rec", tasks(), adversary="assigned").train()
    first_epoch.start_training(rows, torch.Generator().manual_seed(0))
    first_epoch.loss(batch, first_epoch(batch), at(1, 3, epochs, 4))["environment"].backward()
    assert first_epoch.discriminator.weight.grad.abs().sum() > 0
    assert all(p.grad is None or not p.grad.any() for p in first_epoch.general.parameters())


@pytest.mark.parametrize(("epochs", "same_as"), [(30, "as_released"), (10, "as_released"), (9, "assigned")])
def test_by_default_budgets_as_long_as_the_papers_are_trained_as_released(epochs, same_as):
    """To the bit: environments after epochs 2, 4, ..., lambda from the first step on."""
    rows = ToyRows(tasks(), 64)
    weights, assigned = [], []
    for choice in ({}, {"adversary": same_as}):
        model = build("mpt_rec", tasks(), **choice)
        fit(model, rows, epochs=epochs)
        weights.append(model.state_dict())
        assigned.append([epoch for epoch, *_ in model._assignments])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert assigned[0] == assigned[1] == [*range(2, epochs + 1, 2)]
    before_any = build("mpt_rec", tasks()).reversal_strength(None, at(2, 3, epochs, 4))
    assert before_any == pytest.approx(
        2 / (1 + math.exp(-10 * 7 / (4 * epochs))) - 1 if same_as == "as_released" else 0.0
    )


@pytest.mark.parametrize(("adversary", "words"), [("by_budget", "no environments"), ("as_released", "random environ")])
def test_a_run_whose_adversary_did_not_act_says_so(adversary, words):
    rows = ToyRows(tasks(), 64)
    model = build("mpt_rec", tasks(), adversary=adversary)
    fit(model, rows, epochs=1)
    (warning,) = model.warnings(1)
    assert words in warning
    model = build("mpt_rec", tasks(), adversary=adversary)
    fit(model, rows, epochs=4)
    assert not model.warnings(4)
    assert "after epoch" in model.warnings(1)[0]
    assert not build("mpt_rec", tasks(), env_coe=0.0).warnings(1)


def test_diagnostics_of_both_stages_against_plain_loops():
    rows = ToyRows(tasks("abc"), 90)
    model = build("mpt_rec", tasks("abc"))
    fit(model, rows, epochs=4)
    found = model.diagnostics(rows)
    assert list(found["environment_rows"]) == ["after epoch 2", "after epoch 4"]
    environments = model.environments.tolist()
    assert found["environment_rows"]["after epoch 4"] == {n: environments.count(i) for i, n in enumerate("abc")}
    batch = rows.take(torch.arange(90))
    z = model.embed(batch)
    guesses = model.discriminator(model.general(z)).argmax(1).tolist()
    there = sorted(set(environments))
    shares = [
        sum(g == e == i for g, e in zip(guesses, environments, strict=True)) / environments.count(i) for i in there
    ]
    assert found["discriminator_balanced_accuracy"] == pytest.approx(sum(shares) / len(there))
    assert found["gate_means"]["b"]["general"] == pytest.approx(model.gates["b"](z)[:, 1].mean().item())
    grow(model, Task("new"))
    model.eval()
    found = model.diagnostics(ToyRows([Task("new")], 90))
    attention = model.heads["new"].attention(z, model._embeddings())
    entropy = [-sum(w * math.log(w) for w in row) / math.log(3) for row in attention.tolist()]
    assert found["attention_of_new"]["a"] == pytest.approx(attention[:, 0].mean().item())
    assert found["attention_entropy_of_new"] == pytest.approx(sum(entropy) / 90, rel=1e-5)
    assert set(found["gate_means"]) == {"a", "b", "c", "new"}
    assert "discriminator_balanced_accuracy" not in found


def test_attention_starts_close_to_uniform():
    rows = ToyRows(tasks(), 500)
    model = build("mpt_rec", tasks(), hidden=(256, 128))
    grow(model, Task("new"))
    model.eval()
    z = model.embed(rows.take(torch.arange(500)))
    attention = model.heads["new"].attention(z, model._embeddings())
    assert torch.allclose(attention.sum(1), torch.ones(500))
    assert (attention - 0.5).abs().max() < 0.1
    assert (attention - 0.5).abs().mean() > 0  # close to uniform, not a constant


@pytest.mark.parametrize("fusion", ["prompt", "kl", "fixed", "task_embedding"])
@pytest.mark.parametrize("use", ["both", "general", "specific"])
def test_cached_features_give_the_same_logits_in_every_variant(fusion, use):
    rows = ToyRows([*tasks(), Task("new")], 60)
    model = build("mpt_rec", tasks(), fusion=fusion, use=use)
    grow(model, Task("new"))
    model.eval()
    batch = rows.take(torch.arange(60))
    features = model.frozen_features(batch)
    assert torch.equal(model.forward_new(features)["new"], model(batch)["new"])
    assert ("general" in features) == (use != "specific")
    assert any(name.startswith(("specific", "mixed")) for name in features) == (use != "general")


def test_fixed_weights_mix_equally_and_task_embeddings_mix_alike_for_all_rows():
    rows = ToyRows(tasks(), 20)
    for fusion in ("fixed", "task_embedding"):
        model = build("mpt_rec", tasks(), fusion=fusion)
        grow(model, Task("new"))
        head = model.heads["new"]
        assert head.projection is None
        attention = head.attention(model.embed(rows.take(torch.arange(20))), model._embeddings())
        if fusion == "fixed":
            assert attention is None
        else:
            similar = torch.stack([(head.embedding.weight * model.task_embeddings[n].weight).sum() for n in "ab"])
            assert torch.allclose(attention, (similar / 150).softmax(0).expand(20, 2))


def test_kl_prompt_adds_the_divergence_from_uniform():
    rows = ToyRows([Task("new")], 30)
    model = build("mpt_rec", tasks(), fusion="kl", temperature=0.5)
    grow(model, Task("new"))
    model.eval()
    model.heads.train()
    batch = rows.take(torch.arange(30))
    outputs = model.forward_new(model.frozen_features(batch))
    terms = model.loss(batch, outputs, at(1, 0, 1, 1))
    w = outputs["attention/new"]
    assert torch.allclose(terms["kl/new"], 0.1 * (w * (w * 2).log()).sum(1).mean())
    assert terms["kl/new"] > 0
    model.eval()
    assert set(model.forward_new(model.frozen_features(batch))) == {"new"}


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ({}, {"a", "b", "general/a", "general/b", "environment"}),
        ({"env_coe": 0.0}, {"a", "b", "general/a", "general/b"}),
        ({"env_coe": 0.0, "gen_coe": 0.0}, {"a", "b"}),
        ({"use": "general"}, {"a", "b", "general/a", "general/b", "environment"}),
        ({"use": "specific"}, {"a", "b", "general/a", "general/b", "environment"}),
    ],
)
def test_variants_train_their_terms_and_touch_only_what_they_use(changes, terms):
    rows = ToyRows(tasks(), 64)
    model = build("mpt_rec", tasks(), **changes).train()
    model.start_training(rows, torch.Generator().manual_seed(0))
    batch = rows.take(torch.arange(64))
    found = model.loss(batch, model(batch), at(2, 0, 2, 4))
    assert set(found) == terms
    sum(found.values()).backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    used = {"embed", "general", "specific", "task_embeddings", "gates", "towers", "discriminator"}
    used -= {"discriminator"} if "env_coe" in changes else set()
    used -= {"general": {"specific", "task_embeddings", "gates"}, "specific": {"gates"}}.get(changes.get("use"), set())
    assert moved == used
    if changes.get("use") == "general":
        for name in "ab":
            assert torch.allclose(found[f"general/{name}"], 0.9 * found[name])


def test_prediction_computes_no_general_prediction_and_no_discriminator():
    rows = ToyRows(tasks(), 20)
    model = build("mpt_rec", tasks()).eval()
    model.discriminator.register_forward_hook(lambda *_: pytest.fail("discriminator called"))
    sizes = []
    model.towers["a"].register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    assert set(model(rows.take(torch.arange(20)))) == {"a", "b"}
    assert sizes == [20]


def test_new_task_stage_has_the_new_tasks_loss_only():
    rows = ToyRows([Task("new")], 64)
    model = build("mpt_rec", tasks())
    grow(model, Task("new"))
    model.train()
    batch = rows.take(torch.arange(64))
    outputs = model(batch)
    assert set(outputs) == {"new"}
    assert set(model.loss(batch, outputs, at(1, 0, 1, 1))) == {"new"}
    model.start_training(rows, torch.Generator())
    assert model.environments is None


def test_both_stages_learn():
    rows = ToyRows(tasks(), 512)
    model = build("mpt_rec", tasks())
    losses = fit(model, rows, epochs=10, rate=0.03)
    assert losses[-1] < 0.8 * losses[0]
    rows = ToyRows([Task("new")], 512)
    grow(model, Task("new"))
    losses = fit(model, rows, epochs=10, rate=0.03)
    assert losses[-1] < 0.92 * losses[0]


def test_wrong_choice_names_the_allowed_ones():
    with pytest.raises(UsageError, match=r"mpt_rec\.fusion must be one of prompt"):
        build("mpt_rec", tasks(), fusion="prompts")
