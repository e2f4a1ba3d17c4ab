"""Tenrec (Tencent, NeurIPS 2022): video feeds of two platforms, QB and QK, with four kinds of feedback.

``watching_times`` is what happened after the impression and is no input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.raw.delimited import Layout

FEATURES = ("user_id", "item_id", "video_category", "gender", "age")
LABELS = ("click", "like", "share", "follow")


@dataclasses.dataclass(frozen=True)
class Tenrec(Dataset):
    """One comma-separated file with header; columns beyond the ten known ones (histories) are left out."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        from datasets_registry.encoding.vocabulary import to_numpy
        from datasets_registry.raw import delimited

        for batch in delimited.read(files["log"], layout(), chunk_rows, row_bytes=48):
            yield Chunk(
                features={name: batch[name] for name in FEATURES},
                labels={task: delimited.indicator(batch[task]) for task in LABELS},
                keys={"group": to_numpy(batch["user_id"])},
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.raw import delimited

        return delimited.check(path, layout())


def layout() -> Layout:
    """The columns that are read."""
    from datasets_registry.raw.delimited import Column, Layout

    return Layout(
        (
            Column("user_id", "integer"),
            Column("item_id", "integer"),
            *(Column(name, "integer", empty=True) for name in FEATURES[2:]),
            *(Column(name, "integer", low=0, high=1) for name in LABELS),
            Column("watching_times", "skip"),
        ),
        header=True,
        others=True,
        nulls=("", "\\N"),
    )


for _code, _text in (("qb", "QB"), ("qk", "QK")):
    register_dataset(
        Tenrec(
            name=f"tenrec_{_code}_video",
            title=f"Tenrec {_text}-video",
            tasks=tuple(Task(name, f"video: {name}") for name in LABELS),
            old_tasks=("click", "like"),
            new_tasks=("share",),
            features=tuple(Feature(name) for name in FEATURES),
            licence="CC BY-NC 4.0 by its repository; the official page asks to accept its licence agreement",
            citation="Yuan et al., Tenrec: A Large-scale Multipurpose Benchmark Dataset, NeurIPS 2022",
            home_page="https://static.qblv.qq.com/qblv/h5/algo-frontend/tenrec_dataset.html",
            size="rows as in the file; 5 categorical features",
            manifest=f"tenrec_{_code}_video",
            split="random",
            splits=("random",),
            defects=("The file has no time: a time-ordered split is impossible.",),
        )
    )
