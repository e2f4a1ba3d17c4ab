"""Do the intervals cover and the tests stay silent as often as they promise? By simulation, seeds fixed.

Scores are drawn as over seeds: a level, a share common to all methods at one seed, and each method's own noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from benchmark.analysis import stats
from benchmark.analysis.groups import Sample
from benchmark.records.row_noise import row_noise, unfolded
from benchmark.training.metrics import auc

COVERAGE = (0.93, 0.97)
FALSE_ALARMS = 0.06


def rate(found: Callable[[np.random.Generator], bool], repeats: int, seed: int) -> float:
    generator = np.random.default_rng(seed)
    return sum(found(generator) for _ in range(repeats)) / repeats


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
def test_the_interval_over_seeds_covers_95_percent(n: int) -> None:
    def covers(generator: np.random.Generator) -> bool:
        interval = stats.t_interval(generator.normal(0.9, 0.004, n).tolist())
        return abs(interval.mean - 0.9) <= interval.half_width

    assert COVERAGE[0] <= rate(covers, 4000, seed=n) <= COVERAGE[1]


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_paired_test_is_silent_when_nothing_differs(n: int) -> None:
    def alarm(generator: np.random.Generator) -> bool:
        common = generator.normal(0, 0.01, n)
        first, second = (common + generator.normal(0, 0.003, n) for _ in range(2))
        return stats.t_test((first - second).tolist()) < stats.ALPHA

    assert rate(alarm, 4000, seed=n) <= FALSE_ALARMS


def test_holm_keeps_the_family_at_5_percent_and_without_it_the_family_would_not_be() -> None:
    def family(generator: np.random.Generator) -> list[float | None]:
        reference = generator.normal(0, 0.003, 5)
        return [stats.t_test((generator.normal(0, 0.003, 5) - reference).tolist()) for _ in range(8)]

    adjusted = rate(lambda g: min(stats.holm(family(g))) < stats.ALPHA, 1500, seed=1)
    assert adjusted <= FALSE_ALARMS
    assert rate(lambda g: min(family(g)) < stats.ALPHA, 1500, seed=1) > 0.1  # the simulation can see an alarm


def test_the_detectable_difference_is_found_as_often_as_promised() -> None:
    difference = stats.detectable_difference(0.004, 5)

    def found(generator: np.random.Generator) -> bool:
        return stats.t_test(generator.normal(difference, 0.004, 5).tolist()) < stats.ALPHA

    assert rate(found, 4000, seed=1) == pytest.approx(0.8, abs=0.02)


def simulated_aucs(generator: np.random.Generator, rows: int, shift: float) -> stats.AucDifference:
    """Two models of equal noise; the second one's signal is weaker by ``shift``."""
    labels = (np.arange(rows) < rows // 5).astype(np.float32)
    common = generator.normal(size=rows)
    scores = [common + generator.normal(size=rows) + signal * labels for signal in (1.0, 1.0 - shift)]
    return stats.delong(*(stats.placements(score, labels) for score in scores))


def test_delong_is_silent_for_equal_models_and_its_interval_covers() -> None:
    assert rate(lambda g: simulated_aucs(g, 300, 0.0).p < stats.ALPHA, 2500, seed=1) <= FALSE_ALARMS
    from scipy.stats import norm

    # AUC of two normals of variance 2: Phi(signal / 2).
    truth = norm.cdf(1.0 / 2) - norm.cdf(0.6 / 2)

    def covers(generator: np.random.Generator) -> bool:
        found = simulated_aucs(generator, 300, 0.4)
        return abs(found.difference - truth) <= 1.96 * found.standard_error

    assert COVERAGE[0] <= rate(covers, 2500, seed=2) <= COVERAGE[1]


def test_delong_of_seed_averages_covers() -> None:
    from scipy.stats import norm

    truth = norm.cdf(1.0 / np.sqrt(2 * 2)) - norm.cdf(0.8 / np.sqrt(2 * 2))

    def covers(generator: np.random.Generator) -> bool:
        labels = (np.arange(300) < 60).astype(np.float32)
        common = generator.normal(size=300)
        means = [
            stats.average_placements(
                [stats.placements(common + generator.normal(size=300) + signal * labels, labels) for _ in range(3)]
            )
            for signal in (1.0, 0.8)
        ]
        found = stats.delong(*means)
        return abs(found.difference - truth) <= 1.96 * found.standard_error

    assert COVERAGE[0] <= rate(covers, 1500, seed=3) <= COVERAGE[1]


@pytest.mark.parametrize("datasets", [7, 10])  # three comparisons need seven
def test_nothing_is_claimed_across_datasets_when_methods_are_alike(datasets: int) -> None:
    friedman = wilcoxon = bayes = 0
    repeats = 400
    generator = np.random.default_rng(datasets)
    for _ in range(repeats):
        levels = generator.uniform(0.6, 0.9, datasets)
        table = {name: (levels + generator.normal(0, 0.004, datasets)).tolist() for name in "abcd"}
        found = stats.across_datasets(table, "a")
        assert found.friedman is not None and None not in found.wilcoxon.values()
        friedman += found.friedman < stats.ALPHA
        wilcoxon += any(p is not None and p < stats.ALPHA for p in found.wilcoxon.values())
        differences = [x - y for x, y in zip(table["b"], table["a"], strict=True)]
        bayes += stats.bayesian_signed_rank(differences, 0.001, generator, draws=500).decided in ("worse", "better")
    assert friedman / repeats <= FALSE_ALARMS
    assert wilcoxon / repeats <= FALSE_ALARMS
    assert bayes / repeats <= FALSE_ALARMS


def test_a_method_against_itself_under_other_seeds_stays_silent() -> None:
    """A/A: six comparisons of one method with itself, other seeds on either side, as one family."""

    def alarm(generator: np.random.Generator) -> bool:
        runs = generator.normal(0.86, 0.004, (7, 5))
        p_values = stats.holm([stats.t_test((other - runs[0]).tolist()) for other in runs[1:]])
        return min(p_values) < stats.ALPHA

    assert rate(alarm, 1500, seed=9) <= FALSE_ALARMS


# ---- seeds and test rows together --------------------------------------------------------------------------------

NOISE = {"balanced": 1.0, "row-dominated": 20.0, "mostly rows": 4.0, "mostly seeds": 0.1, "seed-dominated": 0.01}
"""Variance over rows as a multiple of what the seeds leave in the mean."""


def crossed_studies(
    seeds: int, ratio: float, effect: float, repeats: int, stream: int
) -> list[tuple[list[float], float]]:
    """Differences over seeds that share one draw of test rows, and the covariance over rows that is estimated for
    them from 512 buckets. ``effect`` in standard errors of the mean."""
    generator = np.random.default_rng(stream)
    rows = math.sqrt(ratio / seeds)
    shift = effect * math.sqrt(ratio / seeds + 1 / seeds)
    values = shift + rows * generator.normal(size=(repeats, 1)) + generator.normal(size=(repeats, seeds))
    known = rows**2 * generator.chisquare(512, repeats) / 512
    return list(zip(values.tolist(), known.tolist(), strict=True))


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_the_crossed_test_raises_4_to_6_percent_false_alarms_and_its_interval_covers(seeds: int, noise: str) -> None:
    found = [stats.crossed(*study) for study in crossed_studies(seeds, NOISE[noise], 0.0, 5000, stream=seeds)]
    alarms = np.mean([estimate.p() < stats.ALPHA for estimate in found])
    covered = np.mean([abs(estimate.mean) <= estimate.half_width() for estimate in found[:1000]])
    assert 0.04 <= alarms <= 0.06
    assert COVERAGE[0] <= covered <= COVERAGE[1]
    # In a family of eight, where Student's tails would count most, the level holds for the family.
    assert np.mean([estimate.p(8) < stats.ALPHA for estimate in found]) <= 2 * stats.ALPHA / 8


@pytest.mark.parametrize("noise", ["balanced", "mostly seeds"])
def test_the_detectable_difference_of_a_crossed_test_is_found_as_often_as_promised(noise: str) -> None:
    expected = stats.crossed_error(1.0, 5, NOISE[noise] / 5)
    effect = expected.detectable(3) / expected.error
    studies = crossed_studies(5, NOISE[noise], effect, 3000, stream=1)
    assert np.mean([stats.crossed(*study).p(3) < stats.ALPHA for study in studies]) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_harm_below_the_margin_is_not_claimed_at_the_margin(seeds: int) -> None:
    """A true loss of the margin itself: its bound lies below the margin in 2.5 % of studies, not in 40 %."""
    for ratio in NOISE.values():
        found = [stats.crossed(*study) for study in crossed_studies(seeds, ratio, 0.0, 2000, stream=7)]
        assert np.mean([estimate.mean + estimate.half_width() < 0.0 for estimate in found]) <= 0.035


def test_a_t_test_over_seeds_alone_would_cry_wolf_where_rows_dominate() -> None:
    """What the crossed estimate is for: the same studies without the rows."""
    found = [stats.crossed(values) for values, _ in crossed_studies(5, 4.0, 0.0, 1000, stream=2)]
    assert np.mean([estimate.p() < stats.ALPHA for estimate in found]) > 0.2


def test_real_aucs_under_crossed_noise_raise_no_more_alarms_than_promised() -> None:
    """From scores of rows to the verdict: influences, folding, covariance between seeds, test."""
    generator = np.random.default_rng(11)
    rows, seeds, repeats = 600, 3, 700
    labels = (np.arange(rows) < 150).astype(np.float32)
    alarms = 0
    for _ in range(repeats):
        common = generator.normal(size=rows)
        own = 0.6 * generator.normal(size=(2, rows))  # what each method gets right or wrong on every seed
        level = 1.0 + 0.04 * generator.normal(size=(2, seeds))  # seeds of different luck
        samples = []
        for method in range(2):
            aucs, vectors = {}, {}
            for seed in range(seeds):
                scores = level[method, seed] * labels + common + own[method] + 0.3 * generator.normal(size=rows)
                noise = row_noise("binary", scores, labels)
                aucs[seed], vectors[seed] = auc(scores.astype(np.float32), labels), unfolded(noise)
            samples.append(Sample(aucs, rows=vectors, score=True))
        alarms += samples[0].combine(samples[1], lambda a, b: a - b).estimate().p() < stats.ALPHA
    assert 0.03 <= alarms / repeats <= 0.065


# ---- where no interval holds -------------------------------------------------------------------------------------


def test_collapsed_seeds_are_flagged_and_without_the_flag_the_interval_would_fail() -> None:
    generator = np.random.default_rng(3)
    flagged = healthy = silent = 0
    for _ in range(3000):
        collapsed = generator.random(5) < 0.1
        values = (0.9 + 0.002 * generator.normal(size=5) - collapsed * generator.uniform(0.1, 0.4, 5)).tolist()
        found = stats.unstable(values)
        flagged += found and collapsed.any()
        silent += collapsed.any() and not found and not collapsed.all()
        healthy += found and not collapsed.any()
    assert silent == 0 and flagged > 1000
    assert healthy / 3000 < 0.03  # a flag means something


def test_skewed_seeds_are_flagged_once_there_are_enough_to_see_it() -> None:
    generator = np.random.default_rng(4)
    skewed = [generator.lognormal(0.0, 1.0, 20) * 0.001 for _ in range(600)]
    truth = 0.001 * math.exp(0.5)
    intervals = [stats.t_interval(values.tolist()) for values in skewed]
    missed = [abs(found.mean - truth) > found.half_width for found in intervals]
    assert np.mean(missed) > 0.07  # here an interval of 95 % does not hold ...
    assert np.mean([stats.unstable(values.tolist()) for values in skewed]) > 0.85  # ... and the cell says so
    normal = [generator.normal(0.9, 0.001, 20).tolist() for _ in range(600)]
    assert np.mean([stats.unstable(values) for values in normal]) < 0.04
