"""Scores of one task on one split: numpy in, numbers out. Undefined scores are None with a reason, never 0 or .5."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmark.core.ranks import midranks

ONE_CLASS = "one class"
NOT_FINITE = "prediction not finite"
EMPTY = "no rows"
CONSTANT = "constant labels"

CALIBRATION_BINS = 20


PRIMARY = {"binary": "auc", "regression": "r2"}
"""The metric by which a task of each kind is selected and compared."""


def evaluate(kind: str, predictions: NDArray, labels: NDArray) -> tuple[dict[str, float | None], dict[str, str], int]:
    """All metrics of a task.

    ``predictions`` [N] are logits (binary) or values (regression), ``labels`` [N] with NaN where undefined.
    Returns metrics, reasons for those that are None, and the number of rows scored.
    """
    predictions, labels = defined(predictions, labels)
    names: tuple[str, ...] = ("auc", "pr_auc", "log_loss", "normalised_entropy", "calibration_error")
    if kind == "regression":
        names = ("r2", "rmse", "mae", "spearman")
    if len(labels) == 0 or not np.isfinite(predictions).all():
        reason = NOT_FINITE if len(labels) else EMPTY
        return dict.fromkeys(names), dict.fromkeys(names, reason), len(labels)
    if kind == "regression":
        return *_regression(predictions, labels), len(labels)
    return *_binary(predictions, labels), len(labels)


def defined(predictions: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
    """The rows whose label is not NaN."""
    known = ~np.isnan(labels)
    return (predictions, labels) if known.all() else (predictions[known], labels[known])


def auc(scores: NDArray, labels: NDArray) -> float | None:
    """Area under the ROC curve, ties counted half (Mann-Whitney U); None with one class. Exact.

    ``scores`` float32 [N], ``labels`` {0, 1} [N]. Scores are mapped to integers of the same order, the label becomes
    the lowest bit, and one sort of 64-bit integers orders everything: several times faster than an argsort.
    """
    ordered, positive = _sorted_with_labels(scores, labels)
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return None
    # Every positive gets the mean rank of its tie group: the group's first and last position, averaged.
    ends = np.flatnonzero(np.concatenate((ordered[1:] != ordered[:-1], [True])))
    sizes = np.diff(ends, prepend=-1)
    positives_up_to = np.cumsum(positive, dtype=np.int64)[ends]
    in_group = np.diff(positives_up_to, prepend=0)
    rank_sum_doubled = int((in_group * (2 * ends - sizes + 3)).sum())  # 2 * mean rank, ranks from 1: exact in int64
    return (rank_sum_doubled - positives * (positives + 1)) / (2 * positives * negatives)


def average_precision(scores: NDArray, labels: NDArray) -> float | None:
    """Area under the precision-recall curve as average precision (sum of precision times recall step), ties exact."""
    ordered, positive = _sorted_with_labels(scores, labels)
    positives = int(positive.sum())
    if positives == 0 or positives == len(positive):
        return None
    ordered, positive = ordered[::-1], positive[::-1]
    ends = np.flatnonzero(np.concatenate((ordered[1:] != ordered[:-1], [True])))
    found = np.cumsum(positive, dtype=np.int64)[ends]
    return float((np.diff(found, prepend=0) / positives * (found / (ends + 1))).sum())


def log_loss(logits: NDArray, labels: NDArray) -> float:
    """Mean binary cross-entropy in nats, from logits in float64, so that saturated predictions stay exact."""
    z = logits.astype(np.float64)
    return float(np.mean(np.logaddexp(0.0, z) - z * labels))


def calibration_error(logits: NDArray, labels: NDArray, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error over bins of equal mass (Nixon et al., CVPR workshops 2019).

    Equal mass, because with rare positives nearly all predictions share the first equal-width bin.
    """
    order = np.argsort(logits, kind="stable")
    probabilities = _sigmoid(logits.astype(np.float64)[order])
    observed = labels.astype(np.float64)[order]
    edges = np.linspace(0, len(order), min(bins, len(order)) + 1).astype(int)[:-1]
    gaps = np.add.reduceat(probabilities, edges) - np.add.reduceat(observed, edges)
    return float(np.abs(gaps).sum() / len(order))


def auc_standard_error(scores: NDArray, labels: NDArray) -> float | None:
    """Standard error of the AUC from the sampling of test rows (DeLong et al., Biometrics 1988); None if undefined."""
    scores, labels = defined(scores, labels)
    positive = labels == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2 or not np.isfinite(scores).all():
        return None
    # Placement of each row among the other class, by midranks within all rows and within its own class.
    ranks, own = midranks(scores), np.empty(len(scores))
    own[positive], own[~positive] = midranks(scores[positive]), midranks(scores[~positive])
    v10 = (ranks - own)[positive] / n
    v01 = 1.0 - (ranks - own)[~positive] / m
    return float(np.sqrt(v10.var(ddof=1) / m + v01.var(ddof=1) / n))


def auc_variance(value: float, positives: int, negatives: int) -> float:
    """Sampling variance of an AUC from its value and the class counts alone (Hanley & McNeil, Radiology 1982)."""
    both, same = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (positives - 1) * (both - value**2) + (negatives - 1) * (same - value**2)
    return max(spread, 0.0) / max(positives * negatives, 1)


def _binary(logits: NDArray, labels: NDArray) -> tuple[dict[str, float | None], dict[str, str]]:
    loss = log_loss(logits, labels)
    base = float(labels.mean())
    # Normalised entropy: log loss over the entropy of the base rate (He et al., ADKDD 2014).
    entropy = -(base * np.log(base) + (1 - base) * np.log1p(-base)) if 0 < base < 1 else None
    metrics: dict[str, float | None] = {
        "auc": auc(logits, labels),
        "pr_auc": average_precision(logits, labels),
        "log_loss": loss,
        "normalised_entropy": loss / float(entropy) if entropy else None,
        "calibration_error": calibration_error(logits, labels),
    }
    return metrics, {name: ONE_CLASS for name, value in metrics.items() if value is None}


def _regression(values: NDArray, labels: NDArray) -> tuple[dict[str, float | None], dict[str, str]]:
    error = values.astype(np.float64) - labels
    variance = float(np.var(labels, dtype=np.float64))
    reasons = {} if variance > 0 else {"r2": CONSTANT, "spearman": CONSTANT}
    spearman = None
    spread = float(np.ptp(values))
    if variance > 0 and not spread:
        reasons["spearman"] = "constant predictions"
    elif variance > 0:
        ranks = midranks(values), midranks(labels)
        spearman = float(np.clip(np.corrcoef(*ranks)[0, 1], -1.0, 1.0))
    metrics: dict[str, float | None] = {
        "r2": 1.0 - float(np.mean(error**2)) / variance if variance > 0 else None,
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "spearman": spearman,
    }
    return metrics, reasons


def order_preserving(scores: NDArray) -> NDArray[np.uint64]:
    """Integers below 2^32 in the order of float32 ``scores`` (finite): equal where these are."""
    scores = np.ascontiguousarray(scores, dtype=np.float32) + np.float32(0.0)  # -0.0 becomes 0.0: they tie
    bits = scores.view(np.uint32)
    # IEEE floats order like integers once negative ones are complemented and positive ones get the sign bit.
    return np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000)).astype(np.uint64)


def _sorted_with_labels(scores: NDArray, labels: NDArray) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Order-preserving integers of float32 scores, ascending, and the 0/1 label that belongs to each."""
    key = order_preserving(scores)
    packed = np.sort((key << np.uint64(1)) | (np.asarray(labels) == 1))
    return packed >> np.uint64(1), packed & np.uint64(1)


def _sigmoid(z: NDArray) -> NDArray:
    return np.exp(-np.logaddexp(0.0, -z))
