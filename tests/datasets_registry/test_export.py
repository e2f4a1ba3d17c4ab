"""Datasets leave the suite: as Parquet files, and described in the Croissant vocabulary."""

import json

import numpy as np
import pyarrow.parquet
import pytest

from benchmark.core.errors import UsageError
from datasets_registry import DATASETS, find, load_file, prepare
from datasets_registry.croissant import describe
from datasets_registry.export import parquet

SCHEMA = """
name = "exported"
files = "a.csv"
categorical = ["user"]
numeric = ["price"]
tags = { genres = "|" }
old_tasks = ["click"]
new_tasks = ["buy"]
[tasks.buy]
space = "click"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    find("synthetic")  # the built-in ones are known before the copy is made
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))
    luck = np.random.default_rng(0).random((600, 2))
    lines = [
        f"u{i % 9},{i},{'a|b' if i % 2 else ''},{int(click < 0.4)},{int(click < 0.4 and buy < 0.5)}"
        for i, (click, buy) in enumerate(luck)
    ]
    (tmp_path / "a.csv").write_text("\n".join(["user,price,genres,click,buy", *lines]) + "\n")
    (tmp_path / "a.toml").write_text(SCHEMA)
    load_file(tmp_path / "a.toml")
    return prepare("exported")


def test_parquet_holds_what_models_get(own, tmp_path):
    paths = parquet(own, tmp_path / "codes")
    assert [path.name for path in paths] == ["train.parquet", "valid.parquet", "test.parquet"]
    schema = own.schema(())
    for which, path in zip(("train", "valid", "test"), paths, strict=True):
        table, split = pyarrow.parquet.read_table(path), own.split(which, schema)
        codes = split.categorical()
        assert np.array_equal(table["user"].to_numpy(), codes[:, 0] - schema.offsets[0])
        assert table["genres"].to_pylist() == (codes[:, 1:] - schema.offsets[1]).tolist()
        assert np.array_equal(table["price"].to_numpy(), split.numeric()[:, 0])
        labels = [None if np.isnan(label) else label for label in own.labels(which, "buy").tolist()]
        assert table["label.buy"].to_pylist() == labels
    with pytest.raises(UsageError, match="exists already"):
        parquet(own, tmp_path / "codes")


def test_parquet_with_the_raw_values(own, tmp_path):
    tables = [pyarrow.parquet.read_table(path) for path in parquet(own, tmp_path / "values", values=True)]
    users = [user for table in tables for user in table["user"].to_pylist()]
    assert sorted(users) == sorted(f"u{i % 9}" for i in range(600))
    assert tables[0]["genres"].to_pylist()[0][2:] == [None] * 6


def test_commands_describe_and_export(mpt, own, tmp_path):
    result = mpt("export", "exported", tmp_path / "out", "--dataset-file", tmp_path / "a.toml", "--values")
    assert result.code == 0 and (tmp_path / "out/test.parquet").is_file()
    described = json.loads(mpt("describe", "census_income", "--croissant").text)
    assert described["license"] == "CC BY 4.0" and described["distribution"][0]["sha256"].startswith("3676a81d")
    assert "# Census-Income" in mpt("describe", "census_income").text


@pytest.mark.parametrize(
    "name", ["synthetic", "census_income", "kuairand_pure", "vk_lsvd", "ali_ccp", "movielens_100k"]
)
def test_descriptions_are_valid_croissant(name, tmp_path):
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant validates Croissant; it is in the extra 'test'")
    data = prepare(name) if name == "synthetic" else None
    (tmp_path / "croissant.json").write_text(json.dumps(describe(find(name), data)))
    loaded = croissant.Dataset(str(tmp_path / "croissant.json")).metadata  # raises for what the format forbids
    assert not loaded.ctx.issues.errors and loaded.description.startswith(find(name).title)
    if data is not None:
        fields = {field.name for field in loaded.record_sets[0].fields}
        assert fields == {*(f"c{i}" for i in range(10)), "n0", "n1", *(f"label.{task}" for task in data.tasks)}
