"""Embeddings from a .npy: aligned with the codes, refused with the file's name where they cannot be."""

import numpy as np
import pandas as pd
import pytest

from benchmark.core.errors import DataError, UsageError
from datasets_registry import prepare
from datasets_registry.schema_file import read_schema

SCHEMA = """
name = "vectors"
files = "rows.csv"
categorical = ["item", "user"]
old_tasks = ["a"]
new_tasks = ["b"]
[embeddings.user]
dim = 3
[embeddings.item]
vectors = "item.npy"
ids = "ids.npy"
frozen = true
"""


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    rows = {name: draw.integers(0, 2, 300) for name in "ab"}
    rows |= {"item": [f"i{k}" for k in draw.integers(0, 9, 300)], "user": draw.integers(0, 9, 300)}
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    np.save(tmp_path / "item.npy", np.arange(16.0).reshape(8, 2))
    np.save(tmp_path / "ids.npy", np.array([f"i{k}" for k in (7, 6, 5, 4, 3, 2, 1, 99)]))
    (tmp_path / "rows.toml").write_text(SCHEMA)
    return tmp_path


def test_vectors_lie_in_the_order_of_codes(folder):
    data = prepare(read_schema(folder / "rows.toml"))
    item, user = data.schema(["a"]).categorical
    assert (item.dim, item.frozen, user.dim, user.vectors) == (2, True, 3, "")
    table = np.load(item.vectors)
    assert table.shape == (item.size, 2)
    for code, value in enumerate(data.vocabularies["item"], 2):
        number = int(value[1:])
        expected = [2.0 * (7 - number), 2.0 * (7 - number) + 1] if 1 <= number <= 7 else [0, 0]
        assert table[code].tolist() == expected
    assert any("'item': 22.2% of the values (2 of 9) have no vector" in warning for warning in data.warnings)


def test_other_vectors_are_other_data(folder):
    first = prepare(read_schema(folder / "rows.toml")).fingerprint
    np.save(folder / "item.npy", np.ones((8, 2)))
    assert prepare(read_schema(folder / "rows.toml")).fingerprint != first


@pytest.mark.parametrize(
    ("table", "ids", "says"),
    [
        (np.ones(8), None, r"item.npy: has to hold numbers \[values, size\], not \[8\]"),
        (np.array([["x"]] * 8), None, "item.npy: has to hold numbers"),
        (np.full((8, 2), np.nan), None, "item.npy, row .*: a vector is not finite"),
        (None, np.arange(8), "the values of 'item' are text, and the ids of .*ids.npy are whole numbers"),
        (None, np.array(["i1"] * 8), "ids.npy: the id 'i1' occurs twice"),
        (None, np.array(["i1", "i2"]), "ids.npy: has to hold one id .* for each of the 8 vectors"),
        (None, np.array([f"x{k}" for k in range(8)]), r"no value of 'item' \('i0', .*\) is among the ids"),
    ],
)  # fmt: skip
def test_vectors_that_cannot_be_meant_are_refused(folder, table, ids, says):
    if table is not None:
        np.save(folder / "item.npy", table)
    if ids is not None:
        np.save(folder / "ids.npy", ids)
    with pytest.raises(DataError, match=says):
        prepare(read_schema(folder / "rows.toml"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("embeddings.item", "embeddings.itm", "Did you mean 'item'"),
        ('"item.npy"', '"itm.npy"', "which is no file"),
        ("frozen = true", "frozen = 1", "true or false"),
        ("dim = 3", "dim = 0", "whole number from 1"),
        ("dim = 3", "frozen = true", "go with vectors"),
    ],
)
def test_faulty_tables_of_embeddings_are_refused(folder, old, new, says):
    (folder / "rows.toml").write_text(SCHEMA.replace(old, new))
    with pytest.raises(UsageError, match=says):
        read_schema(folder / "rows.toml")
