"""What a method may use that trains before the main training: a mask search, say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from benchmark.core.seeding import torch_stream
from benchmark.spec.budget import Budget
from benchmark.training.rows import RowSource, shuffled
from benchmark.training.trainer import make_optimizer
from methods.base import MultiTaskModel
from methods.batch import Batch

Score = Callable[[Callable[[Batch], Mapping[str, Tensor]], str], float | None]


class Preparation:
    """The `methods.base.Training` of a run. ``score`` maps a forward function and a task to the task's primary metric
    on validation rows; ``words`` name the random stream of the row orders."""

    def __init__(
        self,
        model: MultiTaskModel,
        rows: RowSource,
        score: Score,
        budget: Budget,
        words: tuple[str | int, ...],
        device: torch.device,
    ) -> None:
        self.batch_size = budget.batch_size
        self.learning_rate = budget.learning_rate
        self._model, self._rows, self._score, self._words, self._device = model, rows, score, words, device
        self._epochs = 0

    def epoch(self) -> Iterator[Batch]:
        """Shuffled training batches of one more epoch."""
        self._epochs += 1
        generator = torch_stream("preparation", *self._words, self._epochs)
        return shuffled(self._rows, self.batch_size, generator, self._device)

    def score(self, forward: Callable[[Batch], Mapping[str, Tensor]], task: str) -> float:
        """Primary metric of ``task`` on validation rows; minus infinity where it is undefined."""
        with torch.inference_mode():
            value = self._score(forward, task)
        return float("-inf") if value is None else value

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The trainer's own optimizer, with the method's weight decay."""
        return make_optimizer(self._model, list(parameters), self.learning_rate)
