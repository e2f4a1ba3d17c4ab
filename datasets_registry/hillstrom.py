"""Hillstrom's e-mail test (2008): customers who got one of two e-mails or none, and what they did in two weeks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.encoding.delimited import Layout

SEGMENTS = ("Mens E-Mail", "No E-Mail", "Womens E-Mail")
CATEGORIES = ("history_segment", "zip_code", "channel")
FLAGS = ("mens", "womens", "newbie")
NUMBERS = ("recency", "history")


@dataclasses.dataclass(frozen=True)
class Hillstrom(Dataset):
    """One file, as published or with plain line ends."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_numpy

        for batch in delimited.read(files["customers"], layout(), chunk_rows, row_bytes=80):
            labels = {name: delimited.indicator(batch[name]) for name in ("visit", "conversion")}
            order = np.array([SEGMENTS.index(text) for text in batch["segment"].dictionary.to_pylist()], np.int64)
            stratum = 2 * order[to_numpy(batch["segment"].indices)] + labels["visit"]
            yield Chunk(
                features={name: batch[name] for name in (*FLAGS, *CATEGORIES, "segment", *NUMBERS)},
                labels=labels,
                keys={"stratum": stratum},
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        return delimited.check(path, layout())


def layout() -> Layout:
    """Columns of the file, which has CR LF."""
    from datasets_registry.encoding.delimited import Column, Layout

    numbers = dict.fromkeys(NUMBERS, "number") | {"spend": "skip"}
    flags = dict.fromkeys((*FLAGS, "visit", "conversion"), 1)
    return Layout(
        (
            *(Column(name, kind, low=0) for name, kind in numbers.items()),
            *(Column(name, "integer", low=0, high=high) for name, high in flags.items()),
            *(Column(name) for name in CATEGORIES),
            Column("segment", allowed=frozenset(SEGMENTS)),
        ),
        header=True,
        quoted=True,
        lenient=True,
    )


register_dataset(
    Hillstrom(
        name="hillstrom",
        title="Hillstrom's e-mail test",
        notes="Each row is a customer of a shop in a randomised test of two e-mails. Visits are counted from the first "
        "hour; `conversion` (a purchase within two weeks) comes later and is sixteen times rarer.",
        tasks=(Task("visit", "visited the site"), Task("conversion", "bought something")),
        old_tasks=("visit",),
        new_tasks=("conversion",),
        funnel=("visit", "conversion"),
        features=(
            *(Feature(name) for name in (*FLAGS, *CATEGORIES, "segment")),
            Feature("recency", "numeric"),
            Feature("history", "numeric", log=True),
        ),
        licence="none stated; published for a public challenge",
        citation="Kevin Hillstrom, The MineThatData E-Mail Analytics and Data Mining Challenge, 2008",
        home_page="https://blog.minethatdata.com/2008/03/minethatdata-e-mail-analytics-and-data.html",
        size="64,000 customers, 7 categorical and 2 numeric features",
        manifest="hillstrom",
        split="stratified",
        splits=("stratified", "random"),
        complete_rows=64_000,
        defects=(
            "No time: rows are drawn within each segment and value of visit (60/20/20 %).",
            "578 conversions in all, 130 among the test rows: the AUC's standard error is above 0.02, and "
            "no difference below 0.05 shows: no verdict on methods from here; kept for its true conversion path.",
            "A true conversion path: every conversion is a visit.",
            "spend is no task: it is above 0 exactly where conversion is 1.",
            "segment is the randomised treatment and an input. history_segment is history in steps.",
            "6,562 rows repeat another in full: few columns, no id.",
        ),
    )
)
