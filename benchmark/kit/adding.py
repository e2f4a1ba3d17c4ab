"""Checks of a task that is added: the old ones stay as they were, the new one is learnt by every arm."""

from __future__ import annotations

import torch

from benchmark.core.errors import UsageError
from benchmark.kit.bench import (
    TOLERANCE,
    Failed,
    SyntheticRows,
    ends,
    grow,
    predict,
    toy_tasks,
    train_model,
    trained_model,
)
from benchmark.spec.arms import ARMS
from benchmark.training.models import take_in
from benchmark.training.rows import cache_features
from datasets_registry.schema import Task
from methods.base import MultiTaskModel

NEW = (Task("new"), Task("even newer"))


def a_new_task_leaves_the_old_ones_alone(model: type[MultiTaskModel]) -> str | None:
    if "frozen" not in model.info.arms:
        return "the method has no frozen arm"
    built = trained_model(model)
    batch = SyntheticRows(toy_tasks(), 64).gather(slice(0, 64))
    before = predict(built, batch)
    old = {id(parameter): name for name, parameter in built.named_parameters()}
    trained = grow(built)
    if not trained:
        raise Failed("add_task returned nothing to train")
    if known := [old[id(parameter)] for parameter in trained if id(parameter) in old]:
        raise Failed(f"add_task returned '{known[0]}', which was there before: only new parameters may be trained")
    with_new = predict(built, batch)
    if "new" not in with_new:
        raise Failed("after add_task, forward has no logits for the new task")
    frozen = {id(p) for p in built.parameters()} - {id(p) for p in trained}
    state = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    curve = train_model(built, SyntheticRows([Task("new")]), trained=trained)
    after = predict(built, batch)
    for name in ("a", "b"):
        if not torch.equal(before[name], with_new[name]):
            raise Failed(f"task '{name}': logits changed when the new task was added")
        if not torch.equal(before[name], after[name]):
            raise Failed(f"task '{name}': logits changed while only the new task's parameters were trained")
    for name, parameter in built.named_parameters():
        if id(parameter) in frozen and (parameter.grad is not None or not torch.equal(parameter, state[name])):
            raise Failed(f"frozen parameter '{name}' got a gradient or moved")
    first, last = ends(curve, ("new",))
    if not last < first:
        raise Failed(f"the new task's loss went from {first:.4f} to {last:.4f}: its parameters do not learn")
    return None


def cached_features_give_the_same_logits(model: type[MultiTaskModel]) -> str | None:
    """For two tasks added at once, by the cache that the frozen arm trains on."""
    if "frozen" not in model.info.arms:
        return "the method has no frozen arm"
    built = trained_model(model)
    trained = grow(built, NEW)
    built.eval()
    rows = SyntheticRows(NEW, 64)
    cached = cache_features(built, rows)
    if cached is None:
        return "frozen_features is not defined: the frozen arm runs without a cache"
    features = cached.gather(slice(0, 64)).features
    expected = predict(built, rows.gather(slice(0, 64)))
    with torch.no_grad():
        outputs = built.forward_new(features)
        for task in NEW:
            if task.name not in outputs:
                raise Failed(f"forward_new gives no logits for '{task.name}', one of two new tasks")
            if not torch.allclose(outputs[task.name], expected[task.name], atol=TOLERANCE):
                raise Failed(f"forward_new(frozen_features(batch)) differs from forward(batch) on task '{task.name}'")
        for parameter in trained:
            parameter.add_(1.0)
    later = cache_features(built, rows)
    assert later is not None
    for name, part in later.gather(slice(0, 64)).features.items():
        if not torch.equal(part, features[name]):
            raise Failed(f"frozen_features['{name}'] reads a new parameter, which training on the cache would not move")
    return None


def a_task_with_a_space_can_be_added(model: type[MultiTaskModel]) -> str | None:
    """A task defined on an old one's positive rows has a finite loss, on cached features and without."""
    if "frozen" not in model.info.arms:
        return "the method has no frozen arm"
    new = [Task("new b", space="b", partial=True)]
    for cached in (False, True):
        built = trained_model(model)
        trained = grow(built, new)
        for epoch in train_model(built, SyntheticRows(new, 128), epochs=1, trained=trained, cached=cached):
            if bad := [name for name, value in epoch.items() if value != value]:
                raise Failed(f"loss term '{bad[0]}' is NaN for a new task with a space")
    return None


def fine_tuning_learns_the_new_task(model: type[MultiTaskModel]) -> str | None:
    if "finetune" not in model.info.arms:
        return "the method has no finetune arm"
    built = trained_model(model)
    take_in(built, ARMS["finetune"], [Task("new")], {}, ("conformance", model.info.name, 0))
    first, last = ends(train_model(built, SyntheticRows([Task("new")])), ("new",))
    if not last < 0.97 * first:
        raise Failed(f"the new task's loss went from {first:.4f} to {last:.4f}")
    return None


def parts_of_the_harness_fit_on(model: type[MultiTaskModel]) -> str | None:
    fitting = [a for a in ARMS.values() if a.adaptation and a.supported_by(model.info.arms, model.info.without)]
    if not fitting:
        return "the method has no frozen arm"
    trained_once = trained_model(model)
    batch = SyntheticRows(toy_tasks(), 64).gather(slice(0, 64))
    before = predict(trained_once, batch)
    refused: dict[str, str] = {}
    for arm in fitting:
        built = trained_model(model)
        try:
            adapted, trained, _ = take_in(
                built, arm, [Task("new")], arm.resolve({}), ("conformance", model.info.name, 0)
            )
        except UsageError as error:
            refused[arm.name] = str(error)
            continue
        adapted.zero_grad(set_to_none=True)
        first, last = ends(train_model(adapted, SyntheticRows([Task("new")]), epochs=3, trained=trained), ("new",))
        after = predict(adapted, batch)
        if any(not torch.equal(before[name], after[name]) for name in before if name in ("a", "b")):
            raise Failed(f"arm '{arm.name}': an old task's logits changed")
        if not last < first:
            raise Failed(f"arm '{arm.name}': the new task's loss went from {first:.4f} to {last:.4f}")
    if refused:
        arms = ", ".join(f'"{name}"' for name in refused)
        raise Failed(f"{' '.join(dict.fromkeys(refused.values()))} Declare it: register_method(..., without=({arms},))")
    return None
