"""Tenrec (Tencent, NeurIPS 2022): video feeds of two platforms, QB and QK, with four kinds of feedback.

``watching_times`` is what happened after the impression and is no input. The files have no time, but by their Readme
each user's rows come in the order of the clicks, so ``@user_order`` tests on each user's last row and validates on the
one before.
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

FEATURES = ("user_id", "item_id", "video_category", "gender", "age")
LABELS = ("click", "like", "share", "follow")


@dataclasses.dataclass(frozen=True)
class Tenrec(Dataset):
    """One comma-separated file with header; columns beyond the ten known ones (histories) are left out."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_numpy

        for batch in delimited.read(files["log"], layout(), chunk_rows, row_bytes=48):
            yield Chunk(
                features={name: batch[name] for name in FEATURES},
                labels={task: delimited.indicator(batch[task]) for task in LABELS},
                keys={"group": to_numpy(batch["user_id"]), "listed": np.zeros(batch.num_rows, np.uint8)},
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        return delimited.check(path, layout())


def layout() -> Layout:
    """The columns that are read."""
    from datasets_registry.encoding.delimited import Column, Layout

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


for _name, _title, _rows in (
    ("tenrec_qb_video", "Tenrec QB-video", None),
    ("tenrec_qk_video", "Tenrec QK-video", None),
    ("tenrec_ctr_1m", "Tenrec ctr_data_1M (QK-video, a million users)", 120_342_306),
):
    register_dataset(
        Tenrec(
            name=_name,
            title=_title,
            tasks=tuple(Task(name, f"video: {name}") for name in LABELS),
            old_tasks=("click", "like"),
            new_tasks=("share",),
            features=tuple(Feature(name) for name in FEATURES),
            licence="CC BY-NC 4.0 by its repository; the official page asks to accept its licence agreement",
            citation="Yuan et al., Tenrec: A Large-scale Multipurpose Benchmark Dataset, NeurIPS 2022",
            home_page="https://static.qblv.qq.com/qblv/h5/algo-frontend/tenrec_dataset.html",
            size=f"{f'{_rows:,} rows' if _rows else 'rows as in the file'}; 5 categorical features",
            manifest=_name,
            split="random",
            splits=("random", "user_order"),
            complete_rows=_rows,
            chain=("share", "follow"),
            defects=(
                "The file has no time: a split by time over all users is impossible. @user_order goes by the order of "
                "each user's rows; a user with one row is tested without having been seen.",
                "The histories (hist_1 to hist_10 of ctr_data_1M.csv) are left out.",
            ),
        )
    )

ARTICLE_LABELS = {
    "click": "clicked",
    "read": "read",
    "like": "liked",
    "share": "shared",
    "follow": "followed the author",
    "favorite": "added to the favourites",
}
ARTICLE_FEATURES = ("user_id", "item_id", "gender", "age", "category_first", "category_second")
SCORES = ("item_score1", "item_score2", "item_score3")
COUNTS = ("exposure_count", "click_count", "like_count", "comment_count")
AFTERWARDS = ("read_percentage", "read_time")


@dataclasses.dataclass(frozen=True)
class TenrecArticle(Dataset):
    """One comma-separated file with header, one row per article shown."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_numpy

        for batch in delimited.read(files["log"], article_layout(), chunk_rows, row_bytes=110):
            scores = {name: to_numpy(batch[name].fill_null(float("nan"))) for name in SCORES}
            yield Chunk(
                features={name: batch[name] for name in ARTICLE_FEATURES} | scores,
                labels={task: delimited.indicator(batch[task]) for task in ARTICLE_LABELS},
                keys={"group": to_numpy(batch["user_id"]), "listed": np.zeros(batch.num_rows, np.uint8)},
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        return delimited.check(path, article_layout())


def article_layout() -> Layout:
    """Columns of QK-article.csv."""
    from datasets_registry.encoding.delimited import Column, Layout

    return Layout(
        (
            Column("user_id", "integer"),
            Column("item_id", "integer"),
            *(Column(name, "integer", empty=True) for name in ARTICLE_FEATURES[2:]),
            *(Column(name, "number", empty=True) for name in SCORES),
            *(Column(name, "integer", low=0, high=1) for name in ARTICLE_LABELS),
            *(Column(name, "skip") for name in (*COUNTS, *AFTERWARDS)),
        ),
        header=True,
        others=True,
        nulls=("", "\\N"),
    )


register_dataset(
    TenrecArticle(
        name="tenrec_qk_article",
        title="Tenrec QK-article",
        tasks=tuple(Task(name, text) for name, text in ARTICLE_LABELS.items()),
        old_tasks=("click", "read"),
        new_tasks=("like",),
        chain=("like", "share", "favorite"),
        features=(*(Feature(name) for name in ARTICLE_FEATURES), *(Feature(name, "numeric") for name in SCORES)),
        licence="CC BY-NC 4.0 by its repository; the official page asks to accept its licence agreement",
        citation="Yuan et al., Tenrec: A Large-scale Multipurpose Benchmark Dataset, NeurIPS 2022",
        home_page="https://static.qblv.qq.com/qblv/h5/algo-frontend/tenrec_dataset.html",
        size="rows as in the file; 6 categorical and 3 numeric features",
        manifest="tenrec_qk_article",
        split="random",
        splits=("random", "user_order"),
        defects=(
            "exposure_count, click_count, like_count and comment_count are suspected to be counted over the whole "
            "period and so to contain the labels; they are left out.",
            "What the three item scores are computed from is not documented; they are inputs.",
            "That a user's rows come in the order of time is documented for the videos, not for the articles.",
            "The reader follows the published column names; no official row was at hand when it was written.",
        ),
    )
)
