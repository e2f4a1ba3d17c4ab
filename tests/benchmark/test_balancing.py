"""Balancing against torchjd's own engine, against formulas, and through the protocol."""

import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.spec.options import BALANCERS, TrainingOptions, split_config
from benchmark.training.balancing import GradNorm, balancer
from benchmark.training.meters import weights_fingerprint
from benchmark.training.models import build_model
from benchmark.training.protocol import execute
from methods.base import Task
from methods.batch import Progress
from tests.benchmark.fakes import FakeData
from tests.benchmark.test_protocol import CPU, _through_disk, auc, key
from tests.methods.toys import SCHEMA, ToyRows

TASKS = [Task("a"), Task("b"), Task("c")]
NAMES = ("a", "b", "c")


def model_and_terms(method="shared_bottom", rows=64):
    config = {"hidden": (8, 6), "tower": (5,)}
    model, _ = build_model(method, config, SCHEMA, TASKS, ("toy", 0))
    data = ToyRows(TASKS, rows)
    model.train()
    model.start_training(data, torch.Generator().manual_seed(0))
    batch = data.take(torch.arange(rows))
    return model, model.loss(batch, model(batch), Progress(2, 0, 4, 1))


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")
@pytest.mark.parametrize("kind", ["mgda", "cagrad", "nash_mtl", "imtl_g", "aligned_mtl", "pcgrad", "graddrop"])
def test_shared_parameters_get_what_torchjds_own_engine_gives(kind):
    from torchjd import aggregation
    from torchjd.autojac import backward, jac_to_grad

    aggregator = {
        "mgda": aggregation.MGDA, "cagrad": lambda: aggregation.CAGrad(c=0.4),
        "nash_mtl": lambda: aggregation.NashMTL(3),
        "imtl_g": aggregation.IMTLG, "aligned_mtl": aggregation.AlignedMTL, "pcgrad": aggregation.PCGrad,
        "graddrop": aggregation.GradDrop,
    }[kind]()  # fmt: skip
    model, terms = model_and_terms()
    torch.manual_seed(3)
    balancer(kind, model, NAMES).backward(terms)
    mine = gradients(model)

    twin, terms = model_and_terms()
    roles = twin.parameter_roles()
    shared = [*roles["embedding"], *roles["shared"]]
    own = [p for name in NAMES for p in roles[f"task:{name}"]]
    sum(terms.values()).backward(retain_graph=True, inputs=own)
    backward(list(terms.values()), inputs=shared, parallel_chunk_size=1)
    torch.manual_seed(3)
    jac_to_grad(shared, aggregator)
    expected = gradients(twin)
    assert mine.keys() == expected.keys()
    for name in mine:
        assert torch.allclose(mine[name], expected[name], rtol=1e-4, atol=1e-7), name


def test_pcgrads_step_agrees_with_both_of_two_tasks_that_conflict():
    """What PCGrad argues. The plain sum of two losses that conflict works against one of them."""

    def step(kind):
        model, terms = model_and_terms()
        terms = {"a": terms["a"], "b": terms["b"] - 2 * terms["a"]}
        roles = model.parameter_roles()
        shared = [*roles["embedding"], *roles["shared"]]
        rows = [
            torch.cat([g.flatten() for g in torch.autograd.grad(terms[name], shared, retain_graph=True)])
            for name in "ab"
        ]
        balance = balancer(kind, model, ("a", "b"))
        balance.backward(terms) if balance else sum(terms.values()).backward()
        combined = torch.cat([p.grad.flatten() for p in shared])
        return [float(combined @ row) for row in rows]

    assert min(step("equal")) < 0
    assert min(step("pcgrad")) > -1e-6


def test_other_terms_join_the_gradient_as_they_are():
    """Of MPT-Rec's terms only the tasks' own are balanced: equal weights on them give the gradient of the plain sum."""
    model, terms = model_and_terms("mpt_rec")
    assert set(terms) > set(NAMES)
    balance = GradNorm(model, NAMES)
    balance.backward(terms)
    twin, terms = model_and_terms("mpt_rec")
    sum(terms.values()).backward()
    expected = gradients(twin)
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-7), name


def test_uncertainty_weighting_starts_as_the_sum_and_descends_on_kendalls_objective():
    model, terms = model_and_terms()
    balance = balancer("uncertainty", model, NAMES)
    balance.backward(terms)
    (log_variance,) = balance.parameters()
    losses = torch.stack([terms[name] for name in NAMES]).detach()
    # derivative of sum exp(-s) L + s at s = 0
    assert torch.allclose(log_variance.grad, 1 - losses)
    twin, terms = model_and_terms()
    sum(terms.values()).backward()
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, gradients(twin)[name], rtol=1e-4, atol=1e-7)


def test_gradnorm_weights_descend_on_the_papers_objective():
    model, _ = model_and_terms()
    balance = GradNorm(model, NAMES)
    balance.first = torch.tensor([1.0, 1.0, 1.0])
    losses, norms = torch.tensor([0.9, 0.5, 0.7]), torch.tensor([2.0, 1.0, 0.1])
    weights = torch.ones(3, requires_grad=True)
    rates = losses / losses.mean()
    target = ((weights * norms).mean() * rates**balance.ALPHA).detach()
    (weights * norms - target).abs().sum().backward()
    stepped = (1 - balance.RATE * weights.grad).clamp(min=1e-3)
    assert torch.allclose(balance.next_weights(losses, norms), stepped * 3 / stepped.sum())


@pytest.mark.parametrize("kind", [kind for kind in BALANCERS if kind != "equal"])
def test_each_kind_trains_two_tasks_and_resumes_bit_for_bit(kind):
    wanted = key(config={"balancing": kind}, epochs=2)
    states = []
    whole = execute(wanted, FakeData(), CPU, checkpoint=(lambda state: states.append(_through_disk(state)), None))
    assert min(auc(whole).values()) > 0.6
    state = torch.load(states[0], weights_only=True)
    resumed = execute(wanted, FakeData(), CPU, checkpoint=(lambda state: None, state))
    assert weights_fingerprint(resumed.weights) == weights_fingerprint(whole.weights)


def test_an_unknown_kind_and_a_method_with_its_own_step_are_refused():
    with pytest.raises(UsageError, match="Unknown balancing 'pcgard'. Did you mean 'pcgrad'"):
        TrainingOptions(balancing="pcgard")
    own, options = split_config({"hidden": [8], "balancing": "mgda", "learning_rate": 0.1})
    assert own == {"hidden": [8]} and options == TrainingOptions(0.1, "mgda")
