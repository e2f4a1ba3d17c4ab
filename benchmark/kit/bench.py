"""What the checks of a method share: a small schema, made-up rows, and how a toy model is built, grown and trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from benchmark.core.seeding import stream_seed
from benchmark.spec.arms import ARMS
from benchmark.spec.budget import Budget
from benchmark.training.learner import Learner, Streams
from benchmark.training.models import initialise, take_in
from benchmark.training.preparation import prepare
from benchmark.training.trainer import train
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


def grow(model: MultiTaskModel) -> list[torch.nn.Parameter]:
    _, trained, _ = take_in(model, ARMS["frozen"], [Task("new")], {}, ("conformance", model.info.name, 0))
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


def train_model(
    model: MultiTaskModel,
    rows: SyntheticRows,
    epochs: int = 6,
    trained: Sequence[torch.nn.Parameter] | None = None,
) -> list[dict[str, float]]:
    """Train with the harness's own loop; returns the mean of each loss term by epoch."""

    budget = Budget(batch_size=64, learning_rate=0.01, epochs=epochs, patience=epochs)
    streams = Streams("conformance", model.info.name, 0)
    moving = list(model.parameters()) if trained is None else trained
    learner = Learner(model, rows, moving, streams, CPU, frozen=trained is not None)
    model.start_training(rows, streams.environment())
    if trained is None and not model.new_tasks:
        prepare(learner, lambda forward, task: None, budget)
    result = train(learner, lambda: {}, budget)
    return [epoch.loss for epoch in result.curve]


def ends(curve: Sequence[dict[str, float]], tasks: Sequence[str]) -> tuple[float, float]:
    """Sum of the tasks' own loss terms in the first and in the last epoch."""
    if missing := [name for name in tasks if name not in curve[0]]:
        raise Failed(f"loss has no term named after task '{missing[0]}'; it has {', '.join(curve[0])}")
    first, *_, last = [sum(epoch[name] for name in tasks) for epoch in curve]
    return first, last
