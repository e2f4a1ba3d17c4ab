"""Held-out rows: predictions in a fixed order, scored by the one class that reads test labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.core.errors import UsageError
from benchmark.core.seeding import numpy_stream
from benchmark.core.steps import tell
from benchmark.records.record import TaskScores, UserNoise
from benchmark.records.row_noise import fingerprint, row_noise, user_noise
from benchmark.training.metrics import NOT_FINITE, PRIMARY, auc_standard_error, evaluate
from benchmark.training.metrics import auc as area_under_curve
from benchmark.training.rows import PREDICT_ROWS, DataRows, FrozenRows, cache_features, inputs_at
from benchmark.training.untouched import left_alone
from benchmark.training.user_metrics import NAMES as USER_METRICS
from benchmark.training.user_metrics import user_scores
from datasets_registry.schema import Schema, Task
from methods.base import MultiTaskModel
from methods.batch import Batch

if TYPE_CHECKING:
    from datasets_registry.encoding.store import EncodedDataset


INSPECTED_ROWS = 2000

Forward = Callable[[Batch], Mapping[str, Tensor]]


NO_USER = "no user with both classes"


class Vault:
    """Keeps the test labels. They are read when predictions are handed in, and never leave as anything but scores
    and as arrays written beside the record."""

    def __init__(self, data: EncodedDataset, order: NDArray[np.int64]) -> None:
        self._data = data
        self._order = order
        groups = data.groups("test")
        self._groups = None if groups is None else groups[order]

    def score(self, task: Task, predictions: NDArray[np.float32]) -> tuple[TaskScores, NDArray[np.float32]]:
        """Scores of ``predictions`` (in the fixed test order) and the labels in the same order."""
        labels = self._data.scoring_labels("test", task.name)[self._order]
        metrics, reasons, n = evaluate(task.kind, predictions, labels)
        binary = task.kind == "binary"
        scores = TaskScores(
            n=n,
            positives=int((labels == 1).sum()) if binary else None,
            metrics=metrics,
            reasons=reasons,
            auc_standard_error=auc_standard_error(predictions, labels) if binary else None,
            rows=row_noise(task.kind, predictions, labels),
        )
        if binary and self._groups is not None:
            _add_users(scores, predictions, labels, self._groups)
        return scores, labels


def _add_users(
    scores: TaskScores, predictions: NDArray[np.float32], labels: NDArray[np.float32], groups: NDArray
) -> None:
    """Put the metrics per user into ``scores``; rows [N] in the fixed test order, ``groups`` [N] their users."""
    known = ~np.isnan(labels)
    if not np.isfinite(predictions[known]).all():
        scores.metrics |= dict.fromkeys(USER_METRICS)
        scores.reasons |= dict.fromkeys(USER_METRICS, NOT_FINITE)
        return
    result = user_scores(predictions[known], labels[known], groups[known])
    scores.metrics |= result.metrics()
    scores.reasons |= {name: NO_USER for name in USER_METRICS if scores.metrics[name] is None}
    noise = user_noise(result.influences(), result.codes, fingerprint(labels, groups))
    scores.users = UserNoise(scored=len(result.codes), excluded=result.excluded, noise=noise)


def quick_scores(
    task: Task, predictions: NDArray[np.float32], labels: NDArray[np.float32], groups: NDArray | None = None
) -> dict[str, float | None]:
    """What validation needs after every epoch: the primary metric, and GAUC if given the rows' users ``groups`` [N]."""
    if task.kind == "binary":
        known = ~np.isnan(labels)
        predictions, labels = predictions[known], labels[known]
        usable = bool(np.isfinite(predictions).all()) and len(labels) > 0
        found = {PRIMARY["binary"]: area_under_curve(predictions, labels) if usable else None}
        if groups is not None:
            found["gauc"] = user_scores(predictions, labels, groups[known]).metrics()["gauc"] if usable else None
        return found
    metrics, _, _ = evaluate(task.kind, predictions, labels)
    return {PRIMARY[task.kind]: metrics[PRIMARY[task.kind]]}


def collect_logits(
    forward: Forward, rows: DataRows | FrozenRows, tasks: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Outputs of ``forward`` for all rows in file order, one pass for all tasks."""
    parts: dict[str, list[Tensor]] = {name: [] for name in tasks}
    for batch in rows.batches(PREDICT_ROWS):
        outputs = forward(batch)
        for name in tasks:
            parts[name].append(outputs[name])
    return {name: torch.cat(part).float().cpu().numpy() for name, part in parts.items()}


class ValidationRows:
    """The rows that select an epoch: inputs, and the labels of the tasks that a run trains.

    ``groups`` are their users [N] where these decide (``by_user``). Raises UsageError where the data names none.
    """

    def __init__(
        self, data: EncodedDataset, schema: Schema, tasks: Sequence[Task], device: torch.device, by_user: bool = False
    ) -> None:
        self.groups = data.groups("valid") if by_user else None
        if by_user and self.groups is None:
            raise UsageError(
                f"'{data.name}' names no user or session, so no epoch can be chosen by GAUC. Leave out "
                'selection = "gauc", or name the column (group = "..." in a schema file).'
            )
        self.rows = DataRows(data.split("valid", schema), {}, device)
        self._tasks = {task.name: task for task in tasks}
        self._labels = {name: data.labels("valid", name) for name in self._tasks}
        self._cached: FrozenRows | None = None

    def cache(self, model: MultiTaskModel) -> None:
        """Compute a frozen backbone's outputs once; `scores` then goes by them."""
        self._cached = cache_features(model, self.rows)

    def labelled(self) -> Batch:
        """All rows as one batch with their labels."""
        rows = self.rows.gather(slice(0, len(self.rows)))
        labels = {name: torch.from_numpy(label).to(rows.numeric.device) for name, label in self._labels.items()}
        return Batch(rows.categorical, rows.numeric, labels, rows.index)

    def scores(self, forward: Forward) -> dict[str, dict[str, float | None]]:
        """Of each task, from outputs on the rows or on what was cached of them."""
        with torch.inference_mode():
            logits = collect_logits(forward, self.rows if self._cached is None else self._cached, list(self._tasks))
        return {
            name: quick_scores(task, logits[name], self._labels[name], self.groups)
            for name, task in self._tasks.items()
        }

    def score(self, forward: Forward, task: str) -> float | None:
        """The primary metric of one task; None where it is undefined."""
        logits = collect_logits(forward, self.rows, [task])[task]
        return next(iter(quick_scores(self._tasks[task], logits, self._labels[task]).values()))


class HeldOutRows:
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
                tell("predictions", start, len(self.order))
                batch = self._batch(start, PREDICT_ROWS)
                with left_alone(batch, model):
                    outputs = model(batch)
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
        with torch.inference_mode(False):  # tensors made in inference mode do not count their changes
            return inputs_at(self._split, at, self._device)
