"""AliExpress search, one dataset per country, from the official files or in the processed layout of the field.

Official, per country and part: ``NL_user_train.csv`` (33 columns, no header: search id, user and query features) and
``NL_item_train.csv`` (49 columns: search id, item features, and 0 for no click, 1 for a click, 2 for a click and a
purchase), inner-joined by the search id as github.com/easezyc/Multitask-Recommendation-Library joins them. Processed:
train.csv and test.csv with the columns search_id, categorical_1 to 16, numerical_1 to 63, click, conversion. A tenth of
the searches of the training part validates. Two tasks are all there is: which one is new is a choice, by default the
conversion.
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
USER_COLUMNS, ITEM_COLUMNS = 33, 49  # counted from 1, as the sources count them: 1 is the search id, item 49 the label
USER_CATEGORICAL = (*range(2, 9), 32, 33)
ITEM_CATEGORICAL = (19, 34, 35, 36, 40, 41, 42)
USER_NUMERIC = tuple(range(9, 32))
ITEM_NUMERIC = tuple(i for i in range(2, ITEM_COLUMNS) if i not in ITEM_CATEGORICAL)


@dataclasses.dataclass(frozen=True)
class AliExpress(Dataset):
    """Four official files of one country, or train.csv and test.csv."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        for _, chunks in self.read_parts(files, chunk_rows):
            yield from chunks

    def read_parts(self, files: Mapping[str, Path], chunk_rows: int) -> list[tuple[int, Iterator[Chunk]]]:
        parts = ((0, "train"), (2, "test"))
        if "user_train" in files:
            return [(part, self._read_official(files, key, part, chunk_rows)) for part, key in parts]
        return [(part, self._read_file(files[key], part, chunk_rows)) for part, key in parts]

    def _read_official(self, files: Mapping[str, Path], which: str, part: int, chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.side import SideTable
        from datasets_registry.encoding.vocabulary import to_numpy

        users = SideTable.read(files[f"user_{which}"], "1", official_layout(user=True))
        categorical = [f"{i}" for i in USER_CATEGORICAL], [f"{i}" for i in ITEM_CATEGORICAL]
        numeric = [f"{i}" for i in USER_NUMERIC], [f"{i}" for i in ITEM_NUMERIC]
        for batch in delimited.read(files[f"item_{which}"], official_layout(user=False), chunk_rows, row_bytes=400):
            known = users.rows(batch["1"]).is_valid()
            batch = batch.filter(known)  # an inner join
            if not batch.num_rows:
                continue
            user = users.look_up([*categorical[0], *numeric[0]], batch["1"])
            codes = [*(user[name] for name in categorical[0]), *(batch[name] for name in categorical[1])]
            numbers = [*(user[name] for name in numeric[0]), *(batch[name] for name in numeric[1])]
            label = to_numpy(batch[f"{ITEM_COLUMNS}"])
            yield Chunk(
                features=dict(zip(CATEGORICAL, codes, strict=True)) | dict(zip(NUMERIC, numbers, strict=True)),
                labels={"click": (label > 0).astype(np.uint8), "conversion": (label == 2).astype(np.uint8)},
                part=part,
                keys={"group": to_numpy(batch["1"])},
            )

    def recognises(self, directory: Path) -> Mapping[str, Path] | None:
        """The official files, unpacked, in the directory or a folder below."""
        code = self.name.partition("@")[0].removeprefix("aliexpress_")
        for folder in (directory, *(path for path in sorted(directory.glob("*")) if path.is_dir())):
            there = {path.name.lower().removesuffix(".gz"): path for path in sorted(folder.glob("*.csv*"))}
            names = {
                f"{side}_{part}": f"{code}_{side}_{part}.csv" for side in ("user", "item") for part in ("train", "test")
            }
            if all(name in there for name in names.values()):
                return {key: there[name] for key, name in names.items()}
        return None

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

        if "_" in key:
            return delimited.check(path, official_layout(user=key.startswith("user")))
        return delimited.check(path, layout())


def official_layout(user: bool) -> Layout:
    """Columns of an official file, named by their place from 1."""
    from datasets_registry.encoding.delimited import Column, Layout

    categorical = USER_CATEGORICAL if user else ITEM_CATEGORICAL
    columns = [Column("1", "integer")]
    for place in range(2, (USER_COLUMNS if user else ITEM_COLUMNS) + 1):
        if place == ITEM_COLUMNS:
            columns.append(Column(f"{place}", "integer", low=0, high=2))
        else:
            columns.append(Column(f"{place}", "text" if place in categorical else "number", empty=True))
    return Layout(tuple(columns), nulls=("",))


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
            split="tenth_groups",
            splits=("tenth_groups", "tenth"),
            defects=(
                "Rows of one search share the search_id: they stay together when the validation rows are drawn; @tenth "
                "draws row by row, so that they may fall into both.",
                "How the processed files were drawn from the official ones is known for the columns, not for the "
                "values; categories there are numbered anew, so the two layouts are two data fingerprints.",
                "The official reader follows the recipe named above; no official file was at hand when it was written.",
                *(("The source named for the processed files does not offer this country.",) if _code == "ru" else ()),
            ),
        )
    )
