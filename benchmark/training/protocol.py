"""One run from rows to scores: build or continue a model, train it, predict the test rows, score them in the vault.

The order of things is the protocol: test inputs are read after training has ended, in a fixed shuffled order; test
labels are read by the `Vault` alone, after the predictions are made. A key that is scored on validation rows only has
no test rows at all: nothing of them is opened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.core.errors import UsageError
from benchmark.core.seeding import numpy_stream, stream_seed, torch_stream
from benchmark.records.record import Epoch, Flops, Key, Parameters, Seconds, Selection, TaskScores
from benchmark.spec.arms import ARMS, Arm
from benchmark.spec.options import split_config
from benchmark.training import meters
from benchmark.training.balancing import balancer
from benchmark.training.forgetting import Loss, Setting, continual
from benchmark.training.metrics import PRIMARY, auc_standard_error, defined, evaluate
from benchmark.training.metrics import auc as area_under_curve
from benchmark.training.peft import adapt
from benchmark.training.preparation import Preparation
from benchmark.training.rows import DataRows, FrozenRows
from benchmark.training.trainer import Budget, Validation, selection_score, total, train
from datasets_registry.schema import Schema, Task
from methods import METHODS
from methods.base import Batch, MultiTaskModel, Progress, Training

if TYPE_CHECKING:
    from datasets_registry.encoding.store import EncodedDataset

Save = Callable[[dict[str, Any]], None]

PREDICT_ROWS = 4096
INSPECTED_ROWS = 2000
FLOP_ROWS = 64
FEATURE_CACHE_BYTES = 8 << 30
"""Outputs of a frozen backbone are cached while they fit in this; otherwise every step computes them anew."""


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


class Vault:
    """Keeps the test labels. They are read when predictions are handed in, and never leave as anything but scores
    and as arrays written beside the record."""

    def __init__(self, data: EncodedDataset, order: NDArray[np.int64]) -> None:
        self._data = data
        self._order = order

    def score(self, task: Task, predictions: NDArray[np.float32]) -> tuple[TaskScores, NDArray[np.float32]]:
        """Scores of ``predictions`` (in the fixed test order) and the labels in the same order."""
        labels = self._data.labels("test", task.name)[self._order]
        metrics, reasons, n = evaluate(task.kind, predictions, labels)
        binary = task.kind == "binary"
        scores = TaskScores(
            n=n,
            positives=int((labels == 1).sum()) if binary else None,
            metrics=metrics,
            reasons=reasons,
            auc_standard_error=auc_standard_error(predictions, labels) if binary else None,
        )
        return scores, labels


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
    clock = _Clock(load=load_seconds)
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
        model, trained, warnings = _build(key, config, arm, data, schema, tasks, stage0, device)
        balance = balancer(options.balancing, model, key.tasks)
    if getattr(model, "training_step", None) is not None and (balance is not None or arm.continual):
        what = f"balancing={options.balancing!r}" if balance is not None else f"the arm '{arm.name}'"
        raise UsageError(f"{key.method} has a training step of its own, which {what} cannot change.")
    _check_outputs(model, valid_rows)
    on_test = key.scored == "test"
    held_out = _HeldOutRows(data, "test" if on_test else "valid", schema, device)
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
            logits = _collect(forward, valid_rows if cached_valid is None else cached_valid, key.tasks)
        return {task.name: _quick_scores(task, logits[task.name], valid_labels[task.name]) for task in tasks}

    modules = _training_modules(model, trained)

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
            logits = _collect(predict, valid_rows, [task])[task]
            return selection_score({task: _quick_scores(data.tasks[task], logits, valid_labels[task])})

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
        params=meters.count_parameters(model, trained, _paper_count(model, arm, key, trained)),
        flops=_flops(model, loss, train_rows, cached_train, arm),
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


def build_model(
    method: str, config: Mapping[str, Any], schema: Schema, tasks: Sequence[Task], words: tuple[str | int, ...]
) -> tuple[MultiTaskModel, list[str]]:
    """A fresh model with weights drawn from the streams that ``words`` (dataset, method, seed) name, and warnings."""
    model_class = METHODS.get(method)
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed("init", *words))
        model = model_class(schema, list(tasks), model_class.Config(**config))
    return model, initialise(model, words)


def take_in(
    model: MultiTaskModel, arm: Arm, new: Sequence[Task], options: Mapping[str, float], words: tuple[str | int, ...]
) -> tuple[MultiTaskModel, list[nn.Parameter], list[str]]:
    """Let a stage-0 model take in new tasks as ``arm`` says: the model, what is trained, and warnings."""
    # a probe reads the old tasks' representation and needs nothing that the method would add
    probe = arm.adaptation == "linear_probe"
    known = _modules(model)
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed("init", *words, "new tasks"))
        trained = arm.take_in(model, [] if probe else new)
        warnings = [] if probe else initialise(model, words, known)
        if arm.adaptation:
            known = _modules(model)
            model = adapt(arm.adaptation, model, new, options)
            initialise(model, words, known)
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return model, trained, warnings


def _modules(model: nn.Module) -> frozenset[int]:
    return frozenset(id(module) for module in model.modules())


def initialise(model: nn.Module, words: tuple[str | int, ...], known: frozenset[int] = frozenset()) -> list[str]:
    """Draw the weights of every module whose id is not in ``known``, each from the stream named after its path.

    Modules come before what contains them, so a model's own ``reset_parameters`` has the last word. Returns a warning
    for every parameter whose spread this changed: its constructor set it in a way that ``reset_parameters`` does not.
    """
    spread = {name: _spread(parameter) for name, parameter in model.named_parameters()}
    with torch.random.fork_rng():
        for path, module in reversed(list(model.named_modules())):
            if id(module) not in known and callable(getattr(module, "reset_parameters", None)):
                torch.manual_seed(stream_seed("init", *words, path))
                module.reset_parameters()
    return [
        f"initial values of '{name}' set in a constructor were replaced; move them to reset_parameters()"
        for name, parameter in model.named_parameters()
        if parameter.numel() >= 64 and not 0.5 <= (_spread(parameter) + 1e-6) / (spread[name] + 1e-6) <= 2.0
    ]


def _spread(parameter: Tensor) -> float:
    return float(parameter.detach().float().square().mean().sqrt())


def _build(
    key: Key,
    config: Mapping[str, Any],
    arm: Arm,
    data: EncodedDataset,
    schema: Schema,
    tasks: list[Task],
    stage0: Path | None,
    device: torch.device,
) -> tuple[MultiTaskModel, list[nn.Parameter], list[str]]:
    """The model of a run on its device, what is trained, and warnings."""
    words = (key.dataset, key.method, key.seed)
    if not arm.from_stage0:
        model, warnings = build_model(key.method, config, schema, tasks, words)
        model.to(device)
        return model, list(model.parameters()), warnings
    assert stage0 is not None
    model, _ = build_model(key.method, config, schema, [data.tasks[name] for name in key.old_tasks], words)
    model.load_state_dict(torch.load(stage0, map_location="cpu", weights_only=True))
    new = [data.tasks[name] for name in key.new_tasks]
    model, trained, warnings = take_in(model, arm, new, arm.resolve(key.arm_config), words)
    model.to(device)
    return model, trained, warnings


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


def _check_outputs(model: MultiTaskModel, rows: DataRows) -> None:
    """Say at once, and in the interface's words, when ``forward`` does not return what it has to."""
    model.eval()
    with torch.inference_mode():
        batch = rows.gather(slice(0, 2))
        outputs = model(batch)
    if not isinstance(outputs, Mapping):
        raise TypeError(f"forward must return a dict of task name to logits, not {type(outputs).__name__}")
    for task in model.tasks:
        if task.name not in outputs:
            raise KeyError(f"forward must return logits for every task; '{task.name}' is missing")
        if outputs[task.name].shape != (len(batch),):
            raise ValueError(
                f"forward must return logits of shape [B] = ({len(batch)},) for task '{task.name}', "
                f"not {tuple(outputs[task.name].shape)}"
            )


def _training_modules(model: nn.Module, trained: Sequence[nn.Parameter]) -> list[nn.Module]:
    """The modules that hold a trained parameter and nothing frozen."""
    identities = {id(parameter) for parameter in trained}
    return [
        module
        for module in model.modules()
        if (own := list(module.parameters())) and all(id(parameter) in identities for parameter in own)
    ]


def _labels(data: EncodedDataset, split: str, tasks: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    return {name: data.labels(split, name) for name in tasks}


def _quick_scores(task: Task, predictions: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float | None]:
    """What validation needs after every epoch: the primary metric alone, since it selects."""
    if task.kind == "binary":
        predictions, labels = defined(predictions, labels)
        value = area_under_curve(predictions, labels) if np.isfinite(predictions).all() and len(labels) else None
        return {PRIMARY["binary"]: value}
    metrics, _, _ = evaluate(task.kind, predictions, labels)
    return {PRIMARY[task.kind]: metrics[PRIMARY[task.kind]]}


def _collect(
    forward: Callable[[Batch], Mapping[str, Tensor]], rows: DataRows | FrozenRows, tasks: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Outputs of ``forward`` for all rows in file order, one pass for all tasks."""
    parts: dict[str, list[Tensor]] = {name: [] for name in tasks}
    for batch in rows.batches(PREDICT_ROWS):
        outputs = forward(batch)
        for name in tasks:
            parts[name].append(outputs[name])
    return {name: torch.cat(part).float().cpu().numpy() for name, part in parts.items()}


class _HeldOutRows:
    """Inputs of the rows that are predicted in the end, test rows unless the run may not see them, in the fixed
    shuffled order; read when first predicted, never with labels."""

    def __init__(self, data: EncodedDataset, which: str, schema: Schema, device: torch.device) -> None:
        self._split, self._device = data.split(which, schema), device
        self.order = numpy_stream("test order", data.name).permutation(len(self._split))

    def predict(self, model: MultiTaskModel, tasks: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Logits [N] by task."""
        if not tasks:
            return {}
        model.eval()
        parts: dict[str, list[Tensor]] = {name: [] for name in tasks}
        with torch.inference_mode():
            for start in range(0, len(self.order), PREDICT_ROWS):
                outputs = model(self._batch(start, PREDICT_ROWS))
                for name in tasks:
                    parts[name].append(outputs[name])
        return {name: torch.cat(part).float().cpu().numpy() for name, part in parts.items()}

    def inspect(self, model: MultiTaskModel) -> dict[str, dict[str, NDArray]]:
        """What the model shows of its inside, on the first rows."""
        model.eval()
        with torch.inference_mode():
            found = model.inspect(self._batch(0, INSPECTED_ROWS))
        return {file: {name: part.cpu().numpy() for name, part in arrays.items()} for file, arrays in found.items()}

    def _batch(self, start: int, size: int) -> Batch:
        at = self.order[start : start + size]
        return Batch(
            torch.from_numpy(self._split.categorical(at)).to(self._device),
            torch.from_numpy(self._split.numeric(at)).to(self._device),
        )


def cache_features(model: MultiTaskModel, rows: DataRows, limit: int = FEATURE_CACHE_BYTES) -> FrozenRows | None:
    """Outputs of the frozen backbone for all rows; None if the method does not separate them or they do not fit."""
    packed: Tensor | None = None
    shapes: dict[str, torch.Size] = {}
    start = 0
    with torch.inference_mode():
        for batch in rows.batches(PREDICT_ROWS):
            features = model.frozen_features(batch)
            if features is None:
                return None
            block = torch.cat([part.reshape(len(batch), -1) for part in features.values()], dim=1)
            if packed is None:
                shapes = {name: part.shape[1:] for name, part in features.items()}
                if block.shape[1] * 4 * len(rows) > limit:
                    return None
                packed = torch.empty((len(rows), block.shape[1]), device=block.device)
            packed[start : start + len(block)] = block
            start += len(block)
    # A tensor made in inference mode cannot enter autograd; its copy-free twin outside can.
    return None if packed is None else FrozenRows(rows, _outside_inference(packed), shapes)


def _outside_inference(tensor: Tensor) -> Tensor:
    return torch.from_numpy(tensor.numpy()) if tensor.device.type == "cpu" else tensor.clone()


def _paper_count(model: MultiTaskModel, arm: Arm, key: Key, trained: Sequence[nn.Parameter]) -> int | None:
    """Trained parameters for the new task as the MPT-Rec paper counted them (see MethodInfo.paper_counts)."""
    if arm.name != "frozen":
        return None
    if model.info.paper_counts == "old_task_parameters":
        roles = model.parameter_roles()
        return sum(parameter.numel() for name in key.old_tasks for parameter in roles.get(f"task:{name}", []))
    return meters.count_parameters(model, trained).trainable


def _flops(model: MultiTaskModel, loss: Loss, rows: DataRows, cached: FrozenRows | None, arm: Arm) -> Flops | None:
    """Operations per row of a forward pass and of a training step, with and without the frozen part."""
    count = min(FLOP_ROWS, len(rows))
    batch = rows.gather(slice(0, count))
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    progress = Progress(1, 0, 1, 1)

    def step(outputs: Mapping[str, Tensor], of: Batch) -> None:
        total(loss(of, outputs, progress)).backward()
        model.zero_grad(set_to_none=True)

    def whole_step() -> None:
        if (own := getattr(model, "training_step", None)) is None:
            step(model(batch), batch)
        else:
            own(batch, progress, _NoOptimizer(model))

    def forward_only() -> None:
        with torch.no_grad():
            model(batch)

    forward = meters.flops_per_row(forward_only, count)
    model.train(not arm.frozen)
    training = meters.flops_per_row(whole_step, count)
    forward_new = training_new = None
    if cached is not None:
        part = cached.gather(slice(0, count))
        forward_new = meters.flops_per_row(lambda: model.forward_new(part.features), count)
        training_new = meters.flops_per_row(lambda: step(model.forward_new(part.features), part), count)
    model.eval()
    for buffer, kept in buffers:  # a pass in training mode moves running statistics
        buffer.copy_(kept)
    if forward is None or training is None:
        return None
    return Flops(forward=forward, training_step=training, forward_new=forward_new, training_step_new=training_new)


class _NoOptimizer:
    """Stands in for an optimizer where a training step is to be counted and must change nothing."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._model.zero_grad(set_to_none=True)

    def step(self) -> None:
        self.zero_grad()


class _Clock:
    """Seconds by phase."""

    def __init__(self, **start: float) -> None:
        self._phases = dict.fromkeys(("load", "build", "cache", "train", "validate", "predict"), 0.0) | start

    def __call__(self, phase: str) -> Any:
        @contextmanager
        def measure() -> Iterator[None]:
            started = time.perf_counter()
            yield
            self._phases[phase] += time.perf_counter() - started

        return measure()

    def add(self, **seconds: float) -> None:
        for phase, value in seconds.items():
            self._phases[phase] += value

    def seconds(self, to_best_epoch: float) -> Seconds:
        return Seconds(**self._phases, total=sum(self._phases.values()), to_best_epoch=to_best_epoch)
