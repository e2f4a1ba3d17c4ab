"""Sequences that the encoder builds: what a user did before each row.

The history of a row holds values of *training* rows of the same group with a strictly earlier time, oldest first: never
the row itself, a later row or one at the same time, and no label of a validation or test row, so that no held-out label
becomes an input. (A test row's history therefore ends where the training rows end, as in a service whose models are
made once.) The result does not depend on the order of rows in the files, except among events of one group at the same
time, which stay in file order.

A sequence that `Dataset.read` gives is searched for look-ahead instead: values that the log itself shows to the row's
group for the first time at the row's own time, or later. In a history made of this log there are none.

Memory: 20 bytes for each event while they are sorted and 12 after, and the two key columns (16 bytes for each row).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmark.core.errors import DataError
from datasets_registry.base import Dataset, Feature

KEYS = ("group", "time")


def check_keys(dataset: Dataset, keys: Mapping[str, np.ndarray]) -> None:
    """Raises DataError if a sequence is to be built and rows carry no group or time."""
    built = [feature.name for feature in dataset.features if feature.built]
    if built and (missing := [key for key in KEYS if key not in keys]):
        raise DataError(
            f"'{dataset.name}': sequence '{built[0]}' is built of earlier rows of the same group, and the rows have no "
            f"{' and no '.join(missing)} key; name such a column (time, group), or let read give the sequence."
        )


class Events:
    """Values of one group's rows by time, to be looked up by (group, time).

    ``codes`` int32 [E], ``group`` and ``time`` int64 [E] in file order.
    """

    def __init__(self, codes: np.ndarray, group: np.ndarray, time: np.ndarray) -> None:
        order = np.lexsort((time, group))  # stable: equal ones stay in file order
        self._codes = codes[order]
        self._groups, starts = np.unique(group[order], return_index=True)
        self._starts = np.append(starts, len(codes))
        self._times = np.unique(time)
        rank = np.repeat(np.arange(len(self._groups)), np.diff(self._starts))
        self._keys = rank * (len(self._times) + 1) + np.searchsorted(self._times, time[order])

    def before(self, feature: Feature, group: np.ndarray, time: np.ndarray, padding: int) -> tuple[np.ndarray, int]:
        """Values int32 [n, feature.length] strictly before each row's time, and how many rows have more than fit."""
        n, length = len(group), feature.length
        if not len(self._codes):
            return np.full((n, length), padding, np.int32), 0
        rank = np.minimum(np.searchsorted(self._groups, group), len(self._groups) - 1)
        start = self._starts[rank]
        key = rank * (len(self._times) + 1) + np.searchsorted(self._times, time)  # times below it are earlier
        end = np.where(self._groups[rank] == group, np.searchsorted(self._keys, key), start)
        columns = np.arange(length)
        index = columns + (start[:, None] if feature.keep == "first" else end[:, None] - length)
        inside = (index >= start[:, None]) & (index < end[:, None])
        values = self._codes[np.where(inside, index, 0)]
        return np.where(inside, values, np.int32(padding)), int((end - start > length).sum())


def collect(
    feature: Feature,
    parts: Iterator[tuple[np.ndarray, np.ndarray]],
    training: np.ndarray,
    keys: Mapping[str, np.ndarray],
) -> Events:
    """The events of a sequence. ``parts`` yields (codes int32 [n], label uint8 [n]) of all rows, chunk by chunk;
    ``training`` bool [N] are the rows whose labels may be used."""
    codes, groups, times = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    start = 0
    for values, label in parts:
        rows = slice(start, start + len(values))
        start += len(values)
        chosen = training[rows] & (label == 1)
        codes.append(values[chosen])
        groups.append(keys["group"][rows][chosen])
        times.append(keys["time"][rows][chosen])
    return Events(np.concatenate(codes), np.concatenate(groups), np.concatenate(times))


LOOKED_AT = 200_000  # rows, of whole groups, that the search for look-ahead goes through
BLOCK = 1 << 14  # of which so many at once


@dataclass
class LookAhead:
    """Whether a sequence that is read holds what the log shows only later.

    Rows of some whole groups are gathered in ``add``; ``found`` then goes by the first time at which the log shows a
    value to the row's group.
    """

    feature: Feature
    _parts: list[tuple[np.ndarray, ...]] = field(default_factory=list)

    def add(self, group: np.ndarray, time: np.ndarray, code: np.ndarray, values: np.ndarray, padding: int) -> None:
        """Rows with the code of the shared feature [n] and the sequence's values [n, length]."""
        self._parts.append((group, time, code, np.where(values == padding, -1, values)))

    def found(self, unseen: int) -> tuple[int, int]:
        """(values that the log shows first at the row's own time or later, values that it shows to the group)."""
        if not self._parts:
            return 0, 0
        group, time, code, values = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        _, group = np.unique(group, return_inverse=True)
        top = max(int(code.max()), int(values.max())) + 1
        pair = group * top + code
        order = np.lexsort((time, pair))
        pairs, first = np.unique(pair[order], return_index=True)
        first_time = time[order][first]
        ahead = known = 0
        for start in range(0, len(group), BLOCK):
            rows = slice(start, start + BLOCK)
            wanted = group[rows, None] * top + values[rows]
            at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
            shown = (pairs[at] == wanted) & (values[rows] > unseen)
            ahead += int((shown & (first_time[at] >= time[rows, None])).sum())
            known += int(shown.sum())
        return ahead, known


def warnings(found: Mapping[str, Sequence[int]], allowed: Collection[str]) -> list[str]:
    """A sentence for each sequence that seems to look ahead."""
    return [
        f"sequence '{name}': of {shown:,} values that the log shows to the same group, {ahead:,} ({ahead / shown:.1%}) "
        "appear there for the first time at the row's own time or later: it holds the row itself or what follows it. "
        "Build it of earlier rows only (when); if it comes from before the log, name it in allow_leaks."
        for name, (ahead, shown) in found.items()
        if ahead and name not in allowed
    ]


def some_groups(group: np.ndarray) -> np.ndarray:
    """bool [N]: all rows of some groups, about LOOKED_AT rows in all, chosen by a hash of the group."""
    if len(group) <= LOOKED_AT:
        return np.ones(len(group), bool)
    mixed = group.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(32)) < np.uint64(LOOKED_AT / len(group) * 2**32)
