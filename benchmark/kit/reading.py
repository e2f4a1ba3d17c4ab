"""Checks of what a method's forward reads and gives: mistakes that leave every score looking better than it is."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor

from benchmark.kit.bench import (
    TOLERANCE,
    Failed,
    SyntheticRows,
    grow,
    predict,
    toy_tasks,
    trained_model,
    well_trained,
)
from benchmark.training.untouched import InputsChanged, left_alone
from methods.base import MultiTaskModel
from methods.batch import Batch, Progress

FAR = (8.0, -8.0, 100.0, -100.0)
"""Standardised inputs that real tables hold: a count a hundred deviations from its mean is nothing rare."""


def forward_reads_the_inputs_alone(model: type[MultiTaskModel]) -> str | None:
    """Labels and row numbers of the batch change no logit, in training (with the same dropout) or at prediction."""
    built = trained_model(model)
    batch = SyntheticRows(toy_tasks(), 40).gather(slice(0, 40))
    others = {
        "labels": dataclasses.replace(batch, labels={name: 1 - label for name, label in batch.labels.items()}),
        "index": dataclasses.replace(batch, index=torch.arange(40).flip(0)),
    }
    for mode in ("prediction", "training"):
        before = _logits(built, batch, mode == "training")
        for what, other in others.items():
            if what == "index" and mode == "training":
                continue  # something kept per row may steer training, e.g. an environment
            after = _logits(built, other, mode == "training")
            for name in ("a", "b"):
                if name in before and not torch.allclose(before[name], after[name], atol=TOLERANCE):
                    raise Failed(f"task '{name}': in {mode} the logits change with batch.{what}")
    return None


def inputs_are_left_alone(model: type[MultiTaskModel]) -> str | None:
    """Forward and loss, in training and at prediction, leave every tensor of the batch what it was."""
    built = trained_model(model)
    for training in (False, True):
        batch = SyntheticRows(toy_tasks(), 40).gather(slice(0, 40))
        shown = batch if training else dataclasses.replace(batch, labels={}, index=None)
        kept = copy.deepcopy(shown)
        built.train(training)
        try:
            with torch.random.fork_rng(), left_alone(shown, built):
                outputs = built(shown)
                if training:
                    built.loss(shown, outputs, Progress(1, 0, 1, 1))
        except InputsChanged as error:
            raise Failed(str(error)) from error
        for name in ("categorical", "numeric"):  # also what was written past torch's own count
            if not torch.equal(getattr(shown, name), getattr(kept, name)):
                raise Failed(f"forward changes the values of batch.{name}")
    return None


def logits_stay_finite_far_from_the_mean(model: type[MultiTaskModel]) -> str | None:
    """Numeric inputs of `FAR` give finite logits."""
    built = trained_model(model)
    batch = SyntheticRows(toy_tasks(), 40).gather(slice(0, 40))
    for value in FAR:
        for column in range(batch.numeric.shape[1]):
            numeric = batch.numeric.clone()
            numeric[:, column] = value
            logits = predict(built, dataclasses.replace(batch, numeric=numeric))
            for name in ("a", "b"):
                if bad := int((~logits[name].isfinite()).sum()):
                    raise Failed(f"task '{name}': {bad} of 40 logits are not finite where a numeric input is {value:g}")
    return None


def outputs_are_logits(model: type[MultiTaskModel]) -> str | None:
    """After training on labels of which half are 0, outputs of both signs."""
    if model.fit is not None:
        return "the method is not trained by steps of the harness (it defines fit)"
    built, _ = well_trained(model)
    rows = SyntheticRows(toy_tasks())
    logits = predict(built, rows.gather(slice(0, len(rows))))
    for name in ("a", "b"):
        low, high = float(logits[name].min()), float(logits[name].max())
        if low >= 0 or high <= 0:
            raise Failed(
                f"task '{name}': all outputs lie between {low:.3g} and {high:.3g} after training on labels half "
                "of which are 0: these are no logits (probabilities?)"
            )
    return None


def old_tasks_do_not_read_what_is_new(model: type[MultiTaskModel]) -> str | None:
    """With nan in every new parameter, the old tasks' logits stay as they were."""
    if "frozen" not in model.info.arms:
        return "the method has no frozen arm"
    built = trained_model(model)
    batch = SyntheticRows(toy_tasks(), 40).gather(slice(0, 40))
    before = predict(built, batch)
    old = {id(parameter) for parameter in built.parameters()}
    grow(built)
    with torch.no_grad():
        for parameter in built.parameters():
            if id(parameter) not in old:
                parameter.fill_(torch.nan)
    after = predict(built, batch)
    for name in ("a", "b"):
        if not torch.equal(before[name], after[name]):
            raise Failed(f"task '{name}': its logits change when the new task's parameters are nan")
    return None


def _logits(model: MultiTaskModel, batch: Batch, training: bool) -> dict[str, Tensor]:
    """Outputs for a batch as the trainer would hand it over, labels and all; dropout is the same at every call."""
    model.train(training)
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        outputs = dict(model(batch))
    for name, buffer in model.named_buffers():  # running statistics move in training mode
        buffer.copy_(kept[name])
    model.eval()
    return outputs
