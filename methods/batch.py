"""What a method sees: batches, the progress of training, rows, and the losses of tasks on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets_registry.schema import Task


@dataclass
class Batch:
    """B rows on one device.

    ``categorical`` int32 [B, schema.columns], rows of the stacked embedding table; ``numeric`` float32
    [B, len(schema.numeric)]; ``labels`` float32 [B] for each task that is being trained (NaN where a partial task is
    undefined), empty at prediction; ``index`` int64 [B], position of each row within its split, so that a method can
    keep something per row whatever the order of rows.
    """

    categorical: Tensor
    numeric: Tensor
    labels: dict[str, Tensor] = field(default_factory=dict)
    index: Tensor | None = None

    def __len__(self) -> int:
        return len(self.categorical)


@dataclass(frozen=True)
class Progress:
    """Where training stands. ``step`` counts from 0 within the epoch, ``epoch`` from 1."""

    epoch: int
    step: int
    epochs: int
    steps_per_epoch: int

    @property
    def fraction(self) -> float:
        """Share of the planned training that is done before this step, in [0, 1)."""
        return (self.step + (self.epoch - 1) * self.steps_per_epoch) / (self.epochs * self.steps_per_epoch)


class Rows(Protocol):
    """The training rows as a method's hooks see them."""

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in file order, with labels and ``index``."""
        ...


class Training(Protocol):
    """What `MultiTaskModel.prepare` may use: training rows and scores on validation rows, never test rows."""

    batch_size: int
    learning_rate: float

    def epoch(self) -> Iterator[Batch]:
        """Shuffled training batches of one more epoch, with labels and ``index``."""
        ...

    def score(self, forward: Callable[[Batch], Mapping[str, Tensor]], task: str) -> float:
        """The task's AUC (R² for regression) on validation rows; minus infinity where it is undefined."""
        ...

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The trainer's own optimizer over ``parameters``, with the method's weight decay."""
        ...


def row_losses(task: Task, outputs: Tensor, labels: Tensor) -> Tensor:
    """Loss of each row [B]: binary cross-entropy of logits, squared error for regression; NaN where undefined."""
    if task.kind == "regression":
        return F.mse_loss(outputs, labels, reduction="none")
    return F.binary_cross_entropy_with_logits(outputs, labels, reduction="none")


def mean_loss(task: Task, outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of a task over the rows whose label is defined (not NaN); 0 if there is none.

    Only tasks declared ``partial`` take the masked way, since it costs as much again as the plain mean.
    """
    loss = F.mse_loss if task.kind == "regression" else F.binary_cross_entropy_with_logits
    if not task.partial:
        return loss(outputs, labels)
    known = labels == labels
    # The undefined rows get a harmless label: NaN times a weight of zero would still be NaN.
    losses = loss(outputs, torch.where(known, labels, 0.0), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)
