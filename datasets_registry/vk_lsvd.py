"""VK-LSVD (VK, 2025): short videos shown to users, with six kinds of feedback, from the Hugging Face Hub without login.

The published subsamples are variants: ``vk_lsvd`` is ``ur0.01_ir0.01`` (a hundredth of the users and of the items),
the others come after ``@``. The split is the published one, by time: 25 weeks train, the next validates, the last
tests.
``timespent`` is what happened after the exposure and is no input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import DataError
from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.encoding.side import SideTable

LABELS = {
    "like": "liked",
    "dislike": "disliked",
    "share": "shared",
    "bookmark": "bookmarked",
    "click_on_author": "went to the author's page",
    "open_comments": "opened the comments",
}
CONTEXT = ("place", "platform", "agent")
USER, ITEM = ("age", "gender", "geo"), ("author_id", "duration")
SUBSAMPLES = {
    "ur0.1": "a tenth of the users at random, all items (about 4 billion rows by the share of the users)",
    "up0.001_ip0.001": "a thousandth of the users and of the items, the most active and the most popular ones",
    "up0.01_ip0.01": "a hundredth of the users and of the items, the most active and the most popular ones",
}


@dataclasses.dataclass(frozen=True)
class VKLSVD(Dataset):
    """Parquet files by week, users and items beside them."""

    subsample: str = "ur0.01_ir0.01"

    def vary(self, word: str) -> Dataset | None:
        return dataclasses.replace(self, manifest=f"vk_lsvd_{word}", subsample=word) if word in SUBSAMPLES else None

    def configuration(self) -> str:
        return self.subsample

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        for _, chunks in self.read_parts(files, chunk_rows):
            yield from chunks

    def read_parts(self, files: Mapping[str, Path], chunk_rows: int) -> list[tuple[int, Iterator[Chunk]]]:
        users = _side(files["users"], "user_id", USER)
        items = _side(files["items"], "item_id", ITEM)
        weeks = sorted(key for key in files if key.startswith("week"))
        parts = [(0, weeks[:-2]), (1, weeks[-2:-1]), (2, weeks[-1:])]
        return [(part, self._read(files, keys, part, chunk_rows, users, items)) for part, keys in parts]

    def _read(
        self, files: Mapping[str, Path], keys: list[str], part: int, chunk_rows: int, users: SideTable, items: SideTable
    ) -> Iterator[Chunk]:
        from datasets_registry.encoding.vocabulary import to_numpy

        for key in keys:
            for columns in _columns(files[key], ("user_id", "item_id", *CONTEXT, *LABELS), chunk_rows):
                labels = {task: _flag(columns[task], files[key], task) for task in LABELS}
                inputs = {name: columns[name] for name in ("user_id", "item_id", *CONTEXT)}
                inputs |= users.look_up(USER, columns["user_id"]) | items.look_up(ITEM, columns["item_id"])
                yield Chunk(inputs, labels, part, {"group": to_numpy(columns["user_id"])})

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        if key in ("users", "items"):
            _side(path, "user_id" if key == "users" else "item_id", USER if key == "users" else ITEM)
            return
        row = 0
        for columns in _columns(path, ("user_id", "item_id", *CONTEXT, *LABELS), 1 << 18):
            for task in LABELS:
                try:
                    _flag(columns[task], path, task)
                except DataError as error:
                    yield row + 1, task, f"in the rows from here on: {str(error).rpartition(': ')[2]}"
            row += len(columns["user_id"])


def _side(path: Path, key: str, names: tuple[str, ...]) -> SideTable:
    """Users or items, with only the columns wanted."""
    import pyarrow as pa

    from datasets_registry.encoding.side import SideTable

    parts = list(_columns(path, (key, *names), 1 << 20))
    columns = {name: pa.concat_arrays([part[name] for part in parts]) for name in (key, *names)}
    return SideTable(columns, key, path)


def _columns(path: Path, names: tuple[str, ...], chunk_rows: int) -> Iterator[dict[str, Any]]:
    """These columns of a Parquet file, ids and context as integers. Raises DataError."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
        missing = [name for name in names if name not in file.schema_arrow.names]
        if missing:
            raise DataError(f"{path}: missing columns: {', '.join(missing)}.")
        for batch in file.iter_batches(chunk_rows, columns=list(names), use_threads=False):
            yield {name: _integers(batch[name], path, name) for name in names}
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: no readable Parquet file ({error}); delete it and fetch it again.") from error


def _integers(column: Any, path: Path, name: str) -> Any:
    """int64 (or uint8 of a boolean); text stays as it is."""
    import pyarrow as pa

    if pa.types.is_boolean(column.type):
        return column.cast(pa.uint8())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.string())
    try:
        return column.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}, column {name}: not whole numbers ({error}).") from error


def _flag(column: Any, path: Path, name: str) -> Any:
    """uint8 [n] of a column of 0 and 1."""
    import numpy as np

    from datasets_registry.encoding.vocabulary import to_numpy

    if column.null_count:
        raise DataError(f"{path}, column {name}: {column.null_count:,} labels are missing")
    values = to_numpy(column)
    if values.size and not ((values == 0) | (values == 1)).all():
        raise DataError(f"{path}, column {name}: {values[(values != 0) & (values != 1)][0]} is neither 0 nor 1")
    return values.astype(np.uint8)


register_dataset(
    VKLSVD(
        name="vk_lsvd",
        title="VK-LSVD (short videos)",
        tasks=tuple(Task(name, text) for name, text in LABELS.items()),
        old_tasks=("like", "open_comments"),
        new_tasks=("share",),
        chain=("share", "click_on_author", "bookmark"),
        features=tuple(Feature(name) for name in ("user_id", "item_id", *CONTEXT, *USER, *ITEM)),
        licence="Apache-2.0",
        citation="Poslavsky et al., VK-LSVD: Large Short-Video Dataset, arXiv 2602.04567, 2026",
        home_page="https://huggingface.co/datasets/deepvk/VK-LSVD",
        size="about 4 million rows (subsample ur0.01_ir0.01 of 40.8 billion), 10 categorical features",
        manifest="vk_lsvd",
        split="official",
        splits=("official",),
        variants=SUBSAMPLES,
        defects=(
            "Nobody publishes checksums, and the address is that of the branch main, which may move: two fetches may "
            "differ, and their data fingerprints tell.",
            "bookmark, click_on_author and above all dislike are rare: expect wide intervals on the small subsamples.",
            "The files have no time of a row, only weeks with rows in the order of time; timespent is no input.",
            "The metadata of all 10 million users and 19.6 million items is fetched with every subsample and held in "
            "memory while encoding.",
        ),
    )
)
