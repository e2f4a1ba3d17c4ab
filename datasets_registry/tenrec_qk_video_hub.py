"""Tenrec's QK-video as UniRank's authors prepared it: blocks of Parquet files with what each user saw before.

Each split is a set of blocks. A block's ``data`` names its users and items by their place in the block's ``user_info``
and ``item_info``. A user's ``full_item_seq`` holds *all* rows of the user, later ones and those of other splits, too;
only the ``seq_len`` items before a row are its history. ``watching_times`` and ``full_action_seq`` from there on are
what happened at the row and after it: neither is an input.
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
    import numpy as np
    import pyarrow as pa

SPLITS = {"train": 0, "valid": 1, "test": 2}
LABELS = ("click", "like", "share", "follow")
CONTEXT = ("user_id", "gender", "age")
SIDES = ("user_info", "item_info")
HISTORY = 50


@dataclasses.dataclass(frozen=True)
class QKVideoHub(Dataset):
    """Folders train, valid and test with data, user_info and item_info/part-*.parquet, as in a download of the copy."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        for _, chunks in self.read_parts(files, chunk_rows):
            yield from chunks

    def read_parts(self, files: Mapping[str, Path], chunk_rows: int) -> list[tuple[int, Iterator[Chunk]]]:
        return [(part, self._read(files, split, part, chunk_rows)) for split, part in SPLITS.items()]

    def _read(self, files: Mapping[str, Path], split: str, part: int, chunk_rows: int) -> Iterator[Chunk]:
        from datasets_registry.encoding import parquet
        from datasets_registry.encoding.vocabulary import to_numpy

        for key in sorted(key for key in files if key.startswith(f"data.{split}.")):
            block = _Block(*(files[key.replace(f"data.{split}", f"{kind}.{part}")] for kind in SIDES))
            names = ("user_index", "item_index", "seq_len", *CONTEXT, *LABELS)
            for batch in parquet.read(files[key], names, chunk_rows):
                user, item, before = (to_numpy(batch[name]) for name in names[:3])
                yield Chunk(
                    features={
                        **{name: batch[name] for name in CONTEXT},
                        "item_id": block.items(item, files[key]),
                        "seen": block.history(user, before, files[key]),
                    },
                    labels={name: _flag(batch[name], files[key], name) for name in LABELS},
                    part=part,
                    keys={"group": to_numpy(batch["user_id"])},
                )

    def recognises(self, directory: Path) -> Mapping[str, Path] | None:
        folders = [directory, *(path for path in sorted(directory.glob("*")) if path.is_dir())]
        for folder in folders:
            files: dict[str, Path] = {}
            for split, part in SPLITS.items():
                for path in sorted((folder / split / "data").glob("part-*.parquet")):
                    files[f"data.{split}.{path.stem}"] = path
                    # blocks of two splits may have the same users and items, so these keys do not name the split
                    files |= {f"{kind}.{part}.{path.stem}": folder / split / kind / path.name for kind in SIDES}
            complete = all(any(key.startswith(f"data.{split}.") for key in files) for split in SPLITS)
            if complete and all(path.is_file() for path in files.values()):
                return files
        return None


class _Block:
    """Items and users of one block, by their places in it."""

    def __init__(self, users: Path, items: Path) -> None:
        import numpy as np

        from datasets_registry.encoding import parquet
        from datasets_registry.encoding.vocabulary import to_numpy

        table = parquet.table(items, ("item_index", "item_id"))
        index, ids = (to_numpy(table[name].combine_chunks()) for name in table.column_names)
        self._ids = np.zeros(index.max() + 1, np.int64)
        self._ids[index] = ids
        table = parquet.table(users, ("user_index", "full_item_seq"))
        index, lists = (table[name].combine_chunks() for name in table.column_names)
        offsets = to_numpy(lists.offsets)
        self._values = to_numpy(lists.values)
        self._start, self._length = (np.full(to_numpy(index).max() + 1, fill, np.int64) for fill in (0, -1))
        self._start[to_numpy(index)], self._length[to_numpy(index)] = offsets[:-1], np.diff(offsets)

    def items(self, index: np.ndarray, path: Path) -> np.ndarray:
        """Ids int64 [n] of items by their places. Raises DataError for a place that is none."""
        if index.size and not 0 <= index.min() <= index.max() < len(self._ids):
            raise DataError(f"{path}, column item_index: {index.max()} is no row of the block's item_info.")
        return self._ids[index]

    def history(self, user: np.ndarray, before: np.ndarray, path: Path) -> pa.Array:
        """Ids of the last items of each row's user that come before the row. Raises DataError."""
        import numpy as np
        import pyarrow as pa

        inside = (user >= 0) & (user < len(self._start))
        if not inside.all() or (before > self._length[user]).any():
            raise DataError(f"{path}, column user_index: a user or a history that the block's user_info does not have.")
        kept = np.minimum(before, HISTORY).astype(np.int64)
        offsets = np.append(0, np.cumsum(kept))
        first = self._start[user] + before - kept
        places = np.repeat(first - offsets[:-1], kept) + np.arange(offsets[-1])
        values = self.items(self._values[places], path)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))


def _flag(column: Any, path: Path, name: str) -> np.ndarray:
    """uint8 [n] of a column of 0 and 1, written as floats."""
    import numpy as np

    values = column.to_numpy(zero_copy_only=False)
    if not np.isin(values, (0, 1)).all():
        raise DataError(f"{path}, column {name}: {values[~np.isin(values, (0, 1))][0]} is neither 0 nor 1")
    return values.astype(np.uint8)


register_dataset(
    QKVideoHub(
        name="tenrec_qk_video_hub",
        title="Tenrec QK-video, UniRank's prepared copy",
        notes="The copy on the Hugging Face Hub of the closest comparison of rankers, with behaviour sequences.",
        tasks=tuple(Task(name, f"{name} (feedback of the feed)") for name in LABELS),
        old_tasks=("click", "like"),
        new_tasks=("share",),
        chain=("share", "follow"),
        features=(
            *(Feature(name) for name in CONTEXT),
            Feature("item_id"),
            Feature("seen", "sequence", length=HISTORY, shares="item_id"),
        ),
        licence="Tenrec's licence agreement; none seen for the copy: accept Tenrec's before you use it",
        citation="Yuan et al., Tenrec: A Large-scale Multipurpose Benchmark Dataset for Recommender Systems, NeurIPS "
        "2022; prepared by UniRank (github.com/salmon1802/UniRank)",
        home_page="https://huggingface.co/datasets/salmon1802/QK-Video",
        size="493,306,303 rows, 4,996,176 users and 3,752,235 items by its authors",
        manifest="tenrec_qk_video_hub",
        split="official",
        splits=("official",),
        defects=(
            "Written after the published script of the preparation and tested on files in that layout made here; the "
            "copy itself was not at hand, and its licence and revision were not read.",
            "The users' sequences in the copy run over all splits: only what comes before a row may be read as its "
            "history.",
            "video_category is empty in the copy's item_info by that script and is not read; watching_times is an "
            "outcome.",
            "The split is per user, 80/10/10 % in the order of the rows: validation and test histories hold earlier "
            "rows of later splits, as a service would see them.",
        ),
    )
)
