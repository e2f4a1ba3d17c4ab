"""What a method sees: batches, the progress of training, rows, and the losses of tasks on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from datasets_registry.schema import Schema, Task


@dataclass
class Batch:
    """B rows on one device.

    ``categorical`` int32 [B, schema.columns], rows of the stacked embedding table; ``numeric`` float32
    [B, len(schema.numeric)]; ``labels`` float32 [B] for each task that is being trained (NaN where a partial task is
    undefined), empty at prediction; ``index`` int64 [B], position of each row within its split, so that a method can
    keep something per row whatever the order of rows; ``sequences`` int32 [B, length] for each sequence of the schema,
    rows of the same table in the order of time, and -1 where a sequence has no value.
    """

    categorical: Tensor
    numeric: Tensor
    labels: dict[str, Tensor] = field(default_factory=dict)
    index: Tensor | None = None
    sequences: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.categorical)

    def unlabelled(self) -> Batch:
        """The same rows without labels, as at prediction: a model is then asked for every task."""
        return Batch(self.categorical, self.numeric, {}, self.index, self.sequences)

    def take(self, rows: Tensor | slice) -> Batch:
        """Some of the rows, with everything that belongs to them."""
        index = None if self.index is None else self.index[rows]
        labels, sequences = ({name: part[rows] for name, part in of.items()} for of in (self.labels, self.sequences))
        return Batch(self.categorical[rows], self.numeric[rows], labels, index, sequences)

    def to(self, device: torch.device | str) -> Batch:
        """The rows' inputs on another device, without labels and positions."""
        sequences = {name: codes.to(device) for name, codes in self.sequences.items()}
        return Batch(self.categorical.to(device), self.numeric.to(device), {}, None, sequences)


def random_inputs(schema: Schema, rows: int, generator: torch.Generator) -> Batch:
    """Rows of the schema's shape with codes and numbers by chance; a sequence has as many values as chance gives."""
    columns = [
        torch.randint(feature.size, (rows,), generator=generator, dtype=torch.int32) + offset
        for feature, offset in zip(schema.categorical, schema.offsets, strict=True)
        for _ in range(feature.length)
    ]
    categorical = torch.stack(columns, 1) if columns else torch.empty(rows, 0, dtype=torch.int32)
    numeric = torch.rand(rows, len(schema.numeric), generator=generator)
    sequences = {}
    for one, offset in zip(schema.sequences, schema.sequence_offsets, strict=True):
        codes = torch.randint(one.size, (rows, one.length), generator=generator, dtype=torch.int32) + offset
        filled = torch.randint(one.length + 1, (rows, 1), generator=generator)
        column = torch.arange(one.length)
        inside = column >= one.length - filled if one.anchor == "last" else column < filled
        sequences[one.name] = torch.where(inside, codes, -1)
    return Batch(categorical, numeric, sequences=sequences)


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


class Fitting(Protocol):
    """What `MultiTaskModel.fit` gets: training and validation rows, never test rows."""

    seed: int

    def labelled(self, split: str, task: str) -> tuple[NDArray[np.float32], Batch]:
        """Labels [B] of a task and the rows of "train" or "valid" on which it is defined."""
        ...

    def score(self, task: str, outputs: NDArray[np.float32]) -> float:
        """The task's AUC on the validation rows of `labelled`; minus infinity where it is undefined."""
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
