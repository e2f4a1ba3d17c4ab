"""Criteo attribution: 30 days of display advertisements, with click, conversion and whether the ad got the credit.

What is known only afterwards is no input: the place of the click among the clicks before a conversion (click_pos,
click_nb), conversion time and id, the price of an order (cpo), the price paid for the display (cost).
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

LABELS = {
    "click": "clicked",
    "conversion": "followed by a conversion within 30 days",
    "attribution": "followed by a conversion that was attributed to Criteo",
}
FEATURES = ("campaign", *(f"cat{i}" for i in range(1, 10)))
AFTERWARDS = ("conversion_timestamp", "conversion_id", "click_pos", "click_nb", "cost", "cpo")


@dataclasses.dataclass(frozen=True)
class CriteoAttribution(Dataset):
    """One tab-separated file with a header."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_numpy

        for batch in delimited.read(files["log"], layout(), chunk_rows, row_bytes=150):
            since = to_numpy(batch["time_since_last_click"])
            yield Chunk(
                features={
                    **{name: batch[name] for name in FEATURES},
                    "time_since_last_click": np.where(since < 0, np.nan, since),
                },
                labels={task: delimited.indicator(batch[task]) for task in LABELS},
                keys={"time": to_numpy(batch["timestamp"]), "group": to_numpy(batch["uid"])},
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        return delimited.check(path, layout())


def layout() -> Layout:
    """The file's columns."""
    from datasets_registry.encoding.delimited import Column, Layout

    return Layout(
        (
            Column("timestamp", "integer", low=0),
            Column("uid", "integer"),
            *(Column(name, "integer") for name in FEATURES),
            *(Column(name, "integer", low=0, high=1) for name in LABELS),
            Column("time_since_last_click", "number", low=-1),
            *(Column(name, "skip") for name in AFTERWARDS),
        ),
        delimiter="\t",
        header=True,
    )


register_dataset(
    CriteoAttribution(
        name="criteo_attribution",
        title="Criteo attribution modelling for bidding",
        tasks=tuple(Task(name, text) for name, text in LABELS.items()),
        old_tasks=("click",),
        new_tasks=("conversion",),
        chain=("conversion", "attribution"),
        features=(*(Feature(name) for name in FEATURES), Feature("time_since_last_click", "numeric", log=True)),
        licence="CC BY-NC-SA 4.0",
        citation=(
            "Diemert et al., Attribution Modeling Increases Efficiency of Bidding in Display Advertising, AdKDD 2017"
        ),
        home_page="https://huggingface.co/datasets/criteo/criteo-attribution-dataset",
        size="16,468,027 rows, 10 categorical features and 1 numeric",
        manifest="criteo_attribution",
        split="time",
        splits=("time", "random"),
        complete_rows=16_468_027,
        defects=(
            "Conversions come up to 30 days after the display: those of the last days are cut off by the end of the "
            "data, so the test rows of @time have fewer.",
            "The user id is no input (millions of values that hardly repeat); it serves @users..pct.",
            "The number of rows is that which two third parties counted; no official row was at hand here.",
        ),
    )
)
