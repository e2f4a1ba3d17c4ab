"""A batch is read, never changed: rows are read again at every epoch, and some of them in every step of a balancer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from benchmark.core.errors import BenchmarkError
from methods.base import MultiTaskModel
from methods.batch import Batch


class InputsChanged(BenchmarkError):
    """A method changed the batch that it was given; the message names the method and the tensor."""


@contextlib.contextmanager
def left_alone(batch: Batch, model: MultiTaskModel) -> Iterator[None]:
    """Watch what a method does with ``batch``: each of its tensors has to be the same one afterwards, with the same
    version (torch counts every operation in place, also one on a view). Raises InputsChanged.

    What writes past torch (``.data``, ``.numpy()``) is not seen here. It cannot spread: rows in file order are handed
    out as copies (`benchmark.training.rows`).
    """
    before = _state(batch)
    yield
    after = _state(batch)
    if before == after:
        return
    name = next(name for name in {**before, **after} if before.get(name) != after.get(name))
    replaced = before.get(name, (0,))[0] != after.get(name, (0,))[0]
    info = getattr(type(model), "info", None)
    raise InputsChanged(
        f"{info.name if info else type(model).__name__}: {name} was {'replaced' if replaced else 'changed in place'} "
        "by the method. A batch is read only: write x = batch.numeric * 2 instead of batch.numeric.mul_(2) or "
        "batch.numeric = ..., and inplace=False for a layer that reads inputs."
    )


def _state(batch: Batch) -> dict[str, tuple[int, int]]:
    """Identity and version of every tensor of a batch, by its name."""
    state: dict[str, tuple[int, int]] = {}
    for name, value in vars(batch).items():
        _note(state, f"batch.{name}", value)
    return state


def _note(state: dict[str, tuple[int, int]], name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        state[name] = id(value), 0 if value.is_inference() else value._version
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _note(state, f"{name}[{key!r}]", part)
