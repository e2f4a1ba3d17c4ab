"""What a method may know of a dataset: its inputs and its tasks. No files, no rows, no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
            raise ValueError(
                f"task '{self.name}': kind must be 'binary' or 'regression', not {self.kind!r}; of more than two "
                "classes make one binary task each."
            )


@dataclass(frozen=True)
class CategoricalFeature:
    """One categorical input.

    Codes run over 0..size-1; the first ``reserved`` of them stand for missing, rare and unseen values and are no
    values of the data (parameter counts give their embedding rows apart). ``length`` > 1 marks a multi-valued
    feature that fills that many columns, padded with code 0 and pooled by their mean. ``dim`` is the size of the
    feature's own embeddings (0: the method's), ``vectors`` a .npy [size, dim] that they start from, and ``frozen`` says
    that these are not trained (`methods.tables`).
    """

    name: str
    size: int
    reserved: int = 0
    length: int = 1
    dim: int = 0
    vectors: str = ""
    frozen: bool = False


@dataclass(frozen=True)
class SequenceFeature:
    """Up to ``length`` ordered values, such as the items that a user clicked before.

    ``shares`` names the categorical feature with the same codes and, where that is an input as well, the same embedding
    rows; "" if the codes are the sequence's own. ``size`` and ``reserved`` are those of a `CategoricalFeature`.
    ``anchor`` is the end that is fixed: with "last" the newest value is always in the last column and empty places come
    before the oldest one, with "first" the other way round; so a column means the same position in every row. ``pool``
    is how `methods.layers.SequencePool` makes one vector of it.
    """

    name: str
    size: int
    length: int
    reserved: int = 0
    shares: str = ""
    anchor: str = "last"
    pool: str = "mean"


@dataclass(frozen=True)
class Schema:
    """The inputs of a model.

    A batch's ``categorical`` has one column per categorical feature (``length`` columns for a multi-valued one), in
    this order, holding rows of *one* stacked embedding table: feature f's code c is row ``offsets[f] + c``. A
    batch's ``numeric`` has one column per name in ``numeric``. A batch's ``sequences`` has an entry for each of
    ``sequences``, holding rows of the same table, and -1 where a sequence has no value.
    """

    categorical: tuple[CategoricalFeature, ...] = ()
    numeric: tuple[str, ...] = ()
    sequences: tuple[SequenceFeature, ...] = ()

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First row of each categorical feature in the stacked embedding table."""
        starts, total = [], 0
        for feature in self.categorical:
            starts.append(total)
            total += feature.size
        return tuple(starts)

    @cached_property
    def sequence_offsets(self) -> tuple[int, ...]:
        """First row of each sequence's values in the stacked table: the shared feature's, else rows after all others.

        Two sequences that share a feature that is no input here share their rows all the same.
        """
        starts = {feature.name: start for feature, start in zip(self.categorical, self.offsets, strict=True)}
        total, out = sum(feature.size for feature in self.categorical), []
        for sequence in self.sequences:
            table = sequence.shares or sequence.name
            if table not in starts:
                starts[table] = total
                total += sequence.size
            out.append(starts[table])
        return tuple(out)

    @cached_property
    def _tables(self) -> dict[int, tuple[int, int]]:
        """(size, reserved) of each block of rows of the stacked table, by its first row."""
        blocks = {start: (one.size, one.reserved) for one, start in zip(self.sequences, self.sequence_offsets)}
        return blocks | {start: (one.size, one.reserved) for one, start in zip(self.categorical, self.offsets)}

    @cached_property
    def embedding_rows(self) -> int:
        """Rows of the stacked embedding table, reserved ones included."""
        return sum(size for size, _ in self._tables.values())

    @cached_property
    def reserved_rows(self) -> tuple[int, ...]:
        """Rows of the stacked table that stand for missing, rare or unseen values."""
        return tuple(start + code for start, (_, reserved) in sorted(self._tables.items()) for code in range(reserved))

    @cached_property
    def table_rows(self) -> int:
        """Rows of the common table: all but those of features with embeddings of their own size."""
        return self.embedding_rows - sum(feature.size for feature in self.categorical if feature.dim)

    @cached_property
    def table_reserved(self) -> int:
        """How many of the common table's rows stand for missing, rare or unseen values."""
        return len(self.reserved_rows) - sum(feature.reserved for feature in self.categorical if feature.dim)

    def before(self, row: int) -> int:
        """How many rows of the stacked table before ``row`` belong to features with embeddings of their own size."""
        starts = zip(self.categorical, self.offsets, strict=True)
        return sum(feature.size for feature, start in starts if feature.dim and start < row)

    def uniform(self) -> Schema:
        """The same inputs, all embeddings of one size and none from elsewhere, sequences pooled by their mean."""
        plain = tuple(replace(feature, dim=0, vectors="", frozen=False) for feature in self.categorical)
        return replace(self.pooled("mean"), categorical=plain)

    @cached_property
    def columns(self) -> int:
        """Columns of a batch's ``categorical``: the sum of the features' lengths."""
        return sum(feature.length for feature in self.categorical)

    def candidate(self, sequence: SequenceFeature) -> int | None:
        """Position of the categorical feature that a sequence shares its rows with; None if that is no input here."""
        names = [feature.name for feature in self.categorical]
        return names.index(sequence.shares) if sequence.shares in names else None

    def pooled(self, pool: str) -> Schema:
        """The same inputs with sequences pooled by ``pool`` ("mean", "target", "self").

        Target attention needs a candidate: a sequence without one (`candidate`) keeps the mean. Raises ValueError if
        the schema has sequences and none of them has one.
        """
        fits = [pool != "target" or self.candidate(one) is not None for one in self.sequences]
        if self.sequences and not any(fits):
            raise ValueError(
                "target attention compares a sequence with the candidate of the row, the feature that it shares; no "
                f"sequence here ({', '.join(one.name for one in self.sequences)}) shares one that is an input."
            )
        sequences = tuple(replace(one, pool=pool) if fit else one for one, fit in zip(self.sequences, fits))
        return replace(self, sequences=sequences)

    @cached_property
    def row_numbers(self) -> int:
        """Numbers that a row of a batch holds: codes, numeric inputs and places of sequences."""
        return self.columns + len(self.numeric) + sum(sequence.length for sequence in self.sequences)

    def width(self, embedding_dim: int) -> int:
        """Width d_in of the dense input: numeric columns, and one embedding per categorical feature and sequence."""
        return len(self.numeric) + embedding_dim * (len(self.categorical) + len(self.sequences))
