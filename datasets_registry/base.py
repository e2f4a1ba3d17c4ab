"""What a dataset file declares. Standard library only: listing datasets imports every dataset file.

A dataset is an instance of a subclass of `Dataset`: the fields describe it, `read` turns its raw files into chunks of
columns. Everything else (fetching, splitting, vocabularies, scalers, checks, arrays, fingerprints) is done by the
registry, the same way for all.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UsageError, unknown_name
from datasets_registry.catalogue import DATASETS
from datasets_registry.schema import Task

if TYPE_CHECKING:
    import numpy as np

CHUNK_ROWS = 262_144
SCALES = ("minmax", "none", "quantile", "piecewise")
UNDEFINED = 255  # the uint8 label of a row on which a binary task is not defined


@dataclass(frozen=True)
class Feature:
    """One input column.

    ``kind`` is "categorical", "numeric" or "sequence". Categorical: values that occur fewer than ``min_count`` times in
    the training rows share one code; ``length`` > 1 keeps that many values of a multi-valued field; ``reserved`` is 2
    (code 0 missing, code 1 rare or unseen), 1 (code 0 for all three) or 0 (the same, but code 0 counts as a value of
    the data, as the papers on Ali-CCP count it; integer 0 is missing, too). Numeric: ``scale`` is "minmax" (to [0, 1]
    by the training rows), "none", "quantile" or "piecewise" (`datasets_registry.encoding.numbers`); ``log`` takes
    log(1 + x) first; missing values become 0 after scaling.

    A sequence is up to ``length`` ordered values, oldest first, such as the items that a user clicked before the
    impression. ``shares`` names the categorical feature whose vocabulary and embedding rows it uses: the vocabulary is
    then that feature's training values alone, and other values of the sequence are its "unseen". With ``when`` the
    sequence is not read but built: the values of ``shares`` in the training rows of the same group (``Chunk.keys``
    "group") with an earlier "time" whose label of the task ``when`` is 1 (``when="*"``: all of them); see
    `datasets_registry.encoding.history`.

    ``dim`` is the size of a categorical feature's own embeddings, where that is not the method's; with ``vectors``, a
    .npy [n, dim], they start from these, and with ``frozen`` they stay so. ``vector_ids``, a .npy [n], says which
    values they belong to (else row i is the vector of the integer i).

    Where there are more values than ``length``, ``keep`` says which stay: "first" (the default of a multi-valued
    field) or "last" (the default of a sequence).
    """

    name: str
    kind: str = "categorical"
    min_count: int = 1
    length: int = 1
    reserved: int = 2
    scale: str = "minmax"
    log: bool = False
    keep: str = ""
    shares: str = ""
    when: str = ""
    dim: int = 0
    vectors: str = ""
    vector_ids: str = ""
    frozen: bool = False

    def __post_init__(self) -> None:
        kinds = ("categorical", "numeric", "sequence")
        if self.kind not in kinds:
            raise UsageError(f"feature '{self.name}': {unknown_name('kind', self.kind, kinds)}")
        if self.scale not in SCALES:
            raise UsageError(f"feature '{self.name}': {unknown_name('scale', self.scale, SCALES)}")
        if self.keep not in ("", "first", "last"):
            raise UsageError(f"feature '{self.name}': keep must be 'first' or 'last', not {self.keep!r}.")
        if not isinstance(self.length, int) or isinstance(self.length, bool) or not 1 <= self.length <= 65_535:
            raise UsageError(f"feature '{self.name}': length must be a whole number from 1, not {self.length!r}.")
        if self.kind != "sequence" and (self.shares or self.when):
            raise UsageError(f"feature '{self.name}': only a sequence has shares or when; its kind is {self.kind!r}.")
        if self.when and not self.shares:
            raise UsageError(
                f"feature '{self.name}': a sequence that is built needs shares, the feature it is made of."
            )
        if self.kind != "categorical" and (self.dim or self.vectors):
            raise UsageError(f"feature '{self.name}': only a categorical one has embeddings, not a {self.kind} one.")
        if not isinstance(self.dim, int) or isinstance(self.dim, bool) or self.dim < 0:
            raise UsageError(f"feature '{self.name}': dim must be a whole number from 1, not {self.dim!r}.")
        if (self.vector_ids or self.frozen) and not self.vectors:
            raise UsageError(f"feature '{self.name}': ids and frozen go with vectors, which are not given.")
        if not self.keep:
            object.__setattr__(self, "keep", "last" if self.kind == "sequence" else "first")

    @property
    def built(self) -> bool:
        """Whether the encoder makes this input from other columns, so that `Dataset.read` does not give it."""
        return bool(self.when)


@dataclass
class Chunk:
    """Some consecutive raw rows, as columns of equal length n.

    ``features``: by feature name; categorical as a pyarrow dictionary or integer array (or an integer numpy array),
    null meaning missing, a pyarrow list array if multi-valued; numeric as float64 with NaN meaning missing; sequences
    as a pyarrow list array, oldest value first (none for those that the encoder builds).
    ``labels``: by task name; uint8 0/1/255 (255: not defined on this row) or float32 with NaN for regression.
    ``part``: which official part the rows come from (0 train, 1 validation, 2 test).
    ``keys``: columns that splits and profiles need: "time" (any integer that grows with time), "group" (user id).
    ``truth``: by task name, the true probability float64; generated data only.
    ``notes``: sentences for the dataset's warnings, such as how many rows were left out and why.
    """

    features: Mapping[str, Any]
    labels: Mapping[str, np.ndarray]
    part: int = 0
    keys: Mapping[str, np.ndarray] = field(default_factory=dict)
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Description of a dataset. Subclasses define `read`; instances are registered with `register_dataset`.

    ``tasks`` are all labels on offer, ``old_tasks`` / ``new_tasks`` the default partition. ``split`` is the default
    rule out of ``splits`` (see `datasets_registry.encoding.splits`). ``manifest`` names manifests/<manifest>.toml, the
    raw files and where they come from; None for generated data. ``variants`` are words after ``@`` with their meaning,
    applied by `vary`. ``defects`` are known faults of the data, for its card. ``size`` is one phrase for listings.
    ``allow_leaks`` are features that may predict a label almost alone. ``stream`` is the name under which the split is
    drawn, by default the dataset's own (members of a family that share rows share it). ``complete_rows`` is the number
    of rows of the complete official data; reading fewer is noted as a warning. ``rarest`` names tasks that `read`
    leaves out because they are known only after counting: task -> categorical feature; the label is 0 on rows with the
    feature's rarest training value, else 1. ``fitted_apart`` reproduces a fault of a published preparation: rows of the
    official test part are encoded with vocabularies and scalers fitted on that part. ``fit_validation`` reproduces
    another: vocabularies count the validation rows of the official training part as well. ``chain`` is an order in
    which new tasks may arrive one after another, ``candidates`` are the tasks with positives enough to be *the* new
    task (empty: all). ``funnel`` names tasks, earlier first, of which each happens only where the one before it did (a
    purchase after a click), though all are labelled on every row: what methods for funnels go by. ``needs`` are keys of
    the manifest's optional files that this dataset reads; others are left alone. ``toy`` says, where it is true, why
    results on this data support no claim.
    """

    name: str
    title: str
    tasks: tuple[Task, ...]
    old_tasks: tuple[str, ...]
    new_tasks: tuple[str, ...]
    features: tuple[Feature, ...]
    licence: str = ""
    citation: str = ""
    home_page: str = ""
    size: str = ""
    manifest: str | None = None
    split: str = "official"
    splits: tuple[str, ...] = ("official",)
    variants: Mapping[str, str] = field(default_factory=dict)
    defects: tuple[str, ...] = ()
    notes: str = ""
    allow_leaks: tuple[str, ...] = ()
    stream: str = ""
    complete_rows: int | None = None
    rarest: Mapping[str, str] = field(default_factory=dict)
    fitted_apart: bool = False
    fit_validation: bool = False
    chain: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    funnel: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    toy: str = ""

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        for name in (*names, *(feature.name for feature in self.features)):
            if not re.fullmatch(r"[^/\\\x00-\x1f\x7f]{1,100}", name):  # it becomes part of files' names
                raise UsageError(
                    f"dataset '{self.name}': a task or feature cannot be called {name!r:.60}: at most 100 characters, "
                    "no slash, backslash or control character. Rename the column."
                )
        named = (*self.old_tasks, *self.new_tasks, *self.chain, *self.candidates)
        unknown = [name for name in named if name not in names]
        if unknown:
            raise UsageError(f"dataset '{self.name}': old_tasks/new_tasks name no task: {', '.join(unknown)}.")
        for name in self.funnel:
            if name not in names:
                raise unknown_name(f"task in the funnel of dataset '{self.name}'", name, names)
        features = [feature.name for feature in self.features]
        twice = sorted({name for name in features if features.count(name) > 1})
        if twice:
            raise UsageError(f"dataset '{self.name}': features declared twice: {', '.join(twice)}.")
        both = sorted(task.name for task in self.tasks if task.name in features and task.name not in task.excludes)
        if both:
            raise UsageError(f"dataset '{self.name}': a label is among the features: {', '.join(both)}.")
        self._check_sequences(names)
        self._check_tasks(names)

    def _check_tasks(self, names: list[str]) -> None:
        """Raises UsageError for a space that is no other task or leads back to its own, and for unknown features."""
        spaces = {task.name: task.space for task in self.tasks}
        for task in self.tasks:
            if task.space is not None and task.space not in names:
                text = unknown_name("space", task.space, names, "It has to be a task.")
                raise UsageError(f"dataset '{self.name}': task '{task.name}': {text}")
            seen, space = [task.name], task.space
            while space is not None:
                if space in seen:
                    way = " -> ".join([*seen, space])
                    raise UsageError(
                        f"dataset '{self.name}': task '{task.name}' is defined on its own positive rows ({way}); a "
                        "space is another task, and no circle."
                    )
                seen.append(space)
                space = spaces[space]

    def _check_sequences(self, tasks: list[str]) -> None:
        """Raises UsageError for a sequence that shares or is built of what is not there."""
        tables = [feature.name for feature in self.features if feature.kind == "categorical" and feature.length == 1]
        for feature in self.features:
            if feature.shares and feature.shares not in tables:
                text = unknown_name("categorical feature", feature.shares, tables, "It has to have one value per row.")
                raise UsageError(f"dataset '{self.name}': sequence '{feature.name}' shares: {text}")
            if feature.when and feature.when != "*" and feature.when not in set(tasks) - set(self.rarest):
                text = unknown_name("task", feature.when, tasks, "'*' stands for every row.")
                raise UsageError(f"dataset '{self.name}': sequence '{feature.name}' when: {text}")
            if feature.when in self.new_tasks:
                raise UsageError(
                    f"dataset '{self.name}': sequence '{feature.name}' is built of the labels of '{feature.when}', a "
                    "new task, which nobody knows before it arrives; build it of an old task, or of all rows with '*'."
                )

    @property
    def base_name(self) -> str:
        """The registered name, without the words after ``@``."""
        return self.name.partition("@")[0]

    @property
    def split_stream(self) -> str:
        """The word that names the split's random stream."""
        return self.stream or self.base_name

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        """Yield all rows in a fixed order that does not depend on ``chunk_rows``.

        ``files`` maps the manifest's keys to verified local files. Raises DataError with file, line and column.
        """
        raise NotImplementedError

    def read_parts(self, files: Mapping[str, Path], chunk_rows: int) -> list[tuple[int, Iterator[Chunk]]] | None:
        """What `read` yields, one lazy iterator per official part, in order, so that a row prefix can stop early.

        None if the rows come only as a whole.
        """
        return None

    def configuration(self) -> str:
        """Text of what else, beside features, tasks and split, changes what `read` yields; part of the cache key."""
        return ""

    def vary(self, word: str) -> Dataset | None:
        """The dataset changed by one of ``variants``, or None if the word is none of them."""
        return None

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        """Yield (line, column, problem) for each bad row of one raw file, lines counted from 1."""
        return iter(())

    def local_files(self) -> Mapping[str, Path] | None:
        """Raw files that the description itself points to (a user's own data); None if they come by the manifest."""
        return None

    def recognises(self, directory: Path) -> Mapping[str, Path] | None:
        """Raw files in a user's directory under other names or layouts than the manifest's; None if there are none."""
        return None


def register_dataset(dataset: Dataset) -> Dataset:
    """Make a dataset known under its name; returns it. Raises UsageError if another file has the name."""
    frame = sys._getframe(1)
    file = inspect.getsourcefile(frame.f_code) or "<unknown>"
    DATASETS.add(dataset.name, dataset, file)
    return dataset
