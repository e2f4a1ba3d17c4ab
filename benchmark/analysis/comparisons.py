"""Who differs from whom: one estimate, one interval and one test from seeds and test rows together.

Rows of one question (an arm and a task) are a family: their intervals cover together, so verdicts, stars and forests
say the same. What is equal bit for bit on every seed is a fact and joins no family.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmark.analysis import stats
from benchmark.analysis.groups import SCRATCH, SINGLE_TASK, STAGE0, Group, Sample, Variant
from benchmark.analysis.measures import before_and_after, metric_name, positives
from benchmark.analysis.verdicts import Outcome, Verdict, worst

MOST_SEEDS = 100
"""More seeds than this are not advised."""


@dataclass(frozen=True)
class Comparison:
    """One difference. ``sample``: per seed; ``family``: how many tests its question has, this one included.

    ``harm``: larger is worse (score before minus after), otherwise larger is better (score minus another's).
    ``margin``: what counts as no difference, in the unit of the score. ``positives``: of the task's test rows.
    """

    variant: Variant
    arm: str
    task: str
    sample: Sample
    margin: float
    harm: bool = False
    family: int = 1
    positives: int | None = None

    @property
    def fact(self) -> bool:
        """The same number on every seed: nothing is left to test."""
        return self.sample.constant == 0.0

    @property
    def tested(self) -> bool:
        return len(self.sample.values) > 1 and not self.fact and not self.sample.unstable

    @property
    def estimate(self) -> stats.Estimate | None:
        return self.sample.estimate()

    @property
    def p(self) -> float | None:
        """Adjusted for the family; None where nothing was tested."""
        found = self.estimate
        return found.p(self.family) if found is not None and self.tested else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval that covers together with those of the family; it decides every verdict."""
        if self.fact:
            return (0.0, 0.0)
        found = self.estimate
        if found is None or not self.tested:
            return None
        half = found.half_width(self.family)
        return (found.mean - half, found.mean + half)

    @property
    def worst(self) -> float | None:
        """At most this much worse: the bound of the interval on the side of harm."""
        if self.bounds is None:
            return None
        return self.bounds[1] if self.harm else -self.bounds[0]

    @property
    def detectable(self) -> float | None:
        """Smallest true difference that this row's own test would have found in 80 % of studies."""
        found = self.estimate
        return found.detectable(self.family) if found is not None and self.tested else None

    @property
    def differs(self) -> bool:
        return self.p is not None and self.p < stats.ALPHA

    @property
    def worse_on_every_seed(self) -> bool:
        """Each run by itself lost more than the margin and than other test rows would explain; of further seeds that
        says nothing, which is what the interval is for."""
        if not self.sample.knows_rows:
            return False
        critical = stats.normal_quantile(1 - stats.ALPHA / 2 / self.family)
        losses = ((value if self.harm else -value, self.sample.rows[s]) for s, value in self.sample.values.items())
        return all(loss > max(self.margin, critical * math.sqrt(float(row @ row))) for loss, row in losses)

    @property
    def not_worse(self) -> bool:
        """Harm is below the margin: shown, not just not refuted."""
        return self.worst is not None and self.worst < self.margin

    @property
    def rows_forbid(self) -> bool:
        """No number of seeds would decide: the test rows alone leave both a difference and more than the margin."""
        found = self.estimate
        if found is None or not found.row_error:
            return False
        rest = found.row_error * stats.normal_quantile(1 - stats.ALPHA / 2 / self.family)
        return abs(found.mean) < rest and (found.mean if self.harm else -found.mean) + rest > self.margin

    def verdict(self) -> Verdict:
        """By the adjusted interval alone, or why no test was made."""
        values = list(self.sample.values.values())
        if not values:
            return Verdict(Outcome.NO_RUNS)
        if len(values) == 1:
            return Verdict(Outcome.ONE_SEED)
        if self.fact:
            return Verdict(Outcome.UNCHANGED if self.harm else Outcome.IDENTICAL)
        worse = sum(value > 0 if self.harm else value < 0 for value in values)
        if self.sample.unstable:
            return Verdict(Outcome.UNSTABLE, worse=worse, seeds=len(values))
        if not self.differs and self.worse_on_every_seed:
            return Verdict(Outcome.UNDECIDED, worse=worse, seeds=len(values))
        tested = self._tested_verdict()
        return replace(tested, seeds_only=not self.sample.knows_rows and tested.outcome is not Outcome.UNDECIDED)

    def _tested_verdict(self) -> Verdict:
        assert self.bounds is not None
        low, high = self.bounds if self.harm else (-self.bounds[1], -self.bounds[0])
        if self.differs:
            worse, better = (Outcome.DEGRADED, Outcome.IMPROVED) if self.harm else (Outcome.WORSE, Outcome.BETTER)
            return Verdict(worse if low > 0 else better, within_margin=max(-low, high) < self.margin)
        if high < self.margin:
            if low > -self.margin:
                return Verdict(Outcome.EQUIVALENT)
            return Verdict(Outcome.NO_DEGRADATION if self.harm else Outcome.NOT_WORSE)
        if low > -self.margin and not self.harm:
            return Verdict(Outcome.NOT_BETTER)
        if self.rows_forbid and self.positives:
            return Verdict(Outcome.TOO_FEW_POSITIVES, positives=self.positives)
        return Verdict(Outcome.UNDECIDED)

    def deciding(self, difference: bool = False) -> str:
        """What would decide an undecided row, in words; ``difference``: only a difference shown would."""
        found = self.estimate
        if found is None:
            return "more seeds"
        if self.sample.unstable:
            return "training that does not collapse, or more seeds"
        harm = found.mean if self.harm else -found.mean
        if not difference and harm < self.margin and (n := self._seeds_until(self.margin - harm)) is not None:
            return f"about {n} seeds would show that it is not worse, if the mean stays"
        if (n := self._seeds_until(abs(found.mean))) is not None:
            return f"about {n} seeds would show a difference, if the mean stays"
        if found.row_error:
            return f"more test rows: these leave ± {2 * found.row_error:.1g} whatever the seeds"
        return f"more than {MOST_SEEDS} seeds"

    def _seeds_until(self, distance: float) -> int | None:
        """Number of seeds with which the interval's half-width is below ``distance``."""
        found = self.estimate
        assert found is not None
        spread = found.seed_error**2 * found.n
        for n in range(found.n + 1, MOST_SEEDS + 1):
            if stats.crossed_error(spread, n, (found.row_error or 0.0) ** 2).half_width(self.family) < distance:
                return n
        return None


def against_reference(group: Group) -> list[Comparison]:
    """Score minus the reference method's, same arm, task and seed, for every row that is not the reference.

    The single-task model stands against every arm of the reference.
    """
    reference = group.reference
    if reference is None:
        return []
    found = []
    for variant, arm, own_arm, task in _contests(group, reference):
        mine, theirs = group.score(variant, own_arm, task), group.score(reference, arm, task)
        if mine.values or theirs.values:
            found.append(_comparison(group, variant, arm, task, mine.combine(theirs, lambda a, b: a - b)))
    return with_families(found)


def across_arms(group: Group, task: str, reference: tuple[Variant, str]) -> list[Comparison]:
    """Score of a new task minus that of the reference row, for every other row, whatever its arm."""
    theirs = group.score(*reference, task)
    found = []
    for variant in group.variants:
        for arm in group.arms(variant):
            mine = group.score(variant, arm, task)
            if (variant, arm) == reference or not mine.values:
                continue
            difference = mine.combine(theirs, lambda a, b: a - b)
            found.append(_comparison(group, variant, arm, task, difference))
    return with_families(found, lambda item: item.task)


def degradations(group: Group) -> list[Comparison]:
    """Score of each old task before minus after the new task, same method and seed."""
    found = []
    for variant in group.variants:
        for arm in group.arms(variant):
            for task in group.old_tasks if arm != SCRATCH else ():
                before, after = before_and_after(group, variant, arm, task)
                sample = before.combine(after, lambda a, b: a - b)
                found.append(_comparison(group, variant, arm, task, sample, harm=True))
    return with_families(found)


def worse_than_best(samples: Sequence[Sample]) -> set[int]:
    """Places of samples that are shown to be worse than the one with the best mean, adjusted over the others.

    Only samples over the most seeds take part, and none whose seeds are unstable.
    """
    most = max((len(sample.values) for sample in samples), default=0)
    means = {
        place: stats.mean(sample.ordered())
        for place, sample in enumerate(samples)
        if len(sample.values) == most > 1 and not sample.unstable
    }
    if len(means) < 2:
        return set()
    best = max(means, key=lambda place: means[place])
    behind = set()
    for place in means.keys() - {best}:
        found = samples[best].combine(samples[place], lambda a, b: a - b).estimate()
        if found is not None and found.mean > 0 and found.p(len(means) - 1) < stats.ALPHA:
            behind.add(place)
    return behind


def with_families(found: Sequence[Comparison], question=lambda item: (item.arm, item.task)) -> list[Comparison]:
    """The comparisons with the size of their families: those of the same question that a test is made for."""
    sizes = Counter(question(item) for item in found if item.tested)
    return [replace(item, family=max(1, sizes[question(item)])) for item in found]


def _comparison(group: Group, variant: Variant, arm: str, task: str, sample: Sample, **more) -> Comparison:
    margin = group.margin(task, metric_name(group, task))
    return Comparison(variant, arm, task, sample, margin, positives=positives(group, task), **more)


def _contests(group: Group, reference: Variant) -> Iterator[tuple[Variant, str, str, str]]:
    """Variant, arm of the reference, the variant's own arm, task."""
    for variant in group.variants:
        if variant == reference:
            continue
        single = variant.method == SINGLE_TASK
        for arm in [STAGE0, *group.arms(reference)]:
            for task in group.old_tasks if arm == STAGE0 else group.new_tasks:
                yield variant, arm, SCRATCH if single else arm, task


def worst_verdict(losses: Sequence[Comparison], variant: Variant, arm: str) -> Verdict:
    """The worst verdict of a row over the old tasks."""
    return worst(item.verdict() for item in losses if (item.variant, item.arm) == (variant, arm))
