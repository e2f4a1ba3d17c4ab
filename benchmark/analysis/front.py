"""The Pareto front: the one place that decides who is on it."""

from __future__ import annotations

from collections.abc import Sequence

Point = Sequence[float]

DIGITS = 12
"""Values are compared to so many decimals: sums in another order must not decide."""


def dominated_by(points: Sequence[Point | None]) -> list[int | None]:
    """For each point (larger is better in every coordinate) how many others are at least as good in all coordinates and
    better in one; 0 means on the front. None for a missing point, which takes no part. Equal points do not dominate
    each other."""
    rounded = [None if point is None else tuple(round(value, DIGITS) for value in point) for point in points]
    return [None if mine is None else sum(_dominates(other, mine) for other in rounded) for mine in rounded]


def _dominates(other: tuple[float, ...] | None, mine: tuple[float, ...]) -> bool:
    return other is not None and other != mine and all(a >= b for a, b in zip(other, mine, strict=True))
