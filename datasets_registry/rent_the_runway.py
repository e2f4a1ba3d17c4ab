"""Rent the Runway clothing fit (UCSD, 2018): one row per rented garment, with what the customer said of it afterwards.

``fit``, ``rating`` and ``rented_for`` are given together after the rental; the first two make labels and are no inputs.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import DataError
from datasets_registry.base import UNDEFINED, Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    import pyarrow as pa

    from datasets_registry.encoding.delimited import Layout

TEXT = ("rented_for", "category", "body_type", "bust_size_letter")
WHOLE = ("size", "bust_size_num")
NUMBERS = {"age": (10, 100), "weight_lbs": (60, 400), "height_in": (48, 84)}  # what lies outside is a slip of the pen
RATINGS = (2, 4, 6, 8, 10)
CUPS = {"d+": "d", "dd": "e", "ddd/e": "d"}  # as the prepared copy spells the official file's cups


@dataclasses.dataclass(frozen=True)
class RentTheRunway(Dataset):
    """The official JSON lines, or the prepared CSV copy without the text of the reviews."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from datasets_registry.encoding.vocabulary import to_numpy

        for rows in _rows(files["rows"], chunk_rows):
            fit, rating = rows["fit"].cast(pa.string()), rows["rating"]
            stars = to_numpy(pc.fill_null(rating, 0.0))
            rated = stars > 0
            numbers = {name: to_numpy(pc.fill_null(rows[name], np.nan)) for name in NUMBERS}
            yield Chunk(
                features={
                    **{name: rows[name] for name in ("user_id", "item_id", *TEXT)},
                    **{name: rows[name].cast(pa.int64()) for name in WHOLE},
                    **{n: np.where((x >= NUMBERS[n][0]) & (x <= NUMBERS[n][1]), x, np.nan) for n, x in numbers.items()},
                },
                labels={
                    "small": to_numpy(pc.equal(fit, "small").cast(pa.uint8())),
                    "large": to_numpy(pc.equal(fit, "large").cast(pa.uint8())),
                    "top": np.where(rated, stars == 10, UNDEFINED).astype(np.uint8),
                    "low": np.where(rated, stars <= 6, UNDEFINED).astype(np.uint8),
                },
                keys={
                    "group": to_numpy(rows["user_id"]),
                    "time": _days(rows["review_date"].cast(pa.string()).to_pylist(), files["rows"]),
                },
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        if not _is_json(path):
            yield from delimited.check(path, layout())
            return
        for line, _, problem in _json_rows(path):
            if problem:
                yield line, "", problem


def layout() -> Layout:
    """Columns of the prepared copy."""
    from datasets_registry.encoding.delimited import Column, Layout

    return Layout(
        (
            Column("user_id", "integer", low=0),
            Column("item_id", "integer", low=0),
            Column("review_date"),
            Column("fit", allowed=frozenset(("fit", "small", "large"))),
            Column("rating", "number", low=2, high=10, empty=True),
            *(Column(name, empty=True) for name in TEXT),
            *(Column(name, "number", low=0, empty=True) for name in (*WHOLE, *NUMBERS)),
        ),
        header=True,
        quoted=True,
        nulls=("",),
    )


def _rows(path: Path, chunk_rows: int) -> Iterator[Any]:
    """Record batches with the prepared copy's columns, from either layout. Raises DataError."""
    from datasets_registry.encoding import delimited

    if not _is_json(path):
        yield from delimited.read(path, layout(), chunk_rows, row_bytes=90)
        return
    rows: list[dict[str, Any]] = []
    for line, row, problem in _json_rows(path):
        if problem:
            raise DataError(f"{path}, line {line}: {problem}")
        rows.append(row)
        if len(rows) == chunk_rows:
            yield _batch(rows)
            rows = []
    if rows:
        yield _batch(rows)


def _batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    import pyarrow as pa

    kinds = {"user_id": pa.int64(), "item_id": pa.int64(), "review_date": pa.string(), "fit": pa.string()}
    kinds |= {"rating": pa.float64()} | dict.fromkeys(TEXT, pa.string())
    kinds |= dict.fromkeys((*WHOLE, *NUMBERS), pa.float64())
    return pa.RecordBatch.from_pylist(rows, pa.schema(list(kinds.items())))


def _is_json(path: Path) -> bool:
    from datasets_registry.raw.archives import open_plain

    with open_plain(path) as plain:
        return plain.read(1) == b"{"


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any], str]]:
    """(line, row in the prepared copy's columns, what is wrong) of the official JSON lines."""
    from datasets_registry.raw.archives import DAMAGE, open_plain

    line = 0
    try:
        with open_plain(path) as plain:
            for line, text in enumerate(plain, 1):
                try:
                    yield line, _from_official(json.loads(text)), ""
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    yield line, {}, f"not a row of the official layout ({error!r:.80})"
    except DAMAGE as error:
        raise DataError(f"{path}, after line {line}: damaged or cut off ({error}); fetch it again.") from error


def _from_official(row: dict[str, Any]) -> dict[str, Any]:
    """One official row, such as ``{"bust size": "34d", "weight": "137lbs", "height": "5' 8\\"", ...}``."""
    if row["fit"] not in ("fit", "small", "large"):
        raise ValueError(f"fit is {row['fit']!r:.20}")
    bust = re.fullmatch(r"(\d+)(.*)", row.get("bust size") or "")
    height = re.fullmatch(r"(\d+)' (\d+)\"", row.get("height") or "")
    rented = row.get("rented for")
    return {
        "user_id": int(row["user_id"]),
        "item_id": int(row["item_id"]),
        "review_date": datetime.datetime.strptime(row["review_date"], "%B %d, %Y").date().isoformat(),
        "fit": row["fit"],
        "rating": _number(row.get("rating")),
        "rented_for": "party" if rented == "party: cocktail" else rented,
        "category": row["category"],
        "size": _number(row["size"]),
        "body_type": row.get("body type"),
        "age": _number(row.get("age")),
        "weight_lbs": _number((row.get("weight") or "").removesuffix("lbs")),
        "height_in": 12.0 * int(height[1]) + int(height[2]) if height else None,
        "bust_size_num": _number(bust[1]) if bust else None,
        "bust_size_letter": CUPS.get(bust[2], bust[2]) if bust else None,
    }


def _number(value: Any) -> float | None:
    return None if value in (None, "") else float(value)


def _days(dates: list[str], path: Path) -> Any:
    """int64 [n], days since the year 1 of texts like 2016-04-20. Raises DataError."""
    import numpy as np

    ordinals: dict[str, int] = {}
    for text in set(dates):
        try:
            ordinals[text] = datetime.date.fromisoformat(text).toordinal()
        except ValueError as error:
            raise DataError(f"{path}, column review_date: {text!r:.40} is no date like 2016-04-20.") from error
    return np.array([ordinals[text] for text in dates], np.int64)


register_dataset(
    RentTheRunway(
        name="rent_the_runway",
        title="Rent the Runway clothing fit",
        notes="Each row is a garment that somebody rented and reviewed. `small` and `large` decide which size to offer "
        "next time: a shop that asks for the overall rating first and starts to ask about fit later gets them as new "
        "tasks. The tasks are neither nested nor a conversion path.",
        tasks=(
            Task("small", "the garment ran small (fit = small)"),
            Task("top", "rating of 10 out of 10"),
            Task("large", "the garment ran large (fit = large)"),
            Task("low", "rating of 6 or less"),
        ),
        old_tasks=("small", "top"),
        new_tasks=("large",),
        candidates=("small", "top", "large"),
        features=(
            Feature("user_id", min_count=2),
            *(Feature(name) for name in ("item_id", *TEXT, *WHOLE)),
            *(Feature(name, "numeric") for name in NUMBERS),
        ),
        licence="none stated; research use, cite the paper, no redistribution in a package",
        citation="Misra, Wan and McAuley, Decomposing Fit Semantics for Product Size Recommendation in Metric Spaces, "
        "RecSys 2018",
        home_page="https://cseweb.ucsd.edu/~jmcauley/datasets.html#clothing_fit",
        size="192,544 rows, 105,571 users, 5,850 garments, 2010-11-03 to 2018-01-08",
        manifest="rent_the_runway",
        split="time",
        splits=("time", "random"),
        complete_rows=192_544,
        defects=(
            "By date train ends on 2017-07-01, validation on 2017-10-12, the test rows on 2018-01-08; days stay whole.",
            "58 % of the validation rows and 68 % of the test rows are of users without a training row, 11 % and 39 % "
            "of garments without one: a test of cold start, in which the body's measures stand for the user.",
            "low is on offer but no candidate for the new task: its test rows show no difference below 0.007 AUC.",
            "small and large exclude each other, and so do top and low; of the garments that fit 71 % get a 10, of the "
            "small ones 45 %, of the large ones 49 %.",
            "fit, rating and rented_for are given together after the rental: fit and rating are never inputs. "
            "rented_for is one, as what the customer knew when she chose; it is no task here for that reason.",
            "Ages outside 10 to 100, weights outside 60 to 400 pounds and heights outside 48 to 84 inches are slips "
            "and count as missing. A user id that occurs once in training shares the rare code.",
            "190 rows repeat an earlier one in full. 82 rows have no rating: top and low are undefined there.",
            "The official JSON lines spell out what the prepared copy merges (cups dd, d+, ddd/e; party: cocktail); "
            "read here, they are brought to the copy's values as its authors describe them.",
        ),
    )
)
