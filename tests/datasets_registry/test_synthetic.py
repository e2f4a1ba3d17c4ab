"""The generator keeps its promises: known relatedness, known best AUC, rows that do not move."""

import dataclasses

import numpy as np
import pytest

from datasets_registry import prepare
from datasets_registry.encoding.checks import auc
from datasets_registry.synthetic import RELATIONS, Synthetic, bayes_auc, synthetic


def test_bayes_auc_is_the_mean_auc_over_drawn_labels():
    rng = np.random.default_rng(0)
    p = rng.choice([0.1, 0.3, 0.3, 0.8], 400)
    drawn = [auc(p, (rng.random(len(p)) < p).astype(np.uint8)) for _ in range(2000)]
    assert bayes_auc(p) == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 2000**0.5 + 1e-4)


def test_measured_auc_of_the_truth_lies_around_bayes_auc():
    data = prepare(synthetic(rows=60_000))
    for task in data.tasks:
        p, y = data.true_probability("train", task), data.labels("train", task)
        assert auc(p, y) == pytest.approx(bayes_auc(p), abs=0.01)
        assert y.mean() == pytest.approx({"click": 0.3, "like": 0.1, "share": 0.2}[task], abs=0.015)


def test_relations_differ_in_the_new_task_only():
    made = {name: prepare(f"synthetic_{name}") for name in RELATIONS}
    first = made["identical"]
    schema = first.schema(first.tasks)
    for data in made.values():
        for which in ("train", "valid", "test"):
            assert np.array_equal(data.split(which, schema).categorical(), first.split(which, schema).categorical())
            assert np.array_equal(data.labels(which, "click"), first.labels(which, "click"))
    rank = {
        name: np.corrcoef(*[d.true_probability("train", t).argsort().argsort() for t in ("click", "share")])[0, 1]
        for name, d in made.items()
    }
    assert rank["identical"] > 0.99 > rank["related"] > 0.6 > rank["unrelated"] > -0.3 > rank["opposed"]


def test_more_rows_begin_with_the_rows_of_fewer():
    few, many = (next(synthetic(rows=rows).read({}, 1)) for rows in (100, 5000))
    assert np.array_equal(few.features["c0"], many.features["c0"][:100])
    assert np.array_equal(few.labels["share"], many.labels["share"][:100])


@dataclasses.dataclass(frozen=True)
class AnotherProcessor(Synthetic):
    """The same data with the last bit of every true probability changed, as another exponential function would."""

    def read(self, files, chunk_rows):
        for chunk in super().read(files, chunk_rows):
            truth = {task: np.nextafter(values, 1) for task, values in chunk.truth.items()}
            yield dataclasses.replace(chunk, truth=truth)


def test_the_fingerprint_is_of_what_a_model_sees_and_not_of_the_truth(tmp_path):
    here = synthetic("synthetic_here", rows=3000)
    there = AnotherProcessor(**{field.name: getattr(here, field.name) for field in dataclasses.fields(here)})
    first, second = prepare(here, cache_dir=tmp_path / "a"), prepare(there, cache_dir=tmp_path / "b")
    assert not np.array_equal(first.true_probability("test", "share"), second.true_probability("test", "share"))
    assert first.fingerprint == second.fingerprint
    assert prepare(synthetic("synthetic_here", rows=3001), cache_dir=tmp_path).fingerprint != first.fingerprint
