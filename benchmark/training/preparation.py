"""What a method may use that trains before the main training: a mask search, say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from benchmark.core.seeding import stream_seed
from benchmark.spec.budget import Budget
from benchmark.training.learner import Learner, make_optimizer
from benchmark.training.rows import shuffled
from benchmark.training.trainer import NO_CHECKPOINT, Checkpoint
from benchmark.training.untouched import left_alone
from methods.base import MultiTaskModel
from methods.batch import Batch

Score = Callable[[Callable[[Batch], Mapping[str, Tensor]], str], float | None]


class Preparation:
    """The `methods.base.Training` of a run. ``score`` maps a forward function and a task to the task's primary metric
    on validation rows."""

    def __init__(self, learner: Learner, score: Score, budget: Budget) -> None:
        self.batch_size = budget.batch_size
        self.learning_rate = budget.learning_rate
        self._learner, self._score = learner, score
        self._epochs = 0

    def epoch(self) -> Iterator[Batch]:
        """Shuffled training batches of one more epoch."""
        self._epochs += 1
        learner = self._learner
        return shuffled(learner.rows, self.batch_size, learner.streams.preparation(self._epochs), learner.device)

    def score(self, forward: Callable[[Batch], Mapping[str, Tensor]], task: str) -> float:
        """Primary metric of ``task`` on validation rows; minus infinity where it is undefined."""

        def watched(batch: Batch) -> Mapping[str, Tensor]:
            with left_alone(batch, self._learner.model):
                return forward(batch)

        with torch.inference_mode():
            value = self._score(watched, task)
        return float("-inf") if value is None else value

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The trainer's own optimizer, with the method's weight decay."""
        return make_optimizer(self._learner.model, list(parameters), self.learning_rate)


def prepare(
    learner: Learner, score: Score, budget: Budget, checkpoint: Checkpoint = NO_CHECKPOINT
) -> tuple[Checkpoint, float]:
    """Let a method prepare itself, unless the state to resume from says that it has; most methods have nothing to do.

    Returns the checkpoint for the training that follows, and the seconds that the preparation took.
    """
    save, resume = checkpoint
    if type(learner.model).prepare is MultiTaskModel.prepare:
        return checkpoint, 0.0
    torch.manual_seed(stream_seed("preparation", *learner.streams.words))
    if resume is None:
        started = time.perf_counter()
        learner.model.prepare(Preparation(learner, score, budget))
        seconds = time.perf_counter() - started
        if save is not None:
            save(learner.state() | {"prepare_seconds": seconds})
    else:
        seconds = resume["prepare_seconds"]
        learner.load_state(resume)
    trained = resume if resume is not None and "curve" in resume else None
    return Checkpoint(save and (lambda state: save(state | {"prepare_seconds": seconds})), trained), seconds
