"""The leak check's AUC against an independent one, and on planted leaks."""

import numpy as np
import pytest

from datasets_registry.encoding.checks import auc


@pytest.mark.parametrize("values", [3, 50, 100_000])
def test_auc_equals_the_oracle(values):
    oracle = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle").roc_auc_score
    rng = np.random.default_rng(values)
    score, label = rng.integers(0, values, 2000).astype(float), (rng.random(2000) < 0.3).astype(np.uint8)
    assert auc(score, label) == pytest.approx(oracle(label, score), abs=1e-12)


def test_auc_by_counting_pairs():
    score, label = np.array([1.0, 2, 2, 3, 5]), np.array([0, 1, 0, 0, 1])
    assert auc(score, label) == (1 + 0.5 + 0 + 1 + 1 + 1) / 6
