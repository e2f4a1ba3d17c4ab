"""ByteRec: ICME 2019 Short Video Understanding Challenge, track 2 (final_track2_train.txt).

As in the MPT-Rec paper: eight categorical features, split 80/10/10 by rows. Mended: vocabularies come from training
rows only, and the new task is a duration above 10 seconds by raw seconds (the paper's threshold is a fraction of the
file's longest video). A time-ordered split is there by name, because users and items occur in all parts otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.encoding.delimited import Layout

FEATURES = ("uid", "user_city", "item_id", "author_id", "item_city", "channel", "music_id", "device")
COLUMNS = (*FEATURES[:6], "finish", "like", *FEATURES[6:], "time", "duration_time")
LONG_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class ByteRec(Dataset):
    """One tab-separated file without header; -1 is missing."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_numpy

        for batch in delimited.read(files["log"], layout(), chunk_rows, row_bytes=64):
            long = to_numpy(batch["duration_time"]) > LONG_SECONDS
            yield Chunk(
                features={name: batch[name] for name in FEATURES},
                labels={
                    "finish": delimited.indicator(batch["finish"]),
                    "like": delimited.indicator(batch["like"]),
                    "long_video": long.astype(np.uint8),
                },
                keys={"time": to_numpy(batch["time"]), "group": to_numpy(batch["uid"].fill_null(-1))},
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        return delimited.check(path, layout())


def layout() -> Layout:
    """The file's columns."""
    from datasets_registry.encoding.delimited import Column, Layout

    kinds = {name: Column(name, "integer", empty=True) for name in FEATURES}
    kinds |= {name: Column(name, "integer", low=0, high=1) for name in ("finish", "like")}
    kinds |= {"time": Column("time", "integer"), "duration_time": Column("duration_time", "number", low=0)}
    return Layout(tuple(kinds[name] for name in COLUMNS), delimiter="\t", nulls=("-1",))


register_dataset(
    ByteRec(
        name="byterec",
        title="ByteRec (ICME 2019 Short Video Understanding Challenge, track 2)",
        tasks=(
            Task("finish", "video watched to the end"),
            Task("like", "video liked"),
            Task("long_video", f"video longer than {LONG_SECONDS} seconds"),
        ),
        old_tasks=("finish", "like"),
        new_tasks=("long_video",),
        features=tuple(Feature(name) for name in FEATURES),
        licence="the challenge's terms, not verified here; not redistributable",
        citation="ICME 2019 Short Video Understanding and Recommendation Challenge, ByteDance",
        home_page="https://www.biendata.xyz/competition/icmechallenge2019/",
        size="19,622,340 rows, 8 categorical features",
        manifest="byterec",
        split="random",
        splits=("random", "time"),
        complete_rows=19_622_340,
        defects=(
            "The random split puts the same users and items in all parts; use @time for a stricter one.",
            "long_video is a property of the video, so its item_id gives it away wherever the item was seen.",
        ),
    )
)
