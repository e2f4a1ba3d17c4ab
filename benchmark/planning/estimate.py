"""Rough time and memory of a plan, before anything is run. An order of magnitude, and said to be one."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.core.errors import DataUnavailable
from benchmark.planning.plan import Run
from benchmark.spec.arms import ARMS
from benchmark.spec.budget import Budget
from benchmark.spec.labels import LEAST_EPOCH, without_share
from benchmark.spec.options import split_config
from datasets_registry import prepare
from methods import METHODS

if TYPE_CHECKING:
    from pathlib import Path

    from datasets_registry.encoding.store import EncodedDataset

FLOPS_PER_SECOND = 2.5e10
"""Of one thread on matrix products of this size; measured figures on server CPUs lie between 2e10 and 8e10."""
STEP_SECONDS = 1.5e-3
"""What a step costs beside its matrix products."""
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
    tasks = run.key.tasks if not arm.from_stage0 else [*run.key.old_tasks, *run.key.new_tasks]
    own, _ = split_config(run.key.config)
    config = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
    tables, dense, preparation = _sizes(run.key.method, tuple(config.items()), tuple(tasks), data)
    schema = data.schema([*run.key.old_tasks, *run.key.new_tasks])
    rows = len(data.split("train", schema))
    if (labelled := without_share(run.key.dataset)[1]) is not None and set(run.key.tasks) <= set(data.new_tasks):
        rows = round(rows * max(labelled, LEAST_EPOCH))
    budget = Budget.of(run.key.budget, arm.from_stage0)
    # Forward, gradient of the inputs and gradient of the weights: 2 operations per weight each; a frozen run trains a
    # part of it, on cached features.
    share = 0.3 if arm.frozen else 1.0
    steps = -(-rows // budget.batch_size)
    epochs = budget.epochs + preparation
    seconds = epochs * (rows * 6 * dense * share / FLOPS_PER_SECOND + steps * STEP_SECONDS) + 2.0
    row_bytes = 4 * (schema.columns + len(schema.numeric) + len(tasks)) + (2048 if arm.frozen else 0)
    return Estimate(seconds, PROCESS_BYTES + 16 * (tables + dense) + rows * row_bytes)


@functools.cache
def at_hand(name: str, data_dir: Path | None = None) -> EncodedDataset | None:
    """A dataset's arrays if they are encoded or can be without fetching anything, else None."""
    try:
        return prepare(name, data_dir=data_dir, fetch=False)
    except DataUnavailable:
        return None


@functools.cache
def _sizes(
    method: str, config: tuple[tuple[str, object], ...], tasks: tuple[str, ...], data: EncodedDataset
) -> tuple[int, int, int]:
    """Embedding parameters, all others, and epochs of its own preparation, of a model on these tasks."""
    import torch

    model_class = METHODS.get(method)
    with torch.device("meta"):  # sizes without memory
        model = model_class(
            data.schema(data.tasks), [data.tasks[name] for name in tasks], model_class.Config(**dict(config))
        )
    sizes = {True: 0, False: 0}
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    for parameter in model.parameters():
        sizes[id(parameter) in tables] += parameter.numel()
    return sizes[True], sizes[False], model.preparation_epochs
