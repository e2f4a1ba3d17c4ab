"""Anime recommendations (myanimelist.net): which titles users watched and how they rated them, without times.

Site-wide averages and counts of a title contain these users' own ratings and are no inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.encoding.delimited import Layout

GENRES = 13  # no title has more
TABLE = ("name", "genre", "type", "episodes", "rating", "members")


@dataclasses.dataclass(frozen=True)
class Anime(Dataset):
    """Kaggle's two files (an unrated title has rating -1), or the prepared cut (an unrated one has an empty cell)."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.side import SideTable
        from datasets_registry.encoding.vocabulary import to_numpy

        key, layout = _titles(files["titles"])
        titles = SideTable.read(files["titles"], key, layout)
        genres = [text.split(", ") if text else [] for text in titles.column("genre").cast(pa.string()).to_pylist()]
        title_genres = pa.array([sorted(names) for names in genres], pa.list_(pa.string()))
        for batch in delimited.read(files["ratings"], ratings_layout(), chunk_rows, row_bytes=12):
            rows = titles.rows(batch["anime_id"])
            stars = to_numpy(pc.fill_null(batch["rating"], -1))
            yield Chunk(
                features={
                    "user_id": batch["user_id"],
                    "anime_id": batch["anime_id"],
                    "type": titles.column("type").take(rows),
                    "genre": title_genres.take(rows),
                    "episodes": to_numpy(pc.fill_null(titles.column("episodes").take(rows), np.nan)),
                },
                labels={
                    "rated": (stars > 0).astype(np.uint8),
                    "good": (stars >= 8).astype(np.uint8),
                    "top": (stars == 10).astype(np.uint8),
                    "poor": ((stars > 0) & (stars <= 5)).astype(np.uint8),
                },
                keys={"group": to_numpy(batch["user_id"])},
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        return delimited.check(path, _titles(path)[1] if key == "titles" else ratings_layout())


def ratings_layout() -> Layout:
    """Columns of the ratings."""
    from datasets_registry.encoding.delimited import Column, Layout

    return Layout(
        (
            Column("user_id", "integer", low=0),
            Column("anime_id", "integer", low=0),
            Column("rating", "integer", low=-1, high=10, empty=True),
        ),
        header=True,
        nulls=("",),
    )


def _titles(path: Path) -> tuple[str, Any]:
    """Key and layout of the table of titles: tabs and ``anime_ids`` in the cut, commas and ``anime_id`` at Kaggle."""
    from datasets_registry.encoding.delimited import Column, Layout, header_of

    cut = len(header_of(path, "\t")) > 1
    key = "anime_ids" if cut else "anime_id"
    read = {"genre": "text", "type": "text", "episodes": "number"}
    columns = [
        Column(name, read.get(name, "skip"), low=0 if name == "episodes" else None, empty=True) for name in TABLE
    ]
    layout = Layout(
        (Column(key, "integer", low=0), *columns),
        delimiter="\t" if cut else ",",
        header=True,
        quoted=not cut,
        nulls=("", "Unknown"),
    )
    return key, layout


register_dataset(
    Anime(
        name="anime",
        title="Anime recommendations (myanimelist.net)",
        notes="Each row is a title on a user's list of watched ones. `top` marks what a user loved: a site that starts "
        "with lists and ratings may later want to predict favourites alone (`top`) or what to keep from people "
        "(`poor`).",
        tasks=(
            Task("rated", "rated at all"),
            Task("good", "rating of 8 or more"),
            Task("top", "rating of 10"),
            Task("poor", "rating of 5 or less"),
        ),
        old_tasks=("rated", "good"),
        new_tasks=("top",),
        chain=("top", "poor"),
        funnel=("rated", "good", "top"),
        features=(
            Feature("user_id"),
            Feature("anime_id", min_count=2),
            Feature("type"),
            Feature("genre", length=GENRES),
            Feature("episodes", "numeric", log=True),
        ),
        licence="terms of the Kaggle page (said to be CC0; not read)",
        citation="Anime Recommendations Database, Kaggle (CooperUnion), data of myanimelist.net, 2016",
        home_page="https://www.kaggle.com/datasets/CooperUnion/anime-recommendations-database",
        size="520,609 rows of 5,000 users on 7,390 titles (the complete data: 7,813,737 of 73,516 on 12,294)",
        manifest="anime",
        split="per_user",
        splits=("per_user", "random"),
        complete_rows=7_813_737,
        defects=(
            "No time: each user's rows are drawn at random into train, validation and test (80/10/10 %).",
            "good, top and poor are thresholds of one rating: top lies in good, poor excludes both, and an unrated "
            "title has none of them. Transfer from good to top is near-certain by construction; rest no claim about "
            "the relatedness of tasks on it alone.",
            "Whether a user rates at all is a habit of the user (286 of 5,000 rate nothing), which is why rated is "
            "easy.",
            "rating and members of the table of titles are averages and counts over the whole site, these users' "
            "ratings included: they leak and are not read.",
            "Every row was chosen by its user; titles that were seen and passed over are not in the data.",
        ),
    )
)
