"""Steam reviews of Australian users (UCSD): what users wrote about games, and what others thought of the review."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import DataError
from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.encoding.delimited import Layout
    from datasets_registry.encoding.side import SideTable

LISTS = {"genres": 8, "tags": 20, "specs": 16}  # values kept
TEXTS = ("developer", "publisher", "early_access", "release_year")
LENGTHS = ("review_chars", "review_words")
CRAWL_YEAR = 2016  # Steam shows no year for reviews of the present one
NUMBERS = {"recommend": 1, "helpful_yes": None, "helpful_votes": None, "funny_votes": None, "edited": 1}


@dataclasses.dataclass(frozen=True)
class SteamReviews(Dataset):
    """The prepared table of reviews and the games beside it, one JSON object a line."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np
        import pyarrow.compute as pc

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_numpy

        games = _games(files["games"])
        for batch in delimited.read(files["reviews"], layout(), chunk_rows, row_bytes=48):
            rows = games.rows(batch["item_id"])
            number = {name: to_numpy(batch[name]) for name in ("user", *NUMBERS, *LENGTHS)}
            dates = [pc.fill_null(batch[f"posted_{name}"], CRAWL_YEAR).to_pylist() for name in ("year", "month", "day")]
            yield Chunk(
                features={
                    "user": batch["user"],
                    "item_id": batch["item_id"],
                    **{name: games.column(name).take(rows) for name in (*TEXTS, *LISTS)},
                    "price": to_numpy(pc.fill_null(games.column("price").take(rows), np.nan)),
                    **{name: number[name].astype(np.float64) for name in LENGTHS},
                },
                labels={
                    "not_recommend": (number["recommend"] == 0).astype(np.uint8),
                    "helpful": (number["helpful_yes"] >= 1).astype(np.uint8),
                    "funny": (number["funny_votes"] >= 1).astype(np.uint8),
                },
                keys={"group": number["user"], "time": _days(dates, files["reviews"])},
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        if key == "reviews":
            yield from delimited.check(path, layout())
            return
        for line, _, problem in _game_rows(path):
            if problem:
                yield line, "", problem


def layout() -> Layout:
    """Columns of the reviews."""
    from datasets_registry.encoding.delimited import Column, Layout

    return Layout(
        (
            Column("user", "integer", low=0),
            Column("item_id", "integer", low=0),
            *(Column(name, "integer", low=0, high=high) for name, high in NUMBERS.items()),
            Column("posted_year", "integer", low=1990, high=2100, empty=True),
            Column("posted_month", "integer", low=1, high=12),
            Column("posted_day", "integer", low=1, high=31),
            *(Column(name, "integer", low=0) for name in LENGTHS),
        ),
        header=True,
        nulls=("",),
    )


def _days(dates: list[list[int]], path: Path) -> Any:
    """int64 [n], days since the year 1. Raises DataError for a day that its month does not have."""
    import numpy as np

    try:
        return np.array([datetime.date(*date).toordinal() for date in zip(*dates, strict=True)], np.int64)
    except ValueError as error:
        raise DataError(
            f"{path}, columns posted_year, posted_month, posted_day: a date that is none ({error})."
        ) from error


def _games(path: Path) -> SideTable:
    """The games' columns by id. Raises DataError."""
    import pyarrow as pa

    from datasets_registry.encoding.side import SideTable

    rows: dict[int, dict[str, Any]] = {}
    for line, row, problem in _game_rows(path):
        if problem:
            raise DataError(f"{path}, line {line}: {problem}")
        rows.setdefault(row["item_id"], row)  # one game is listed twice
    kinds = {"item_id": pa.int64(), "price": pa.float64()} | dict.fromkeys(TEXTS, pa.string())
    kinds |= dict.fromkeys(LISTS, pa.list_(pa.string()))
    table = pa.Table.from_pylist(list(rows.values()), pa.schema(list(kinds.items()))).combine_chunks()
    return SideTable({name: table[name].combine_chunks() for name in table.column_names}, "item_id", path)


def _game_rows(path: Path) -> Iterator[tuple[int, dict[str, Any], str]]:
    """(line, columns, what is wrong) of each game; a price such as "Free to Play" is 0, any other text is missing."""
    from datasets_registry.raw.archives import DAMAGE, open_plain

    line = 0
    try:
        with open_plain(path) as plain:
            for line, text in enumerate(plain, 1):
                try:
                    game = json.loads(text)
                    price = game["price"]
                    if isinstance(price, str):
                        price = 0.0 if "free" in price.lower() else None
                    year = (game["release_date"] or "")[:4]
                    row = {
                        "item_id": int(game["id"]),
                        "price": price,
                        "developer": game["developer"],
                        "publisher": game["publisher"],
                        "early_access": str(game["early_access"]),
                        "release_year": year if year.isdigit() and len(year) == 4 else None,
                        **{name: game[name] or [] for name in LISTS},
                    }
                except (ValueError, KeyError, TypeError) as error:
                    yield line, {}, f"no game with the columns wanted ({error!r:.80})"
                    continue
                yield line, row, ""
    except DAMAGE as error:
        raise DataError(f"{path}, after line {line}: damaged or cut off ({error}); fetch it again.") from error


register_dataset(
    SteamReviews(
        name="steam_reviews",
        title="Steam reviews of Australian users",
        notes="Each row is a review that a user wrote about a game. Steam let readers mark reviews as funny years "
        "after recommendations and helpful votes were there: `funny` is a new task as it really came.",
        tasks=(
            Task("not_recommend", "does not recommend the game", excludes=LENGTHS),
            Task("helpful", "at least one reader found the review helpful"),
            Task("funny", "at least one reader found the review funny"),
        ),
        old_tasks=("not_recommend", "helpful"),
        new_tasks=("funny",),
        features=(
            Feature("user", min_count=2),
            Feature("item_id", min_count=2),
            *(Feature(name, min_count=2) for name in TEXTS),
            *(Feature(name, min_count=5, length=length) for name, length in LISTS.items()),
            *(Feature(name, "numeric", log=True) for name in ("price", *LENGTHS)),
        ),
        licence="none stated; research use, cite the papers, no redistribution in a package",
        citation="Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018; Wan and McAuley, Item "
        "Recommendation on Monotonic Behavior Chains, RecSys 2018; Pathak, Gupta and McAuley, SIGIR 2017",
        home_page="https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data",
        size="58,431 reviews of 25,458 users on 3,682 games, 2010-10-16 to 2016-09-18",
        manifest="steam_reviews",
        split="time70",
        splits=("time70", "time", "random"),
        complete_rows=58_431,
        defects=(
            "Fit for differences of 0.01 AUC and more alone: the test rows of funny and not_recommend show none below "
            "0.006, and the best models here reach 0.59 and 0.69.",
            "By date 70/15/15 %: train ends on 2015-07-30, validation on 2016-01-22, the test rows on 2016-09-18.",
            "helpful and funny count votes at the time of the crawl: old reviews had more time to gather them, and "
            "the rate of funny still doubles after training (0.10, 0.20, 0.24).",
            "The lengths of a review are known only once it is written: they leave every run with not_recommend; for "
            "helpful and funny alone they are fair inputs.",
            "9,933 reviews have no year, which means that of the crawl, 2016.",
            "Half the validation and test rows are of users without a training row (41 % and 46 %).",
            "Tags, genres and prices are those of one crawl, later than most reviews. 9 % of the rows are of games "
            "that the table lacks.",
            "Only reviewed games are in the data; there is no impression or purchase without a review.",
        ),
    )
)
