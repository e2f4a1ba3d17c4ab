"""The training loop: one for all methods, arms and devices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.seeding import stream_seed, torch_stream
from benchmark.records.record import Epoch, Selection
from benchmark.spec.budget import SELECTION_RULE, Budget
from benchmark.training.balancing import Balancer
from benchmark.training.rows import RowSource, shuffled
from methods.base import MultiTaskModel
from methods.batch import Batch, Progress

LOSS_WINDOW = 256
"""Steps between two looks at the loss: on a GPU every look waits for the device."""

Validation = dict[str, dict[str, float | None]]


class TrainingDiverged(Exception):
    """A loss term stopped being finite; the message names epoch, step and term."""


@dataclass
class Trained:
    """What training leaves behind; the model holds the kept epoch's weights."""

    curve: list[Epoch]
    selection: Selection
    train_seconds: float
    validate_seconds: float
    rows: int

    @property
    def seconds_to_best_epoch(self) -> float:
        """Training and validation time up to and including the kept epoch."""
        kept = [epoch for epoch in self.curve if epoch.epoch <= self.selection.epoch]
        return sum(epoch.train_seconds + epoch.validate_seconds for epoch in kept)


def train(
    model: MultiTaskModel,
    rows: RowSource,
    validate: Callable[[], Validation],
    budget: Budget,
    *,
    forward: Callable[[Batch], Mapping[str, Tensor]],
    loss: Callable[[Batch, Mapping[str, Tensor], Progress], Mapping[str, Tensor]],
    trained: Iterable[nn.Parameter],
    training_mode: Callable[[], None],
    order: tuple[str | int, ...],
    noise: tuple[str | int, ...],
    device: torch.device,
    balance: Balancer | None = None,
    hook_rows: RowSource | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    resume: dict[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train ``trained`` on ``rows`` and leave the best epoch's weights in the model.

    ``forward`` maps a batch to outputs (of the whole model, or of the new task's head on cached features), ``loss``
    these to named terms, and ``balance`` those to gradients (None: of their sum);
    ``training_mode`` puts the modules that train into training mode; ``order`` and ``noise`` name the random streams
    of the row order and of dropout, one draw per epoch, so that a resumed run needs no generator state.
    ``save`` receives everything that a later call needs as ``resume`` to end with the same bits.
    Raises TrainingDiverged.
    """
    parameters = [*trained, *(balance.parameters() if balance else ())]
    optimizer = make_optimizer(model, parameters, budget.learning_rate)
    step = getattr(model, "training_step", None)
    best = _Best(model, budget.patience)
    curve: list[Epoch] = []
    if resume is not None:
        curve = [Epoch.model_validate(epoch) for epoch in resume["curve"]]
        model.load_state_dict(resume["model"])
        model.load_training_state(resume["training_state"])
        optimizer.load_state_dict(resume["optimizer"])
        best.restore(resume["best"])
        if balance is not None:
            balance.load_state(resume["balancing"])
    steps = math.ceil(len(rows) / budget.batch_size)

    for number in range(len(curve) + 1, budget.epochs + 1):
        if best.exhausted(number - 1):
            break
        started = time.perf_counter()
        training_mode()
        torch.manual_seed(stream_seed(*noise, number))
        losses = _LossWatch(number)
        generator = torch_stream(*order, number)
        for position, batch in enumerate(shuffled(rows, budget.batch_size, generator, device)):
            progress = Progress(number, position, budget.epochs, steps)
            if step is not None:
                terms = step(batch, progress, optimizer)
            else:
                optimizer.zero_grad(set_to_none=True)
                terms = loss(batch, forward(batch), progress)
                if balance is None:
                    total(terms).backward()
                else:
                    balance.backward(terms)
                optimizer.step()
            losses.add(terms)
        means = losses.finish()
        model.eval()
        model.end_epoch(number, hook_rows if hook_rows is not None else rows)  # type: ignore[arg-type]
        trained_at = time.perf_counter()
        scores = validate()
        mean = selection_score(scores)
        best.offer(number, mean)
        curve.append(
            Epoch(
                epoch=number,
                loss=means,
                validation=scores,
                selection=mean,
                train_seconds=trained_at - started,
                validate_seconds=time.perf_counter() - trained_at,
            )
        )
        if on_epoch is not None:
            on_epoch(curve[-1])
        if save is not None and not best.exhausted(number) and number < budget.epochs:
            save(
                {
                    "curve": [epoch.model_dump() for epoch in curve],
                    "model": model.state_dict(),
                    "training_state": model.training_state(),
                    "optimizer": optimizer.state_dict(),
                    "best": best.state(),
                    "balancing": balance.state() if balance else {},
                }
            )
    best.load_into(model)
    model.eval()
    return Trained(
        curve,
        best.selection(len(curve)),
        sum(epoch.train_seconds for epoch in curve),
        sum(epoch.validate_seconds for epoch in curve),
        len(rows),
    )


def make_optimizer(model: MultiTaskModel, trained: list[nn.Parameter], learning_rate: float) -> torch.optim.Adam:
    """Fused Adam over ``trained``, L2 as weight decay per parameter group (the same gradient as the explicit term)."""
    decay = {id(parameter): coefficient for parameter, coefficient in model.weight_decay() if coefficient}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in trained:
        groups.setdefault(decay.get(id(parameter), 0.0), []).append(parameter)
    return torch.optim.Adam(
        [{"params": members, "weight_decay": coefficient} for coefficient, members in sorted(groups.items())],
        lr=learning_rate,
        fused=True,
    )


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Sum of named scalar loss terms."""
    first, *rest = terms.values()
    for term in rest:
        first = first + term
    return first


def selection_score(validation: Validation) -> float | None:
    """Mean over the tasks of AUC (R² for regression tasks) on validation rows; tasks without one are left out."""
    values = [scores.get("auc", scores.get("r2")) for scores in validation.values()]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


class _Best:
    """Keeps the weights of the best epoch (strictly better wins, so ties go to the earlier one)."""

    def __init__(self, model: nn.Module, patience: int) -> None:
        self._model = model
        self._patience = patience
        self.epoch = 0
        self.score: float | None = None
        self.weights: dict[str, Tensor] = {}

    def offer(self, epoch: int, score: float | None) -> None:
        """Without any score the latest epoch is kept; the record's selection says so."""
        if self.score is None or (score is not None and score > self.score):
            self.epoch, self.score = epoch, score
            self.weights = {
                name: tensor.detach().clone() for name, tensor in self._model.named_parameters() if tensor.requires_grad
            } | {name: tensor.clone() for name, tensor in self._model.named_buffers()}

    def exhausted(self, epoch: int) -> bool:
        """Whether ``patience`` epochs have passed without a better one."""
        return self.score is not None and epoch - self.epoch >= self._patience

    def load_into(self, model: nn.Module) -> None:
        if self.weights:
            model.load_state_dict(self.weights, strict=False)

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "score": self.score, "weights": self.weights}

    def restore(self, state: dict[str, Any]) -> None:
        self.epoch, self.score, self.weights = state["epoch"], state["score"], state["weights"]

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
