"""Balancing against torchjd's own engine, against formulas, and through the protocol."""

import pytest
import torch
from torch import nn

from benchmark.core.errors import UsageError
from benchmark.spec.options import BALANCERS, TrainingOptions, split_config
from benchmark.training.balancing import KINDS, balancer
from benchmark.training.balancing.gradients import AGGREGATORS, GradNorm
from benchmark.training.meters import weights_fingerprint
from benchmark.training.models import build_model
from benchmark.training.protocol import execute
from methods.base import MultiTaskModel, Task
from methods.batch import Batch, Progress
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


quiet = pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")


def test_every_name_has_its_balancer():
    assert set(KINDS) | {"equal"} == set(BALANCERS)


@quiet
@pytest.mark.parametrize("kind", sorted(AGGREGATORS))
def test_shared_parameters_get_what_torchjds_own_engine_gives(kind):
    """But for the size of the step, which `test_identical_gradients...` pins down."""
    from torchjd import aggregation
    from torchjd.autojac import backward, jac_to_grad

    aggregator = {
        "mgda": aggregation.MGDA, "cagrad": lambda: aggregation.CAGrad(c=0.4),
        "nash_mtl": lambda: aggregation.NashMTL(3, max_norm=0.0),
        "imtl_g": aggregation.IMTLG, "aligned_mtl": aggregation.AlignedMTL, "pcgrad": aggregation.PCGrad,
        "graddrop": aggregation.GradDrop, "gradvac": aggregation.GradVac, "upgrad": aggregation.UPGrad,
        "fairgrad": lambda: aggregation.FairGrad(alpha=2.0), "excess_mtl": aggregation.ExcessMTL,
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
    names = {id(p): name for name, p in twin.named_parameters()}
    for p in own:
        assert torch.allclose(mine[names[id(p)]], expected[names[id(p)]], rtol=1e-4, atol=1e-7)
    one, two = (torch.cat([of[names[id(p)]].flatten() for p in shared]) for of in (mine, expected))
    assert torch.cosine_similarity(one, two, dim=0) > 1 - 1e-4
    constant = {"mgda": 3, "imtl_g": 3, "aligned_mtl": 3, "upgrad": 3, "excess_mtl": 3, "cagrad": 3 / 1.4}
    if kind not in ("nash_mtl", "fairgrad"):  # theirs does not grow with the gradients
        assert one.norm() / two.norm() == pytest.approx(constant.get(kind, 1), rel=1e-3)


class Line(MultiTaskModel):
    """One shared vector w; every task's loss is <x_k, w> plus what its own w_k adds."""

    def __init__(self):
        super().__init__(SCHEMA, TASKS)
        self.w = nn.Parameter(torch.ones(4))
        self.own = nn.ParameterDict({name: nn.Parameter(torch.ones(2)) for name in NAMES})

    def losses(self, slopes, base=0.7):
        return {
            name: base - self.w.detach() @ slope + self.w @ slope + 0 * self.own[name].sum()
            for name, slope in zip(NAMES, slopes)
        }


def combined(kind, slopes, base=0.7, steps=1):
    """The gradient of the shared vector after some steps on losses with these gradients."""
    model = Line()
    balance = balancer(kind, model, NAMES)
    batch = Batch(torch.zeros(9, 3, dtype=torch.int32), torch.zeros(9, 2), {name: torch.zeros(9) for name in NAMES})
    torch.manual_seed(0)
    for _ in range(steps):
        model.zero_grad(set_to_none=True)
        balance.step(batch, lambda _: model.losses(slopes, base))
        balance.after_step(batch, lambda _: model.losses(slopes, base))
    balance.end_epoch()
    return model.w.grad


@quiet
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("kind", [kind for kind in BALANCERS if kind != "equal"])
def test_identical_gradients_of_three_tasks_give_three_times_one_of_them(kind, size):
    """So a balancer's step is on the scale of the plain sum's, and L2 weighs the same beside all of them."""
    slope = size * torch.tensor([1.0, -2.0, 0.5, 3.0])
    found = combined(kind, [slope] * 3)
    factor = float(found @ slope / (slope @ slope))
    assert torch.allclose(found, factor * slope, rtol=1e-3)
    assert factor == pytest.approx(3, rel=2e-3)


@quiet
@pytest.mark.parametrize("kind", ["imtl_g", "nash_mtl"])
def test_where_a_paper_claims_it_the_direction_does_not_depend_on_the_scale_of_a_loss(kind):
    torch.manual_seed(1)
    slopes = [torch.randn(4) for _ in NAMES]
    one, two = combined(kind, slopes), combined(kind, [50 * slopes[0], *slopes[1:]])
    assert torch.cosine_similarity(one, two, dim=0) > 1 - 1e-3
    plain = sum(slopes), sum(slopes) + 49 * slopes[0]
    assert torch.cosine_similarity(*plain, dim=0) < 0.9


def test_famo_descends_on_logarithms_and_gives_a_lagging_task_more_weight():
    """Equation 9 of the paper by hand, and the weights' first step, which Adam makes 0.025 long for every task."""
    model = Line()
    balance = balancer("famo", model, NAMES)
    slopes = [
        torch.tensor([1.0, 0.0, 0.0, 0.0]),
        torch.tensor([0.0, 1.0, 0.0, 0.0]),
        torch.tensor([0.0, 0.0, 1.0, 0.0]),
    ]
    losses = torch.tensor([0.5, 0.25, 1.0])
    batch = Batch(torch.zeros(9, 3, dtype=torch.int32), torch.zeros(9, 2))

    def terms(values):
        given = model.losses(slopes, 0.0)
        return lambda _: {name: given[name] + value for name, value in zip(NAMES, values)}

    balance.step(batch, terms(losses))
    z = torch.ones(3) / 3
    c = 1 / (z / losses).sum()
    assert torch.allclose(model.w.grad[:3], 3 * c * z / losses, rtol=1e-4)
    balance.after_step(batch, terms(losses * torch.tensor([0.5, 1.0, 0.5])))  # "b" did not fall
    w = balance.state()["w"]
    assert w[1] == w.max() and w[1] > 0 > w[0]


def test_dwa_weighs_by_the_rates_of_the_last_two_epochs():
    """Equation 7 of the paper, temperature 2."""
    model = Line()
    balance = balancer("dwa", model, NAMES)
    batch = Batch(torch.zeros(9, 3, dtype=torch.int32), torch.zeros(9, 2))
    means = torch.tensor([[1.0, 1.0, 1.0], [0.9, 0.5, 0.2]])
    slopes = list(torch.eye(4)[:3])
    for epoch in means:
        terms = {name: term + mean for (name, term), mean in zip(model.losses(slopes, 0.0).items(), epoch)}
        balance.step(batch, lambda _, terms=terms: terms)
        balance.end_epoch()
    model.zero_grad(set_to_none=True)
    balance.step(batch, lambda _: model.losses(slopes))
    rates = means[1] / means[0]
    assert torch.allclose(model.w.grad[:3], 3 * torch.softmax(rates / 2, 0))


def test_dwa_says_when_the_budget_ends_before_it_acts():
    config = {"balancing": "dwa"}
    short = execute(key(config=config, epochs=2, patience=2), FakeData(), CPU)
    assert any("DWA did not act" in warning for warning in short.warnings)
    assert balancer("dwa", Line(), NAMES).warnings(3) == [] == balancer("stch", Line(), NAMES).warnings(1)


def test_sdmgrads_weights_solve_the_papers_problem_on_independent_samples():
    """Algorithm 1: w moves on the simplex against J J'w, pulled to the mean by lambda; a task whose gradient the others
    oppose is the one to go by."""
    balance = balancer("sdmgrad", Line(), NAMES)
    jacobian = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-0.2, 0.5]])
    weights = balance.weights(jacobian, jacobian)
    assert weights.sum() == pytest.approx(3) and weights.argmax() == 2
    assert weights.min() >= 3 * (0.3 / 3) / 1.3 - 1e-5  # lambda keeps every task


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
