"""Own files as pandas writes them: times, labels, ids, ratings, histories; and every schema key on the docs' page."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.core.errors import DataError, UsageError
from datasets_registry import DATASETS, prepare, schema_keys, validate
from datasets_registry.schema_file import read_schema

SCHEMA = """
name = "ratings"
files = "ratings.csv"
categorical = ["user", "item"]
tags = { genres = { separator = "|", length = 2, keep = "last" } }
time = "when"
group = "user"
split = "time"
old_tasks = ["seen"]
new_tasks = ["liked"]
[tasks.liked]
positive = ">= 4"
[sequences.history]
separator = " "
shares = "item"
length = 3
[sequences.before]
shares = "item"
when = "seen"
length = 4
"""


def frame(n=500):
    draw = np.random.default_rng(1)
    times = pd.Timestamp("2026-01-01") + pd.to_timedelta(draw.integers(0, 10**6, n), unit="s")
    return pd.DataFrame(
        {
            "user": [f"u{i}" for i in draw.integers(0, 20, n)],
            "item": [f"i{i}" for i in draw.integers(0, 30, n)],
            "genres": ["|".join(f"g{j}" for j in draw.integers(0, 9, k)) for k in draw.integers(1, 5, n)],
            "when": times,
            "history": [" ".join(f"i{j}" for j in draw.integers(0, 30, k)) for k in draw.integers(1, 6, n)],
            "seen": draw.random(n) < 0.5,
            "liked": np.where(draw.random(n) < 0.1, np.nan, draw.integers(1, 6, n)),
        }
    )


@pytest.fixture
def ratings(tmp_path):
    (tmp_path / "ratings.toml").write_text(SCHEMA)
    frame().to_csv(tmp_path / "ratings.csv", index=False)
    return tmp_path


def test_what_pandas_writes_is_read_as_pandas_reads_it(ratings):
    dataset = read_schema(ratings / "ratings.toml")
    assert validate(dataset) == []
    data, rows = prepare(dataset), frame()
    assert sum(data.meta["rows"].values()) == len(rows)
    rows["label"] = np.where(rows.liked.isna(), np.nan, rows.liked >= 4)
    ordered = rows.sort_values("when")
    got = np.concatenate([data.labels(which, "liked") for which in ("train", "valid", "test")])
    assert np.nansum(got) == np.nansum(rows.label) and np.isnan(got).sum() == rows.label.isna().sum()
    # the newest tenth is the test split: times were understood, not only read
    assert np.nansum(data.labels("test", "seen")) == ordered.seen.iloc[-data.meta["rows"]["test"] :].sum()
    tags = rows.genres.str.split("|")
    cut = data.meta["cut"]["genres"]
    assert cut == {"cells": len(rows), "cut": int((tags.str.len() > 2).sum())}
    kept = data.split("test", data.schema(())).categorical()[:, 2:4] - data.schema(()).offsets[2]
    names = [[data.vocabularies["genres"][code - 2] for code in row if code >= 2] for row in kept]
    test = rows.loc[sorted(ordered.index[-len(kept) :])]
    assert names == [cell[-2:] for cell in test.genres.str.split("|")]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.assign(seen=f.seen.astype(int)),
        lambda f: f.assign(seen=f.seen.map({True: "TRUE", False: "false"})),
        lambda f: f.assign(seen=f.seen.astype(float)),
        lambda f: f.assign(when=f.when.dt.strftime("%Y-%m-%dT%H:%M:%S")),
        lambda f: f.assign(when=f.when.dt.tz_localize("UTC")),
        lambda f: f.assign(when=f.when.astype("int64") // 1000),
    ],
)
def test_other_forms_of_the_same_rows_are_the_same_data(ratings, change):
    plain = prepare(read_schema(ratings / "ratings.toml")).fingerprint
    change(frame()).to_csv(ratings / "ratings.csv", index=False)
    assert prepare(read_schema(ratings / "ratings.toml")).fingerprint == plain


def test_parquet_of_the_same_frame_is_the_same_data(ratings):
    plain = prepare(read_schema(ratings / "ratings.toml")).fingerprint
    frame().to_parquet(ratings / "ratings.parquet")
    (ratings / "ratings.toml").write_text(SCHEMA.replace("ratings.csv", "ratings.parquet"))
    assert prepare(read_schema(ratings / "ratings.toml")).fingerprint == plain


def test_whole_numbers_keep_their_value_as_groups():
    """Splits by group are drawn from these numbers, so those of earlier data must not change."""
    import pyarrow as pa

    from datasets_registry.encoding.cells import groups

    assert groups(pa.array(["7", "007", "-3"]), Path("x"), "g").tolist() == [7, 7, -3]
    mixed = groups(pa.array(["7", "u7", "u7"]), Path("x"), "g")
    assert mixed[0] == 7 and mixed[1] == mixed[2] != 7


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('positive = ">= 4"', "", r"column liked: '[2-5].*positive = \">= 4\""),
        ('positive = ">= 4"', 'positive = "4"', "comparison"),
        ('positive = ">= 4"', 'positive = ">= much"', "no number"),
        ('positive = ">= 4"', 'positiv = ">= 4"', "Did you mean 'positive'"),
        ('positive = ">= 4"', 'positive = ">= 4"\nexcludes = ["itm"]', "Did you mean 'item'"),
        ('positive = ">= 4"', 'positive = ">= 4"\nspace = "liked"', "circle"),
        ('positive = ">= 4"', 'positive = ">= 4"\nspace = "seen"\n[tasks.seen]\nspace = "liked"', "circle"),
        ("length = 2", "lenght = 2", "Did you mean 'length'"),
        ("length = 2", "length = true", "whole number"),
        ('keep = "last"', 'keep = "newest"', "'first' or 'last'"),
        ('when = "seen"', "", "separator.*when"),
        ('when = "seen"', 'when = "liked"', "new task"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_what_to_write(ratings, old, new, says):
    (ratings / "ratings.toml").write_text(SCHEMA.replace(old, new))
    with pytest.raises((UsageError, DataError), match=f"(?s){says}"):
        prepare(read_schema(ratings / "ratings.toml"))


@pytest.mark.parametrize(
    ("column", "cell", "says"),
    [("when", "yesterday", "line 4, column when: 'yesterday' is no ISO timestamp"), ("user", "", "group"),
     ("seen", "maybe", "line 4, column seen: 'maybe' is no number.*positive")],
)  # fmt: skip
def test_a_cell_of_another_form_is_named(ratings, column, cell, says):
    rows = frame().astype(object)
    rows.loc[2, column] = cell
    rows.to_csv(ratings / "ratings.csv", index=False)
    dataset = read_schema(ratings / "ratings.toml")
    with pytest.raises(DataError, match=says):
        prepare(dataset)
    assert any(re.search(says, problem) for problem in validate(dataset))


def test_every_schema_key_is_on_the_page_that_explains_them():
    page = Path(__file__).parents[2].joinpath("docs/add-a-dataset.md").read_text(encoding="utf-8")
    keys = {
        *schema_keys.KEYS,
        *schema_keys.TASK_KEYS,
        *schema_keys.TAG_KEYS,
        *schema_keys.SEQUENCE_KEYS,
        *schema_keys.EMBEDDING_KEYS,
    }
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def test_the_page_s_second_example_goes_from_file_to_arrays(tmp_path):
    page = Path(__file__).parents[2].joinpath("docs/add-a-dataset.md").read_text(encoding="utf-8")
    (tmp_path / "ratings.toml").write_text(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    rows = frame().rename(columns={"when": "rated_at", "history": "wishes"})
    rows.to_csv(tmp_path / "ratings.csv", index=False)
    dataset = read_schema(tmp_path / "ratings.toml")
    assert validate(dataset) == []
    data = prepare(dataset)
    assert [one.name for one in data.schema(data.tasks).sequences] == ["wishes", "watched"]
    assert data.meta["base_rates"]["liked"]["train"]["positives"] > 0


def test_validate_says_what_only_the_splits_show(ratings, mpt, monkeypatch):
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))
    rows = frame().sort_values("when")
    rows.loc[rows.index[-100:], "liked"] = 1.0
    rows.to_csv(ratings / "ratings.csv", index=False)
    result = mpt("validate", "ratings", "--dataset-file", str(ratings / "ratings.toml"))
    assert result.code == 0
    assert "task 'liked': the test split has one class only (0/" in result.text
    assert re.search(r"feature 'genres': \d+\.\d% of the cells .* the last 2 are kept", result.text)
