"""STEM: which gradient reaches which part."""

import pytest
import torch

from benchmark.core.errors import UsageError
from datasets_registry.schema import Task

from .toys import ToyRows, build, grow, tasks


def reached_by(rule, name):
    model = build("stem", tasks("abc"), stop_gradient=rule).train()
    batch = ToyRows(tasks("abc"), 40).take(torch.arange(40))
    model(batch)[name].sum().backward()
    return model, {t for t in "abc" if model.specific[t][0].weight.grad is not None}


@pytest.mark.parametrize("name", "abc")
def test_a_tasks_loss_reaches_its_own_and_the_shared_expert_only(name):
    model, reached = reached_by("intended", name)
    assert reached == {name}
    assert model.shared[0].weight.grad.abs().sum() > 0
    tables = {t for t in "abc" if model.embed[t].table.weight.grad is not None}
    assert tables == {name}


def test_as_released_only_the_first_task_reaches_its_expert():
    for name in "abc":
        model, reached = reached_by("as_released", name)
        assert reached == ({"a"} if name == "a" else set())
        assert model.embed[name].table.weight.grad is not None  # through the gate


def test_the_rule_changes_gradients_not_logits():
    batch = ToyRows(tasks(), 20).take(torch.arange(20))
    one, other = (build("stem", tasks(), stop_gradient=rule)(batch) for rule in ("intended", "as_released"))
    assert all(torch.equal(one[name], other[name]) for name in "ab")


def test_new_task_has_its_own_regularisation():
    model = build("stem", tasks(), l2_embedding=0.5, l2_dnn=0.25, l2_new_task=0.125)
    grow(model, Task("new"))
    found = {id(parameter): coefficient for parameter, coefficient in model.weight_decay()}
    names = {name: found.get(id(parameter)) for name, parameter in model.named_parameters()}
    assert names["embed.new.table.weight"] == names["towers.new.0.weight"] == 0.125
    assert names["embed.a.table.weight"] == names["shared_embed.table.weight"] == 0.5
    assert names["towers.a.0.weight"] == 0.25
    assert names["gates.new.weight"] is None


def test_wrong_rule_is_named():
    with pytest.raises(UsageError, match="intended or as_released"):
        build("stem", tasks(), stop_gradient="none")
