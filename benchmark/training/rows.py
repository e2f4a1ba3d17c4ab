"""The rows of one split as a method sees them: tensors on one device, a batch is a slice of gathered rows.

Rows are gathered in blocks of many batches, so a batch costs a few views and no Python per row, whether the rows lie
in memory, on a GPU or in a memory-mapped file. A mapped file is as fast as memory once the system holds it, belongs to
no process (runs side by side share it) and is given back when memory is short; a CPU copies only small arrays.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.core.steps import tell
from benchmark.spec.labels import LEAST_EPOCH
from benchmark.training.untouched import left_alone
from methods.base import MultiTaskModel
from methods.batch import Batch

if TYPE_CHECKING:
    from datasets_registry.encoding.store import Split

BLOCK_ROWS = 1 << 13
IN_MEMORY_BYTES = 1 << 30
ON_GPU_BYTES = 4 << 30


class RowSource(Protocol):
    """What the trainer trains on and what is predicted: `DataRows` or the cached outputs of a frozen backbone."""

    def __len__(self) -> int: ...

    def gather(self, index: Tensor | slice) -> Batch: ...

    def batches(self, size: int) -> Iterator[Batch]: ...


class LabelledRows(RowSource, Protocol):
    """Rows whose labels and positions are read apart from their inputs, as `FrozenRows` do."""

    def labels_at(self, index: Tensor | slice) -> dict[str, Tensor]: ...

    def positions(self, index: Tensor | slice) -> Tensor: ...


class ChosenRows:
    """Some rows of a split, in a given order and as often as asked for; stands in for the split in `DataRows`."""

    def __init__(self, split: Split, chosen: NDArray[np.int64]) -> None:
        self._split, self._chosen = split, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def categorical(self, index: NDArray | slice | None = None) -> NDArray[np.int32]:
        """As `Split.categorical`, of the chosen rows."""
        return self._split.categorical(self._chosen if index is None else self._chosen[index])

    def numeric(self, index: NDArray | slice | None = None) -> NDArray[np.float32]:
        """As `Split.numeric`, of the chosen rows."""
        return self._split.numeric(self._chosen if index is None else self._chosen[index])

    def sequences(self, index: NDArray | slice | None = None) -> dict[str, NDArray[np.int32]]:
        """As `Split.sequences`, of the chosen rows."""
        return self._split.sequences(self._chosen if index is None else self._chosen[index])

    def read_ahead(self) -> None:
        self._split.read_ahead()


def labelled_rows(labels: Mapping[str, NDArray[np.float32]]) -> NDArray[np.int64]:
    """Numbers of the rows on which one of the tasks has a label, repeated until there are LEAST_EPOCH of all rows."""
    known = np.any([~np.isnan(label) for label in labels.values()], axis=0)
    found = np.flatnonzero(known)
    passes = -(-int(LEAST_EPOCH * len(known)) // max(len(found), 1))
    return np.tile(found, max(passes, 1))


class DataRows:
    """Rows with their inputs and, for the tasks being trained, their labels.

    ``labels`` maps a task to float32 [N]; leave it empty for rows that are only predicted. Inputs over
    ``in_memory_bytes`` (IN_MEMORY_BYTES, on a GPU ON_GPU_BYTES) stay memory-mapped and are gathered block by block.
    """

    def __init__(
        self,
        split: Split | ChosenRows,
        labels: Mapping[str, NDArray[np.float32]],
        device: torch.device,
        in_memory_bytes: int | None = None,
    ) -> None:
        if in_memory_bytes is None:
            in_memory_bytes = IN_MEMORY_BYTES if device.type == "cpu" else ON_GPU_BYTES
        self._split = split
        self._device = device
        self._tasks = tuple(labels)
        stacked = np.stack([labels[task] for task in self._tasks]) if labels else np.empty((0, len(split)), np.float32)
        self._labels = torch.from_numpy(stacked).to(device)
        self._inputs: Batch | None = None
        first = inputs_at(split, np.arange(min(1, len(split))), torch.device("cpu"))
        parts = first.categorical, first.numeric, *first.sequences.values()
        if sum(part.numel() * part.element_size() for part in parts) * len(split) <= in_memory_bytes:
            self._inputs = inputs_at(split, None, device)
        else:
            split.read_ahead()

    def __len__(self) -> int:
        return len(self._split)

    def with_labels(self, labels: Mapping[str, NDArray[np.float32]]) -> DataRows:
        """The same rows with other labels; the inputs are shared, not copied."""
        twin = copy.copy(self)
        twin._tasks = tuple(labels)
        twin._labels = torch.from_numpy(np.stack(list(labels.values()))).to(self._device)
        return twin

    def gather(self, index: Tensor | slice) -> Batch:
        """The rows at ``index`` (int64 tensor on the device, or a slice) as one batch, a copy."""
        with torch.inference_mode(False):  # tensors made in inference mode do not count their changes
            if (kept := self._inputs) is not None:
                sequences = {name: _take(codes, index) for name, codes in kept.sequences.items()}
                inputs = Batch(_take(kept.categorical, index), _take(kept.numeric, index), sequences=sequences)
            else:
                at = index if isinstance(index, slice) else index.cpu().numpy()
                inputs = inputs_at(self._split, at, self._device)
        return replace(inputs, labels=self.labels_at(index), index=self.positions(index))

    def labels_at(self, index: Tensor | slice) -> dict[str, Tensor]:
        """Labels by task of the rows at ``index``."""
        return {task: _take(self._labels[i], index) for i, task in enumerate(self._tasks)}

    def positions(self, index: Tensor | slice) -> Tensor:
        """Row numbers int64 that ``index`` stands for, on the device."""
        if isinstance(index, slice):
            return torch.arange(*index.indices(len(self)), device=self._device)
        return index

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in file order."""
        for block in _blocks(len(self), size):
            yield from split_batch(self.gather(block), size)


def inputs_at(split: Split | ChosenRows, index: NDArray | slice | None, device: torch.device) -> Batch:
    """The inputs of some rows, or of all, as they come from the disk."""
    return Batch(
        torch.from_numpy(split.categorical(index)).to(device),
        torch.from_numpy(np.array(split.numeric(index))).to(device),
        sequences={name: torch.from_numpy(codes).to(device) for name, codes in split.sequences(index).items()},
    )


@dataclass
class FrozenBatch(Batch):
    """A batch whose inputs have gone through the frozen backbone already: ``features`` name to [B, ...]."""

    features: dict[str, Tensor] = field(default_factory=dict)


class FrozenRows:
    """Outputs of a frozen backbone for every row, computed once; labels and positions as in ``rows``.

    The features of a row lie side by side in one float32 matrix, so a block is one gather however many there are.
    """

    def __init__(self, rows: LabelledRows, packed: Tensor, shapes: Mapping[str, torch.Size]) -> None:
        self._rows = rows
        self._packed = packed
        self._shapes = shapes

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, index: Tensor | slice) -> FrozenBatch:
        """The cached features of the rows at ``index``, a copy."""
        with torch.inference_mode(False):
            packed = _take(self._packed, index)
        parts = packed.split([shape.numel() for shape in self._shapes.values()], dim=1)
        features = {
            name: part.reshape(len(part), *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        empty = packed.new_empty((len(packed), 0))
        return FrozenBatch(empty, empty, self._rows.labels_at(index), self._rows.positions(index), features=features)

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in file order."""
        for block in _blocks(len(self), size):
            yield from split_batch(self.gather(block), size)


def shuffled(rows: RowSource, size: int, generator: torch.Generator, device: torch.device) -> Iterator[Batch]:
    """One epoch of batches of ``size`` rows (the last one may be smaller) in the order that ``generator`` draws.

    The permutation is drawn on the CPU, so the order does not depend on the device.
    """
    order = torch.randperm(len(rows), generator=generator).to(device)
    for block in order.split(_block_rows(size)):
        yield from split_batch(rows.gather(block), size)


def split_batch(block: Batch, size: int) -> Iterator[Batch]:
    """Cut a block into batches of ``size`` rows; every part is a view."""
    categorical, numeric = block.categorical.split(size), block.numeric.split(size)
    labels = [dict(zip(block.labels, parts)) for parts in zip(*(label.split(size) for label in block.labels.values()))]
    ordered = [{name: codes[start : start + size] for name, codes in block.sequences.items()}
               for start in range(0, len(block), size)]  # fmt: skip
    positions = block.index.split(size) if block.index is not None else [None] * len(categorical)
    if isinstance(block, FrozenBatch):
        features = [dict(zip(block.features, p)) for p in zip(*(part.split(size) for part in block.features.values()))]
        for i in range(len(categorical)):
            yield FrozenBatch(
                categorical[i], numeric[i], labels[i] if labels else {}, positions[i], features=features[i]
            )
    else:
        for i in range(len(categorical)):
            yield Batch(categorical[i], numeric[i], labels[i] if labels else {}, positions[i], ordered[i])


def _take(rows: Tensor, index: Tensor | slice) -> Tensor:
    """A copy of ``rows[index]``; index_select gathers whole rows two to three times as fast as indexing."""
    return rows[index].clone() if isinstance(index, slice) else rows.index_select(0, index)


def _blocks(rows: int, size: int) -> Iterator[slice]:
    step = _block_rows(size)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _block_rows(size: int) -> int:
    """Rows gathered at once: whole batches, about BLOCK_ROWS."""
    return size * max(1, BLOCK_ROWS // size)


PREDICT_ROWS = 4096


FEATURE_CACHE_BYTES = 8 << 30
"""Outputs of a frozen backbone are cached while they fit in this; otherwise every step computes them anew."""


def cache_features(model: MultiTaskModel, rows: LabelledRows, limit: int = FEATURE_CACHE_BYTES) -> FrozenRows | None:
    """Outputs of the frozen backbone for all rows; None if the method does not separate them or they do not fit."""
    packed: Tensor | None = None
    shapes: dict[str, torch.Size] = {}
    start = 0
    with torch.inference_mode():
        for batch in rows.batches(PREDICT_ROWS):
            tell("outputs of the frozen part", start, len(rows))
            with left_alone(batch, model):
                features = checked_features(model.frozen_features(batch), model.info.name, len(batch))
            if features is None:
                return None
            block = torch.cat([part.reshape(len(batch), -1) for part in features.values()], dim=1)
            if packed is None:
                shapes = {name: part.shape[1:] for name, part in features.items()}
                if block.shape[1] * 4 * len(rows) > limit:
                    return None
                packed = torch.empty((len(rows), block.shape[1]), device=block.device)
            packed[start : start + len(block)] = block
            start += len(block)
    # A tensor made in inference mode cannot enter autograd; its copy-free twin outside can.
    return None if packed is None else FrozenRows(rows, _outside_inference(packed), shapes)


def checked_features(features: object, method: str, rows: int) -> dict[str, Tensor] | None:
    """What ``frozen_features`` returned, if it is what it has to be: None, or tensors [rows, ...] by name.

    Raises TypeError or ValueError in the words of the interface.
    """
    if features is None:
        return None
    if not isinstance(features, Mapping) or not all(isinstance(part, Tensor) for part in features.values()):
        raise TypeError(
            f"{method}: frozen_features must return a dict of name to tensor [B, ...], or None, not "
            f"{type(features).__name__}; for one tensor h: return {{'h': h}}, and forward_new(features) reads it there"
        )
    for name, part in features.items():
        if part.dim() < 1 or len(part) != rows:
            raise ValueError(
                f"{method}: frozen_features['{name}'] has shape {tuple(part.shape)} for a batch of {rows} rows; the "
                "first dimension has to be the batch"
            )
    return dict(features)


def _outside_inference(tensor: Tensor) -> Tensor:
    return torch.from_numpy(tensor.numpy()) if tensor.device.type == "cpu" else tensor.clone()
