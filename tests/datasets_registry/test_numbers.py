"""Quantile and piecewise-linear inputs, against numpy on the raw values and against the paper's equation."""

import dataclasses

import numpy as np
import pytest

from benchmark.core.errors import UsageError
from datasets_registry import DATASETS, prepare
from datasets_registry.base import Chunk, Dataset, Feature
from datasets_registry.encoding import numbers
from datasets_registry.schema import Task

ROWS = 3000


class Heavy(Dataset):
    def read(self, files, chunk_rows):
        for start in range(0, ROWS, chunk_rows):
            rows = slice(start, start + chunk_rows)
            labels = {name: values[rows] for name, values in LABELS.items()}
            yield Chunk({"money": MONEY[rows], "kind": KIND[rows], "same": np.ones(ROWS)[rows]}, labels)


_draw = np.random.default_rng(2)
MONEY = np.where(_draw.random(ROWS) < 0.3, 0.0, np.exp(3 * _draw.normal(size=ROWS)))
MONEY[_draw.random(ROWS) < 0.05] = np.nan
KIND = _draw.integers(0, 3, ROWS)
LABELS = {name: _draw.integers(0, 2, ROWS).astype(np.uint8) for name in "ab"}
FEATURES = (Feature("money", "numeric"), Feature("same", "numeric"), Feature("kind"))
HEAVY = Heavy(
    name="heavy",
    title="heavy tails",
    tasks=(Task("a"), Task("b")),
    old_tasks=("a",),
    new_tasks=("b",),
    features=FEATURES,
    split="random",
    splits=("random",),
)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))
    DATASETS.add("heavy", HEAVY, __file__)


def raw_parts(data):
    """Raw numbers by split, in file order."""
    from datasets_registry.encoding import splits

    part = splits.assign("random", "heavy", {"part": np.zeros(ROWS, np.uint8)})
    return [MONEY[part == code] for code in range(3)]


def test_quantiles_are_the_share_of_training_values_below(registered, tmp_path):
    data = prepare("heavy@quantile", cache_dir=tmp_path)
    train, _, test = raw_parts(data)
    known = np.sort(train[~np.isnan(train)])
    got = data.split("test", data.schema(["a"])).numeric()[:, 0]
    below, upto = np.searchsorted(known, test), np.searchsorted(known, test, "right")
    expected = np.where(np.isnan(test), 0, (below + upto) / 2 / len(known))
    assert np.abs(got - expected).max() < 0.01 and got.min() >= 0 and got.max() <= 1
    assert data.split("test", data.schema(["a"])).numeric()[:, 1].max() == 0  # one value everywhere says nothing


def test_pieces_are_those_of_the_paper_s_equation(registered, tmp_path):
    data = prepare("heavy@piecewise", cache_dir=tmp_path)
    train, _, test = raw_parts(data)
    schema = data.schema(["a"])
    edges = np.unique(np.quantile(train[~np.isnan(train)], np.linspace(0, 1, 17)))
    t = len(edges) - 1
    assert 2 < t < 16 and schema.numeric == (
        *(f"money:{i}" for i in range(1, t + 1)),
        "same:1",
    )  # many zeros: fewer bins
    got = data.split("test", schema).numeric()
    for row, value in enumerate(test):
        for i in range(t):
            low, high = edges[i], edges[i + 1]
            if np.isnan(value) or (value < low and i > 0):
                expected = 0.0
            else:
                expected = 1.0 if value >= high and i < t - 1 else (value - low) / (high - low)
            assert got[row, i] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_encoding_does_not_depend_on_chunks_nor_on_a_sample_s(registered, tmp_path, monkeypatch):
    for words in ("quantile", "piecewise"):
        one = prepare(f"heavy@{words}", cache_dir=tmp_path / "a")
        assert prepare(f"heavy@{words}", cache_dir=tmp_path / "b", chunk_rows=101).fingerprint == one.fingerprint
    monkeypatch.setattr(numbers, "SAMPLE", 1000)
    sampled = prepare("heavy@quantile", cache_dir=tmp_path / "c")
    assert prepare("heavy@quantile", cache_dir=tmp_path / "d", chunk_rows=101).fingerprint == sampled.fingerprint
    schema, whole = sampled.schema(["a"]), prepare("heavy@quantile", cache_dir=tmp_path / "a")
    assert sampled.fingerprint != whole.fingerprint
    close = sampled.split("test", schema).numeric()[:, 0] - whole.split("test", schema).numeric()[:, 0]
    assert np.abs(close).max() < 0.06


def test_excluding_a_number_leaves_all_its_pieces_out(registered, tmp_path):
    tasks = (Task("a"), Task("b", excludes=("money",)))
    features = tuple(dataclasses.replace(f, scale="piecewise") if f.kind == "numeric" else f for f in FEATURES)
    data = prepare(dataclasses.replace(HEAVY, tasks=tasks, features=features), cache_dir=tmp_path)
    assert data.schema(["b"]).numeric == ("same:1",) and len(data.schema(["a"]).numeric) > 3
    assert data.split("test", data.schema(["b"])).numeric().shape[1] == 1


def test_a_profile_that_would_change_nothing_is_refused(registered, tmp_path):
    DATASETS.add("none", dataclasses.replace(HEAVY, name="none", features=FEATURES[2:]), __file__)
    with pytest.raises(UsageError, match="no numeric input"):
        prepare("none@quantile", cache_dir=tmp_path)
