"""What a method says of a training that has ended: warnings about it, and numbers from inside the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from benchmark.training.rows import RowSource
from methods.base import MultiTaskModel
from methods.batch import Batch

SAMPLE_ROWS = 65_536
"""Rows that diagnostics see at most, evenly spread over the training rows in file order."""


class Sample:
    """Every n-th of the rows, as a method's hooks see rows (`methods.batch.Rows`)."""

    def __init__(self, rows: RowSource, device: torch.device, at_most: int = SAMPLE_ROWS) -> None:
        self._rows = rows
        self._positions = torch.arange(0, len(rows), max(1, math.ceil(len(rows) / at_most)), device=device)

    def __len__(self) -> int:
        return len(self._positions)

    def batches(self, size: int) -> Iterator[Batch]:
        """The rows in file order, with labels and ``index``."""
        for positions in self._positions.split(size):
            yield self._rows.gather(positions)


def diagnose(model: MultiTaskModel, rows: RowSource) -> dict[str, Any]:
    """The method's `diagnostics` as plain JSON; numbers that are not finite become null.

    Called with the kept weights. Raises TypeError for a value that is no number, text, dict or list.
    """
    model.eval()
    sample = Sample(rows, next((parameter.device for parameter in model.parameters()), torch.device("cpu")))
    with torch.no_grad():
        return {name: _plain(value, name) for name, value in model.diagnostics(sample).items()}


def _plain(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(part, f"{place}.{name}") for name, part in value.items()}
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, Sequence):
        return [_plain(part, place) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    raise TypeError(f"diagnostics: '{place}' is a {type(value).__name__}, not a number, text, dict or list")
