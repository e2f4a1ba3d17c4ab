"""What a method may know of a dataset: its inputs and its tasks. No files, no rows, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Task:
    """A label to predict.

    ``kind`` is "binary" (labels 0/1, models return logits) or "regression" (models return the value itself).
    ``space`` names the binary task on whose positive rows this one is defined (conversion among clicked rows);
    ``None`` means every row. ``partial`` tells methods that labels may be NaN (a space, or unlabelled rows), so a
    loss has to be averaged over the defined rows only. ``excludes`` lists features that give the label away: they
    leave the inputs of every run in which the task takes part, before and after it arrives.
    """

    name: str
    title: str = ""
    kind: str = "binary"
    space: str | None = None
    excludes: tuple[str, ...] = ()
    partial: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("binary", "regression"):
            raise ValueError(f"task '{self.name}': kind must be 'binary' or 'regression', not {self.kind!r}")


@dataclass(frozen=True)
class CategoricalFeature:
    """One categorical input.

    Codes run over 0..size-1; the first ``reserved`` of them stand for missing, rare and unseen values and are no
    values of the data (parameter counts give their embedding rows apart). ``length`` > 1 marks a multi-valued
    feature that fills that many columns, padded with code 0 and pooled by their mean.
    """

    name: str
    size: int
    reserved: int = 0
    length: int = 1


@dataclass(frozen=True)
class Schema:
    """The inputs of a model.

    A batch's ``categorical`` has one column per categorical feature (``length`` columns for a multi-valued one), in
    this order, holding rows of *one* stacked embedding table: feature f's code c is row ``offsets[f] + c``. A
    batch's ``numeric`` has one column per name in ``numeric``.
    """

    categorical: tuple[CategoricalFeature, ...] = ()
    numeric: tuple[str, ...] = ()

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First row of each feature in the stacked embedding table."""
        starts, total = [], 0
        for feature in self.categorical:
            starts.append(total)
            total += feature.size
        return tuple(starts)

    @cached_property
    def embedding_rows(self) -> int:
        """Rows of the stacked embedding table, reserved ones included."""
        return sum(feature.size for feature in self.categorical)

    @cached_property
    def reserved_rows(self) -> tuple[int, ...]:
        """Rows of the stacked table that stand for missing, rare or unseen values."""
        return tuple(
            offset + code
            for feature, offset in zip(self.categorical, self.offsets, strict=True)
            for code in range(feature.reserved)
        )

    @cached_property
    def columns(self) -> int:
        """Columns of a batch's ``categorical``: the sum of the features' lengths."""
        return sum(feature.length for feature in self.categorical)

    def width(self, embedding_dim: int) -> int:
        """Width d_in of the dense input: numeric columns plus one embedding per categorical feature."""
        return len(self.numeric) + embedding_dim * len(self.categorical)
