"""What the checks of a method share: a small schema, made-up rows, and how a toy model is built, grown and trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmark.core.seeding import stream_seed
from benchmark.spec.arms import ARMS
from benchmark.spec.budget import Budget
from benchmark.training.learner import Learner, Streams
from benchmark.training.models import initialise, take_in
from benchmark.training.preparation import prepare
from benchmark.training.rows import cache_features
from benchmark.training.trainer import Checkpoint, train
from datasets_registry.schema import CategoricalFeature, Schema, Task
from methods.base import MultiTaskModel
from methods.batch import Batch, random_inputs

CPU = torch.device("cpu")
SCHEMA = Schema(
    (CategoricalFeature("user", 20, reserved=1), CategoricalFeature("item", 30), CategoricalFeature("tags", 9, 1, 3)),
    ("age", "price"),
)
TOLERANCE = 1e-4
"""Logits of one row may differ by this between batches: a matrix product rounds differently at different sizes."""


FITS_ITSELF = "the method is not trained by steps of the harness (it defines fit)"
"""The remark of checks that do not apply to a method of trees and the like."""


class Failed(Exception):
    """The method does not do what the interface asks for; the text says what was seen instead."""


class SyntheticRows:
    """Rows whose labels follow from the inputs; every task has weights of its own. A `RowSource` for the trainer."""

    def __init__(self, tasks: Sequence[Task], rows: int = 512, schema: Schema = SCHEMA, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._inputs = random_inputs(schema, rows, generator)
        self.categorical, self.numeric = self._inputs.categorical, self._inputs.numeric
        self.labels: dict[str, Tensor] = {}
        for task in tasks:
            own = torch.Generator().manual_seed(stream_seed("synthetic", task.name))
            effects = torch.randn(max(schema.embedding_rows, 1), generator=own)
            slopes = torch.randn(len(schema.numeric), generator=own)
            score = effects[self.categorical.long()].sum(1) + self.numeric @ slopes
            score = score - score.mean()
            label = score if task.kind == "regression" else (score > 0).float()
            if task.partial:
                label = torch.where(torch.arange(rows) % 3 == 0, torch.nan, label)
            self.labels[task.name] = label

    def __len__(self) -> int:
        return len(self.categorical)

    def labels_at(self, index: Tensor | slice) -> dict[str, Tensor]:
        """Labels by task of the rows at ``index``."""
        return {name: label[index] for name, label in self.labels.items()}

    def positions(self, index: Tensor | slice) -> Tensor:
        """Row numbers that ``index`` stands for."""
        return torch.arange(len(self))[index]

    def gather(self, index: Tensor | slice) -> Batch:
        """The rows at ``index``."""
        return replace(self._inputs, labels=self.labels, index=torch.arange(len(self))).take(index)

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in file order."""
        for start in range(0, len(self), size):
            yield self.gather(slice(start, start + size))


def toy_tasks(names: str = "ab") -> list[Task]:
    return [Task(name) for name in names]


def build(model: type[MultiTaskModel], tasks: Sequence[Task], schema: Schema = SCHEMA, seed: int = 0) -> MultiTaskModel:
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed("conformance", seed))
        built = model(schema, sorted(tasks, key=lambda task: task.name), model.Config())
    initialise(built, ("conformance", model.info.name, seed))
    return built


def grow(model: MultiTaskModel, new: Sequence[Task] = (Task("new"),)) -> list[torch.nn.Parameter]:
    """Add tasks as the frozen arm does; returns what it trains."""
    _, trained, _ = take_in(model, ARMS["frozen"], new, {}, ("conformance", model.info.name, 0))
    model.zero_grad(set_to_none=True)
    return trained


def predict(model: MultiTaskModel, batch: Batch) -> dict[str, Tensor]:
    model.eval()
    with torch.no_grad():
        return dict(model(batch.unlabelled()))


_trained: dict[type, MultiTaskModel] = {}


def trained_model(model: type[MultiTaskModel]) -> MultiTaskModel:
    """A copy of a model of two tasks after one short epoch; trained once for all checks."""
    if model not in _trained:
        _trained.clear()
        built = build(model, toy_tasks())
        train_model(built, SyntheticRows(toy_tasks(), 128), epochs=1)
        _trained[model] = built
    return copy.deepcopy(_trained[model])


_well_trained: dict[type, tuple[MultiTaskModel, list[dict[str, float]]]] = {}


def well_trained(model: type[MultiTaskModel]) -> tuple[MultiTaskModel, list[dict[str, float]]]:
    """A copy of a model of two tasks after six epochs on `SyntheticRows(toy_tasks())`, and its loss terms by epoch."""
    if model not in _well_trained:
        _well_trained.clear()
        built = build(model, toy_tasks())
        _well_trained[model] = built, train_model(built, SyntheticRows(toy_tasks()))
    built, curve = _well_trained[model]
    return copy.deepcopy(built), curve


def train_model(
    model: MultiTaskModel,
    rows: SyntheticRows,
    epochs: int = 6,
    trained: Sequence[torch.nn.Parameter] | None = None,
    cached: bool = False,
    kept: list[dict[str, Any]] | None = None,
    resume: dict[str, Any] | None = None,
) -> list[dict[str, float]]:
    """Train with the harness's own loop; returns the mean of each loss term by epoch.

    ``cached``: on the outputs of the frozen part, as the frozen arm does where the method separates them. ``kept``
    collects the state after each epoch but the last, ``resume`` is one to go on from.
    """

    budget = Budget(batch_size=64, learning_rate=0.01, epochs=epochs, patience=epochs)
    streams = Streams("conformance", model.info.name, 0)
    moving = list(model.parameters()) if trained is None else trained
    learner = Learner(model, rows, moving, streams, CPU, frozen=trained is not None)
    if cached:
        model.eval()
        learner.cached = cache_features(model, rows)
    model.start_training(rows, streams.environment())
    if trained is None and not model.new_tasks and resume is None:
        prepare(learner, lambda forward, task: None, budget)
    save = None if kept is None else lambda state: kept.append(copy.deepcopy(state))
    result = train(learner, lambda: {}, budget, Checkpoint(save, resume))
    return [epoch.loss for epoch in result.curve]


def ends(curve: Sequence[dict[str, float]], tasks: Sequence[str]) -> tuple[float, float]:
    """Sum of the tasks' own loss terms in the first and in the last epoch."""
    if missing := [name for name in tasks if name not in curve[0]]:
        raise Failed(f"loss has no term named after task '{missing[0]}'; it has {', '.join(curve[0])}")
    first, *_, last = [sum(epoch[name] for name in tasks) for epoch in curve]
    return first, last
