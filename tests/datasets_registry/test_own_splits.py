"""Files of own data that are in two places: validation that is the test set, test rows that were trained on."""

import itertools

import numpy as np
import pytest

from benchmark.core.errors import DataError
from datasets_registry import prepare
from datasets_registry.encoding.duplicates import shared_rows
from datasets_registry.schema_file import read_schema

SCHEMA = """
name = "split_shop"
files = { train = "train.csv", valid = "valid.csv", test = "test.csv" }
categorical = ["user", "country"]
numeric = ["price"]
old_tasks = ["click"]
new_tasks = ["purchase"]
"""
SPLITS = ("train", "valid", "test")


def lines(seed, n=200):
    rng = np.random.default_rng(seed)
    return [f"u{rng.integers(90)},c{rng.integers(5)},{rng.random():.4f},{i % 2},{i // 2 % 2}" for i in range(n)]


@pytest.fixture
def files(tmp_path):
    """A writer of the three files, from their lines, and of the schema; the dataset."""

    def write(schema=SCHEMA, **content):
        for name in SPLITS:
            rows = content.get(name, lines(SPLITS.index(name)))
            text = rows if isinstance(rows, str) else "\n".join(["user,country,price,click,purchase", *rows]) + "\n"
            (tmp_path / f"{name}.csv").write_text(text)
        (tmp_path / "shop.toml").write_text(schema)
        return read_schema(tmp_path / "shop.toml")

    return write


def prepared(dataset, tmp_path):
    return prepare(dataset, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(SPLITS, 2)))
@pytest.mark.parametrize("how", ["one file", "equal bytes", "other line order"])
def test_two_splits_of_the_same_rows_are_refused(files, tmp_path, one, other, how):
    rows = lines(7)
    if how == "one file":
        dataset = files(SCHEMA.replace(f"{other}.csv", f"{one}.csv"))
    else:
        dataset = files(**{one: rows, other: rows if how == "equal bytes" else rows[::-1]})
    with pytest.raises(DataError, match="have the same content"):
        prepared(dataset, tmp_path)


def test_rows_of_another_split_are_counted(files, tmp_path):
    train = lines(0)
    data = prepared(files(train=train, test=train[:-1]), tmp_path)
    assert any("199 of 199 test rows are train rows" in warning for warning in data.warnings)


def test_files_of_their_own_have_nothing_to_say(files, tmp_path):
    assert not any("are train rows" in warning for warning in prepared(files(), tmp_path).warnings)


def test_rows_that_only_look_alike_once_encoded_are_not_equal(files, tmp_path):
    """Values that training never saw share one code, so two files of new users would be one."""
    plain = SCHEMA.replace('numeric = ["price"]\n', 'ignore = ["price"]\n')
    valid, test = ([f"new{part}{i},x{part},1,{i % 2},{i // 2 % 2}" for i in range(80)] for part in "ab")
    assert prepared(files(plain, valid=valid, test=test), tmp_path).meta["rows"]["test"] == 80


def test_the_counts_do_not_depend_on_the_chunks(files, tmp_path):
    train = lines(0)
    dataset = files(train=train, valid=[*train[:50], *lines(9)])
    warnings = [prepare(dataset, cache_dir=tmp_path / str(n), chunk_rows=n).warnings for n in (17, 10_000)]
    assert warnings[0] == warnings[1] and any("50 of 250 valid rows" in line for line in warnings[0])


def test_a_split_of_one_file_is_not_compared_by_parts():
    same = np.zeros(10, np.uint8)
    assert (
        shared_rows("x", same, np.repeat([0, 1, 2], [6, 2, 2]).astype(np.uint8), np.arange(10, dtype=np.uint64)) == []
    )


@pytest.mark.parametrize("cells", [["1e39"], ["1e308", "-1e308"], ["-1e30"]])
def test_cells_that_squeeze_a_column_are_said(files, tmp_path, cells):
    extreme = [f"u1,c1,{cell},1,0" for cell in cells]
    data = prepared(files(train=[*lines(0), *extreme]), tmp_path)
    assert any("'price' reaches" in warning for warning in data.warnings)
    assert not any("'price' reaches" in warning for warning in prepared(files(), tmp_path).warnings)
