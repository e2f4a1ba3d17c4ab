"""Sequences from declaration to batches, against loops in plain Python."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmark.core.errors import DataError, UsageError
from benchmark.kit.check_dataset import check_dataset
from benchmark.training.rows import DataRows, shuffled
from datasets_registry import prepare
from datasets_registry.base import Chunk, Dataset, Feature
from datasets_registry.schema import Task

ROWS = 400
ITEMS = 40


@dataclasses.dataclass(frozen=True)
class Log(Dataset):
    """Users who see items; ``visited`` is read as it stands, ``clicked`` and ``seen`` are built."""

    words: bool = False

    def read(self, files, chunk_rows):
        rows = log(self.words)
        for start in range(0, ROWS, chunk_rows):
            part = {name: column[start : start + chunk_rows] for name, column in rows.items()}
            yield Chunk(
                {"item": pa.array(part["item"]), "visited": pa.array(part["visited"])},
                {"click": part["click"], "buy": part["buy"]},
                keys={"time": part["time"], "group": part["user"]},
            )


def log(words=False):
    draw = np.random.default_rng(5)
    item = draw.integers(1, ITEMS, ROWS)
    visited = [draw.integers(1, ITEMS + 5, n).tolist() if n < 6 else None for n in draw.integers(0, 7, ROWS)]
    if words:
        item = [f"i{value}" for value in item]
        visited = [cell and [f"i{value}" for value in cell] for cell in visited]
    return {
        "item": item,
        "visited": visited,
        "user": draw.integers(0, 12, ROWS),
        "time": draw.integers(0, 60, ROWS),
        "click": draw.integers(0, 2, ROWS).astype(np.uint8),
        "buy": draw.integers(0, 2, ROWS).astype(np.uint8),
    }


def dataset(words=False, **changes):
    features = (
        Feature("item"),
        Feature("visited", "sequence", length=4, shares="item"),
        Feature("clicked", "sequence", length=3, shares="item", when="click"),
        Feature("seen", "sequence", length=5, shares="item", when="*", keep="first"),
    )
    return Log(
        name="log",
        title="a log",
        tasks=(Task("click"), Task("buy")),
        old_tasks=("click",),
        new_tasks=("buy",),
        features=changes.pop("features", features),
        split="time",
        splits=("time", "random"),
        words=words,
        **changes,
    )


@pytest.mark.parametrize(("words", "split"), [(False, "time"), (True, "time"), (False, "random")])
def test_sequences_are_those_of_a_plain_loop(tmp_path, words, split):
    data = prepare(dataclasses.replace(dataset(words), split=split), cache_dir=tmp_path)
    other = prepare(dataclasses.replace(dataset(words), split=split), cache_dir=tmp_path / "b", chunk_rows=7)
    assert data.fingerprint == other.fingerprint
    schema = data.schema(["click", "buy"])
    rows = log(words)
    which = split_of_rows(data, rows)
    codes = {value: code for code, value in enumerate(data.vocabularies["item"], 2)}
    for name in ("train", "valid", "test"):
        got = data.split(name, schema).sequences()
        numbers = [row for row in range(ROWS) if which[row] == name]
        for position, row in enumerate(numbers):
            visited = rows["visited"][row] or []
            earlier = [
                other
                for other in sorted(range(ROWS), key=lambda other: (rows["time"][other], other))
                if which[other] == "train"
                and rows["user"][other] == rows["user"][row]
                and rows["time"][other] < rows["time"][row]
            ]
            clicked = [rows["item"][other] for other in earlier if rows["click"][other]]
            seen = [rows["item"][other] for other in earlier]
            expected = {"visited": last(visited, 4), "clicked": last(clicked, 3), "seen": (seen + [None] * 5)[:5]}
            for sequence, values in expected.items():
                wanted = [-1 if value is None else codes.get(value, 1) for value in values]
                assert got[sequence][position].tolist() == wanted, (sequence, row)


def last(values, n):
    return ([None] * n + list(values))[-n:]


def split_of_rows(data, rows):
    """Which split each raw row went to, from the labels' and the columns' order alone."""
    from datasets_registry.encoding import splits

    keys = {"part": np.zeros(ROWS, np.uint8), "time": rows["time"].astype(np.int64)}
    codes = splits.assign(data.dataset.split, data.dataset.split_stream, keys)
    return [("train", "valid", "test")[code] for code in codes]


def test_integers_are_narrow_and_empty_places_are_none_of_the_codes(tmp_path):
    data = prepare(dataset(), cache_dir=tmp_path)
    records = np.load(data.directory / "train.sequences.npy", mmap_mode="r")
    assert records.dtype["visited"].base == np.uint8 and records.dtype["visited"].shape == (4,)
    size = data.meta["sequences"][0]["size"]
    assert records["visited"].max() == size  # some places are empty
    schema = data.schema(["click"])
    assert schema.embedding_rows == size == schema.categorical[0].size  # one table for item and all three sequences


def test_batches_carry_sequences_from_memory_and_from_the_map(tmp_path):
    data = prepare(dataset(), cache_dir=tmp_path)
    schema = data.schema(["click"])
    split, labels = data.split("train", schema), {"click": data.labels("train", "click")}
    whole = split.sequences()
    for limit in (1 << 30, 0):
        rows = DataRows(split, labels, torch.device("cpu"), in_memory_bytes=limit)
        for batch in shuffled(rows, 64, torch.Generator().manual_seed(1), torch.device("cpu")):
            for name, codes in batch.sequences.items():
                assert codes.dtype == torch.int32
                assert np.array_equal(codes.numpy(), whole[name][batch.index.numpy()])


def test_a_task_may_exclude_a_sequence_or_the_feature_that_it_shares(tmp_path):
    tasks = (Task("click"), Task("buy", excludes=("item", "clicked")))
    data = prepare(dataclasses.replace(dataset(), tasks=tasks), cache_dir=tmp_path)
    schema = data.schema(["buy"])
    assert [one.name for one in schema.sequences] == ["visited", "seen"] and not schema.categorical
    assert schema.sequence_offsets == (0, 0) and schema.embedding_rows == schema.sequences[0].size
    assert data.split("train", schema).sequences()["visited"].max() < schema.embedding_rows


def test_cells_that_are_cut_are_counted(tmp_path):
    data = prepare(dataset(), cache_dir=tmp_path)
    cells = [cell for cell in log()["visited"] if cell]
    cut = sum(len(cell) > 4 for cell in cells)
    assert data.meta["cut"]["visited"] == {"cells": len(cells), "cut": cut}
    assert any(f"{cut:,} of {len(cells):,}" in warning and "last 4" in warning for warning in data.warnings)


@pytest.mark.parametrize(
    ("feature", "named"),
    [
        (Feature("h", "sequence", shares="itme"), "item"),
        (Feature("h", "sequence", shares="item", when="clik"), "click"),
        (Feature("h", "sequence", shares="item", when="buy"), "new task"),
    ],
)
def test_what_cannot_be_built_is_refused(feature, named):
    with pytest.raises(UsageError, match=named):
        dataset(features=(Feature("item"), feature))


def test_values_of_another_type_than_the_shared_feature_are_refused(tmp_path):
    class Mixed(Log):
        def read(self, files, chunk_rows):
            for chunk in super().read(files, chunk_rows):
                yield dataclasses.replace(
                    chunk, features={**chunk.features, "visited": pa.array([["a"]] * len(chunk.labels["buy"]))}
                )

    features = (Feature("item"), Feature("visited", "sequence", length=4, shares="item"))
    mixed = Mixed(**{f.name: getattr(dataset(features=features), f.name) for f in dataclasses.fields(Log)})
    with pytest.raises(DataError, match="visited.*item"):
        prepare(mixed, cache_dir=tmp_path)


class Honest(Dataset):
    """A log whose column ``history`` holds the items before each row; ``ahead`` plants what must not be there."""

    ahead = ""

    def read(self, files, chunk_rows):
        draw = np.random.default_rng(9)
        rows = 3000
        user, item, click = draw.integers(0, 40, rows), draw.integers(0, 300, rows), draw.integers(0, 2, rows)
        history, of_user = [], {one: np.flatnonzero(user == one) for one in range(40)}
        for row in range(rows):
            mine = of_user[user[row]]
            at = int(np.searchsorted(mine, row))
            end = at + (self.ahead == "itself" and click[row])
            end += 2 * (self.ahead == "later" and row % 10 == 0)
            history.append(item[mine[max(end - 3, 0) : end]].tolist())
        labels = {"click": click.astype(np.uint8), "buy": draw.integers(0, 2, rows).astype(np.uint8)}
        columns = {"item": item, "history": pa.array(history, pa.list_(pa.int64()))}
        yield Chunk(columns, labels, keys={"time": np.arange(rows), "group": user})


class Itself(Honest):
    ahead = "itself"


class Later(Honest):
    ahead = "later"


def planted(kind, **changes):
    features = (Feature("item"), Feature("history", "sequence", length=3, shares="item"))
    return kind(
        name="planted",
        title="planted",
        tasks=(Task("click"), Task("buy")),
        old_tasks=("click",),
        new_tasks=("buy",),
        features=features,
        split="time",
        splits=("time",),
        **changes,
    )


def test_histories_that_look_ahead_are_found():
    def verdicts(dataset):
        return {finding.check: finding for finding in check_dataset(dataset) if not finding.warning}

    assert verdicts(planted(Honest))["histories"].ok
    itself = verdicts(planted(Itself))["prepares"]
    assert not itself.ok and "'history' alone predicts task 'click'" in itself.message
    later = verdicts(planted(Later))["histories"]
    assert not later.ok and "first time at the row's own time or later" in later.message
    assert verdicts(planted(Later, allow_leaks=("history",)))["histories"].ok


def test_a_history_that_holds_the_impression_is_found_by_order_too(tmp_path):
    data = prepare(planted(Itself, allow_leaks=("history",)), cache_dir=tmp_path)
    ahead, shown = data.meta["look_ahead"]["history"]
    assert 0 < ahead < shown
    assert prepare(planted(Honest), cache_dir=tmp_path / "b").meta["look_ahead"]["history"][0] == 0


def test_exported_sequences_are_lists_of_the_raw_values(tmp_path):
    import pyarrow.parquet as parquet

    from datasets_registry.export import parquet as export

    data = prepare(dataset(words=True), cache_dir=tmp_path / "cache")
    paths = export(data, tmp_path / "out", values=True)
    got = parquet.read_table(paths[0]).column("visited").to_pylist()
    vocabulary = set(data.vocabularies["item"])
    rows, which = log(True), split_of_rows(data, log(True))
    cells = [(rows["visited"][row] or [])[-4:] for row in range(ROWS) if which[row] == "train"]
    assert got == [[value if value in vocabulary else None for value in cell] for cell in cells]
