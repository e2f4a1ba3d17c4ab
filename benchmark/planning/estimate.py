"""Rough time and memory of a plan, before anything is run. An order of magnitude, and said to be one."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.core.errors import BenchmarkError, DataUnavailable, UsageError
from benchmark.core.registry import where
from benchmark.planning.plan import Run
from benchmark.spec.arms import ARMS
from benchmark.spec.labels import LEAST_EPOCH, without_share
from benchmark.spec.options import split_config
from datasets_registry import prepare
from methods import METHODS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmark.planning.timing import Steps
    from datasets_registry.encoding.store import EncodedDataset

START_SECONDS = 2.0
"""What a run takes beside its epochs."""
PROCESS_BYTES = 450 << 20
"""A process with torch and nothing else."""


@dataclass(frozen=True)
class Estimate:
    """Of one run: wall-clock on one thread and peak memory."""

    seconds: float
    memory_bytes: int


def estimate(run: Run, data_dir: Path | None) -> Estimate | None:
    """None while the data is not at hand: its size and vocabularies are not known."""
    data = at_hand(run.key.dataset, data_dir)
    if data is None:
        return None
    arm = ARMS[run.key.arm]
    key = run.key
    tasks = key.old_tasks if arm.from_stage0 else key.tasks
    new = [task for task in key.tasks if task not in tasks]
    own, options = split_config(key.config)
    config = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
    config["sequence_pooling"] = options.sequence_pooling  # of the options the only one that changes the model
    budget = arm.budget(key.budget)
    shape = (key.method, tuple(config.items()), tuple(tasks), tuple(new), arm.name, budget.batch_size, data)
    steps, tables, dense, preparation = _model(*shape)
    schema = data.schema([*key.old_tasks, *key.new_tasks])
    rows, valid = (len(data.split(part, schema)) for part in ("train", "valid"))
    if (labelled := without_share(key.dataset)[1]) is not None and set(key.tasks) <= set(data.new_tasks):
        rows = round(rows * max(labelled, LEAST_EPOCH))
    # Each epoch trains on all rows and predicts those for validation; a frozen run computes its features once before.
    # Gradients that are balanced task by task are one backward pass for each.
    passes = len(key.tasks) if options.balancing in ("pcgrad", "mgda", "cagrad", "nash_mtl", "aligned_mtl") else 1
    train = steps.train * (1 + 2 * passes) / 3 * -(-rows // budget.batch_size)
    predict = steps.predict * -(-valid // budget.batch_size)
    seconds = (budget.epochs + preparation) * (train + predict) + START_SECONDS
    if arm.frozen:
        seconds += steps.predict * -(-(rows + valid) // budget.batch_size)
    row_bytes = 4 * (schema.row_numbers + len(key.tasks)) + (2048 if arm.frozen else 0)
    return Estimate(seconds, PROCESS_BYTES + 16 * (tables + dense) + rows * row_bytes)


def total_seconds(runs: Iterable[Run], data_dir: Path | None) -> float:
    """Of all runs one after another; those that cannot be estimated count nothing."""
    seconds = 0.0
    for run in runs:
        with contextlib.suppress(BenchmarkError):
            cost = estimate(run, data_dir)
            seconds += cost.seconds if cost is not None else 0.0
    return seconds


@functools.cache
def at_hand(name: str, data_dir: Path | None = None) -> EncodedDataset | None:
    """A dataset's arrays if they are encoded or can be without fetching anything, else None."""
    try:
        return prepare(name, data_dir=data_dir, fetch=False)
    except DataUnavailable:
        return None


@functools.cache
def _model(
    method: str,
    config: tuple[tuple[str, object], ...],
    tasks: tuple[str, ...],
    new: tuple[str, ...],
    arm: str,
    batch: int,
    data: EncodedDataset,
) -> tuple[Steps, int, int, int]:
    """Seconds of a step, embedding parameters, all others, and epochs of its own preparation, of a model on these
    tasks. Raises UsageError, with the method's line, if it cannot be built with this config or makes no step."""
    import torch  # here: a plan alone needs none

    from benchmark.planning.timing import step_seconds

    model_class = METHODS.get(method)
    own, options = split_config(dict(config))
    schema = data.schema(data.tasks).pooled(options.sequence_pooling)
    built_for, added = ([data.tasks[name] for name in names] for names in (tasks, new))
    try:
        with torch.device("meta"):  # sizes without memory
            model = model_class(schema, built_for, model_class.Config(**own))
        sizes = {True: 0, False: 0}
        tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
        for parameter in model.parameters():
            sizes[id(parameter) in tables] += parameter.numel()
        preparation = 0 if new else model.preparation_epochs
        steps = step_seconds(method, own, schema, built_for, ARMS[arm], added, batch)
    except BenchmarkError:
        raise
    except Exception as error:  # a method's own code may raise anything
        raise UsageError(f"{method} cannot be run with this config: {where(error, METHODS.file(method))}") from error
    return steps, sizes[True], sizes[False], preparation
