"""Intervals and tests. Numbers in, numbers out; nothing here knows records or tables, and nothing draws at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

LEVEL = 0.95


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
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, None, 1)
    return Interval(mean, t_quantile((1 + level) / 2, n - 1) * standard_deviation(values) / math.sqrt(n), n)


def standard_deviation(values: Sequence[float]) -> float:
    """Sample standard deviation, n - 1 in the denominator. Exactly 0 where all values are equal."""
    if min(values) == max(values):
        return 0.0  # the mean of equal floats may differ from them in the last bit
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


@lru_cache(maxsize=4096)
def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution. Cached: a table asks for the same few thousands of times."""
    from scipy import special

    return float(special.stdtrit(degrees, probability))
