"""AliExpress search, one dataset per country, in the processed layout that the field shares (train.csv, test.csv).

The official archives are laid out otherwise: by their page, four files per country, user and query features apart from
item features with labels, to be joined by search result page. Their columns and the recipe of the processed files are
not documented where this project could read it, so they are not read. A tenth of the training rows validates. Two tasks
are all there is: which one is new is a choice, by default the conversion.
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

COUNTRIES = {
    "nl": ("Netherlands", "1.49 GB"),
    "fr": ("France", "2.25 GB"),
    "es": ("Spain", "2.60 GB"),
    "us": ("United States", "2.25 GB"),
    "ru": ("Russia", "11.34 GB"),
}
CATEGORICAL = tuple(f"categorical_{i}" for i in range(1, 17))
NUMERIC = tuple(f"numerical_{i}" for i in range(1, 64))
LABELS = ("click", "conversion")


@dataclasses.dataclass(frozen=True)
class AliExpress(Dataset):
    """train.csv and test.csv of one country."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        for _, chunks in self.read_parts(files, chunk_rows):
            yield from chunks

    def read_parts(self, files: Mapping[str, Path], chunk_rows: int) -> list[tuple[int, Iterator[Chunk]]]:
        return [(part, self._read_file(files[key], part, chunk_rows)) for part, key in ((0, "train"), (2, "test"))]

    def _read_file(self, path: Path, part: int, chunk_rows: int) -> Iterator[Chunk]:
        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_numpy

        for batch in delimited.read(path, layout(), chunk_rows, row_bytes=600):
            yield Chunk(
                features={feature.name: batch[feature.name] for feature in self.features},
                labels={task: delimited.indicator(batch[task]) for task in LABELS},
                part=part,
                keys={"group": to_numpy(batch["search_id"])},
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        return delimited.check(path, layout())


def layout() -> Layout:
    """Columns of both files."""
    from datasets_registry.encoding.delimited import Column, Layout

    return Layout(
        (
            Column("search_id", "integer"),
            *(Column(name, "integer") for name in CATEGORICAL),
            *(Column(name, "number") for name in NUMERIC),
            *(Column(name, "integer", low=0, high=1) for name in LABELS),
        ),
        header=True,
    )


for _code, (_country, _size) in COUNTRIES.items():
    register_dataset(
        AliExpress(
            name=f"aliexpress_{_code}",
            title=f"AliExpress search, {_country}",
            tasks=(Task("click", "item clicked"), Task("conversion", "item bought (entire space)")),
            old_tasks=("click",),
            new_tasks=("conversion",),
            funnel=("click", "conversion"),
            features=(*(Feature(name) for name in CATEGORICAL), *(Feature(name, "numeric") for name in NUMERIC)),
            licence="the terms on the Tianchi page, not verified here; not redistributable",
            citation=(
                "Li et al., Improving Multi-Scenario Learning to Rank in E-commerce by Exploiting Task Relationships "
                "in the Label Space, CIKM 2020"
            ),
            home_page="https://tianchi.aliyun.com/dataset/74690",
            size=f"{_size} official archive, 16 categorical and 63 numeric features",
            manifest=f"aliexpress_{_code}",
            split="tenth",
            splits=("tenth",),
            defects=(
                "Rows of one search share the search_id and may fall into train and validation.",
                "Prepared by others: how they drew the processed rows from the official ones is not documented.",
                "The official archive itself is not read: by its page it holds user and query features in one file and "
                "item features with labels in another, for training and for test, to be joined by search result page; "
                "their columns could not be established.",
            ),
        )
    )
