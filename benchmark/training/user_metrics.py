"""Ranking metrics per user of one binary task: numpy in, one number per user out, no loop over users.

Only users with rows of both classes are scored; the others (*excluded*) have nothing to rank and are counted. Per user

- ``auc``: area under the ROC curve, ties counted half;
- ``ndcg@k``: DCG of the k highest-scored rows, gain 1 for a positive and discount 1 / log2(1 + rank), over the DCG of
  the best order (Jarvelin & Kekalainen, ACM TOIS 2002);
- ``hr@k``: 1 if one of the k highest-scored rows is positive, else 0;
- ``mrr``: 1 / rank of the first positive.

Rows of a user with equal scores have no order. The last three metrics are then their exact expected values over all
orders of the tied rows, each as likely as the other; so is the AUC with ties counted half.

Over users: ``gauc`` is the mean of ``auc`` weighted by the user's rows (Zhou et al., KDD 2018), ``uauc`` and the rest
are plain means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.training.metrics import order_preserving

K = 10
"""Length of the list that NDCG and hit ratio look at."""
NAMES = ("gauc", "uauc", f"ndcg@{K}", f"hr@{K}", "mrr")
"""The metrics over users, as records name them."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UserScores:
    """Of the U users with both classes: ``codes`` int64 [U] (their group ids), ``rows`` int64 [U] and ``values``
    float64 [U] by metric (``auc`` stands for gauc and uauc); ``excluded`` counts the users with one class."""

    codes: NDArray[np.int64]
    rows: NDArray[np.int64]
    values: dict[str, Floats]
    excluded: int

    def metrics(self) -> dict[str, float | None]:
        """The metrics over users by name (`NAMES`); None where there is no user."""
        if not len(self.codes):
            return dict.fromkeys(NAMES)
        return {name: float(np.average(self._of(name), weights=self._weights(name))) for name in NAMES}

    def influences(self) -> dict[str, Floats]:
        """By metric, one number per user [U] whose squared length is the metric's sampling variance over users.

        Users, not rows, are the draws: rows of one user go together. GAUC is a ratio of two sums over users, so its
        are those of the delta method. Empty below two users.
        """
        users = len(self.codes)
        if users < 2:
            return {}
        found = {}
        for name in NAMES:
            values, weights = self._of(name), self._weights(name)
            deviations = weights * (values - np.average(values, weights=weights)) / weights.mean()
            found[name] = deviations / np.sqrt(users * (users - 1))
        return found

    def _of(self, name: str) -> Floats:
        return self.values["auc" if name in ("gauc", "uauc") else name]

    def _weights(self, name: str) -> Floats:
        return self.rows.astype(np.float64) if name == "gauc" else np.ones(len(self.rows))


def user_scores(scores: NDArray[np.float32], labels: NDArray, groups: NDArray, k: int = K) -> UserScores:
    """Every user's metrics.

    ``scores`` [N] finite, ``labels`` {0, 1} [N], ``groups`` [N] integers from 0 below 2^31, the user of each row. Costs
    one sort of N 64-bit integers: user, score and label packed.
    """
    positive = np.asarray(labels) == 1
    key = (np.uint64(0xFFFFFFFF) - order_preserving(scores)) << np.uint64(1)  # highest score first
    packed = np.sort((groups.astype(np.uint64) << np.uint64(33)) | key | positive)
    user, place = packed >> np.uint64(33), packed >> np.uint64(1)
    positive = (packed & np.uint64(1)).astype(bool)
    first, sizes = _runs(user)
    positives = _sums(positive, first)
    mixed = (positives > 0) & (positives < sizes)
    excluded = int((~mixed).sum())
    kept = np.repeat(mixed, sizes)
    ties, tie_sizes = _runs(place[kept])
    group = _Ties(np.repeat(np.arange(int(mixed.sum())), sizes[mixed]), positive[kept], ties, tie_sizes)
    values = {"auc": group.auc(), f"ndcg@{k}": group.ndcg(k), f"hr@{k}": group.hit(k), "mrr": group.reciprocal()}
    return UserScores(user[first[mixed]].astype(np.int64), sizes[mixed], values, excluded)


class _Ties:
    """Runs of rows of one user with one score, in the order of users and of falling scores.

    ``users`` [N] (0, 1, ... without gaps), ``positive`` bool [N]; ``first`` and ``size`` [T] of each run.
    """

    def __init__(self, users: NDArray, positive: NDArray, first: NDArray, size: NDArray) -> None:
        starts, self.rows = _runs(users)
        self.user, self.size = users[first], size
        self.hits = _sums(positive, first)
        self.before = first - starts[self.user]
        """Rows of the same user with a higher score."""
        total = np.cumsum(self.hits)
        run_starts = np.searchsorted(self.user, np.arange(len(starts)))
        already = np.append(0, total)[run_starts]
        self.hits_before = total - self.hits - already[self.user]
        self.positives = np.bincount(self.user, self.hits, len(starts))

    def auc(self) -> Floats:
        """Share of pairs of a positive and a negative that are in order, ties half."""
        misses, misses_before = self.size - self.hits, self.before - self.hits_before
        lost = self._by_user(self.hits * (misses_before + 0.5 * misses))
        return 1.0 - lost / (self.positives * (self.rows - self.positives))

    def ndcg(self, k: int) -> Floats:
        """Every rank of a run has the same expected gain: the run's share of positives."""
        discounts = np.append(0.0, np.cumsum(1.0 / np.log2(np.arange(2, k + 2))))
        within = discounts[np.minimum(self.before + self.size, k)] - discounts[np.minimum(self.before, k)]
        best = discounts[np.minimum(self.positives, k).astype(np.int64)]
        return self._by_user(self.hits / self.size * within) / best

    def hit(self, k: int) -> Floats:
        """Runs before rank k count whole; of the run across it, the chance that a draw of its first rows has a hit."""
        found = np.minimum(self._by_user(np.where(self.before + self.size <= k, self.hits, 0)), 1.0)
        across = np.flatnonzero((self.before < k) & (self.before + self.size > k) & (self.hits > 0))
        missed = np.exp(
            _log_binomial(self.size[across] - self.hits[across], k - self.before[across])
            - _log_binomial(self.size[across], k - self.before[across])
        )
        user = self.user[across]  # at most one run of a user lies across
        found[user] = np.where(found[user] > 0, 1.0, 1.0 - missed)
        return found

    def reciprocal(self) -> Floats:
        """Of the first run with a positive: over the place j of its first positive, which has chance
        C(m - j, p - 1) / C(m, p) among m rows with p positives."""
        run = np.flatnonzero((self.hits > 0) & (self.hits_before == 0))  # one for every user, in their order
        places = self.size[run] - self.hits[run] + 1
        owner = np.repeat(np.arange(len(run)), places)
        j = np.arange(len(owner)) - np.repeat(np.cumsum(places) - places, places) + 1
        size, hits = self.size[run][owner], self.hits[run][owner]
        chance = np.exp(_log_binomial(size - j, hits - 1) - _log_binomial(size, hits))
        return _summed(owner, chance / (self.before[run][owner] + j), len(run))

    def _by_user(self, amounts: NDArray) -> Floats:
        return _summed(self.user, amounts, len(self.rows))


def _summed(owners: NDArray, amounts: NDArray, size: int) -> Floats:
    """Sum of the amounts of each owner."""
    return np.bincount(owners, amounts, size).astype(np.float64, copy=False)


def _runs(ordered: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First position and length of each run of equal values."""
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ordered) else np.zeros(0, np.int64)
    return first, np.diff(first, append=len(ordered))


def _sums(flags: NDArray, first: NDArray) -> NDArray[np.int64]:
    """How many of each run's flags are set."""
    return np.diff(np.append(0, np.cumsum(flags, dtype=np.int64))[np.append(first, len(flags))])


def _log_binomial(n: NDArray, k: NDArray) -> Floats:
    """log C(n, k); minus infinity where k > n."""
    from scipy.special import gammaln

    inside = k <= n
    least = np.where(inside, k, 0)
    value = gammaln(n + 1.0) - gammaln(least + 1.0) - gammaln(n - least + 1.0)
    return np.where(inside, value, -np.inf)
