"""Taking in a new task leaves the old ones alone, and cached features give the same logits."""

import pytest
import torch

from datasets_registry.schema import Task
from methods import METHODS

from .toys import ToyRows, build, fit, grow, tasks

GROWING = [name for name in METHODS if "frozen" in METHODS.get(name).info.arms]


@pytest.mark.parametrize("method", GROWING)
def test_old_logits_stay_bit_equal_while_the_new_task_learns(method):
    rows = ToyRows(tasks(), 256)
    model = build(method, tasks())
    fit(model, rows, epochs=1)
    batch = rows.take(torch.arange(256))
    before = {name: logits.clone() for name, logits in model.eval()(batch).items()}
    trained = grow(model, Task("new"))
    model.eval()
    assert all(torch.equal(before[name], model(batch)[name]) for name in before)
    start = [parameter.detach().clone() for parameter in trained]
    fit(model, ToyRows([Task("new")], 256), epochs=2)
    after = model.eval()(batch)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)
    assert any(not torch.equal(old, new) for old, new in zip(start, trained, strict=True))


@pytest.mark.parametrize("method", GROWING)
def test_cached_features_give_the_same_logits(method):
    model = build(method, tasks())
    grow(model, Task("new"))
    model.eval()
    batch = ToyRows(tasks(), 100).take(torch.arange(100))
    features = model.frozen_features(batch)
    if features is None:
        pytest.skip(f"{method} does not separate its frozen part")
    assert torch.equal(model.forward_new(features)["new"], model(batch)["new"])


@pytest.mark.parametrize("method", GROWING)
def test_a_second_new_task_leaves_the_first_alone(method):
    model = build(method, tasks())
    batch = ToyRows(tasks(), 64).take(torch.arange(64))
    grow(model, Task("new"))
    before = model.eval()(batch)
    grow(model, Task("newer"))
    after = model.eval()(batch)
    assert set(after) == {"a", "b", "new", "newer"}
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("method", "own"), [("pcl", "prompts"), ("low_rank_experts", "adapters")])
def test_a_task_that_comes_later_reads_what_earlier_ones_learnt_and_trains_none_of_it(method, own):
    """What these two methods are about: a chain's tasks stand on those before them."""
    model = build(method, tasks())
    grow(model, Task("new"))
    grow(model, Task("newer"))
    model.train()
    assert model.seen_by("a") == ["a", "b"]
    assert model.seen_by("newer") == ["a", "b", "new", "newer"]
    batch = ToyRows([Task("newer")], 64).take(torch.arange(64))
    with torch.no_grad():
        before = model(batch)["newer"]
        for parameter in getattr(model, own)["new"].parameters():
            parameter.add_(1.0)
        assert not torch.equal(before, model(batch)["newer"])
    model(batch)["newer"].sum().backward()
    assert all(parameter.grad is None for parameter in getattr(model, own)["new"].parameters())


@pytest.mark.parametrize("method", list(METHODS))
def test_the_order_in_which_tasks_are_named_changes_nothing(method):
    batch = ToyRows(tasks(), 64).take(torch.arange(64))
    one = build(method, tasks("abc")).eval()(batch)
    other = build(method, tasks("cab")).eval()(batch)
    assert set(one) == {"a", "b", "c"}
    assert all(torch.equal(one[name], other[name]) for name in one)
