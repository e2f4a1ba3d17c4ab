"""Counting what a row costs: floating-point operations of the matrix products, and what has to be stored to serve.

Everything is counted on the model as it is, by running it once on a few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from benchmark.records.record import Flops, Serving
from benchmark.training.learner import Learner
from methods.base import MultiTaskModel
from methods.batch import Batch, Progress
from methods.tables import FrozenVectors, OwnEmbedding

ROWS = 64
"""Rows of a counted pass."""


class NotCounted(Exception):
    """The counter cannot follow the model; the text says at what it stopped."""


def flops_per_row(compute: Callable[[], object], rows: int) -> float:
    """Floating-point operations of the matrix products in ``compute``, per row (2 per multiply-accumulate).

    Element-wise work and look-ups are not counted. Attention runs as its plain matrix products while it is counted: of
    its fused kernels the counter knows only some, and misses or stumbles over the others. Raises NotCounted.
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False, custom_mapping=_vector_products())
    try:
        with _plain_attention(), counter:
            compute()
    except Exception as error:  # a counter that stumbles over an exotic operator must not cost the run
        raise NotCounted(f"FLOPs are not counted: {type(error).__name__}: {error}") from error
    return counter.get_total_flops() / rows


def flops(learner: Learner) -> Flops:
    """Operations per row of a forward pass as at prediction, when every task is asked for, and of a training step, with
    and without the frozen part. Raises NotCounted."""
    model, cached = learner.model, learner.cached
    if model.fit is not None:
        raise NotCounted(f"FLOPs are not counted: {model.info.title} is not made of matrix products")
    count = min(ROWS, len(learner.rows))
    batch = learner.rows.gather(slice(0, count))
    progress, nothing = Progress(1, 0, 1, 1), _NoOptimizer(model)
    forward = forward_flops(model, batch)
    forward_new = training_new = None
    with _buffers_kept(model):
        learner.training_mode()
        training = flops_per_row(lambda: learner.step(batch, progress, nothing), count)  # type: ignore[arg-type]
        if cached is not None:
            part = cached.gather(slice(0, count))
            forward_new = flops_per_row(lambda: model.forward_new(part.features), count)
            training_new = flops_per_row(lambda: learner.step(part, progress, nothing), count)  # type: ignore[arg-type]
        model.eval()
    return Flops(forward=forward, training_step=training, forward_new=forward_new, training_step_new=training_new)


def forward_flops(model: MultiTaskModel, batch: Batch) -> float:
    """Operations per row of predicting all tasks of a model in evaluation mode. Raises NotCounted."""
    model.eval()
    served = batch.unlabelled()

    def predict() -> None:
        with torch.no_grad():
            model(served)

    return flops_per_row(predict, len(batch))


def serving(learner: Learner, before: Callable[[], MultiTaskModel] | None) -> Serving:
    """What predicting all tasks of a run's model takes: numbers stored, operations per row.

    ``before`` makes a model that has not taken in the new tasks, with any weights; None where nothing is taken in.
    Raises NotCounted.
    """
    model = learner.model
    batch = learner.rows.gather(slice(0, min(ROWS, len(learner.rows))))
    if model.fit is not None:
        raise NotCounted(f"FLOPs are not counted: {model.info.title} is not made of matrix products")
    stored, computed = stored_numbers(model), forward_flops(model, batch)
    found = Serving(tasks=len(model.tasks), weights=stored, flops=computed)
    if before is not None:
        known, stored, computed = _of_earlier(before, batch)
        found.weights_added = (found.weights - stored) / (found.tasks - known)
        found.flops_added = (found.flops - computed) / (found.tasks - known)
    return found


def _of_earlier(before: Callable[[], MultiTaskModel], batch: Batch) -> tuple[int, int, float]:
    """Number of tasks, numbers stored and operations per row of the model that ``before`` makes.

    Shapes are all that counts, so it is made where nothing is allocated and nothing computed, if the method can.
    """
    try:
        with torch.device("meta"):
            model = before()
        return len(model.tasks), stored_numbers(model), forward_flops(model, batch.to("meta"))
    except Exception:
        model = before().to(batch.categorical.device)
        return len(model.tasks), stored_numbers(model), forward_flops(model, batch)


def stored_numbers(model: MultiTaskModel) -> int:
    """Parameters and buffers that are saved with them, without the embedding rows that the encoder reserves.

    Buffers count because some methods keep weights in them: MAML the adapted copy of its network for every task.
    """
    rows, reserved = model.schema.table_rows, model.schema.table_reserved
    own = sum(
        module.reserved * module.weight.shape[1]
        for module in model.modules()
        if isinstance(module, OwnEmbedding | FrozenVectors)
    )
    return -own + sum(
        tensor.numel() - (reserved * tensor.shape[1] if tensor.dim() == 2 and len(tensor) == rows else 0)
        for tensor in model.state_dict().values()
    )


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as matrix products and a softmax, instead of fused kernels."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _vector_products() -> dict[Any, Any]:
    """Formulas for products with a vector, which torch's counter leaves out."""
    aten = torch.ops.aten
    return {
        aten.mv: lambda matrix, vector, out_shape=None, **_: 2 * matrix[0] * matrix[1],
        aten.addmv: lambda start, matrix, vector, out_shape=None, **_: 2 * matrix[0] * matrix[1],
        aten.dot: lambda one, other, out_shape=None, **_: 2 * one[0],
    }


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Puts buffers back: a pass in training mode moves running statistics."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)


class _NoOptimizer:
    """Stands in for an optimizer where a training step is to be counted and must change nothing."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._model.zero_grad(set_to_none=True)

    def step(self) -> None:
        self.zero_grad()
