"""KuaiSAR (Kuaishou, 2023): recommended videos with feedback, and whether the user began to search while watching.

Only the recommendation log is read, with users and items joined to it; the search log and the captions are not. How
long a video was played makes the label ``complete`` and is no input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_registry.base import UNDEFINED, Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.encoding.delimited import Layout

FLAGS = {
    "click": "clicked",
    "like": "liked",
    "follow": "followed the author",
    "forward": "forwarded",
    "search": "searched while watching",
}
USER = ("search_active_level", "rec_active_level", "onehot_feat1", "onehot_feat2")
LEVELS = ("first", "second", "third", "fourth")
ITEM = ("author_id", "item_type", "upload_type", *(f"{level}_level_category_id" for level in LEVELS))


@dataclasses.dataclass(frozen=True)
class KuaiSAR(Dataset):
    """rec_inter.csv, user_features.csv and item_features.csv."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.side import SideTable
        from datasets_registry.encoding.vocabulary import to_numpy

        users = SideTable.read(files["users"], "user_id", side_layout("user_id", USER))
        items = SideTable.read(files["items"], "item_id", side_layout("item_id", ITEM))
        for batch in delimited.read(files["log"], log_layout(), chunk_rows, row_bytes=90):
            length, played = (to_numpy(batch[name].fill_null(0.0)) for name in ("duration_ms", "playing_time"))
            labels = {task: delimited.indicator(batch[task]) for task in FLAGS}
            labels["complete"] = np.where(length > 0, played >= length, UNDEFINED).astype(np.uint8)
            related = to_numpy(batch["search_item_related"].fill_null(UNDEFINED)).astype(np.uint8)
            labels["search_item_related"] = np.where(labels["search"] == 1, related, UNDEFINED).astype(np.uint8)
            yield Chunk(
                features={
                    "user_id": batch["user_id"],
                    "item_id": batch["item_id"],
                    "duration_ms": np.where(length > 0, length, np.nan),
                    **users.look_up(USER, batch["user_id"]),
                    **items.look_up(ITEM, batch["item_id"]),
                },
                labels=labels,
                keys={
                    "time": to_numpy(batch["timestamp"]).astype(np.int64),
                    "group": to_numpy(batch["user_id"]),
                },
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        layouts = {"users": side_layout("user_id", USER), "items": side_layout("item_id", ITEM)}
        return delimited.check(path, layouts.get(key) or log_layout())


def log_layout() -> Layout:
    """Columns of the recommendation log."""
    from datasets_registry.encoding.delimited import Column, Layout

    return Layout(
        (
            Column("user_id", "integer", low=0),
            Column("item_id", "integer"),
            Column("playing_time", "number", empty=True),
            Column("duration_ms", "number", empty=True),
            Column("time", "skip"),
            Column("timestamp", "number", low=0, high=1e15),
            *(Column(name, "integer", low=0, high=1) for name in FLAGS),
            Column("search_item_related", "integer", low=0, high=1, empty=True),
        ),
        header=True,
        others=True,
        nulls=("",),
    )


def side_layout(key: str, names: tuple[str, ...]) -> Layout:
    """Columns of the users' or the items' table."""
    from datasets_registry.encoding.delimited import Column, Layout

    columns = (Column(key, "integer"), *(Column(name, empty=True) for name in names))
    return Layout(columns, header=True, quoted=True, others=True, nulls=("",))


for _name, _title, _size in (
    ("kuaisar_small", "KuaiSAR-small", "ten days of the log"),
    ("kuaisar", "KuaiSAR (version 2)", "the whole log"),
):
    register_dataset(
        KuaiSAR(
            name=_name,
            title=_title,
            tasks=(
                *(Task(name, text) for name, text in FLAGS.items()),
                Task("complete", "watched to the end (undefined where no length is known)"),
                Task("search_item_related", "the search was about the video", space="search"),
            ),
            old_tasks=("click", "complete"),
            new_tasks=("search",),
            chain=("search", "like", "follow"),
            candidates=("click", "complete", "like", "follow", "forward", "search"),
            features=(
                *(Feature(name) for name in ("user_id", "item_id", *USER, *ITEM)),
                Feature("duration_ms", "numeric", log=True),
            ),
            licence="CC BY-NC-SA 4.0",
            citation="Sun et al., KuaiSAR: A Unified Search And Recommendation Dataset, CIKM 2023",
            home_page="https://kuaisar.github.io",
            size=f"{_size}, {2 + len(USER) + len(ITEM)} categorical features and 1 numeric",
            manifest=_name,
            split="time",
            splits=("time", "random"),
            defects=(
                "The checksum of the archive is not known to this project: the content is taken as it comes.",
                "search counts only searches by the magnifying glass, not clicks on recommended queries.",
                "The reader follows the published description; no official row was at hand when it was written.",
            ),
        )
    )
