"""Metrics against scikit-learn and hand-computed cases; undefined scores are null with a reason."""

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn import metrics as oracle

from benchmark.core.ranks import midranks
from benchmark.training import metrics


def sample(n, seed=0, rate=0.2, ties=True):
    generator = np.random.default_rng(seed)
    labels = (generator.random(n) < rate).astype(np.float32)
    labels[:2] = 0, 1
    logits = (generator.normal(size=n) + labels).astype(np.float32)
    if ties:
        logits[::2] = np.round(logits[::2], 1)
    return logits, labels


@pytest.mark.parametrize("n", [2, 3, 10, 997, 20_000])
@pytest.mark.parametrize("ties", [False, True])
def test_rank_metrics_equal_scikit_learn(n, ties):
    logits, labels = sample(n, seed=n, ties=ties)
    assert metrics.auc(logits, labels) == pytest.approx(oracle.roc_auc_score(labels, logits), abs=1e-12)
    assert metrics.average_precision(logits, labels) == pytest.approx(
        oracle.average_precision_score(labels, logits), abs=1e-12
    )


def test_auc_by_hand_counts_ties_half():
    assert metrics.auc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0, 0, 1, 1])) == 0.875
    assert metrics.auc(np.zeros(10), np.arange(10) % 2) == 0.5
    assert metrics.auc(np.array([-0.0, 0.0]), np.array([0, 1])) == 0.5


def test_auc_orders_negative_huge_and_tiny_scores():
    scores = np.array([-3e38, -1.0, -1e-38, 0.0, 1e-38, 2.0, 3e38], dtype=np.float32)
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    assert metrics.auc(scores, labels) == 1.0
    assert metrics.auc(-scores, labels) == 0.0


def test_log_loss_stays_exact_for_saturated_logits():
    logits, labels = sample(1000)
    assert metrics.log_loss(logits, labels) == pytest.approx(
        oracle.log_loss(labels, 1 / (1 + np.exp(-logits.astype(float)))), rel=1e-9
    )
    assert metrics.log_loss(np.array([200.0]), np.array([0.0])) == pytest.approx(200.0)


def test_normalised_entropy_of_the_base_rate_is_one():
    labels = np.array([1, 0, 0, 0], dtype=np.float32)
    logits = np.full(4, np.log(0.25 / 0.75))
    scores, reasons, n = metrics.evaluate("binary", logits, labels)
    assert scores["normalised_entropy"] == pytest.approx(1.0) and reasons == {} and n == 4
    assert scores["calibration_error"] is not None


def test_calibration_error_of_a_calibrated_and_of_a_shifted_model():
    generator = np.random.default_rng(1)
    logits = generator.normal(size=200_000)
    labels = (generator.random(200_000) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    assert metrics.calibration_error(logits, labels) < 0.005
    assert metrics.calibration_error(np.full(1000, np.log(3.0)), np.zeros(1000)) == pytest.approx(0.75)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_class_is_null_with_a_reason(value):
    scores, reasons, _ = metrics.evaluate("binary", np.arange(5.0), np.full(5, value))
    assert scores["auc"] is None and reasons["auc"] == metrics.ONE_CLASS
    assert scores["log_loss"] is not None


def test_rows_without_label_do_not_count_and_nan_predictions_are_named():
    logits, labels = sample(100)
    labels[10:] = np.nan
    scores, _, n = metrics.evaluate("binary", logits, labels)
    assert n == 10 and scores["auc"] == metrics.auc(logits[:10], labels[:10])
    assert metrics.evaluate("binary", np.full(4, np.nan), np.array([0, 1, 0, 1.0]))[1]["auc"] == metrics.NOT_FINITE
    assert metrics.evaluate("binary", np.empty(0), np.empty(0))[1]["auc"] == metrics.EMPTY


def test_standard_error_of_the_auc_covers_resampling():
    values = [metrics.auc(*sample(500, seed=s, ties=False)) for s in range(300)]
    errors = [metrics.auc_standard_error(*sample(500, seed=s, ties=False)) for s in range(300)]
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.12)


def test_the_variance_from_counts_alone_is_near_that_from_the_scores():
    logits, labels = sample(4000, seed=2, ties=False)
    from_counts = metrics.auc_variance(metrics.auc(logits, labels), int(labels.sum()), int((1 - labels).sum()))
    assert from_counts**0.5 == pytest.approx(metrics.auc_standard_error(logits, labels), rel=0.2)


def test_regression_scores():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    scores, _, _ = metrics.evaluate("regression", truth + np.array([1, -1, 1, -1]), truth)
    assert scores == pytest.approx({"r2": 1 - 1 / 1.25, "rmse": 1.0, "mae": 1.0, "spearman": 0.6})
    assert metrics.evaluate("regression", truth, np.ones(4))[0]["r2"] is None


def test_midranks_are_scipys():
    generator = np.random.default_rng(3)
    for values in (np.empty(0, np.float32), np.zeros(4), np.round(generator.normal(size=999), 1).astype(np.float32)):
        assert np.array_equal(midranks(values), rankdata(values))
