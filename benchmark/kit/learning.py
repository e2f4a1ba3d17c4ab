"""Checks of what a method learns: each task from its own labels, the same from the same seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from benchmark.kit.bench import (
    FITS_ITSELF,
    TOLERANCE,
    Failed,
    SyntheticRows,
    build,
    ends,
    predict,
    toy_tasks,
    train_model,
    trained_model,
    well_trained,
)
from benchmark.training.learner import total
from benchmark.training.metrics import auc
from benchmark.training.trainer import TrainingDiverged
from datasets_registry.schema import Task
from methods.base import MultiTaskModel
from methods.batch import Progress


def loss_falls(model: type[MultiTaskModel]) -> str | None:
    if model.fit is not None:
        return FITS_ITSELF
    first, last = ends(well_trained(model)[1], ("a", "b"))
    if not last < 0.95 * first:
        raise Failed(f"mean loss of the tasks went from {first:.4f} to {last:.4f} in training on learnable labels")
    return None


def same_seed_gives_same_weights(model: type[MultiTaskModel]) -> str | None:
    states = []
    for global_seed in (1, 2):  # whatever state the process is in
        torch.manual_seed(global_seed)
        built = build(model, toy_tasks())
        train_model(built, SyntheticRows(toy_tasks(), 128), epochs=2)
        states.append({name: tensor.clone() for name, tensor in built.state_dict().items()})
    if different := [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]:
        raise Failed(f"two runs with one seed differ in {', '.join(different[:3])}")
    return None


def task_order_does_not_matter(model: type[MultiTaskModel]) -> str | None:
    rows = SyntheticRows(toy_tasks("abc"), 128)
    logits = []
    for names in ("abc", "cab"):
        built = build(model, toy_tasks(names))
        train_model(built, rows, epochs=1)
        logits.append(predict(built, rows.gather(slice(0, 50))))
    for name in "abc":
        if not torch.allclose(logits[0][name], logits[1][name], atol=TOLERANCE):
            raise Failed(f"task '{name}': logits depend on the order in which the tasks were named")
    return None


def regression_if_claimed(model: type[MultiTaskModel]) -> str | None:
    if "regression" not in model.info.kinds:
        return "the method does not claim regression"
    tasks = [Task("a"), Task("b", kind="regression")]
    built = build(model, tasks)
    first, last = ends(train_model(built, SyntheticRows(tasks)), ("b",))
    if not last < 0.95 * first:
        raise Failed(f"squared error went from {first:.4f} to {last:.4f} in training on learnable values")
    return None


def undefined_labels(model: type[MultiTaskModel]) -> str | None:
    tasks = [Task("a"), Task("b", space="a", partial=True)]
    built = build(model, tasks)
    rows = SyntheticRows(tasks, 128)
    for what, defined in (("two thirds", rows.labels["b"]), ("none", torch.full((128,), torch.nan))):
        rows.labels["b"] = defined
        for epoch in train_model(built, rows, epochs=1):
            if bad := [name for name, value in epoch.items() if value != value]:
                raise Failed(f"loss term '{bad[0]}' is NaN where {what} of the labels of task 'b' are defined")
        if bad_weights := [name for name, p in built.named_parameters() if not p.isfinite().all()]:
            raise Failed(f"'{bad_weights[0]}' is not finite after training where {what} of the labels are defined")
    return None


def each_task_learns_from_its_own_labels(model: type[MultiTaskModel]) -> str | None:
    """After training a task's logits do not rank the other task's labels far better than its own."""
    if model.fit is not None:
        return FITS_ITSELF
    built, _ = well_trained(model)
    rows = SyntheticRows(toy_tasks())
    logits = predict(built, rows.gather(slice(0, len(rows))))
    for name, other in (("a", "b"), ("b", "a")):
        own, foreign = (auc(logits[name].numpy(), rows.labels[task].numpy()) or 0.5 for task in (name, other))
        if own < foreign - 0.2:
            raise Failed(
                f"task '{name}': after training its logits have AUC {own:.2f} on its own labels and {foreign:.2f} on "
                f"those of task '{other}'"
            )
    return None


def losses_read_the_labels_of_the_batch(model: type[MultiTaskModel]) -> str | None:
    """A task's loss term changes with its own labels, and not with another's or with the rows' numbers."""
    if model.fit is not None or model.training_step is not None:
        return "the method makes steps of its own (it defines fit or training_step)"
    built = trained_model(model)
    rows = SyntheticRows(toy_tasks(), 128)
    built.start_training(rows, torch.Generator().manual_seed(0))
    batch = rows.gather(slice(0, 64))

    def terms(**changes: Any) -> dict[str, float]:
        changed = dataclasses.replace(batch, **changes)
        return {n: float(v.detach()) for n, v in built.loss(changed, outputs, Progress(1, 0, 1, 1)).items()}

    built.train()
    with torch.random.fork_rng():
        outputs = dict(built(batch))
    before, shuffled = terms(), terms(index=torch.arange(64).flip(0) + 64)
    for name, other in (("a", "b"), ("b", "a")):
        flipped = terms(labels=batch.labels | {name: 1 - batch.labels[name]})
        if name in before and flipped[name] == before[name]:
            raise Failed(f"the loss of task '{name}' does not change with batch.labels['{name}']")
        if other in before and flipped[other] != before[other]:
            raise Failed(f"the loss of task '{other}' changes with batch.labels['{name}']")
        if name in before and shuffled[name] != before[name]:
            raise Failed(f"the loss of task '{name}' changes with batch.index: labels come with the batch")
    return None


def undefined_labels_teach_nothing(model: type[MultiTaskModel]) -> str | None:
    """The loss has no gradient by the logit of a row on which a partial task is undefined."""
    if model.fit is not None or model.training_step is not None:
        return "the method makes steps of its own (it defines fit or training_step)"
    tasks = [Task("a"), Task("b", partial=True)]
    built = build(model, tasks)
    rows = SyntheticRows(tasks, 64)
    built.start_training(rows, torch.Generator().manual_seed(0))
    batch = rows.gather(slice(0, 64))
    built.train()
    outputs = dict(built(batch))
    if "b" not in outputs:
        return "forward leaves task 'b' out in training"
    leaf = outputs["b"].detach().requires_grad_()
    terms = built.loss(batch, outputs | {"b": leaf}, Progress(1, 0, 1, 1))
    (gradient,) = torch.autograd.grad(total(terms), [leaf], allow_unused=True)
    undefined = batch.labels["b"].isnan()
    if gradient is not None and bool((gradient[undefined] != 0).any()):
        raise Failed("rows on which a partial task has no label (NaN) have a gradient, as if they had one")
    return None


def any_batch_can_be_trained_on(model: type[MultiTaskModel]) -> str | None:
    """A batch of one row, which the end of an epoch may bring, and batches of one class give finite losses."""
    if model.fit is not None:
        return FITS_ITSELF
    rows = SyntheticRows(toy_tasks(), 65)  # batches of 64 rows: the last one has a row
    train_model(build(model, toy_tasks()), rows, epochs=1)
    for label in (0.0, 1.0):
        built = build(model, toy_tasks())
        rows.labels = {name: torch.full((65,), label) for name in rows.labels}
        try:
            train_model(built, rows, epochs=1)
        except TrainingDiverged as error:
            raise Failed(f"where every label is {label:g}: {error}") from error
    return None


def penalties_are_of_its_own_parameters(model: type[MultiTaskModel]) -> str | None:
    """``weight_decay`` names parameters of the model, each once, with a coefficient of at least 0."""
    built = build(model, toy_tasks())
    own, seen = {id(parameter) for parameter in built.parameters()}, set()
    for parameter, coefficient in built.weight_decay():
        if id(parameter) not in own:
            raise Failed("weight_decay names a tensor that is no parameter of the model, so nothing would decay")
        if not 0 <= coefficient < float("inf"):
            raise Failed(f"weight_decay gives a coefficient of {coefficient}")
        if id(parameter) in seen:
            raise Failed("weight_decay names a parameter twice; only one coefficient would count")
        seen.add(id(parameter))
    return None


def an_interrupted_training_ends_the_same(model: type[MultiTaskModel]) -> str | None:
    """Training that stops after an epoch and goes on in a new process ends with the same weights."""
    if model.fit is not None:
        return FITS_ITSELF
    rows = SyntheticRows(toy_tasks(), 128)
    states: list[dict[str, Any]] = []
    whole = build(model, toy_tasks())
    train_model(whole, rows, epochs=2, kept=states)
    again = build(model, toy_tasks(), seed=1)
    train_model(again, rows, epochs=2, resume=states[0])
    one, two = whole.state_dict(), again.state_dict()
    if different := [name for name in one if not torch.equal(one[name], two[name])]:
        raise Failed(f"after an interruption '{different[0]}' ends with other values")
    return None
