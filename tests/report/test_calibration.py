"""Do the intervals cover and the tests stay silent as often as they promise? By simulation, seeds fixed.

Scores are drawn as over seeds: a level, a share common to all methods at one seed, and each method's own noise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmark.report import stats

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


@pytest.mark.parametrize("n", [3, 5, 10])
def test_equivalence_is_not_claimed_at_the_margin(n: int) -> None:
    def claims(generator: np.random.Generator) -> bool:
        return stats.equivalence_test(generator.normal(0.001, 0.0005, n).tolist(), 0.001) < stats.ALPHA

    assert rate(claims, 4000, seed=n) <= FALSE_ALARMS


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


@pytest.mark.parametrize("datasets", [6, 10])
def test_nothing_is_claimed_across_datasets_when_methods_are_alike(datasets: int) -> None:
    friedman = wilcoxon = bayes = 0
    repeats = 400
    generator = np.random.default_rng(datasets)
    for _ in range(repeats):
        levels = generator.uniform(0.6, 0.9, datasets)
        table = {name: (levels + generator.normal(0, 0.004, datasets)).tolist() for name in "abcd"}
        found = stats.across_datasets(table, "a")
        friedman += found.friedman < stats.ALPHA
        wilcoxon += any(p < stats.ALPHA for p in found.wilcoxon.values())
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
