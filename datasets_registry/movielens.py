"""MovieLens 100K and 1M: small, public, with user and item features.

Their tasks are *derived*: one rating is read as three labels (4 or more: like; 2 or less: dislike; 5: love), so the
labels of a row exclude or imply one another. Good for trying code, not for claims about multi-task learning.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.core.errors import DataError
from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

GENRES_100K = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western"
).split()
GENRES = 6  # kept per film; no film has more
FEATURES = ("user_id", "item_id", "age", "gender", "occupation", "release_year", "genres")


@dataclasses.dataclass(frozen=True)
class MovieLens(Dataset):
    """Ratings, users and items, in the official layouts (tab and bar, or double colon) or in RecBole's (.inter)."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np
        import pyarrow as pa

        users = {cells[0]: cells[1:4] for _, cells in _lines(files["users"], _USERS)}
        items = {cells[0]: cells[1:] for _, cells in _lines(files["items"], _ITEMS)}
        columns: list[list[Any]] = [[] for _ in range(9)]

        def chunk() -> Chunk:
            user, item, age, gender, occupation, year, genres, rating, time = columns
            stars = np.array(rating)
            return Chunk(
                features={
                    "user_id": np.array(user, np.int64),
                    "item_id": np.array(item, np.int64),
                    "age": pa.array(age, pa.string()),
                    "gender": pa.array(gender, pa.string()),
                    "occupation": pa.array(occupation, pa.string()),
                    "release_year": pa.array(year, pa.string()),
                    "genres": pa.array(genres, pa.list_(pa.string())),
                },
                labels={
                    "like": (stars >= 4).astype(np.uint8),
                    "dislike": (stars <= 2).astype(np.uint8),
                    "love": (stars == 5).astype(np.uint8),
                },
                keys={"time": np.array(time, np.int64), "group": np.array(user, np.int64)},
            )

        for line, cells in _lines(files["ratings"], _RATINGS):
            where = f"{files['ratings']}, line {line}"
            column: Any
            for (column, form), cell in zip(_COLUMNS.items(), cells, strict=True):
                if not re.fullmatch(form, cell, re.ASCII):
                    raise DataError(f"{where}, column {column}: {cell!r:.60} is no number")
            values = (int(cells[0]), int(cells[1]), float(cells[2]), int(float(cells[3])))
            if values[2] not in (1, 2, 3, 4, 5):
                raise DataError(f"{where}, column rating: {cells[2]!r} is none of 1, 2, 3, 4, 5")
            user, item = users.get(cells[0], ["", "", ""]), items.get(cells[1], ["", ""])
            year, genres = (_title_year(item[0]), item[1]) if len(item) == 2 else (None, [])
            row = (values[0], values[1], *(cell or None for cell in user), year, genres or [], values[2], values[3])
            for column, value in zip(columns, row, strict=True):
                column.append(value)
            if len(columns[0]) == chunk_rows:
                yield chunk()
                columns = [[] for _ in range(9)]
        if columns[0]:
            yield chunk()

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        wanted = {"users": _USERS, "items": _ITEMS}.get(key, _RATINGS)
        try:
            for line, cells in _lines(path, wanted):
                for (column, form), cell in zip(_COLUMNS.items(), cells) if wanted is _RATINGS else ():
                    if not re.fullmatch(form, cell, re.ASCII):
                        yield line, column, f"{cell!r:.60} is no number"
                    elif column == "rating" and float(cell) not in (1, 2, 3, 4, 5):
                        yield line, "rating", f"{cell!r} is none of 1, 2, 3, 4, 5"
        except DataError as error:
            where = re.search(r"line (\d+): (.*)", str(error))
            yield (int(where[1]), "", where[2]) if where else (0, "", str(error))


_COLUMNS = {"user_id": r"\d{1,18}", "item_id": r"\d{1,18}", "rating": r"\d{1,18}(\.\d*)?"}
_COLUMNS |= {"timestamp": r"\d{1,18}(\.\d*)?"}
_RATINGS, _USERS, _ITEMS = "ratings", "users", "items"


def _lines(path: Path, what: str) -> Iterator[tuple[int, list[Any]]]:
    """(line, cells) in one common form: ratings user item rating time; users id age gender occupation; items id
    title-with-year [genres]. Raises DataError for a row of another length."""
    from datasets_registry.raw.archives import DAMAGE, open_plain

    line = 0
    try:
        with open_plain(path) as plain:
            recbole = False
            for line, raw in enumerate(plain, 1):
                if line == 1 and b":token" in raw:
                    recbole = True
                    continue
                text = raw.decode("utf-8" if recbole else "latin-1").rstrip("\r\n")
                cells = _common(text, what, recbole)
                if cells is None:
                    raise DataError(f"{path}, line {line}: not a row of {what}: {text[:60]!r}")
                yield line, cells
    except DAMAGE as error:
        raise DataError(f"{path}, after line {line}: damaged or cut off ({error}); fetch it again.") from error
    if line == 0:
        raise DataError(f"{path}: the file is empty.")


def _common(text: str, what: str, recbole: bool) -> list[Any] | None:
    if "::" in text and not recbole:  # 1M
        cells = text.split("::")
        if what == _USERS:
            return [cells[0], cells[2], cells[1], cells[3]] if len(cells) == 5 else None
        if what == _ITEMS:
            return [cells[0], cells[1], sorted(cells[2].split("|"))] if len(cells) == 3 else None
        return cells if len(cells) == 4 else None
    if recbole:
        cells = text.split("\t")
        if what == _USERS:
            return cells[:4] if len(cells) == 5 else None
        if what == _ITEMS:
            return [cells[0], f"({cells[2]})", sorted(cells[3].split())] if len(cells) == 4 else None
        return cells if len(cells) == 4 else None
    if what == _RATINGS:
        cells = text.split("\t")
        return cells if len(cells) == 4 else None
    cells = text.split("|")
    if what == _USERS:
        return cells[:4] if len(cells) == 5 else None
    if len(cells) != 24:
        return None
    return [cells[0], cells[1], sorted(name for name, flag in zip(GENRES_100K, cells[5:], strict=True) if flag == "1")]


def _title_year(title: str) -> str | None:
    found = re.findall(r"\((\d{4})\)", title)
    return found[-1] if found else None


def _entry(code: str, size: str, rows: int, more: tuple[str, ...] = ()) -> MovieLens:
    return MovieLens(
        name=f"movielens_{code}",
        title=f"MovieLens {code.upper()} (a toy: tasks derived from one rating)",
        toy="all tasks are functions of one rating (no love without a like, no like with a dislike): for smoke runs "
        "and trying code, no evidence about multi-task learning",
        tasks=(
            Task("like", "derived: rating of 4 or more"),
            Task("dislike", "derived: rating of 2 or less"),
            Task("love", "derived: rating of 5"),
        ),
        old_tasks=("like", "dislike"),
        new_tasks=("love",),
        features=tuple(Feature(name, length=GENRES if name == "genres" else 1) for name in FEATURES),
        licence="GroupLens terms: research use, no redistribution without permission",
        citation="Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015",
        home_page=f"https://grouplens.org/datasets/movielens/{code}/",
        size=size,
        manifest=f"movielens_{code}",
        split="random",
        splits=("random", "time", "user_order"),
        complete_rows=rows,
        defects=(
            "All tasks derive from one rating: love implies like, like excludes dislike.",
            "Only rated films are in the data; there is no impression without a rating.",
            *more,
        ),
    )


MIRRORS_DIFFER = (
    "@time tests mostly on newcomers: 86 % of its test rows are of users without a training row.",
    "The mirrors differ in content: RecBole's copy has another release year in 6 rows and 'V' as that of film 1412, so "
    "the copies are two data fingerprints.",
)
register_dataset(_entry("100k", "100,000 ratings, 943 users, 1,682 films", 100_000, MIRRORS_DIFFER))
register_dataset(_entry("1m", "1,000,209 ratings, 6,040 users, 3,706 films", 1_000_209))
