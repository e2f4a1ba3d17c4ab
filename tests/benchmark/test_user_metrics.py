"""Per-user metrics against scikit-learn user by user, and against every order of tied rows."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from benchmark.records.row_noise import unfolded, user_noise
from benchmark.training.user_metrics import NAMES, user_scores


def rows(n, users, seed=0, ties=False, rate=0.3):
    generator = np.random.default_rng(seed)
    groups = generator.integers(users, size=n)
    labels = (generator.random(n) < rate).astype(np.float32)
    scores = (generator.normal(size=n) + labels).astype(np.float32)
    return (np.round(scores).astype(np.float32) if ties else scores), labels, groups


def mixed_users(labels, groups):
    return [user for user in np.unique(groups) if len(np.unique(labels[groups == user])) == 2]


def in_every_order(scores, labels, k):
    """Mean NDCG@k, HR@k and reciprocal rank over all orders that the scores allow: plain enumeration."""
    order = np.argsort(-scores, kind="stable")
    runs = [list(run) for _, run in itertools.groupby(order, key=lambda row: scores[row])]
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, int(labels.sum())) + 1))
    found = []
    for parts in itertools.product(*(itertools.permutations(run) for run in runs)):
        hits = [rank for rank, row in enumerate(itertools.chain(*parts), 1) if labels[row]]
        found.append((sum(1 / math.log2(rank + 1) for rank in hits if rank <= k) / best, hits[0] <= k, 1 / hits[0]))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("ties", [False, True])
def test_auc_and_ndcg_equal_scikit_learn_for_every_user(ties):
    scores, labels, groups = rows(4000, 150, ties=ties)
    result = user_scores(scores, labels, groups)
    users = mixed_users(labels, groups)
    assert result.codes.tolist() == users and result.excluded == 150 - len(users)
    for place, user in enumerate(users):
        mine = groups == user
        assert result.rows[place] == mine.sum()
        assert result.values["auc"][place] == pytest.approx(roc_auc_score(labels[mine], scores[mine]), abs=1e-12)
        expected = ndcg_score([labels[mine]], [scores[mine]], k=10)
        assert result.values["ndcg@10"][place] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_ties_give_the_mean_over_every_order_of_the_tied_rows(k):
    generator = np.random.default_rng(k)
    groups = np.repeat(np.arange(60), 6)
    scores = generator.integers(0, 3, size=len(groups)).astype(np.float32)
    labels = (generator.random(len(groups)) < 0.4).astype(np.float32)
    result = user_scores(scores, labels, groups, k)
    for place, user in enumerate(result.codes):
        mine = groups == user
        ndcg, hit, reciprocal = in_every_order(scores[mine], labels[mine], k)
        assert result.values[f"ndcg@{k}"][place] == pytest.approx(ndcg, abs=1e-12)
        assert result.values[f"hr@{k}"][place] == pytest.approx(hit, abs=1e-12)
        assert result.values["mrr"][place] == pytest.approx(reciprocal, abs=1e-12)


def test_the_order_of_rows_changes_nothing():
    scores, labels, groups = rows(2000, 50, ties=True)
    order = np.random.default_rng(5).permutation(len(scores))
    assert (
        user_scores(scores[order], labels[order], groups[order]).metrics()
        == user_scores(scores, labels, groups).metrics()
    )


def test_gauc_weighs_users_by_their_rows_and_uauc_does_not():
    scores = np.array([2, 1, 1, 2, 0, 0, 9, 9], np.float32)  # user 0 in order, user 1 reversed, user 2 of one class
    labels = np.array([1, 0, 1, 0, 0, 0, 1, 1], np.float32)
    metrics = user_scores(scores, labels, np.array([0, 0, 1, 1, 1, 1, 2, 2])).metrics()
    second = 1 - (1 * 1) / (1 * 3)
    assert metrics["gauc"] == pytest.approx((2 * 1 + 4 * second) / 6)
    assert metrics["uauc"] == pytest.approx((1 + second) / 2)
    assert metrics["mrr"] == pytest.approx((1 + 1 / 2) / 2) and metrics["hr@10"] == 1.0


@pytest.mark.parametrize("labels", [np.zeros(6), np.ones(6), np.zeros(0)])
def test_without_a_user_of_both_classes_there_is_no_number(labels):
    result = user_scores(np.arange(len(labels), dtype=np.float32), labels, np.arange(len(labels)) // 2)
    assert result.metrics() == dict.fromkeys(NAMES) and not result.influences()
    assert result.excluded == len(labels) // 2


def test_intervals_over_users_hold_what_they_promise():
    """Users differ in ability and rows of a user go together. Over repeated draws of users, two models' difference has
    the spread that the folded influences of one draw say, and an interval from it covers the truth."""
    generator = np.random.default_rng(1)
    differences, errors = {name: [] for name in NAMES}, {name: [] for name in NAMES}
    for _ in range(200):
        users = 400
        sizes = generator.integers(4, 30, size=users)
        groups = np.repeat(np.arange(users), sizes)
        skill, taste = generator.normal(1, 0.7, users)[groups], generator.normal(-1, 1, users)[groups]
        latent = generator.normal(size=len(groups))
        labels = (latent + taste + generator.normal(size=len(groups)) > 0).astype(np.float32)
        first, second = (
            (skill * latent + noise * generator.normal(size=len(groups))).astype(np.float32) for noise in (1.0, 1.3)
        )
        results = [user_scores(scores, labels, groups) for scores in (first, second)]
        folded = [user_noise(result.influences(), result.codes, "") for result in results]
        for name in NAMES:
            differences[name].append(results[0].metrics()[name] - results[1].metrics()[name])
            errors[name].append(float(np.linalg.norm(unfolded(folded[0][name]) - unfolded(folded[1][name]))))
    for name in NAMES:
        spread, error = np.std(differences[name]), np.array(errors[name])
        assert error.mean() == pytest.approx(spread, rel=0.15), name
        covered = np.abs(np.array(differences[name]) - np.mean(differences[name])) < 1.96 * error
        assert 0.90 <= covered.mean() <= 0.99, name
