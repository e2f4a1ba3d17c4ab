"""Every test against an independent oracle, and every limit case by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score

from benchmark.analysis import stats

VALUES = [0.9412, 0.9387, 0.9431, 0.9405, 0.9398]
DIFFERENCES = [0.0012, -0.0004, 0.0031, 0.0009, 0.0017, 0.0022]


def test_t_interval_matches_scipy() -> None:
    interval = stats.t_interval(VALUES)
    low, high = scipy_stats.t.interval(0.95, 4, np.mean(VALUES), scipy_stats.sem(VALUES))
    assert interval.n == 5
    assert interval.mean - interval.half_width == pytest.approx(low, abs=1e-14)
    assert interval.mean + interval.half_width == pytest.approx(high, abs=1e-14)


def test_one_value_has_no_interval_and_equal_values_an_interval_of_zero() -> None:
    assert stats.t_interval([0.5]) == stats.Interval(0.5, None, 1)
    assert stats.t_interval([0.1 + 0.2] * 3).half_width == 0.0
    with pytest.raises(ValueError, match="code"):
        stats.t_interval([])


def test_paired_t_test_matches_scipy() -> None:
    assert stats.t_test(DIFFERENCES) == pytest.approx(scipy_stats.ttest_1samp(DIFFERENCES, 0).pvalue, rel=1e-10)


def test_tests_without_spread_take_the_limit() -> None:
    assert stats.t_test([0.0, 0.0, 0.0]) == 1.0
    assert stats.t_test([0.1, 0.1, 0.1]) == 0.0
    assert stats.t_test([0.1]) is None


def test_holm_matches_statsmodels_and_skips_what_was_not_tested() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = [0.04, 0.001, 0.03, 0.5, 0.01, 0.03]
    assert stats.holm(p_values) == pytest.approx(multitest.multipletests(p_values, method="holm")[1])
    assert stats.holm([0.02, None, 0.03]) == [0.04, None, 0.04]
    assert stats.holm([]) == []


@pytest.mark.parametrize(("p", "expected"), [(None, ""), (0.05, ""), (0.049, "*"), (0.01, "*"), (0.0099, "**"),
                                             (0.0009, "***"), (0.0, "***")])  # fmt: skip
def test_stars(p: float | None, expected: str) -> None:
    assert stats.stars(p) == expected


@pytest.mark.parametrize("n", [3, 5, 20, 100])
def test_detectable_difference_matches_statsmodels(n: int) -> None:
    power = pytest.importorskip("statsmodels.stats.power")
    found = stats.detectable_difference(1.0, n)
    # The oracle's solver is the weaker side, so its power function is asked instead; at n = 2 that gives up as well.
    assert power.TTestPower().power(found, n, 0.05) == pytest.approx(0.8, abs=1e-6)
    assert stats.detectable_difference(0.004, n) == pytest.approx(0.004 * found)
    assert stats.detectable_difference(1.0, 1) is None


def made_scores(seed: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = (generator.random(rows) < 0.2).astype(np.float32)
    common = generator.normal(size=rows) + labels
    first = (common + 0.5 * generator.normal(size=rows)).round(1).astype(np.float32)  # rounded: many ties
    second = (common + 0.7 * generator.normal(size=rows)).astype(np.float32)
    return first, second, labels


def slow_placements(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's V10 and V01 from their definition, pair by pair."""
    x, y = scores[labels == 1], scores[labels == 0]
    kernel = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    return kernel.mean(axis=1), kernel.mean(axis=0)


def test_placements_match_their_definition_with_ties() -> None:
    first, _, labels = made_scores(1)
    found = stats.placements(first, labels)
    above, below = slow_placements(first, labels)
    np.testing.assert_allclose(found.positives, above, atol=1e-12)
    np.testing.assert_allclose(found.negatives, below, atol=1e-12)
    assert found.auc == pytest.approx(roc_auc_score(labels, first), abs=1e-12)


def test_delong_matches_its_definition_and_a_bootstrap() -> None:
    first, second, labels = made_scores(2)
    found = stats.delong(stats.placements(first, labels), stats.placements(second, labels))
    (a10, a01), (b10, b01) = slow_placements(first, labels), slow_placements(second, labels)
    variance = sum(np.cov(a, b)[[0, 1, 0], [0, 1, 1]] @ [1, 1, -2] / len(a) for a, b in ((a10, b10), (a01, b01)))
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-10)
    assert found.p == pytest.approx(2 * scipy_stats.norm.sf(abs(found.difference) / found.standard_error), rel=1e-9)
    generator = np.random.default_rng(3)
    positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    resampled = []
    for _ in range(600):
        rows = np.concatenate([generator.choice(own, len(own)) for own in (positives, negatives)])
        resampled.append(
            stats.placements(first[rows], labels[rows]).auc - stats.placements(second[rows], labels[rows]).auc
        )
    assert found.standard_error == pytest.approx(np.std(resampled, ddof=1), rel=0.12)


def test_delong_of_a_model_with_itself_and_undefined_cases() -> None:
    first, second, labels = made_scores(4)
    same = stats.placements(first, labels)
    assert stats.delong(same, same) == stats.AucDifference(0.0, 0.0, 1.0)
    assert stats.placements(first, np.zeros_like(labels)) is None
    assert stats.placements(np.full_like(first, np.nan), labels) is None
    with_gaps = labels.copy()
    with_gaps[::3] = np.nan
    known = ~np.isnan(with_gaps)
    assert stats.placements(second, with_gaps).auc == stats.placements(second[known], labels[known]).auc


def test_average_over_seeds_has_the_mean_auc_and_less_row_noise_than_its_members() -> None:
    first, second, labels = made_scores(5)
    members = [stats.placements(first, labels), stats.placements(second, labels)]
    together = stats.average_placements(members)
    assert together.auc == pytest.approx((members[0].auc + members[1].auc) / 2)
    assert together.positives.mean() == pytest.approx(together.auc)


def test_signed_rank_is_exact_with_and_without_ties() -> None:
    assert stats.signed_rank_test(DIFFERENCES) == pytest.approx(
        scipy_stats.wilcoxon(DIFFERENCES, method="exact").pvalue
    )
    # By hand: six positive differences of one size; only the two extreme sign patterns of 2**6 are as far out.
    assert stats.signed_rank_test([1.0] * 6) == pytest.approx(2 / 64)
    assert stats.signed_rank_test([0.0] * 6) == 1.0
    # The counting path agrees with scipy's where both apply.
    assert stats._exact_signed_rank(DIFFERENCES) == pytest.approx(stats.signed_rank_test(DIFFERENCES))


def test_five_datasets_claim_nothing_and_six_may() -> None:
    five = {"a": [0.7, 0.8, 0.6, 0.9, 0.5], "b": [0.6, 0.7, 0.5, 0.8, 0.4], "c": [0.65, 0.6, 0.4, 0.7, 0.3]}
    found = stats.across_datasets(five, "b")
    assert (found.friedman, found.critical_difference, found.wilcoxon) == (None, None, {"a": None, "c": None})
    assert found.wins == {"a": 5, "b": 0, "c": 0}
    assert found.worst["a"] == pytest.approx(0.1)
    assert found.worst["c"] == pytest.approx(-0.1)
    assert found.ranks == pytest.approx({"a": 1.0, "b": 2.2, "c": 2.8})
    six = {name: [*values, 0.5 - 0.1 * place] for place, (name, values) in enumerate(five.items())}
    found = stats.across_datasets(six, "b")
    assert found.friedman == pytest.approx(scipy_stats.friedmanchisquare(*six.values()).pvalue)
    assert found.wilcoxon == {"a": None, "c": None}  # with two comparisons six datasets cannot reach p < .05
    pair = stats.across_datasets({name: six[name] for name in "ab"}, "b")
    assert pair.wilcoxon["a"] == pytest.approx(2 / 2**6)
    assert [stats.datasets_needed(comparisons) for comparisons in (1, 2, 11)] == [6, 7, 9]
    assert stats.bayesian_signed_rank([0.01] * 5, 0.001, np.random.default_rng(0)) is None


@pytest.mark.parametrize(("methods", "expected"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_critical_difference_matches_demsars_table(methods: int, expected: float) -> None:
    # Demšar 2006, table 5(a): q values already divided by sqrt(2).
    found = stats.critical_difference(methods, 10) / math.sqrt(methods * (methods + 1) / 60)
    assert found == pytest.approx(expected, abs=2e-3)


def test_bayesian_signed_rank_matches_baycomp() -> None:
    baycomp = pytest.importorskip("baycomp")
    generator = np.random.default_rng(7)
    for shift in (0.0, 0.003, 0.01):
        first, second = generator.normal(0.8 + shift, 0.01, 12), generator.normal(0.8, 0.01, 12)
        found = stats.bayesian_signed_rank((first - second).tolist(), 0.002, np.random.default_rng(1))
        better, alike, worse = baycomp.SignedRankTest.probs(first, second, rope=0.002, nsamples=20_000)
        assert (found.worse, found.alike, found.better) == pytest.approx((worse, alike, better), abs=0.03)
