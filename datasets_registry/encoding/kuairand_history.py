"""What KuaiRand users saw before the rows at hand: the last exposures of each, from the log or a prepared file.

The prepared file lists, for each user, the last 50 exposures before a day with two of the labels; from the complete log
the same is made here. Every event of a user is before that user's first row at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmark.core.errors import DataError
from datasets_registry.encoding import delimited
from datasets_registry.encoding.delimited import Column, Layout
from datasets_registry.encoding.vocabulary import to_arrow, to_numpy

LENGTH = 50
EVENTS = {"exposed": None, "watched": "long_view", "liked": "is_like"}
"""Sequences of videos, and the label of the events that each keeps."""
COLUMNS = ("user_id", "position", "video_id", "long_view", "is_like", "ambiguous")


def layout() -> Layout:
    """Columns of the prepared file."""
    flags = ("long_view", "is_like", "ambiguous")
    return Layout(
        tuple(Column(name, "integer", low=0, high=1 if name in flags else None) for name in COLUMNS), header=True
    )


class Histories:
    """Videos of the last events of each user, oldest first, looked up by user."""

    def __init__(self, events: dict[str, np.ndarray]) -> None:
        """``events``: int64 columns user_id, video_id, long_view, is_like of all events, sorted by user, then time."""
        user = events["user_id"]
        self._users, starts = np.unique(user, return_index=True)
        from_end = np.repeat(np.append(starts[1:], len(user)), np.diff(np.append(starts, len(user)))) - np.arange(
            len(user)
        )
        self._lists: dict[str, pa.Array] = {}
        for name, label in EVENTS.items():
            kept = from_end <= LENGTH
            if label is not None:
                kept &= events[label] == 1
            offsets = np.append(
                0, np.cumsum(np.bincount(np.searchsorted(self._users, user[kept]), minlength=len(starts)))
            )
            self._lists[name] = pa.ListArray.from_arrays(
                pa.array(offsets, pa.int32()), to_arrow(events["video_id"][kept])
            )

    @classmethod
    def of_file(cls, path: Path) -> Histories:
        """From the prepared file. Raises DataError."""
        parts = list(delimited.read(path, layout(), 1 << 18, row_bytes=20))
        columns = {name: np.concatenate([to_numpy(part[name]) for part in parts]) for name in COLUMNS}
        return cls(_sorted(columns, (columns["position"], columns["user_id"])))

    @classmethod
    def of_log(cls, day: int, batches: Iterator[pa.RecordBatch]) -> Histories:
        """From the log's rows before that day (yyyymmdd); those of equal time in the order of their videos.

        Raises DataError if there are none.
        """
        names = ("user_id", "video_id", "long_view", "is_like", "time_ms")
        parts = [batch.filter(pc.less(batch["date"], day)) for batch in batches]
        columns = {name: np.concatenate([to_numpy(part[name]) for part in parts]) for name in names}
        if not len(columns["user_id"]):
            raise DataError(
                f"no row before {day} in the log and no history file beside it, of which the sequences are made; fetch "
                "the complete log, or put history_before_4_25.tail50.csv into the folder."
            )
        return cls(_sorted(columns, (columns["video_id"], columns["time_ms"], columns["user_id"])))

    def look_up(self, users: pa.Array) -> dict[str, pa.Array]:
        """The sequences of each row's user, null for users without a history."""
        wanted = to_numpy(users)
        index = np.minimum(np.searchsorted(self._users, wanted), len(self._users) - 1)
        rows = pa.array(index, mask=self._users[index] != wanted)
        return {name: lists.take(rows) for name, lists in self._lists.items()}


def _sorted(columns: dict[str, np.ndarray], by: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    order = np.lexsort(by)
    return {name: values[order] for name, values in columns.items()}
