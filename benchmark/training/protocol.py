"""One run from rows to scores: build or continue a model, train it, predict the test rows, score them in the vault.

The order of things is the protocol: test inputs are read after training has ended, in a fixed shuffled order; test
labels are read by the `Vault` alone, after the predictions are made. A key that is scored on validation rows only has
no test rows at all: nothing of them is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from benchmark.core.errors import UsageError
from benchmark.records.lineage import known_before
from benchmark.records.record import Epoch, Key, Measured, TaskEpoch, TaskScores
from benchmark.spec.arms import ARMS, OWN_TRAINING, Arm
from benchmark.spec.budget import SELECTION_RULES, Budget
from benchmark.spec.labels import without_share
from benchmark.spec.options import TrainingOptions, split_config
from benchmark.training import meters, operations
from benchmark.training.balancing import balancer
from benchmark.training.diagnostics import diagnose
from benchmark.training.fitting import fit_whole
from benchmark.training.forgetting import Setting, continual, soft_targets
from benchmark.training.learner import Learner, Streams
from benchmark.training.metrics import auc_variance
from benchmark.training.models import check_outputs, go_on, make_model, start
from benchmark.training.preparation import prepare
from benchmark.training.rows import ChosenRows, DataRows, labelled_rows
from benchmark.training.scoring import HeldOutRows, ValidationRows, Vault
from benchmark.training.trainer import NO_CHECKPOINT, Checkpoint, Trained, train
from benchmark.training.warm_up import warm_up
from datasets_registry.schema import Schema
from methods.base import MultiTaskModel

if TYPE_CHECKING:
    from datasets_registry.encoding.store import EncodedDataset

Predictions = dict[str, NDArray[np.float32]]


Counted = TypeVar("Counted")
BELOW_CHANCE = 3.0  # standard errors under 0.5 from which an AUC is no accident
FAR_ABOVE, LEAST_ABOVE = 5.0, 0.02  # how far above validation a test AUC asks for a reason: standard errors, AUC


class InvariantBroken(Exception):
    """A promise that the harness checks on every run was not kept."""


class Outcome(Measured):
    """The measured part of a run's record, and beside it what becomes files: predictions and labels of the test rows
    in their fixed order by task, what the model shows of its inside, and its weights by name."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    predictions: dict[str, np.ndarray] = Field(default_factory=dict, exclude=True, repr=False)
    labels: dict[str, np.ndarray] = Field(default_factory=dict, exclude=True, repr=False)
    inspected: dict[str, dict[str, np.ndarray]] = Field(default_factory=dict, exclude=True, repr=False)
    weights: dict[str, torch.Tensor] = Field(default_factory=dict, exclude=True, repr=False)

    def measured(self) -> dict[str, Any]:
        """The part that goes into the record, by field."""
        return {name: getattr(self, name) for name in Measured.model_fields}


def execute(
    key: Key,
    data: EncodedDataset,
    device: torch.device,
    *,
    stage0: Path | None = None,
    load_seconds: float = 0.0,
    checkpoint: tuple[Callable[[dict[str, Any]], None] | None, dict[str, Any] | None] = NO_CHECKPOINT,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Outcome:
    """Carry out the run that ``key`` names.

    ``stage0`` is the file with the weights that the run continues (see `benchmark.records.lineage`), ``checkpoint``
    (save, state to resume from).
    Raises TrainingDiverged, InvariantBroken, and whatever the method raises.
    """
    clock = meters.Clock(resumed=checkpoint[1] is not None, load=load_seconds)
    arm = ARMS[key.arm]
    config, options = split_config(key.config)
    # The L2 penalties of a run after stage 0 may be its own: they shape no weight, so stage 0's can be loaded.
    config |= {name: value for name, value in key.arm_config.items() if name in OWN_TRAINING and name in config}
    budget = arm.budget(key.budget, key.arm_config.get("learning_rate") or options.learning_rate)
    schema = data.schema([*key.old_tasks, *key.new_tasks]).pooled(options.sequence_pooling)
    on_test = key.scored == "test"
    with clock("load"):
        rows = _training_rows(key, data, schema, device)
        selecting = [data.tasks[name] for name in _selecting(key, arm)]
        valid = ValidationRows(data, schema, selecting, device, by_user=key.selection == SELECTION_RULES["gauc"])
        held_out = HeldOutRows(data, "test" if on_test else "valid", schema, device)
    with clock("build"):
        model, warnings = start(key, config, data, schema, stage0, device)
    before = held_out.predict(model, known_before(key)) if arm.frozen else None  # as the run before left them
    with clock("build"):
        model, trained, more = go_on(model, key, data, device)
        balance = balancer(options.balancing, model, key.tasks)
        streams = Streams(key.dataset, key.method, key.seed)
        learner = Learner(model, rows, trained, streams, device, arm.frozen, balance=balance)
    _check_step(learner, arm, options)
    check_outputs(model, valid.rows)
    with clock("cache"):
        if arm.teacher:
            _learn_from(stage0, learner, key, config, data, schema)
        _set_up(learner, valid, key, data, schema, budget)

    result, preparing = _trained(learner, valid, arm, budget, Checkpoint(*checkpoint), on_epoch)
    trained = trained if model.fit is None else list(model.parameters())
    clock.add(train=result.train_seconds + preparing, validate=result.validate_seconds)

    with clock("predict"):
        known = [task.name for task in model.tasks] if on_test else list(before or ())
        predictions = held_out.predict(model, known)
    invariants = _kept_promises(model, before, predictions) if before is not None else {}
    outcome = Outcome(
        curve=result.curve,
        selection=result.selection.model_copy(update={"rule": key.selection}),
        params=meters.count_parameters(model, trained, meters.paper_count(model, arm, key, trained)),
        flops=_counted(lambda: operations.flops(learner), warnings),
        serving=_counted(lambda: operations.serving(learner, _before(key, config, arm, data, schema)), warnings),
        seconds=clock.seconds(result.seconds_to_best_epoch + preparing),
        rows_per_second=len(learner.rows) * len(result.curve) / max(result.train_seconds, 1e-9),
        train_rows=len(learner.rows),
        invariants=invariants,
        warnings=[*warnings, *more, *learner.warnings(result.selection.epoch)],
        diagnostics=diagnose(model, learner.rows) if on_test else {},
    )
    return _scored(outcome, predictions, held_out, data, model, result) if on_test else _measured(outcome, model)


def _by_task_epoch(
    result: Trained, predictions: Predictions, held_out: HeldOutRows, data: EncodedDataset, model: MultiTaskModel
) -> dict[str, TaskEpoch]:
    """What each task scores when it is served by its own best validation epoch. Leaves the model as it was."""
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    vault, scores = Vault(data, held_out.order), {}
    for name, (epoch, weights) in result.by_task.items():
        if epoch == result.selection.epoch:
            logits = predictions[name]
        else:
            model.load_state_dict(weights, strict=False)
            logits = held_out.predict(model, [name])[name]
        scores[name] = TaskEpoch(epoch=epoch, scores=vault.score(data.tasks[name], logits)[0])
    model.load_state_dict(kept)
    return scores


def _trained(
    learner: Learner,
    valid: ValidationRows,
    arm: Arm,
    budget: Budget,
    checkpoint: Checkpoint,
    on_epoch: Callable[[Epoch], None] | None,
) -> tuple[Trained, float]:
    """Train the model, or let it fit itself, and leave the best epoch's weights in it; also the seconds it prepared."""
    if learner.model.fit is not None:
        return fit_whole(learner, valid), 0.0
    learner.model.start_training(learner.rows, learner.streams.environment())
    preparing = 0.0
    if not arm.from_stage0:
        checkpoint, preparing = prepare(learner, valid.score, budget, checkpoint)
    return train(learner, lambda: valid.scores(learner.forward), budget, checkpoint, on_epoch), preparing


def _scored(
    outcome: Outcome,
    predictions: Predictions,
    held_out: HeldOutRows,
    data: EncodedDataset,
    model: MultiTaskModel,
    result: Trained,
) -> Outcome:
    """With the scores of the test rows' predictions, and what goes beside the record."""
    vault = Vault(data, held_out.order)
    for name, logits in predictions.items():
        outcome.scores[name], outcome.labels[name] = vault.score(data.tasks[name], logits)
    outcome.warnings += [*_below_chance(outcome.scores), *_far_above(outcome, data)]
    if result.by_task:
        outcome.by_task_epoch = _by_task_epoch(result, predictions, held_out, data, model)
    outcome.predictions = predictions
    outcome.inspected = held_out.inspect(model)
    return _measured(outcome, model)


def _below_chance(scores: Mapping[str, TaskScores]) -> list[str]:
    """A sentence for each binary task that is ranked the wrong way round, beyond what the test rows' noise explains."""
    warnings = []
    for name, score in scores.items():
        auc, error = score.metrics.get("auc"), score.auc_standard_error
        if auc is not None and error is not None and auc + BELOW_CHANCE * error < 0.5:
            warnings.append(
                f"task '{name}': AUC {auc:.3f} on the test rows is far below chance (0.5, standard error {error:.3f}): "
                "too few epochs or positives to learn it, or labels that follow the inputs the other way round there."
            )
    return warnings


def _far_above(outcome: Outcome, data: EncodedDataset) -> list[str]:
    """A sentence for each trained binary task that ranks test rows far better than the validation rows of its epoch:
    by more than `LEAST_ABOVE` and `FAR_ABOVE` standard errors of the two AUCs together."""
    kept = next((epoch.validation for epoch in outcome.curve if epoch.epoch == outcome.selection.epoch), {})  # type: ignore[union-attr]
    warnings = []
    for name, score in outcome.scores.items():
        auc, error, before = score.metrics.get("auc"), score.auc_standard_error, kept.get(name, {}).get("auc")
        if auc is None or error is None or before is None or auc - before <= LEAST_ABOVE:
            continue
        labels = data.labels("valid", name)
        noise = (error**2 + auc_variance(before, int((labels == 1).sum()), int((labels == 0).sum()))) ** 0.5
        if auc - before > FAR_ABOVE * noise:
            warnings.append(
                f"task '{name}': AUC {auc:.3f} on the test rows is far above the {before:.3f} on the validation rows "
                f"({(auc - before) / noise:.0f} standard errors): were test labels read, or are the rows of the two "
                "splits of different kinds?"
            )
    return warnings


def _measured(outcome: Outcome, model: MultiTaskModel) -> Outcome:
    """With the weights as they are in the end, and the largest memory so far."""
    outcome.weights = model.state_dict()
    outcome.weights_fingerprint = meters.weights_fingerprint(outcome.weights)
    outcome.peak_memory_bytes = meters.peak_memory_bytes()
    outcome.peak_gpu_memory_bytes = meters.peak_gpu_memory_bytes(next(model.parameters()).device)
    return outcome


def _before(
    key: Key, config: Mapping[str, Any], arm: Arm, data: EncodedDataset, schema: Schema
) -> Callable[[], MultiTaskModel] | None:
    """Makes the model of stage 0 once more, for a run that continues one."""
    if not arm.from_stage0:
        return None
    tasks = [data.tasks[name] for name in key.old_tasks]
    return lambda: make_model(key.method, config, schema, tasks)


def _counted(count: Callable[[], Counted], warnings: list[str]) -> Counted | None:
    """What ``count`` gives, or None and the reason among the warnings."""
    try:
        return count()
    except operations.NotCounted as reason:
        if str(reason) not in warnings:
            warnings.append(str(reason))
        return None


def _check_step(learner: Learner, arm: Arm, options: TrainingOptions) -> None:
    """Raises UsageError where a method's own training step would silently go without what the run asks for."""
    if learner.model.training_step is not None and (learner.balance is not None or arm.continual):
        what = f"balancing={options.balancing!r}" if learner.balance is not None else f"the arm '{arm.name}'"
        raise UsageError(f"{learner.model.info.name} has a training step of its own, which {what} cannot change.")


def _set_up(
    learner: Learner, valid: ValidationRows, key: Key, data: EncodedDataset, schema: Schema, budget: Budget
) -> None:
    """What an arm needs once before training: rows and loss that fight forgetting, or a frozen backbone's outputs."""
    arm = ARMS[key.arm]
    if arm.continual:
        setting = _setting(learner, key, data, schema, budget)
        options = {name: value for name, value in arm.resolve(key.arm_config).items() if name in arm.options}
        learner.rows, learner.loss = continual(arm.continual, setting, options)
    if arm.frozen:
        learner.cache()
        if learner.cached is not None:
            valid.cache(learner.model)
    if arm.probes:
        roles = learner.model.parameter_roles()
        learner.head = [parameter for name in key.tasks for parameter in roles.get(f"task:{name}", [])]
        epochs = budget.epochs
        # at least one epoch of each, where there are two
        learner.probing = min(max(1, round(arm.resolve(key.arm_config)["share"] * epochs)), epochs - 1)


def _selecting(key: Key, arm: Arm) -> list[str]:
    """The tasks whose validation scores choose the kept epoch: those that are trained and, where the arm is told so,
    the old ones, too."""
    old = known_before(key) if arm.option("select_old", key.arm_config) else []
    return [*(task for task in old if task not in key.tasks), *key.tasks]


def _learn_from(
    stage0: Path | None, learner: Learner, key: Key, config: Mapping[str, Any], data: EncodedDataset, schema: Schema
) -> None:
    """Let the stage-0 model's predictions on the training rows stand in for the old tasks' labels."""
    assert stage0 is not None and isinstance(learner.rows, DataRows)
    teacher = make_model(key.method, config, schema, [data.tasks[name] for name in key.old_tasks])
    teacher.load_state_dict(torch.load(stage0, map_location="cpu", weights_only=True))
    targets = soft_targets(teacher.to(learner.device), learner.rows, key.old_tasks)
    labels = _labels(data, "train", [name for name in key.tasks if name not in targets])
    learner.rows = learner.rows.with_labels({name: (targets | labels)[name] for name in key.tasks})


def _setting(learner: Learner, key: Key, data: EncodedDataset, schema: Schema, budget: Budget) -> Setting:
    """What an arm that fights forgetting has at hand."""
    rows, known = learner.rows, known_before(key)
    assert isinstance(rows, DataRows)
    labels = _labels(data, "train", [*known, *key.tasks])
    chosen = _scarce(key, data, labels)
    own = {name: labels[name] if chosen is None else labels[name][chosen] for name in key.tasks}
    everything = None if chosen is None else DataRows(data.split("train", schema), labels, learner.device)

    def with_labels(others: Mapping[str, NDArray[np.float32]]) -> DataRows:
        return rows.with_labels({**own, **others})

    words = key.dataset, key.seed
    head = partial(warm_up, learner, list(key.tasks), budget)
    return Setting(learner.model, rows, with_labels, labels, tuple(known), words, everything, head)


def _training_rows(key: Key, data: EncodedDataset, schema: Schema, device: torch.device) -> DataRows:
    """The rows that a run learns from: all of them, or those with a label where only scarce labels are learnt."""
    split, labels = data.split("train", schema), _labels(data, "train", key.tasks)
    if (chosen := _scarce(key, data, labels)) is None:
        return DataRows(split, labels, device)
    return DataRows(ChosenRows(split, chosen), {name: label[chosen] for name, label in labels.items()}, device)


def _scarce(key: Key, data: EncodedDataset, labels: Mapping[str, NDArray[np.float32]]) -> NDArray[np.int64] | None:
    """The rows to learn from where the new tasks' labels are thinned and nothing else is trained; None: all."""
    if without_share(key.dataset)[1] is None or not set(key.tasks) <= set(data.new_tasks):
        return None
    return labelled_rows({name: labels[name] for name in key.tasks})


def _kept_promises(model: MultiTaskModel, before: Predictions, after: Predictions) -> dict[str, bool]:
    """What a frozen arm promises, checked. Raises InvariantBroken."""
    promises = {
        "old_tasks_unchanged": all(np.array_equal(before[task], after[task], equal_nan=True) for task in before),
        "frozen_parameters_without_gradient": all(p.grad is None for p in model.parameters() if not p.requires_grad),
    }
    if broken := [name for name, holds in promises.items() if not holds]:
        raise InvariantBroken(f"the frozen arm broke: {', '.join(broken)}")
    return promises


def _labels(data: EncodedDataset, split: str, tasks: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    return {name: data.labels(split, name) for name in tasks}
