"""Rows that stay in the memory map are the rows that lie in memory, batch by batch and bit by bit."""

import pytest
import torch

from benchmark.training.rows import DataRows, shuffled
from datasets_registry import prepare
from datasets_registry.synthetic import synthetic

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(synthetic("synthetic_rows", rows=30_000), cache_dir=tmp_path_factory.mktemp("rows"))


def both(data, tasks=("click", "like")):
    split, labels = data.split("train", data.schema(tasks)), {task: data.labels("train", task) for task in tasks}
    return DataRows(split, labels, CPU, in_memory_bytes=0), DataRows(split, labels, CPU)


def assert_equal(first, second):
    assert torch.equal(first.categorical, second.categorical) and first.categorical.dtype == torch.int32
    assert torch.equal(first.numeric, second.numeric) and torch.equal(first.index, second.index)
    assert first.labels.keys() == second.labels.keys()
    assert all(torch.equal(first.labels[task], second.labels[task]) for task in first.labels)


@pytest.mark.parametrize("size", [256, 2000, 20_000])
def test_map_and_memory_give_the_same_batches(data, size):
    mapped, held = both(data)
    for ordered in (lambda rows: rows.batches(size), lambda rows: shuffled(rows, size, torch.Generator(), CPU)):
        pairs = list(zip(ordered(mapped), ordered(held), strict=True))
        assert sum(len(first.index) for first, _ in pairs) == len(held)
        for first, second in pairs:
            assert_equal(first, second)


def test_a_batch_may_be_changed_without_changing_the_data(data):
    for rows in both(data):
        batch = rows.gather(torch.arange(10))
        kept = batch.categorical.clone(), batch.numeric.clone()
        batch.categorical.add_(1)
        batch.numeric.add_(1)
        again = rows.gather(torch.arange(10))
        assert torch.equal(again.categorical, kept[0]) and torch.equal(again.numeric, kept[1])


def test_left_out_features_stay_out_of_the_map(data):
    """With some columns excluded, every remaining one still has its own values."""
    whole = data.schema(())
    part = type(whole)(whole.categorical[1:-1:2], whole.numeric[1:])
    codes, fewer = data.split("train", whole), data.split("train", part)
    rows = torch.randperm(len(codes), generator=torch.Generator())[:100].numpy()
    for index in (rows, slice(7, 90), None):
        expected = codes.categorical(index)[:, 1:-1:2] - whole.offsets[1:-1:2] + part.offsets
        assert (fewer.categorical(index) == expected).all()
        assert (fewer.numeric(index) == codes.numeric(index)[:, 1:]).all()
