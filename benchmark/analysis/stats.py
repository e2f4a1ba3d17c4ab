"""Intervals and tests. Numbers in, numbers out; nothing here knows records or tables.

Whatever needs random draws takes a generator. Every p-value is two-sided unless its function says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from benchmark.core.ranks import midranks

if TYPE_CHECKING:  # imported where used: a table without DeLong or a p-value needs neither
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.8
FEWEST_DATASETS = 6
"""Below this many datasets nothing is claimed over datasets: the exact Wilcoxon test of five pairs cannot go below
p = .0625, and treating dataset x seed cells as independent gave 27 % false alarms in a simulation."""

DECISION = 0.98
"""Posterior from which the Bayesian test decides. With the usual .95 it found a difference between equal methods in
9 to 13 % of simulations (two directions, 5 % each); with .98 in 4 to 5 %, for 6 to 20 datasets."""


# ---- over seeds --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """Mean of n values and the half-width of its interval; None below two values, where there is no spread."""

    mean: float
    half_width: float | None
    n: int


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student-t interval of the mean: mean ± t_{(1 + level) / 2, n - 1} s / sqrt(n).

    Student, Biometrika 1908. Used for values over seeds: a percentile bootstrap of five values covers 84 % instead of
    95 %.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values: a cell without values has a code, not an interval")
    if n == 1:
        return Interval(mean(values), None, 1)
    return Interval(mean(values), t_quantile((1 + level) / 2, n - 1) * standard_deviation(values) / math.sqrt(n), n)


def mean(values: Sequence[float]) -> float:
    """Exactly rounded sum, so that the order of seeds changes no bit."""
    return math.fsum(values) / len(values)


def standard_deviation(values: Sequence[float]) -> float:
    """Sample standard deviation, n - 1 in the denominator. Exactly 0 where all values are equal."""
    if min(values) == max(values):
        return 0.0  # the mean of equal floats may differ from them in the last bit
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def t_test(differences: Sequence[float]) -> float | None:
    """p of the one-sample Student t-test of mean 0: the paired test, given the differences of pairs.

    None below two pairs. Without any spread the limit is taken: 1 if all differences are 0, else 0.
    """
    t = _t_statistic(differences, 0.0)
    return None if t is None else min(1.0, 2 * _t_upper_tail(abs(t), len(differences) - 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the family of the given p-values; None (no test) stays None and counts not.

    Holm, Scandinavian Journal of Statistics 1979. Controls the chance of any false alarm in the family.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = largest
    return adjusted


def stars(p: float | None) -> str:
    """The usual shorthand: *** below .001, ** below .01, * below .05, else nothing."""
    return "" if p is None else "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < ALPHA else ""


def detectable_difference(deviation: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """Smallest true mean difference that a paired t-test over n seeds finds with the given power.

    ``deviation``: standard deviation of the paired differences. Cohen, Statistical Power Analysis, 1988, by the
    noncentral t distribution. None below two seeds.
    """
    return None if n < 2 else deviation / math.sqrt(n) * _detectable_effect(n - 1, alpha, power)


@lru_cache(maxsize=1024)
def _detectable_effect(degrees: int, alpha: float, power: float, weight: float = 1.0) -> float:
    """The true difference in standard errors that a two-sided test finds with that power; see `Estimate`."""
    from scipy import optimize, special

    critical = _mixed_quantile(alpha / 2, degrees, weight)

    def lacking(effect: float) -> float:  # t squared is F, and the two-sided test asks for t squared
        student = 1 - float(special.ncfdtr(1, degrees, effect**2, critical**2))
        normal = float(special.ndtr(effect - critical) + special.ndtr(-effect - critical))
        return power - (weight * student + (1 - weight) * normal)

    high = 0.01
    while lacking(high) > 0:  # not from a large value down: far out the distribution function overflows
        high *= 2
    return float(optimize.brentq(lacking, high / 2, high, xtol=1e-12))


def _t_statistic(values: Sequence[float], centre: float) -> float | None:
    if len(values) < 2:
        return None
    distance = mean(values) - centre
    error = standard_deviation(values) / math.sqrt(len(values))
    if error == 0.0:
        return 0.0 if distance == 0.0 else math.copysign(math.inf, distance)
    return distance / error


def _t_upper_tail(t: float, degrees: int) -> float:
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    from scipy import special

    return float(special.stdtr(degrees, -t))


@lru_cache(maxsize=4096)
def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution. Cached: a table asks for the same few thousands of times."""
    from scipy import special

    return float(special.stdtrit(degrees, probability))


# ---- over seeds and test rows together ---------------------------------------------------------------------------

SEED_WEIGHT = 1.35
"""Exponent of the seeds' share of the variance as the weight of Student's distribution in `Estimate`. Chosen by
simulation (tests/report/test_calibration.py): with Hillis' degrees of freedom, a Satterthwaite approximation, false
alarms rise to 7.8 % with three seeds whose noise is mostly that of seeds, and to four times the level in families."""


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds whose uncertainty comes from seeds and, where ``row_error`` is known, test rows.

    ``error``: its standard error, ``seed_error`` and ``row_error`` the parts due to seeds and to rows (None: not
    known, then the interval says nothing about other rows). mean / error follows Student's distribution with n - 1
    degrees of freedom where all noise is that of seeds and the normal one where all is that of rows; between them the
    tails are mixed with ``weight`` for Student's.
    """

    mean: float
    n: int
    error: float
    weight: float
    seed_error: float
    row_error: float | None

    def half_width(self, comparisons: int = 1, level: float = LEVEL) -> float:
        """Of the two-sided interval; with several comparisons all of them cover together (Bonferroni)."""
        return self.error * self._critical((1 - level) / comparisons) if self.error else 0.0

    def p(self, comparisons: int = 1) -> float:
        """Two-sided, adjusted for the comparisons: below .05 exactly if the 95 % interval for as many leaves 0 out."""
        if self.error == 0.0:
            return 1.0 if self.mean == 0.0 else 0.0
        return min(1.0, comparisons * 2 * _mixed_tail(abs(self.mean) / self.error, self.n - 1, self.weight))

    def detectable(self, comparisons: int = 1, power: float = POWER) -> float:
        """Smallest true difference that this very test finds with the given power: same error, reference, family."""
        return self.error * _detectable_effect(self.n - 1, ALPHA / comparisons, power, self.weight)

    def _critical(self, alpha: float) -> float:
        return _mixed_quantile(alpha / 2, self.n - 1, self.weight)


def crossed(values: Sequence[float], row_covariance: float | None = None) -> Estimate | None:
    """Estimate of the mean of values over seeds that all rest on the same test rows; None below two values.

    Seeds and rows are crossed random effects, as readers and cases are in diagnostic studies (Obuchowski & Rockette,
    Communications in Statistics 1995; Hillis, Statistics in Medicine 2007). ``row_covariance`` is the covariance over
    rows between the values of two different seeds: what no number of seeds takes away. With s² the variance over
    seeds, error² = s²/n + max(row_covariance, 0).
    """
    if len(values) < 2:
        return None
    found = crossed_error(standard_deviation(values) ** 2, len(values), row_covariance)
    return replace(found, mean=mean(values))


def crossed_error(spread: float, n: int, row_covariance: float | None) -> Estimate:
    """`crossed` for a mean of 0, from the variance ``spread`` over n seeds: also for seeds that were never run."""
    over_seeds, over_rows = spread / n, max(row_covariance or 0.0, 0.0)
    error = math.sqrt(over_seeds + over_rows)
    weight = (over_seeds / (over_seeds + over_rows)) ** SEED_WEIGHT if error else 1.0
    row_error = None if row_covariance is None else math.sqrt(over_rows)
    return Estimate(0.0, n, error, weight, math.sqrt(over_seeds), row_error)


def normal_quantile(probability: float) -> float:
    from scipy import special

    return float(special.ndtri(probability))


def _mixed_tail(t: float, degrees: int, weight: float) -> float:
    """P(T > t) of the mixture of Student's and the normal distribution, for t >= 0."""
    from scipy import special

    return weight * _t_upper_tail(t, degrees) + (1 - weight) * float(special.ndtr(-t))


@lru_cache(maxsize=4096)
def _mixed_quantile(tail: float, degrees: int, weight: float) -> float:
    """The t with P(T > t) = tail."""
    from scipy import optimize

    low, high = normal_quantile(1 - tail), t_quantile(1 - tail, degrees)
    if weight >= 1.0 or high <= low:
        return high
    return float(optimize.brentq(lambda t: _mixed_tail(t, degrees, weight) - tail, low * 0.999, high * 1.001))


COLLAPSE = 0.05
"""Range of a score over seeds from which a seed counts as collapsed: healthy training moves AUC by thousandths."""
FEWEST_FOR_SHAPE = 5
"""Of fewer values nothing can be said about the shape of their distribution."""
SKEWED = 0.02
"""p of Shapiro and Wilk's test (Biometrika 1965) below which values over seeds count as not normal."""


def unstable(values: Sequence[float]) -> bool:
    """Are these values over seeds such that a mean and a Student interval mislead?

    Either a seed collapsed, or the values are visibly not normal. With 10 % collapsed seeds an interval of 95 % covers
    in less than half of the cases; what is flagged is shown as median and range and not tested.
    """
    if len(values) < 2 or min(values) == max(values):
        return False
    if max(values) - min(values) > COLLAPSE:
        return True
    if len(values) < FEWEST_FOR_SHAPE:
        return False
    from scipy import stats

    centre, deviation = mean(values), standard_deviation(values)
    return float(stats.shapiro([(value - centre) / deviation for value in values]).pvalue) < SKEWED


# ---- over test rows ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placements:
    """A model's AUC and what DeLong's variance needs: each row's placement among the rows of the other class.

    Arrays are [positives] and [negatives], in the order of the rows.
    """

    auc: float
    positives: NDArray[np.float64]
    negatives: NDArray[np.float64]


def placements(scores: NDArray, labels: NDArray) -> Placements | None:
    """Placements of one model's scores; rows whose label is NaN are left out. None below two rows of either class.

    By midranks as in Sun & Xu, IEEE Signal Processing Letters 2014: one sort instead of all pairs.
    """
    import numpy as np

    known = ~np.isnan(labels)
    scores, positive = scores[known], labels[known] == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2 or not np.isfinite(scores).all():
        return None
    ranks = midranks(scores)
    above = (ranks[positive] - midranks(scores[positive])) / n
    below = 1.0 - (ranks[~positive] - midranks(scores[~positive])) / m
    return Placements(float(above.mean()), above, below)


def average_placements(models: Sequence[Placements]) -> Placements:
    """Placements of the mean AUC of several models on the same rows, e.g. of one method over its seeds.

    The mean of U-statistics is a U-statistic of the averaged kernel, so DeLong's variance holds for it as well.
    """
    import numpy as np

    return Placements(
        mean([model.auc for model in models]),
        np.mean([model.positives for model in models], axis=0),
        np.mean([model.negatives for model in models], axis=0),
    )


@dataclass(frozen=True)
class AucDifference:
    """Difference of two AUCs on the same rows, its standard error from the sampling of rows, and p of no difference."""

    difference: float
    standard_error: float
    p: float


def delong(first: Placements, second: Placements) -> AucDifference:
    """DeLong's test for paired AUCs: z = (AUC1 - AUC2) / se with the placements' covariance.

    DeLong, DeLong & Clarke-Pearson, Biometrics 1988. Says how much of a difference is due to the test rows at hand;
    it knows nothing of seeds.
    """
    difference = first.auc - second.auc
    variance = sum(
        float((a - b).var(ddof=1)) / len(a)
        for a, b in ((first.positives, second.positives), (first.negatives, second.negatives))
    )
    error = math.sqrt(variance)
    if error == 0.0:
        return AucDifference(difference, 0.0, 1.0 if difference == 0.0 else 0.0)
    return AucDifference(difference, error, math.erfc(abs(difference) / error / math.sqrt(2)))


# ---- across datasets ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AcrossDatasets:
    """What may be said over datasets. ``table[method]`` holds one mean over seeds per dataset; larger is better.

    ``wins``: datasets on which the method is (joint) best. ``worst``: smallest difference to the reference over the
    datasets. ``ranks``: mean rank, 1 is best. ``friedman``, ``wilcoxon`` (Holm-adjusted, against the reference),
    ``critical_difference`` (Nemenyi) are None below `FEWEST_DATASETS`, ``wilcoxon`` below `datasets_needed`.
    """

    datasets: int
    wins: Mapping[str, int]
    worst: Mapping[str, float]
    ranks: Mapping[str, float]
    friedman: float | None
    wilcoxon: Mapping[str, float | None]
    critical_difference: float | None


def datasets_needed(comparisons: int) -> int:
    """Fewest datasets with which an exact Wilcoxon test can survive Holm's correction over so many comparisons.

    Its smallest p with N datasets is 2 / 2^N: six datasets suffice for one comparison, nine for eleven.
    """
    return math.floor(math.log2(2 * max(1, comparisons) / ALPHA)) + 1


def across_datasets(table: Mapping[str, Sequence[float]], reference: str) -> AcrossDatasets:
    """Seeds are averaged before; datasets are the units. Every method needs a value on every dataset.

    Friedman's test over methods, then the exact Wilcoxon signed-rank test of each method against the reference with
    Holm's correction: Demšar, JMLR 2006; Benavoli, Corani & Mangili, JMLR 2016 (pairwise, not by mean ranks).
    """
    import numpy as np
    from scipy import stats

    values = np.array([table[method] for method in table], dtype=float)
    methods, datasets = list(table), values.shape[1]
    ranks = stats.rankdata(-values, axis=0)
    best = values.max(axis=0)
    differences = {method: values[place] - values[methods.index(reference)] for place, method in enumerate(methods)}
    enough = datasets >= FEWEST_DATASETS
    others = [method for method in methods if method != reference]
    tested = datasets >= datasets_needed(len(others))
    p_values = [signed_rank_test(differences[m].tolist()) for m in others] if tested else [None] * len(others)
    return AcrossDatasets(
        datasets,
        {method: int((values[place] == best).sum()) for place, method in enumerate(methods)},
        {method: float(differences[method].min()) for method in methods},
        {method: float(ranks[place].mean()) for place, method in enumerate(methods)},
        float(stats.friedmanchisquare(*values).pvalue) if enough and len(methods) > 2 else None,
        dict(zip(others, holm(p_values), strict=True)),
        critical_difference(len(methods), datasets) if enough and len(methods) > 1 else None,
    )


def signed_rank_test(differences: Sequence[float]) -> float:
    """p of the Wilcoxon signed-rank test, exact where there are neither zeros nor ties. 1 if all differences are 0.

    Wilcoxon, Biometrics Bulletin 1945; zeros by Pratt's rule.
    """
    from scipy import stats

    if not any(differences):
        return 1.0
    magnitudes = [abs(value) for value in differences]
    tied = len(set(magnitudes)) < len(magnitudes) or 0.0 in magnitudes
    if not tied:
        return float(stats.wilcoxon(differences, method="exact").pvalue)
    # Ties: all sign patterns of the ranks that are there, counted (at most 2**n sums, by convolution over half ranks).
    return _exact_signed_rank(differences)


def _exact_signed_rank(differences: Sequence[float]) -> float:
    """Exact permutation distribution over signs of the (mid)ranks, zeros ranked but signless (Pratt)."""
    import numpy as np
    from scipy import stats

    doubled = np.round(2 * stats.rankdata(np.abs(differences))).astype(int)
    signs = np.sign(differences)
    moving = doubled[signs != 0]
    counts = np.zeros(int(moving.sum()) + 1)
    counts[0] = 1.0
    for rank in moving:
        counts[rank:] = (counts[rank:] + counts[: len(counts) - rank]) / 2
        counts[:rank] /= 2
    observed = int(doubled[signs > 0].sum())
    centre = moving.sum() / 2
    distances = np.abs(np.arange(len(counts)) - centre)
    return float(min(1.0, counts[distances >= abs(observed - centre) - 1e-9].sum()))


def critical_difference(methods: int, datasets: int, alpha: float = ALPHA) -> float:
    """Nemenyi's critical difference of mean ranks: q / sqrt(2) sqrt(k (k + 1) / (6 N)), q of the studentised range.

    Nemenyi 1963, in Demšar, JMLR 2006.
    """
    from scipy import stats

    q = float(stats.studentized_range.ppf(1 - alpha, methods, math.inf))
    return q / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * datasets))


@dataclass(frozen=True)
class SignedRankPosterior:
    """Posterior probability that the first is practically worse, that both are alike, that the first is better."""

    worse: float
    alike: float
    better: float

    @property
    def decided(self) -> str:
        """ "worse", "alike" or "better" where the posterior exceeds `DECISION`, else "undecided"."""
        likely = max(("worse", "alike", "better"), key=lambda name: getattr(self, name))
        return likely if getattr(self, likely) > DECISION else "undecided"


def bayesian_signed_rank(
    differences: Sequence[float],
    margin: float,
    generator: np.random.Generator,
    draws: int = 20_000,
    prior_strength: float = 0.5,
) -> SignedRankPosterior | None:
    """Bayesian signed-rank test with a region of practical equivalence (-margin, margin).

    Benavoli, Corani, Mangili, Zaffalon & Ruggeri, ICML 2014; Benavoli et al., JMLR 2017, section 4.2: a Dirichlet
    process with one pseudo-observation at 0; each draw of weights w asks in which region most of the mass
    w_i w_j of the pairs' means (z_i + z_j) / 2 lies. None below `FEWEST_DATASETS`.
    """
    import numpy as np

    if len(differences) < FEWEST_DATASETS:
        return None
    z = np.concatenate(([0.0], differences))
    means = (z[:, None] + z[None, :]) / 2
    weights = generator.dirichlet(np.concatenate(([prior_strength], np.ones(len(differences)))), size=draws)
    better, worse = (
        np.einsum("di,ij,dj->d", weights, region.astype(float), weights, optimize=True)
        for region in (means > margin, means < -margin)
    )
    shares = np.stack((worse, 1 - worse - better, better))
    most = np.bincount(shares.argmax(axis=0), minlength=3) / draws
    return SignedRankPosterior(*(float(share) for share in most))
