"""Runs of methods that fit themselves instead of being trained by gradient steps: trees, logistic regression."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmark.core.seeding import stream_seed
from benchmark.records.record import Epoch, Selection
from benchmark.spec.budget import SELECTION_RULE
from benchmark.training.learner import Learner
from benchmark.training.scoring import ValidationRows, quick_scores
from benchmark.training.trainer import Trained, selection_score
from methods.batch import Batch


class WholeRows:
    """The `methods.base.Fitting` of a run: all rows of a split as one batch."""

    def __init__(self, learner: Learner, valid: ValidationRows) -> None:
        self.seed = stream_seed("fit", *learner.streams.words) % 2**32
        self._splits: Mapping[str, Batch] = {
            "train": learner.rows.gather(slice(0, len(learner.rows))),
            "valid": valid.labelled(),
        }
        self._groups = valid.groups
        self._tasks = {task.name: task for task in learner.model.tasks}

    def labelled(self, split: str, task: str) -> tuple[NDArray[np.float32], Batch]:
        """Labels [B] of a task and the rows of "train" or "valid" on which it is defined."""
        rows = self._splits[split]
        defined = ~torch.isnan(rows.labels[task])
        if defined.all():
            return rows.labels[task].cpu().numpy(), rows
        return rows.labels[task][defined].cpu().numpy(), Batch(rows.categorical[defined], rows.numeric[defined])

    def score(self, task: str, outputs: NDArray[np.float32]) -> float:
        """What selects an epoch, on validation rows: the task's primary metric or its GAUC; minus infinity where it is
        undefined."""
        labels = self._splits["valid"].labels[task].cpu().numpy()
        groups = None if self._groups is None else self._groups[~np.isnan(labels)]
        scores = quick_scores(self._tasks[task], outputs, labels[~np.isnan(labels)], groups)
        value = selection_score({task: scores})
        return float("-inf") if value is None else value


def fit_whole(learner: Learner, valid: ValidationRows) -> Trained:
    """Let the model fit itself with as many threads as the run has; the steps that it reports are the curve."""
    model = learner.model
    assert model.fit is not None
    (task,) = model.tasks
    started = time.perf_counter()
    with threadpool_limits(torch.get_num_threads()):
        scores = model.fit(WholeRows(learner, valid))
    seconds = time.perf_counter() - started
    known = [None if score == float("-inf") else score for score in scores]
    metric = "r2" if task.kind == "regression" else "auc" if valid.groups is None else "gauc"
    curve = [
        Epoch(
            epoch=step,
            loss={},
            validation={task.name: {metric: score}},
            selection=score,
            train_seconds=seconds / len(scores),
            validate_seconds=0.0,
        )
        for step, score in enumerate(known, 1)
    ]
    kept = 1 + int(np.argmax(scores))
    return Trained(curve, Selection(rule=SELECTION_RULE, epoch=kept, score=known[kept - 1], epochs_run=len(curve)))
