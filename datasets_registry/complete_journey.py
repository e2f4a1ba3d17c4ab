"""The Complete Journey (84.51°, 2017): what the households of a grocery chain bought in a year, line by line.

Amounts and discounts of a line are what came of it: they make labels and are no inputs. What a household bought on
earlier days is an input, computed here from the lines before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import DataError
from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

LINE = (
    "household_id store_id product_id quantity retail_disc coupon_disc coupon_match_disc week transaction_timestamp"
).split()
PRODUCT = ("manufacturer_id", "department", "brand", "product_category", "product_type", "package_size")
HOUSEHOLD = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")
PROMOTION = ("display_location", "mailer_location")
NO_GROCERIES = ("FUEL", "MISCELLANEOUS")  # quantities in the thousands, and what has no price of its own
TRAIN_END, VALID, TEST = 32, (37, 42), (43, 48)  # weeks; the four between are what rebuy28 looks ahead over
WEEKS_BACK = 2  # that many weeks earlier is each further split
DAYS_AHEAD = 28
NANOSECONDS, HOURS = 3_600_000_000_000, 24


@dataclasses.dataclass(frozen=True)
class CompleteJourney(Dataset):
    """``earlier`` moves all three periods back by that many weeks."""

    earlier: int = 0

    def vary(self, word: str) -> Dataset | None:
        if word not in self.variants:
            return None
        return dataclasses.replace(self, earlier=WEEKS_BACK * int(word.removeprefix("split")))

    def configuration(self) -> str:
        return f"{self.earlier} weeks earlier" if self.earlier else ""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np
        import pyarrow as pa

        lines = _lines(files)
        facts = _labels(lines) | _history(lines)
        offers = _offers(lines, files)
        promotions, displays = _promotions(lines, files["promotions"])
        side = _Side(files)
        week = lines["week"] + self.earlier
        periods = ((0, (1, TRAIN_END)), (1, VALID), (2, TEST))
        for part, (first, last) in periods:
            chosen = np.flatnonzero((week >= first) & (week <= last))
            for start in range(0, len(chosen), chunk_rows):
                rows = chosen[start : start + chunk_rows]
                taken = pa.array(rows)
                one = {name: values[rows] for name, values in lines.items()}
                yield Chunk(
                    features={
                        **{name: one[name] for name in ("household_id", "store_id", "product_id")},
                        "hour": one["hour"] % HOURS,
                        "weekday": one["hour"] // HOURS % 7,
                        "coupon_offer": offers.take(taken),
                        **{name: displays[name].take(promotions.take(taken)) for name in PROMOTION},
                        **side.look_up(one),
                        **{name: facts[name][rows] for name in ("days_since", "times_before")},
                    },
                    labels={task.name: facts[task.name][rows] for task in self.tasks},
                    part=part,
                    keys={"group": one["household_id"], "time": one["hour"]},
                )


def _lines(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Columns of all grocery lines with a quantity, in file order; ``hour`` counts from 1970. Raises DataError."""
    import numpy as np
    import pyarrow as pa

    from datasets_registry.encoding import parquet
    from datasets_registry.encoding.vocabulary import to_numpy

    products = parquet.table(files["products"], ("product_id", "department"))
    department = products["department"].to_pylist()
    left_out = to_numpy(products["product_id"].combine_chunks())[[d in NO_GROCERIES for d in department]]
    columns: dict[str, list[Any]] = {name: [] for name in LINE}
    path = files["transactions"]
    for batch in parquet.read(path, LINE, 1 << 18):
        batch = batch.set_column(len(LINE) - 1, LINE[-1], batch[LINE[-1]].cast(pa.timestamp("ns")).cast(pa.int64()))
        for name in LINE:
            if batch[name].null_count:
                raise DataError(f"{path}, column {name}: {batch[name].null_count:,} cells are missing.")
        keep = (to_numpy(batch["quantity"]) > 0) & ~np.isin(to_numpy(batch["product_id"]), left_out)
        for name in LINE:
            columns[name].append(to_numpy(batch[name])[keep])
    lines = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in columns.items()}
    if not len(lines["week"]):
        raise DataError(f"{path}: no line of groceries with a quantity.")
    lines["hour"] = lines.pop("transaction_timestamp") // NANOSECONDS
    return lines


def _labels(lines: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """uint8 labels by task."""
    import numpy as np

    order, pair, day = _by_pair(lines)
    n = len(order)
    # the first later line of the same household and product on another day
    new_day = np.flatnonzero(np.concatenate([[True], (pair[1:] != pair[:-1]) | (day[1:] != day[:-1])]))
    following = np.searchsorted(new_day, np.arange(n), side="right")
    later = np.append(new_day, n)[following]
    there = later < n
    again = np.zeros(n, bool)
    mine, next_one = np.flatnonzero(there), later[there]
    again[mine] = (pair[next_one] == pair[mine]) & (day[next_one] - day[mine] <= DAYS_AHEAD)
    rebuy = np.zeros(n, np.uint8)
    rebuy[order] = again
    return {
        "loyalty": (lines["retail_disc"] > 0).astype(np.uint8),
        "multi": (lines["quantity"] >= 2).astype(np.uint8),
        "rebuy28": rebuy,
        "coupon": (lines["coupon_disc"] > 0).astype(np.uint8),
    }


def _history(lines: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Days since the household last bought the product on an earlier day (NaN: never) and how often it had, float64."""
    import numpy as np

    order, pair, day = _by_pair(lines)
    n = len(order)
    new_pair = np.concatenate([[True], pair[1:] != pair[:-1]])
    new_day = new_pair | np.concatenate([[True], day[1:] != day[:-1]])
    index = np.arange(n)
    pair_start = np.maximum.accumulate(np.where(new_pair, index, 0))
    day_start = np.maximum.accumulate(np.where(new_day, index, 0))
    before = day_start - pair_start
    last = np.where(before > 0, day[np.maximum(day_start - 1, 0)], 0)
    since, times = np.empty(n), np.empty(n)
    since[order] = np.where(before > 0, day - last, np.nan)
    times[order] = before
    return {"days_since": since, "times_before": times}


def _by_pair(lines: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows sorted by household, product and day; the pair and the day of each row in that order."""
    import numpy as np

    pair = _joined(lines["household_id"], lines["product_id"])
    day = lines["hour"] // HOURS
    order = np.lexsort((day, pair))
    return order, pair[order], day[order]


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """One number for two: products have at most eight digits, households and stores times weeks far fewer than 2^36."""
    return first * (1 << 27) + second


def _offers(lines: Mapping[str, np.ndarray], files: Mapping[str, Path]) -> Any:
    """Type of a campaign that had sent the household a coupon for the product and ran that day; "none" without one."""
    import numpy as np
    import pyarrow as pa

    from datasets_registry.encoding import parquet
    from datasets_registry.encoding.vocabulary import to_numpy

    sent = parquet.table(files["campaigns"], ("campaign_id", "household_id"))
    coupons = parquet.table(files["coupons"], ("campaign_id", "product_id"))
    columns = [(table[a], table[b]) for table, (a, b) in ((sent, sent.column_names), (coupons, coupons.column_names))]
    (sent_by, household), (coupon_of, product) = [[to_numpy(c.combine_chunks()) for c in pair] for pair in columns]
    names = ("campaign_id", "campaign_type", "start_date", "end_date")
    described = parquet.table(files["campaign_descriptions"], names)
    for name in ("start_date", "end_date"):
        days = described[name].cast(pa.timestamp("ns")).cast(pa.int64())
        described = described.set_column(described.column_names.index(name), name, days)
    day = lines["hour"] // HOURS
    kinds = ["none", *sorted(set(described["campaign_type"].to_pylist()))]
    out = np.zeros(len(day), np.int8)
    for campaign in described.to_pylist():
        start, end = (campaign[name] // NANOSECONDS // HOURS for name in ("start_date", "end_date"))
        rows = np.flatnonzero((day >= start) & (day <= end))
        mine = np.isin(lines["household_id"][rows], household[sent_by == campaign["campaign_id"]])
        rows = rows[mine]
        rows = rows[np.isin(lines["product_id"][rows], product[coupon_of == campaign["campaign_id"]])]
        out[rows] = np.maximum(out[rows], kinds.index(campaign["campaign_type"]))
    return pa.DictionaryArray.from_arrays(pa.array(out), pa.array(kinds)).cast(pa.string())


def _promotions(lines: Mapping[str, np.ndarray], path: Path) -> tuple[Any, dict[str, pa.Array]]:
    """Each line's row in two columns of displays and mailers, null without one; of repeated keys the first row counts.

    The promotions are read once in batches; those of nothing bought are let go.
    """
    import numpy as np
    import pyarrow as pa

    from datasets_registry.encoding import parquet
    from datasets_registry.encoding.vocabulary import to_numpy

    key = _joined(lines["store_id"] * 64 + lines["week"], lines["product_id"])
    bought = np.unique(key)
    row_of = np.full(len(bought), -1, np.int64)
    kept: list[pa.Table] = []
    rows = 0
    for batch in parquet.read(path, ("product_id", "store_id", "week", *PROMOTION), 1 << 18):
        promoted = _joined(to_numpy(batch["store_id"]) * 64 + to_numpy(batch["week"]), to_numpy(batch["product_id"]))
        index = np.minimum(np.searchsorted(bought, promoted), len(bought) - 1)
        _, first = np.unique(promoted, return_index=True)
        first = np.sort(first)
        first = first[(bought[index[first]] == promoted[first]) & (row_of[index[first]] < 0)]
        row_of[index[first]] = rows + np.arange(len(first))
        kept.append(pa.Table.from_batches([batch]).select(list(PROMOTION)).take(pa.array(first)))
        rows += len(first)
    table = pa.concat_tables(kept).combine_chunks()
    row = row_of[np.searchsorted(bought, key)]
    return (
        pa.array(row, mask=row < 0),
        {name: table[name].combine_chunks().cast(pa.string()) for name in PROMOTION},
    )


class _Side:
    """Products and households, looked up by the lines."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        import pyarrow as pa

        from datasets_registry.encoding import parquet
        from datasets_registry.encoding.side import SideTable

        self.tables = []
        for key, path, names in (
            ("product_id", files["products"], PRODUCT),
            ("household_id", files["demographics"], HOUSEHOLD),
        ):
            table = parquet.table(path, (key, *names))
            columns = {name: table[name].combine_chunks() for name in table.column_names}
            columns |= {name: columns[name].cast(pa.string()) for name in names if name != "manufacturer_id"}
            self.tables.append((key, names, SideTable(columns, key, path)))

    def look_up(self, lines: Mapping[str, np.ndarray]) -> dict[str, pa.Array]:
        import pyarrow as pa

        columns: dict[str, pa.Array] = {}
        for key, names, table in self.tables:
            columns |= table.look_up(names, pa.array(lines[key]))
        return columns


register_dataset(
    CompleteJourney(
        name="complete_journey",
        title="The Complete Journey (grocery retail)",
        notes="Each row is a product that a household bought. `coupon` says whether it redeemed a manufacturer's "
        "coupon with it: a chain knows prices, amounts and repeat purchases from its tills for years before its first "
        "coupon campaign, whose redemption is then the new task.",
        tasks=(
            Task("loyalty", "bought at the price for card holders (retail discount)"),
            Task("multi", "two or more pieces"),
            Task("rebuy28", "the household buys the product again on a later day within 28 days"),
            Task("coupon", "redeemed a manufacturer's coupon"),
        ),
        old_tasks=("loyalty", "multi", "rebuy28"),
        new_tasks=("coupon",),
        features=(
            Feature("household_id"),
            Feature("store_id", min_count=5),
            Feature("product_id", min_count=5),
            *(Feature(name) for name in ("hour", "weekday", "coupon_offer", *PROMOTION)),
            *(Feature(name, min_count=5) for name in PRODUCT),
            *(Feature(name) for name in HOUSEHOLD),
            *(Feature(name, "numeric", log=True) for name in ("days_since", "times_before")),
        ),
        licence="CC0 by the R package that publishes this cut, MIT by the Python package",
        citation="84.51°, The Complete Journey 2.0; Boehmke and Mobley, completejourney: Retail Shopping Data, R "
        "package",
        home_page="https://bradleyboehmke.github.io/completejourney/",
        size="1,469,307 lines of 2,469 households, 68,509 products and 20,940,529 promotion rows, 2017",
        manifest="complete_journey",
        split="official",
        splits=("official",),
        variants={
            f"split{n}": f"all three periods {WEEKS_BACK * n} weeks earlier (test weeks {TEST[0] - WEEKS_BACK * n} to "
            f"{TEST[1] - WEEKS_BACK * n})"
            for n in range(1, 6)
        },
        defects=(
            "Train is weeks 1 to 32 (2017-01-01 to 2017-08-07), validation weeks 37 to 42 (2017-09-04 to 2017-10-16), "
            "test weeks 43 to 48 (to 2017-11-27). Weeks 33 to 36 are a gap, since rebuy28 looks 28 days ahead; after "
            "week 48 its window would leave the data.",
            "sales_value, quantity and all discounts of a line are outcomes and no inputs. loyalty is nearly a "
            "constant of product, store and week, so the week is no input either and no price of the same week is.",
            "coupon_offer says that a campaign which ran that day had sent the household a coupon for the product; it "
            "is known before the purchase and foretells coupon well, as it should. For campaigns of type A the data "
            "does not say which of the coupons a household got.",
            "days_since and times_before count the household's purchases on earlier days only.",
            "The retailer's match of a coupon (coupon_match) is no task: nine in ten of its positives are those of "
            "coupon, and it has half as many.",
            "Rows of the departments FUEL and MISCELLANEOUS and rows without a quantity are left out (26,662 of "
            "1,469,307); 32 rows have no product record.",
            "Only 112 of 457 stores have promotion rows; 12,785 of their keys are repeated, of which the first row "
            "counts. Demographics exist for 801 of 2,469 households.",
        ),
    )
)
