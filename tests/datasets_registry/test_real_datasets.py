"""The datasets whose tables are read from files of a few rows written here, and checked on the real files by pandas."""

import dataclasses
import datetime
import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.metrics import roc_auc_score

from benchmark.core.errors import DataError, UsageError
from datasets_registry import find, prepare
from datasets_registry.base import Feature
from datasets_registry.difficulty import auc_with_error, measure
from datasets_registry.encoding import splits
from datasets_registry.encoding.duplicates import hashes
from datasets_registry.encoding.encode import encode
from datasets_registry.encoding.kuairand_history import COLUMNS, LENGTH, Histories
from datasets_registry.encoding.profiles import Profile
from datasets_registry.encoding.store import EncodedDataset
from datasets_registry.raw.manifest import MANIFESTS

ROWS = 900
NEW = "complete_journey rent_the_runway anime taobao_behaviour retailrocket steam_reviews hillstrom steam_200k".split()


def text(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


def write_pairs(folder, rng):
    rows = [(u, i, 1, rng.integers(0, 2), rng.integers(0, 2)) for u in range(30) for i in range(30)]
    text(folder / "pairs.csv", "user,item,view,cart,buy", rows)


def write_taobao(folder, rng):
    rows = [(u, i, 1, rng.choice(["0", "1", "T"]), rng.choice(["0", "1", "T"])) for u in range(30) for i in range(30)]
    text(folder / "pairs.csv", "user,item,view,cart,buy", rows)


def write_steam(folder, rng):
    rows = [(u, i, rng.choice(["", "0.5", "7", "30", "300"])) for u in range(30) for i in range(30)]
    text(folder / "user_games.csv", "user_id,game_id,hours", rows)


def write_anime(folder, rng):
    rows = [(u, i, rng.choice(["", "3", "8", "10"])) for u in range(30) for i in range(30)]
    text(folder / "user_anime.csv", "user_id,anime_id,rating", rows)
    titles = [f"{i}\tTitle {i}\tDrama, Action\tTV\t{i or 'Unknown'}\t7.5\t100" for i in range(30)]
    head = "anime_ids\tname\tgenre\ttype\tepisodes\trating\tmembers"
    (folder / "anime_info.tsv").write_text("\n".join([head, *titles]) + "\n")


def write_hillstrom(folder, rng):
    head = "recency,history_segment,history,mens,womens,zip_code,newbie,channel,segment,visit,conversion,spend"
    rows = []
    for i in range(ROWS):
        visit = int(rng.integers(0, 2))
        bought = int(visit and rng.integers(0, 2))
        segment = ("Mens E-Mail", "Womens E-Mail", "No E-Mail")[i % 3]
        rows.append(
            (i % 12 + 1, '"7) $1,000 +"', 9.5 * (i % 40), 1, 0, "Rural", i % 2, "Web", segment, visit, bought, 0)
        )
    text(folder / "hillstrom.csv", head, rows)
    path = folder / "hillstrom.csv"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))  # as published


def write_reviews(folder, rng):
    head = "user,item_id,recommend,helpful_yes,helpful_votes,funny_votes,posted_year,posted_month,posted_day,edited,"
    rows = [
        (
            i % 40,
            i % 17,
            *rng.integers(0, 2, 4),
            rng.choice([2013, 2014, 2015, ""]),
            1 + i % 9,
            1 + i % 28,
            0,
            i,
            i // 5,
        )
        for i in range(ROWS)
    ]
    text(folder / "reviews.csv", head + "review_chars,review_words", rows)
    games = [
        {"id": str(i), "price": 4.5 if i else "Free to Play", "developer": "d", "publisher": None, "genres": ["Indie"]}
        | {"tags": ["A", "B"], "specs": None, "early_access": False, "release_date": "2014-01-01", "app_name": "x"}
        for i in range(15)
    ]
    (folder / "games.jsonl").write_text("".join(json.dumps(game) + "\n" for game in [*games, games[0]]))


def write_runway(folder, rng):
    head = "user_id,item_id,review_date,fit,rating,rented_for,category,size,body_type,age,weight_lbs,height_in,"
    rows = [
        (i % 200, i % 23, datetime.date(2015, 1, 1) + datetime.timedelta(i), rng.choice(["fit", "small", "large"]),
         rng.choice(["2", "6", "10", ""]), "party", "gown", 8, "", 5 if i == 3 else 30, 120, 66, 34, "d")
        for i in range(ROWS)
    ]  # fmt: skip
    text(folder / "renttherunway.csv", head + "bust_size_num,bust_size_letter", rows)


def write_journey(folder, rng):
    n = 4 * ROWS
    week = np.sort(rng.integers(1, 53, n))
    day = np.datetime64("2017-01-01T12:00:00", "ns") + (7 * (week - 1) + rng.integers(0, 7, n)) * np.timedelta64(1, "D")
    lines = {
        "household_id": rng.integers(1, 20, n), "store_id": rng.integers(300, 304, n), "basket_id": np.arange(n),
        "product_id": rng.integers(1000, 1030, n), "quantity": rng.integers(0, 4, n), "sales_value": rng.random(n),
        "retail_disc": rng.integers(0, 2, n) * 0.5, "coupon_disc": rng.integers(0, 2, n) * 1.0,
        "coupon_match_disc": np.zeros(n), "week": week,
        "transaction_timestamp": day,
    }  # fmt: skip
    product = np.arange(1000, 1030)
    tables = {
        "transactions": lines,
        "products": {
            "product_id": product,
            "manufacturer_id": product % 4,
            "department": ["GROCERY"] * 28 + ["FUEL"] * 2,
        }
        | {name: [f"{name}{i % 5}" for i in range(30)] for name in ("brand", "product_category", "product_type")}
        | {"package_size": [None] * 30},
        "promotions": {"product_id": [1001, 1001, 1002], "store_id": [301, 301, 302], "week": [1, 1, 3]}
        | {"display_location": ["9", "3", "0"], "mailer_location": ["A", "0", "D"]},
        "demographics": {"household_id": [3, 4]}
        | {n: ["a", "b"] for n in ("age", "income", "home_ownership", "marital_status", "household_size")}
        | {"household_comp": ["x", None], "kids_count": ["0", "1"]},
        "campaigns": {"campaign_id": [1, 1], "household_id": [5, 6]},
        "campaign_descriptions": {"campaign_id": [1], "campaign_type": ["Type B"]}
        | {"start_date": [np.datetime64("2017-02-01", "ns")], "end_date": [np.datetime64("2017-03-01", "ns")]},
        "coupons": {"coupon_upc": [7], "product_id": [1005], "campaign_id": [1]},
    }
    for name, columns in tables.items():
        pa.parquet.write_table(pa.table(columns), folder / f"{name}.parquet")


WRITERS = {
    "complete_journey": write_journey,
    "rent_the_runway": write_runway,
    "anime": write_anime,
    "taobao_behaviour": write_taobao,
    "retailrocket": write_pairs,
    "steam_reviews": write_reviews,
    "hillstrom": write_hillstrom,
    "steam_200k": write_steam,
}


def unsealed(name, folder):
    """The dataset with a manifest without checksums, which small files could not have."""
    lines = (MANIFESTS / f"{find(name.partition('@')[0]).manifest}.toml").read_text().splitlines()
    path = folder / f"{name.partition('@')[0]}.toml"
    path.write_text("\n".join(line for line in lines if not line.startswith(("sha256", "bytes"))))
    return dataclasses.replace(find(name), manifest=str(path), complete_rows=None)


def profiled(dataset, folder, **words):
    """The arrays of a description with a profile that no registered name stands for."""
    target = folder / f"encoded-{len(list(folder.iterdir()))}"
    files = {"pairs": folder / "retailrocket" / "pairs.csv", "customers": folder / "hillstrom.csv"}
    encode(dataset, Profile(**words), files, target, sources={})
    return EncodedDataset(dataset, Profile(**words), target)


@pytest.fixture
def small(tmp_path):
    """Function: (description, arrays) of a dataset of a few rows written here."""

    def make(name, **changes):
        folder = tmp_path / name.partition("@")[0]
        folder.mkdir(exist_ok=True)
        WRITERS[name.partition("@")[0]](folder, np.random.default_rng(0))
        dataset = dataclasses.replace(unsealed(name, tmp_path), **changes)
        return dataset, prepare(dataset, data_dir=folder, fetch=False, chunk_rows=200)

    return make


@pytest.mark.parametrize("name", NEW)
def test_small_files_are_read_the_same_in_chunks_of_any_size(name, small, tmp_path):
    dataset, data = small(name)
    whole = prepare(dataset, data_dir=tmp_path / name, cache_dir=tmp_path / "other", fetch=False)
    assert whole.fingerprint == data.fingerprint and min(data.meta["rows"].values()) > 0
    assert all(positives["train"]["positives"] for positives in data.meta["base_rates"].values())


@pytest.mark.parametrize("name", NEW)
def test_a_planted_leak_is_found(name, small, monkeypatch):
    """A copy of the new task's label among the inputs, as an outcome column would be."""
    read = type(find(name)).read

    def leaking(self, files, chunk_rows):
        for chunk in read(self, files, chunk_rows):
            label = chunk.labels[self.new_tasks[0]].astype(np.int64)
            yield dataclasses.replace(chunk, features={**chunk.features, "outcome": label})

    features = (*find(name).features, Feature("outcome"))
    small(name)  # as it is declared, nothing leaks
    monkeypatch.setattr(type(find(name)), "read", leaking)
    with pytest.raises(DataError, match=f"'outcome' alone predicts task '{find(name).new_tasks[0]}'"):
        small(name, features=features)


@pytest.mark.parametrize("name", ["anime", "retailrocket", "rent_the_runway", "hillstrom", "steam_200k"])
def test_a_bad_cell_is_named_with_its_line(name, small, tmp_path):
    dataset, _ = small(name)
    path = next(p for p in (tmp_path / name).iterdir() if p.suffix == ".csv")
    lines = path.read_bytes().split(b"\n")
    first, _, rest = lines[5].partition(b",")
    lines[5] = b"x" + first + b"," + rest
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match="line 6, column"):
        prepare(dataset, data_dir=tmp_path / name, fetch=False)


def test_the_journey_keeps_the_gap_and_no_fuel(small):
    _, data = small("complete_journey")
    names = [entry["name"] for entry in data.meta["categorical"]]
    assert not {"week", "quantity", "sales_value"} & {*names, *(entry["name"] for entry in data.meta["numeric"])}
    assert 1029 not in data.vocabularies["product_id"] and "FUEL" not in data.vocabularies["department"]
    _, earlier = small("complete_journey@split2")
    assert earlier.meta["rows"]["train"] < data.meta["rows"]["train"]


def test_other_splits_of_the_same_rule():
    keys = {"part": np.zeros(5000, np.uint8), "group": np.arange(5000) // 7, "time": np.arange(5000)}
    keys |= {"stratum": np.arange(5000) % 3}
    for rule, share in (("random", 0.8), ("per_user", 0.8), ("stratified", 0.6), ("time", 0.8), ("time70", 0.7)):
        first, other = splits.assign(rule, "x", keys), splits.assign(rule, "x", keys, 2)
        assert not np.array_equal(first, other) and np.array_equal(other, splits.assign(rule, "x", keys, 2))
        assert abs((first == 0).mean() - share) < 0.02, rule
    for stratum in range(3):  # exact to a row within each stratum
        assert abs((splits.assign("stratified", "x", keys)[stratum::3] == 2).sum() - 5000 / 15) <= 1.5
    later = splits.assign("time", "x", keys, 2)
    assert (np.flatnonzero(later == splits.DROPPED) >= 4600).all() and (later == 2).sum() == (later == 1).sum() == 500
    alone = keys | {"group": np.arange(5000)}  # users with one row do not all train
    assert 0.05 < (splits.assign("per_user", "x", alone) == 2).mean() < 0.15
    with pytest.raises(UsageError, match="no other draw"):
        find("vk_lsvd@split1")


def test_the_split_is_part_of_the_fingerprint(small, tmp_path):
    dataset, data = small("retailrocket")
    others = [profiled(dataset, tmp_path, draw=draw) for draw in (1, 2)]
    assert len({one.fingerprint for one in (data, *others)}) == 3 and others[1].meta["split_draw"] == 2


def test_copies_of_training_rows_are_left_out(tmp_path):
    columns = [np.array([[1, 2], [1, 3], [1, 2]], np.int32), np.array([[0.5], [0.5], [0.5]], np.float32)]
    first, second, third = hashes(columns)
    assert first == third != second
    rng = np.random.default_rng(0)
    write_hillstrom(tmp_path, rng)  # 900 rows of few columns: many are alike
    dataset = unsealed("hillstrom", tmp_path)
    whole = prepare(dataset, data_dir=tmp_path, fetch=False)
    less = profiled(dataset, tmp_path, deduplicated=True)

    def rows(data, name):
        split = data.split(name, data.schema(()))
        return {(*codes, *numbers) for codes, numbers in zip(split.categorical().tolist(), split.numeric().tolist())}

    train = rows(whole, "train")
    assert rows(less, "train") == train and rows(whole, "test") & train
    assert not rows(less, "test") & train and not rows(less, "valid") & train
    assert rows(less, "test") == rows(whole, "test") - train
    assert any("are left out" in warning for warning in less.warnings)


def test_official_lines_of_rent_the_runway_give_the_copy_s_rows(tmp_path):
    line = {
        "fit": "small", "user_id": "420272", "bust size": "34dd", "item_id": "2260466", "weight": "137lbs",
        "rating": "10", "rented for": "party: cocktail", "review_text": "x", "body type": "hourglass",
        "review_summary": "y", "category": "romper", "height": "5' 8\"", "size": 14, "age": "28",
        "review_date": "April 20, 2016",
    }  # fmt: skip
    plain = {"fit": "fit", "user_id": "1", "item_id": "2", "category": "gown", "size": 8, "rented for": "other"}
    plain |= {"review_date": "May 1, 2017", "rating": None}
    (tmp_path / "renttherunway_final_data.json").write_text(json.dumps(line) + "\n" + json.dumps(plain) + "\n")
    (first,) = find("rent_the_runway").read({"rows": tmp_path / "renttherunway_final_data.json"}, 10)
    assert first.features["rented_for"].to_pylist() == ["party", "other"]
    assert first.features["bust_size_letter"].to_pylist() == ["e", None]
    assert first.features["size"].to_pylist() == [14, 8] and first.features["height_in"][0] == 68
    assert first.labels["small"].tolist() == [1, 0] and first.labels["top"].tolist() == [1, 255]
    assert first.keys["time"].tolist() == [
        datetime.date(2016, 4, 20).toordinal(),
        datetime.date(2017, 5, 1).toordinal(),
    ]


def test_a_history_from_the_log_is_that_of_the_prepared_file(tmp_path):
    rng = np.random.default_rng(3)
    n = 500
    events = pd.DataFrame({"user_id": rng.integers(0, 6, n) * 10, "video_id": rng.integers(0, 50, n)})
    events["time_ms"] = rng.integers(0, 400, n)
    events["date"] = np.where(events.time_ms < 300, 20220424, 20220425)
    events["long_view"], events["is_like"] = rng.integers(0, 2, n), rng.integers(0, 2, n)
    before = events[events.date < 20220425].sort_values(["user_id", "time_ms", "video_id"]).copy()
    before["position"] = before.groupby("user_id").cumcount() + 1
    before["ambiguous"] = 0
    tail = before.groupby("user_id").tail(LENGTH).sample(frac=1, random_state=1)
    tail[list(COLUMNS)].to_csv(tmp_path / "history.csv", index=False)
    users = pa.array([10, 55, 0])  # nobody has the number 55
    batches = [pa.RecordBatch.from_pandas(part, preserve_index=False) for part in (events[:200], events[200:])]
    histories = Histories.of_log(20220425, iter(batches)), Histories.of_file(tmp_path / "history.csv")
    first, second = (each.look_up(users) for each in histories)
    assert {name: lists.to_pylist() for name, lists in first.items()} == {n: x.to_pylist() for n, x in second.items()}
    mine = before[before.user_id == 10].tail(LENGTH)
    assert first["exposed"].to_pylist()[:2] == [mine.video_id.tolist(), None]
    assert first["liked"][0].as_py() == mine.video_id[mine.is_like == 1].tolist() != mine.video_id.tolist()
    with pytest.raises(DataError, match="no row before 20220425"):
        Histories.of_log(20220425, iter([batches[0].filter(pa.array([False] * 200))]))


def test_difficulty_tells_easy_from_hopeless_and_few_rows_from_many(small):
    _, data = small("steam_200k")
    measured = measure(data)
    assert [p.task for p in measured.problems] == ["hours5", "hours20", "hours100"] and measured.left_out == ("played",)
    assert all(0.25 < p.trees < 0.75 and min(p.shown, p.error) > 0.005 for p in measured.problems)  # random labels
    assert "| cannot decide |" in measured.markdown() and "| cannot decide |" not in measured.markdown(interest=1.0)
    assert measured.sizes == {"users with a code": 30, "items with a code": 30} and measured.cold["user"]["test"] == 0
    assert 0.2 < measured.correlations["hours20", "hours100"] < 0.9
    rng = np.random.default_rng(0)
    label = rng.random(2000) < 0.3
    score = label + rng.normal(size=2000)
    value, error = auc_with_error(score, label, (int(label.sum()), int((~label).sum())))
    draws = []
    for _ in range(300):
        rows = rng.integers(0, 2000, 2000)
        draws.append(roc_auc_score(label[rows], score[rows]))
    assert value == pytest.approx(roc_auc_score(label, score)) and error == pytest.approx(np.std(draws), rel=0.15)


# ---- the real files, against pandas ---------------------------------------------------------------------------------


def decoded(data, name, features):
    """The split's values of these features, by name: codes looked up, reserved ones as None."""
    schema = data.schema(())
    codes, out, column = data.split(name, schema).categorical(), {}, 0
    for feature, offset in zip(schema.categorical, schema.offsets, strict=True):
        if feature.name in features:
            values = np.array([None, None, *data.vocabularies[feature.name]], object)
            out[feature.name] = values[codes[:, column] - offset]
        column += feature.length
    return out


def test_rent_the_runway_against_pandas(shared):
    raw = pd.read_csv(shared("rent-the-runway") / "renttherunway.csv.gz", parse_dates=["review_date"])
    data = prepare("rent_the_runway", data_dir=shared("rent-the-runway"), fetch=False)
    test = raw[raw.review_date > raw.review_date.sort_values().iloc[int(0.9 * (len(raw) - 1))]]
    assert len(test) == data.rows("test")
    assert np.array_equal(data.labels("test", "large"), (test.fit == "large").astype(int))
    assert np.array_equal(data.labels("test", "low"), np.where(test.rating.isna(), 255, test.rating <= 6))
    values = decoded(data, "test", ("category", "item_id"))
    train = raw[raw.review_date <= raw.review_date.sort_values().iloc[int(0.8 * (len(raw) - 1))]]
    for name, column in values.items():
        seen = set(train[name])
        assert column.tolist() == [value if value in seen else None for value in test[name].tolist()]


def test_anime_against_pandas(shared):
    raw = pd.read_csv(shared("anime-5k-users") / "user_anime.csv.gz")
    data = prepare("anime", data_dir=shared("anime-5k-users"), fetch=False)
    expected = {"rated": raw.rating > 0, "good": raw.rating >= 8, "top": raw.rating == 10, "poor": raw.rating <= 5}
    for task, positive in expected.items():
        counted = sum(tally["positives"] for tally in data.meta["base_rates"][task].values())
        assert counted == positive.sum()
    users = decoded(data, "test", ("user_id",))["user_id"]
    per_user = pd.Series(users).value_counts() / raw.user_id.value_counts()
    whole = raw.user_id.value_counts()
    assert per_user[whole >= 50].between(0.07, 0.13).all()


def test_complete_journey_against_pandas(shared, tmp_path):
    """Labels and histories of a few households, recomputed row by row from the raw tables."""
    folder = shared("complete-journey")
    raw = pd.read_parquet(folder / "transactions.parquet", filters=[("household_id", "<", 60)])
    raw.to_parquet(tmp_path / "transactions.parquet")
    batch = next(pa.parquet.ParquetFile(folder / "promotions.parquet").iter_batches(1000))
    pa.parquet.write_table(pa.table(batch), tmp_path / "promotions.parquet")
    raw = raw[raw.household_id.isin([1, 25, 57])]
    products = pd.read_parquet(folder / "products.parquet", columns=["product_id", "department"])
    raw = raw.merge(products, "left", "product_id")
    raw = raw[~raw.department.isin(["FUEL", "MISCELLANEOUS"]) & (raw.quantity > 0)]
    raw["day"] = raw.transaction_timestamp.dt.normalize()
    dataset = find("complete_journey")
    files = {path.stem: path for where in (folder, tmp_path) for path in where.glob("*.parquet")}
    wanted = [chunk for chunk in dataset.read(files, 1 << 18) if chunk.part == 2]
    rows = pd.DataFrame(
        {name: np.concatenate([chunk.features[name] for chunk in wanted]) for name in ("household_id", "product_id")}
        | {n: np.concatenate([chunk.features[n] for chunk in wanted]) for n in ("days_since", "times_before")}
        | {task: np.concatenate([chunk.labels[task] for chunk in wanted]) for task in wanted[0].labels}
    )
    rows = rows[rows.household_id.isin([1, 25, 57])].reset_index(drop=True)
    test = raw[raw.week.between(43, 48)].reset_index(drop=True)
    assert len(rows) == len(test) > 100 and (rows.product_id == test.product_id).all()
    assert (rows.coupon == (test.coupon_disc > 0)).all() and (rows.multi == (test.quantity >= 2)).all()
    assert (rows.loyalty == (test.retail_disc > 0)).all()
    for index, line in test.iterrows():
        same = raw[(raw.household_id == line.household_id) & (raw.product_id == line.product_id)]
        before, after = same[same.day < line.day], same[same.day > line.day]
        assert rows.times_before[index] == len(before)
        since = (line.day - before.day.max()).days if len(before) else np.nan
        assert np.array_equal(rows.days_since[index], since, equal_nan=True)
        assert rows.rebuy28[index] == ((after.day - line.day).dt.days <= 28).any()


@pytest.mark.parametrize(("name", "rows"), [("taobao_behaviour", 873_954), ("retailrocket", 78_371)])
def test_pairs_against_pandas(name, rows, shared):
    folder = shared({"taobao_behaviour": "taobao-view-cart-buy", "retailrocket": "retailrocket-dense"}[name])
    raw = pd.read_csv(folder / "pairs.csv.gz", dtype=str)
    raw = raw[raw["view"] != "0"]
    data = prepare(name, data_dir=folder.parent, fetch=False)  # both have a pairs.csv; the content tells them apart
    assert sum(data.meta["rows"].values()) == len(raw) == rows
    for task in ("cart", "buy"):
        counted = sum(tally["positives"] for tally in data.meta["base_rates"][task].values())
        assert counted == (raw[task] != "0").sum()
    with gzip.open(folder / "pairs.csv.gz") as file:
        assert file.readline() == b"user,item,view,cart,buy\n"
