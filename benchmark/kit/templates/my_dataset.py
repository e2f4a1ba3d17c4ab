"""My Dataset: say where the data comes from, and how this preparation differs from others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.encoding import delimited
from datasets_registry.schema import Task

LAYOUT = delimited.Layout(
    (
        delimited.Column("user", "integer"),
        delimited.Column("item", "integer"),
        delimited.Column("price", "number", low=0, empty=True),
        delimited.Column("click", "integer", low=0, high=1),
        delimited.Column("purchase", "integer", low=0, high=1),
    ),
    header=True,
    nulls=("",),
)
"""Every column of the file; kinds are "text", "integer", "number" and "skip"."""


@dataclasses.dataclass(frozen=True)
class MyDataset(Dataset):
    """One comma-separated file with a header."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        for batch in delimited.read(files["log"], LAYOUT, chunk_rows):
            yield Chunk(
                features={feature.name: batch[feature.name] for feature in self.features},
                labels={task.name: delimited.indicator(batch[task.name]) for task in self.tasks},
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        return delimited.check(path, LAYOUT)


register_dataset(
    MyDataset(
        name="my_dataset",
        title="My Dataset",
        tasks=(Task("click", "clicked"), Task("purchase", "bought", space=None)),
        old_tasks=("click",),
        new_tasks=("purchase",),
        features=(Feature("user"), Feature("item", min_count=2), Feature("price", "numeric")),
        licence="",
        citation="",
        home_page="",
        size="",
        manifest=str(Path(__file__).with_suffix(".toml")),
        split="random",
        splits=("random",),
    )
)
