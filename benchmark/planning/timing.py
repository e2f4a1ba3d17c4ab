"""How long a training step of a method takes, measured on the method itself with made-up rows of a dataset's shape.

To guess from the number of weights is wrong by a factor of twenty where attention or many small modules are at work.
What was measured stays in the cache, by method's code, config, shape and machine, so that a plan is costed at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmark.core.files import write_atomically
from benchmark.planning.sizes import code
from benchmark.spec.arms import Arm
from benchmark.training.learner import make_optimizer, total
from benchmark.training.models import build_model, take_in
from benchmark.training.rows import checked_features
from datasets_registry.raw.paths import cache_root
from datasets_registry.schema import Schema, Task
from methods import METHODS
from methods.base import MultiTaskModel
from methods.batch import Batch, Progress, random_inputs

CACHE = "step-seconds.json"
STEPS, LEAST_SECONDS = 3, 0.05
"""A measurement takes at least so many steps and seconds, after one to warm up."""


@dataclass(frozen=True)
class Steps:
    """Seconds on one thread: a training step (of a frozen run: on what the frozen part has computed once, where the
    method can tell the two apart), and the prediction of as many rows."""

    train: float
    predict: float


def step_seconds(
    method: str,
    config: Mapping[str, Any],
    schema: Schema,
    tasks: Sequence[Task],
    arm: Arm,
    new: Sequence[Task],
    rows: int,
) -> Steps:
    """Measured, or from the cache. ``tasks`` are those the model is built for; an arm that continues a stage 0 takes in
    ``new``. ``rows``: the batch. Raises what the method raises."""
    words = [
        code(Path(METHODS.file(method))), method, sorted(config.items()), arm.name, rows,
        torch.__version__, platform.node(),
        [task.name for task in tasks], [task.name for task in new],
        schema.embedding_rows, schema.columns, len(schema.numeric), *schema.sequences,
    ]  # fmt: skip
    key = hashlib.blake2b(repr(words).encode(), digest_size=8).hexdigest()
    file = cache_root() / CACHE
    kept = _read(file)
    with contextlib.suppress(TypeError):
        if key in kept:
            return Steps(**kept[key])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = _measure(method, config, schema, tasks, arm, new, rows)
    finally:
        torch.set_num_threads(threads)
    with contextlib.suppress(OSError):  # a plan needs no cache that can be written
        write_atomically(file, json.dumps(_read(file) | {key: asdict(found)}, indent=1) + "\n")
    return found


def _measure(
    method: str,
    config: Mapping[str, Any],
    schema: Schema,
    tasks: Sequence[Task],
    arm: Arm,
    new: Sequence[Task],
    rows: int,
) -> Steps:
    words = ("timing", method, 0)
    model, _ = build_model(method, config, schema, tasks, words)
    trained = list(model.parameters())
    if arm.from_stage0:
        model, trained, _ = take_in(model, arm, new, arm.resolve({}), words)
    labelled = new if arm.from_stage0 and arm.trains == "new" else [*tasks, *new]
    batch = made_up(schema, labelled, rows)
    model.start_training(_Rows(batch), torch.Generator().manual_seed(0))
    model.train(not arm.frozen)
    forward: Callable[[], Mapping[str, torch.Tensor]] = lambda: model(batch)  # noqa: E731
    if arm.frozen:
        with torch.no_grad():
            features = checked_features(model.frozen_features(batch), model.info.name, rows)
        if features is not None:
            forward = lambda: model.forward_new(features)  # noqa: E731
    train = _timed(_step(model, batch, trained, forward))
    model.eval()
    with torch.no_grad():
        return Steps(train, _timed(lambda: model(batch)))


def _step(
    model: MultiTaskModel,
    batch: Batch,
    trained: list[torch.nn.Parameter],
    forward: Callable[[], Mapping[str, torch.Tensor]],
) -> Callable[[], object]:
    """One training step as the trainer does it, without the balancing of several losses."""
    optimizer = make_optimizer(model, trained, 1e-3)
    progress = Progress(1, 0, 1, 1)
    own = getattr(model, "training_step", None)
    if own is not None:
        return lambda: own(batch, progress, optimizer)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        total(model.loss(batch, forward(), progress)).backward()
        optimizer.step()

    return step


def _timed(compute: Callable[[], object]) -> float:
    """Median seconds of a call: the processor's, which other work on the machine does not lengthen."""
    compute()
    taken: list[float] = []
    while len(taken) < STEPS or sum(taken) < LEAST_SECONDS:
        started = time.process_time()
        compute()
        taken.append(time.process_time() - started)
    return sorted(taken)[len(taken) // 2]


def made_up(schema: Schema, tasks: Sequence[Task], rows: int) -> Batch:
    """Rows of the schema's shape with labels of both classes for the tasks."""
    generator = torch.Generator().manual_seed(0)
    labels = {task.name: (torch.arange(rows) % 2).float() for task in tasks}
    return replace(random_inputs(schema, rows, generator), labels=labels, index=torch.arange(rows))


@dataclass(frozen=True)
class _Rows:
    """The one batch, for methods that ask for rows before they train."""

    batch: Batch

    def __len__(self) -> int:
        return len(self.batch)

    def gather(self, index: torch.Tensor | slice) -> Batch:
        """The rows at ``index``."""
        return self.batch.take(index)

    def batches(self, size: int) -> Any:
        """All rows in their order."""
        return (self.gather(slice(start, start + size)) for start in range(0, len(self), size))


def _read(file: Path) -> dict[str, dict[str, float]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
