"""The training loop: one for all methods, arms and devices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmark.core.steps import tell
from benchmark.records.record import Epoch, Selection
from benchmark.spec.budget import SELECTION_RULE, Budget
from benchmark.training.learner import Learner
from methods.batch import Progress

LOSS_WINDOW = 256
"""Steps between two looks at the loss: on a GPU every look waits for the device."""

Validation = dict[str, dict[str, float | None]]


class TrainingDiverged(Exception):
    """A loss term stopped being finite; the message names epoch, step and term."""


class Checkpoint(NamedTuple):
    """How a run outlives an interruption: ``save`` takes a state now and then, ``resume`` is the state to go on from.

    A run that is resumed ends with the same bits as one that was never interrupted.
    """

    save: Callable[[dict[str, Any]], None] | None = None
    resume: dict[str, Any] | None = None


NO_CHECKPOINT = Checkpoint()


@dataclass
class Trained:
    """What training leaves behind; the model holds the kept epoch's weights."""

    curve: list[Epoch]
    selection: Selection
    by_task: dict[str, tuple[int, dict[str, Tensor]]] = field(default_factory=dict)
    """Where several tasks select: each task's own best epoch and the weights of that epoch."""

    @property
    def train_seconds(self) -> float:
        return sum(epoch.train_seconds for epoch in self.curve)

    @property
    def validate_seconds(self) -> float:
        return sum(epoch.validate_seconds for epoch in self.curve)

    @property
    def seconds_to_best_epoch(self) -> float:
        """Training and validation time up to and including the kept epoch."""
        kept = [epoch for epoch in self.curve if epoch.epoch <= self.selection.epoch]
        return sum(epoch.train_seconds + epoch.validate_seconds for epoch in kept)


def train(
    learner: Learner,
    validate: Callable[[], Validation],
    budget: Budget,
    checkpoint: Checkpoint = NO_CHECKPOINT,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train until the budget is spent or patience ends, and leave the best epoch's weights in the model.

    ``validate`` scores the model as it is, once per epoch. Raises TrainingDiverged.
    """
    optimizer = learner.optimizer(budget.learning_rate)
    best = _Best(learner, budget.patience)
    curve: list[Epoch] = []
    if (state := checkpoint.resume) is not None:
        curve = [Epoch.model_validate(epoch) for epoch in state["curve"]]
        learner.load_state(state)
        optimizer.load_state_dict(state["optimizer"])
        best.restore(state["best"])
    for number in range(len(curve) + 1, budget.epochs + 1):
        if best.exhausted(number - 1):
            break
        started = time.perf_counter()
        loss = _epoch(learner, number, budget, optimizer)
        trained_at = time.perf_counter()
        scores = validate()
        mean = selection_score(scores)
        best.offer(number, mean, scores)
        curve.append(
            Epoch(
                epoch=number,
                loss=loss,
                validation=scores,
                selection=mean,
                train_seconds=trained_at - started,
                validate_seconds=time.perf_counter() - trained_at,
            )
        )
        if on_epoch is not None:
            on_epoch(curve[-1])
        if checkpoint.save is not None and not best.exhausted(number) and number < budget.epochs:
            so_far = {"curve": [epoch.model_dump() for epoch in curve], "best": best.state()}
            checkpoint.save(learner.state() | so_far | {"optimizer": optimizer.state_dict()})
    best.load_into(learner.model)
    learner.model.eval()
    return Trained(curve, best.selection(len(curve)), best.by_task)


def _epoch(learner: Learner, number: int, budget: Budget, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """One epoch of steps; returns the mean of each loss term. The model is left in evaluation mode."""
    steps = math.ceil(len(learner.rows) / budget.batch_size)
    learner.begin_epoch(number)
    torch.manual_seed(learner.streams.noise(number))
    losses = _LossWatch(number)
    for position, batch in enumerate(learner.epoch(number, budget.batch_size)):
        tell("epoch", position, steps)
        losses.add(learner.step(batch, Progress(number, position, budget.epochs, steps), optimizer))
    means = losses.finish()
    learner.end_epoch(number)
    return means


def selection_score(validation: Validation) -> float | None:
    """Mean over the tasks of AUC (R² for regression tasks) on validation rows; tasks without one are left out.

    A binary task that has a GAUC here counts by it: it is there only where the suite selects by it.
    """
    values = [scores.get("gauc", scores.get("auc", scores.get("r2"))) for scores in validation.values()]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


class _Best:
    """Keeps the weights of the best epoch (strictly better wins, so ties go to the earlier one), and of each task's own
    best epoch where several tasks select. Tasks that are best at one epoch share one copy of its weights."""

    def __init__(self, learner: Learner, patience: int) -> None:
        moving = {id(parameter) for parameter in learner.trained}
        self._model = learner.model
        self._names = [name for name, parameter in learner.model.named_parameters() if id(parameter) in moving]
        self._patience = patience
        self._since = learner.probing
        self.epoch = 0
        self.score: float | None = None
        self.weights: dict[str, Tensor] = {}
        self._task_epochs: dict[str, tuple[int, float]] = {}
        self._task_weights: dict[int, dict[str, Tensor]] = {}

    def offer(self, epoch: int, score: float | None, scores: Validation) -> None:
        """Without any score the latest epoch is kept; the record's selection says so."""
        better = self.score is None or (score is not None and score > self.score)
        improved = self._improved(scores) if len(scores) > 1 else {}
        if not better and not improved:
            return
        weights = self._copied()
        if better:
            self.epoch, self.score, self.weights = epoch, score, weights
        for task, value in improved.items():
            self._task_epochs[task] = epoch, value
        self._task_weights[epoch] = weights
        still_best = {number for number, _ in self._task_epochs.values()}
        self._task_weights = {number: kept for number, kept in self._task_weights.items() if number in still_best}

    def _improved(self, scores: Validation) -> dict[str, float]:
        """The tasks whose validation score is above all before, with it."""
        values = {task: selection_score({task: metrics}) for task, metrics in scores.items()}
        best = {task: value for task, (_, value) in self._task_epochs.items()}
        return {t: v for t, v in values.items() if v is not None and (t not in best or v > best[t])}

    def _copied(self) -> dict[str, Tensor]:
        parameters = dict(self._model.named_parameters())
        return {name: parameters[name].detach().clone() for name in self._names} | {
            name: tensor.clone() for name, tensor in self._model.named_buffers()
        }

    @property
    def by_task(self) -> dict[str, tuple[int, dict[str, Tensor]]]:
        """Each task's best epoch and that epoch's weights; empty where one task selects."""
        return {task: (epoch, self._task_weights[epoch]) for task, (epoch, _) in self._task_epochs.items()}

    def exhausted(self, epoch: int) -> bool:
        """Whether ``patience`` epochs have passed without a better one, epochs of probing aside."""
        return self.score is not None and epoch - max(self.epoch, self._since) >= self._patience

    def load_into(self, model: nn.Module) -> None:
        if self.weights:
            model.load_state_dict(self.weights, strict=False)

    def state(self) -> dict[str, Any]:
        tasks = {"task_epochs": self._task_epochs, "task_weights": self._task_weights}
        return {"epoch": self.epoch, "score": self.score, "weights": self.weights} | tasks

    def restore(self, state: dict[str, Any]) -> None:
        self.epoch, self.score, self.weights = state["epoch"], state["score"], state["weights"]
        self._task_epochs = {task: (epoch, value) for task, (epoch, value) in state["task_epochs"].items()}
        self._task_weights = state["task_weights"]

    def selection(self, epochs_run: int) -> Selection:
        reason = None if self.score is not None else "no task has a validation score: last epoch kept"
        return Selection(rule=SELECTION_RULE, epoch=self.epoch, score=self.score, epochs_run=epochs_run, reason=reason)


class _LossWatch:
    """Epoch means of the loss terms and the check that they are finite, without a device wait at every step."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._names: tuple[str, ...] = ()
        self._window: list[Tensor] = []
        self._sums: Tensor | None = None
        self._steps = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        if not self._names:
            self._names = tuple(terms)
        self._window.append(torch.stack([term.detach() for term in terms.values()]))
        if len(self._window) == LOSS_WINDOW:
            self._look()

    def finish(self) -> dict[str, float]:
        self._look()
        assert self._sums is not None
        return dict(zip(self._names, (self._sums / self._steps).tolist(), strict=True))

    def _look(self) -> None:
        if not self._window:
            return
        window = torch.stack(self._window).double()
        bad = (~torch.isfinite(window)).nonzero()
        if len(bad):
            step, term = bad[0].tolist()
            raise TrainingDiverged(
                f"loss term '{self._names[term]}' is {window[step, term].item()} at epoch {self._epoch}, "
                f"step {self._steps + step + 1}"
            )
        sums = window.sum(0)
        self._sums = sums if self._sums is None else self._sums + sums
        self._steps += len(self._window)
        self._window = []
