"""What a record keeps about its test rows: how much each of them moves the score, in 512 numbers.

The sampling variance of a score over test rows is the squared length of a vector with one entry per row, its influence
on the score (for the AUC these are DeLong's placements). Vectors of several runs on the same rows give every
covariance, and the vector of a difference of scores is the difference of the vectors. A million rows are too many to
keep, so they are folded: each row goes to one of 512 buckets with a random sign that depends on its place alone
(count sketch: Charikar, Chen & Farach-Colton, ICALP 2002). Folding is linear and keeps lengths and inner products in
expectation; a standard error from 512 buckets has itself a relative error of about 3 %.

So every difference between any runs on the same rows has its row noise from the records alone, without predictions.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmark.records.record import ROW_BUCKETS, RowNoise

if TYPE_CHECKING:  # reading a record needs no numpy
    import numpy as np
    from numpy.typing import NDArray


def row_noise(kind: str, predictions: NDArray, labels: NDArray) -> RowNoise | None:
    """The folded influences of a task's primary score; None where the score, or its variance, is undefined.

    ``kind`` "binary": AUC of the logits ``predictions`` [N]; "regression": R² of the values. ``labels`` [N] with NaN
    where undefined; both in the order of the test rows that all runs share.
    """
    import numpy as np

    labels = np.ascontiguousarray(labels, dtype="<f4")
    known = ~np.isnan(labels)
    if not np.isfinite(predictions[known]).all():
        return None
    influences = (r2_influences if kind == "regression" else auc_influences)(predictions[known], labels[known])
    return None if influences is None else _packed(influences, np.flatnonzero(known), fingerprint(labels))


def user_noise(influences: Mapping[str, NDArray], users: NDArray, rows: str) -> dict[str, RowNoise]:
    """The folded influences of ``users`` [U] (their ids among the test rows) on each metric per user, by its name.

    Rows of one user are no separate draws: the users are, so the noise of a metric is taken over them. ``rows`` is the
    `fingerprint` of labels and users of the test rows.
    """
    return {name: _packed(of_users, users, rows) for name, of_users in influences.items()}


def fingerprint(labels: NDArray, groups: NDArray | None = None) -> str:
    """Of the labels [N] of the test rows in order, and of their users [N]."""
    import numpy as np

    digest = hashlib.blake2b(np.ascontiguousarray(labels, dtype="<f4").tobytes(), digest_size=8)
    if groups is not None:
        digest.update(np.ascontiguousarray(groups, dtype="<u4").tobytes())
    return digest.hexdigest()


def _packed(influences: NDArray, places: NDArray, labels: str) -> RowNoise:
    import numpy as np

    folded = fold(influences, places)
    scale = float(np.abs(folded).max())
    packed = (folded / scale if scale else folded).astype("<f2").tobytes()
    return RowNoise(labels=labels, scale=scale, sketch=base64.b64encode(packed).decode())


def unfolded(noise: RowNoise) -> NDArray[np.float64]:
    """The vector [512] of a record. Inner products of two runs' vectors are covariances of their scores."""
    import numpy as np

    return noise.scale * np.frombuffer(base64.b64decode(noise.sketch), dtype="<f2").astype(np.float64)


def auc_influences(scores: NDArray, labels: NDArray) -> NDArray[np.float64] | None:
    """Influences whose squared length is DeLong's variance of the AUC; None below two rows of either class.

    DeLong, DeLong & Clarke-Pearson, Biometrics 1988; placements by midranks (Sun & Xu, IEEE SPL 2014).
    """
    import numpy as np

    positive = labels == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2:
        return None
    ranks, found = midranks(scores), np.empty(len(scores))
    above = (ranks[positive] - midranks(scores[positive])) / n
    below = 1.0 - (ranks[~positive] - midranks(scores[~positive])) / m
    found[positive] = (above - above.mean()) / np.sqrt(m * (m - 1))
    found[~positive] = (below - below.mean()) / np.sqrt(n * (n - 1))
    return found


def r2_influences(values: NDArray, labels: NDArray) -> NDArray[np.float64] | None:
    """Influences on R² = 1 - MSE / variance of the labels, by the delta method; None if the labels are constant."""
    import numpy as np

    truth = labels.astype(np.float64)
    errors, spread = (values.astype(np.float64) - truth) ** 2, (truth - truth.mean()) ** 2
    if len(truth) < 2 or not spread.any():
        return None
    raw = -errors / spread.mean() + errors.mean() / spread.mean() ** 2 * spread
    return (raw - raw.mean()) / np.sqrt(len(raw) * (len(raw) - 1))


def fold(influences: NDArray, places: NDArray) -> NDArray[np.float64]:
    """Sum of the influences in each bucket, signed. Bucket and sign are a hash of a row's place among the test rows."""
    import numpy as np

    mixed = places.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)  # Steele, Lea & Flood's SplitMix64, OOPSLA 2014
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    signs: NDArray[np.float64] = np.where(mixed >> np.uint64(63), -1.0, 1.0)
    # With weights its result is of floats, which its stub does not say.
    return np.bincount(  # type: ignore[return-value]
        (mixed % np.uint64(ROW_BUCKETS)).astype(np.int64), signs * influences, ROW_BUCKETS
    )


def midranks(values: NDArray) -> NDArray[np.float64]:
    """Ranks from 1; ties share their mean."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(starts, append=len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (sizes + 1) / 2, sizes)
    return ranks
