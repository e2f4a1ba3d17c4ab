"""Who is on the Pareto front of degradation and gain, and how surely: the numbers behind tables, figures and pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.analysis import transfer
from benchmark.analysis.groups import Group, Sample, Variant
from benchmark.analysis.measures import degradation, finder, new_task_gain, taken_in, trained
from benchmark.core.seeding import numpy_stream
from benchmark.records.record import ROW_BUCKETS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DRAWS = 500

Point = Sequence[float]

DIGITS = 12
"""Values are compared to so many decimals: sums in another order must not decide."""


@dataclass(frozen=True)
class Standing:
    """Where one entry stands among all of a group: what the worst-hit old task lost, what the new task gained, how many
    entries are better in both, how often (in %) none is in bootstrap draws, and the same with trained parameters."""

    variant: Variant
    arm: str
    first: bool
    lost: Sample
    gained: Sample
    dominated_by: int | None
    dominated_with_parameters: int | None
    frequency: float | None


def standings(group: Group, task: str, slug: str) -> list[Standing]:
    """The entries of a group with their places on the front, in the order of the tables. What tables, figures and pages
    say of the front comes from here."""
    entries = list(taken_in(group))
    gained = [new_task_gain(group, variant, arm, task) for variant, arm, _ in entries]
    lost = [degradation(group, variant, arm, transfer.worst_degradation) for variant, arm, _ in entries]
    counts = [group.sample(finder(group, variant, arm, task), trained).centre for variant, arm, _ in entries]
    points = [
        None if loss.centre is None or gain.centre is None else (-loss.centre, gain.centre)
        for loss, gain in zip(lost, gained, strict=True)
    ]
    with_parameters = [
        None if point is None or count is None else (*point, -count)
        for point, count in zip(points, counts, strict=True)
    ]
    often = front_frequencies(list(zip(lost, gained, strict=True)), f"pareto-{task}-{slug}")
    columns = (lost, gained, dominated_by(points), dominated_by(with_parameters), often)
    return [Standing(*entry, *values) for entry, *values in zip(entries, *columns, strict=True)]


def front_frequencies(samples: Sequence[tuple[Sample, Sample]], name: str) -> list[float | None]:
    """In how many percent of bootstrap draws each (degradation, gain) is on the front; None for a row without numbers.

    A draw takes seeds with replacement, the same for all rows, and moves all scores together as other test rows would
    (a normal multiplier on the recorded influences). With one seed nothing is drawn.
    """
    import numpy as np

    complete = [place for place, pair in enumerate(samples) if all(s.values for s in pair)]
    seeds = sorted(set.intersection(*(set(s.values) for place in complete for s in samples[place]))) if complete else []
    found: list[float | None] = [None] * len(samples)
    if len(seeds) < 2:
        return found
    generator = numpy_stream("bootstrap", name)
    picked = generator.integers(len(seeds), size=(DRAWS, len(seeds)))
    counts = (picked[:, :, None] == np.arange(len(seeds))).sum(1) / len(seeds)  # [draws, seeds]
    moves = generator.normal(size=(DRAWS, ROW_BUCKETS))

    def drawn(sample: Sample) -> NDArray[np.float64]:
        values = np.array([sample.values[seed] for seed in seeds])
        if not sample.knows_rows:
            return counts @ values
        vectors = np.stack([sample.rows[seed] for seed in seeds])
        return (counts * (values + moves @ vectors.T)).sum(1)

    loss, gain = (np.round([drawn(samples[place][i]) for place in complete], 10) for i in (0, 1))
    for own, place in enumerate(complete):
        no_worse = (loss <= loss[own]) & (gain >= gain[own])
        better = (loss < loss[own]) | (gain > gain[own])
        found[place] = float(100 * (1 - (no_worse & better).any(0).mean()))
    return found


def dominated_by(points: Sequence[Point | None]) -> list[int | None]:
    """For each point (larger is better in every coordinate) how many others are at least as good in all coordinates and
    better in one; 0 means on the front. None for a missing point, which takes no part. Equal points do not dominate
    each other."""
    rounded = [None if point is None else tuple(round(value, DIGITS) for value in point) for point in points]
    return [None if mine is None else sum(_dominates(other, mine) for other in rounded) for mine in rounded]


def _dominates(other: tuple[float, ...] | None, mine: tuple[float, ...]) -> bool:
    return other is not None and other != mine and all(a >= b for a, b in zip(other, mine, strict=True))
