"""One run from rows to scores: build or continue a model, train it, predict the test rows, score them in the vault.

The order of things is the protocol: test inputs are read after training has ended, in a fixed shuffled order; test
labels are read by the `Vault` alone, after the predictions are made. A key that is scored on validation rows only has
no test rows at all: nothing of them is opened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.core.errors import UsageError
from benchmark.core.seeding import stream_seed, torch_stream
from benchmark.records.record import Epoch, Flops, Key, Parameters, Seconds, Selection, TaskScores
from benchmark.spec.arms import ARMS, Arm
from benchmark.spec.budget import Budget
from benchmark.spec.options import split_config
from benchmark.training import meters
from benchmark.training.balancing import balancer
from benchmark.training.forgetting import Loss, Setting, continual
from benchmark.training.meters import Clock, flops, paper_count
from benchmark.training.models import build_or_continue, check_outputs, training_modules
from benchmark.training.preparation import Preparation
from benchmark.training.rows import DataRows, cache_features
from benchmark.training.scoring import HeldOutRows, Vault, collect_logits, quick_scores
from benchmark.training.trainer import Validation, selection_score, train
from datasets_registry.schema import Schema
from methods.base import MultiTaskModel
from methods.batch import Batch, Training

if TYPE_CHECKING:
    from datasets_registry.encoding.store import EncodedDataset

Save = Callable[[dict[str, Any]], None]


class InvariantBroken(Exception):
    """A promise that the harness checks on every run was not kept."""


@dataclass
class Outcome:
    """All that a run measured; the runner turns it into a record and files."""

    scores: dict[str, TaskScores]
    curve: list[Epoch]
    selection: Selection
    params: Parameters
    flops: Flops | None
    seconds: Seconds
    train_rows: int
    rows_per_second: float
    invariants: dict[str, bool]
    warnings: list[str]
    predictions: dict[str, NDArray[np.float32]]
    labels: dict[str, NDArray[np.float32]]
    inspected: dict[str, dict[str, NDArray]]
    weights: dict[str, Tensor] = field(repr=False)


def execute(
    key: Key,
    data: EncodedDataset,
    device: torch.device,
    *,
    stage0: Path | None = None,
    load_seconds: float = 0.0,
    checkpoint: tuple[Callable[[dict[str, Any]], None], dict[str, Any] | None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Outcome:
    """Carry out the run that ``key`` names.

    ``stage0`` is the stage-0 weights file for arms that continue one; ``checkpoint`` is (save, state to resume from).
    Raises TrainingDiverged, InvariantBroken, and whatever the method raises.
    """
    clock = Clock(load=load_seconds)
    arm = ARMS[key.arm]
    config, options = split_config(key.config)
    budget = Budget.of(key.budget, arm.from_stage0, options.learning_rate)
    schema = data.schema([*key.old_tasks, *key.new_tasks])
    tasks = [data.tasks[name] for name in key.tasks]
    with clock("load"):
        train_rows = DataRows(data.split("train", schema), _labels(data, "train", key.tasks), device)
        valid_rows = DataRows(data.split("valid", schema), {}, device)
        valid_labels = _labels(data, "valid", key.tasks)
    with clock("build"):
        model, trained, warnings = build_or_continue(key, config, arm, data, schema, tasks, stage0, device)
        balance = balancer(options.balancing, model, key.tasks)
    if getattr(model, "training_step", None) is not None and (balance is not None or arm.continual):
        what = f"balancing={options.balancing!r}" if balance is not None else f"the arm '{arm.name}'"
        raise UsageError(f"{key.method} has a training step of its own, which {what} cannot change.")
    check_outputs(model, valid_rows)
    on_test = key.scored == "test"
    held_out = HeldOutRows(data, "test" if on_test else "valid", schema, device)
    invariants: dict[str, bool] = {}
    before = held_out.predict(model, key.old_tasks) if arm.frozen else None

    loss = model.loss
    if arm.continual:
        with clock("cache"):
            train_rows, loss = _continual(key, arm, model, train_rows, data, schema, device)
    cached_train, cached_valid = None, None
    if arm.frozen:
        model.eval()
        with clock("cache"):
            cached_train = cache_features(model, train_rows)
            cached_valid = cache_features(model, valid_rows) if cached_train is not None else None

    def forward(batch: Batch) -> Mapping[str, Tensor]:
        return model(batch) if cached_train is None else model.forward_new(batch.features)  # type: ignore[attr-defined]

    def validate() -> Validation:
        with torch.inference_mode():
            logits = collect_logits(forward, valid_rows if cached_valid is None else cached_valid, key.tasks)
        return {task.name: quick_scores(task, logits[task.name], valid_labels[task.name]) for task in tasks}

    modules = training_modules(model, trained)

    def training_mode() -> None:
        # Frozen parts stay in evaluation mode (no dropout in a backbone that does not learn).
        model.train(not arm.frozen)
        for module in modules if arm.frozen else ():
            module.train()

    model.start_training(train_rows, torch_stream("environment", key.dataset, key.method, key.seed))
    save, resume = checkpoint if checkpoint is not None else (None, None)
    prepare_seconds = 0.0
    if not arm.from_stage0 and type(model).prepare is not MultiTaskModel.prepare:

        def score(predict: Callable[[Batch], Mapping[str, Tensor]], task: str) -> float | None:
            logits = collect_logits(predict, valid_rows, [task])[task]
            return selection_score({task: quick_scores(data.tasks[task], logits, valid_labels[task])})

        words = (key.dataset, key.method, key.seed)
        training = Preparation(model, train_rows, score, budget, words, device)
        torch.manual_seed(stream_seed("preparation", *words))
        save, resume, prepare_seconds = _prepare(model, training, save, resume)
    result = train(
        model,
        train_rows if cached_train is None else cached_train,
        validate,
        budget,
        forward=forward,
        loss=loss,
        balance=balance,
        trained=trained,
        training_mode=training_mode,
        order=("order", key.dataset, key.seed),
        noise=("dropout", key.dataset, key.method, key.seed),
        device=device,
        hook_rows=train_rows,
        save=save,
        resume=resume,
        on_epoch=on_epoch,
    )
    clock.add(train=result.train_seconds + prepare_seconds, validate=result.validate_seconds)

    known = [task.name for task in model.tasks] if on_test else list(before or ())
    with clock("predict"):
        predictions = held_out.predict(model, known)
    if before is not None:
        unchanged = all(np.array_equal(before[name], predictions[name], equal_nan=True) for name in before)
        still = all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)
        invariants = {"old_tasks_unchanged": unchanged, "frozen_parameters_without_gradient": still}
        if not all(invariants.values()):
            broken = ", ".join(name for name, holds in invariants.items() if not holds)
            raise InvariantBroken(f"the frozen arm broke: {broken}")
    if not on_test:
        predictions = {}
    vault = Vault(data, held_out.order)
    scored = {name: vault.score(data.tasks[name], predictions[name]) for name in predictions}
    return Outcome(
        scores={name: scores for name, (scores, _) in scored.items()},
        curve=result.curve,
        selection=result.selection,
        params=meters.count_parameters(model, trained, paper_count(model, arm, key, trained)),
        flops=flops(model, loss, train_rows, cached_train, arm),
        seconds=clock.seconds(result.seconds_to_best_epoch + prepare_seconds),
        train_rows=len(train_rows),
        rows_per_second=len(train_rows) * len(result.curve) / max(result.train_seconds, 1e-9),
        invariants=invariants,
        warnings=warnings,
        predictions=predictions,
        labels={name: labels for name, (_, labels) in scored.items()},
        inspected=held_out.inspect(model) if on_test else {},
        weights=model.state_dict(),
    )


def _prepare(
    model: MultiTaskModel, training: Training, save: Save | None, resume: dict[str, Any] | None
) -> tuple[Save | None, dict[str, Any] | None, float]:
    """Let a method prepare itself unless ``resume`` says that it has; saver, state to resume from, seconds."""
    if resume is None:
        started = time.perf_counter()
        model.prepare(training)
        seconds = time.perf_counter() - started
        if save is not None:
            save({"model": model.state_dict(), "training_state": model.training_state(), "prepare_seconds": seconds})
    else:
        seconds = resume["prepare_seconds"]
        model.load_state_dict(resume["model"])
        model.load_training_state(resume["training_state"])
    trained = resume if resume is not None and "curve" in resume else None
    return save and (lambda state: save(state | {"prepare_seconds": seconds})), trained, seconds


def _continual(
    key: Key,
    arm: Arm,
    model: MultiTaskModel,
    rows: DataRows,
    data: EncodedDataset,
    schema: Schema,
    device: torch.device,
) -> tuple[DataRows, Loss]:
    """Rows and loss of an arm that fights forgetting."""
    labels = _labels(data, "train", [*key.old_tasks, *key.tasks])

    def with_labels(others: Mapping[str, NDArray[np.float32]]) -> DataRows:
        return rows.with_labels({**{name: labels[name] for name in key.tasks}, **others})

    setting = Setting(model, rows, with_labels, labels, tuple(key.old_tasks), (key.dataset, key.seed))
    return continual(arm.continual, setting, arm.resolve(key.arm_config))


def _labels(data: EncodedDataset, split: str, tasks: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    return {name: data.labels(split, name) for name in tasks}
