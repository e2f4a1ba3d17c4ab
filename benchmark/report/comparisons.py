"""Who differs from whom: paired tests over seeds, with the noise of the test rows beside them.

A claim has to survive both: the paired t-test over seeds (Holm over the table) and DeLong's test over test rows (Holm
over the table), where predictions were stored. "No degradation" is an equivalence test against a margin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from benchmark.records.record import Record
from benchmark.report import stats
from benchmark.report.groups import SCRATCH, SINGLE_TASK, STAGE0, Group, Sample, Variant, read_arrays
from benchmark.report.measures import Finder, before_and_after, finder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREDICTIONS = "predictions.npz"


@dataclass(frozen=True)
class Comparison:
    """One row of a family of tests. ``sample``: differences per seed; the ``_holm`` values are filled over the family.

    ``rows`` is DeLong's result on the mean over seeds, or None without stored predictions. ``p_equivalent`` only
    where an equivalence was asked for.
    """

    variant: Variant
    arm: str
    task: str
    sample: Sample
    p: float | None
    p_holm: float | None = None
    rows: stats.AucDifference | None = None
    p_rows_holm: float | None = None
    p_equivalent: float | None = None
    p_equivalent_holm: float | None = None

    @property
    def detectable(self) -> float | None:
        """Smallest true difference that the test over these seeds would have found in 80 % of studies."""
        values = list(self.sample.values.values())
        return stats.detectable_difference(stats.standard_deviation(values), len(values)) if len(values) > 1 else None

    @property
    def differs(self) -> bool:
        """Seeds and, where they can be asked, test rows both say that there is a difference."""
        over_rows = self.p_rows_holm is None or self.p_rows_holm < stats.ALPHA
        return self.p_holm is not None and self.p_holm < stats.ALPHA and over_rows

    def verdict(self, more: str, less: str) -> str:
        """``more`` or ``less`` by the sign of the mean difference, "undecided", or why no test was made."""
        if not self.sample.values:
            return "no runs"
        if self.p is None:
            return "one seed"
        if self.p_equivalent is not None and not any(self.sample.values.values()):
            return "unchanged"
        if self.p_equivalent_holm is not None and self.p_equivalent_holm < stats.ALPHA:
            return "equivalent"
        if not self.differs:
            return "undecided"
        word = more if stats.mean(list(self.sample.values.values())) > 0 else less
        return word if self.rows else f"{word} (seeds only)"


def against_reference(group: Group) -> list[Comparison]:
    """Score minus the reference method's, same arm, task and seed, for every row that is not the reference.

    The single-task model stands against every arm of the reference.
    """
    reference = group.reference
    if reference is None:
        return []
    found = []
    predictions = Predictions(group)
    for variant, arm, own_arm, task in _contests(group, reference):
        mine, theirs = group.score(variant, own_arm, task), group.score(reference, arm, task)
        if not (mine.values or theirs.values):
            continue
        sample = mine.combine(theirs, lambda a, b: a - b)
        rows = predictions.compare(
            sorted(sample.values),
            task,
            finder(group, variant, own_arm, task),
            finder(group, reference, arm, task),
        )
        found.append(Comparison(variant, arm, task, sample, _p(sample), rows=rows))
    return _adjusted(found)


def degradations(group: Group) -> list[Comparison]:
    """Score of each old task before minus after the new task, same method and seed, with the equivalence test."""
    found = []
    predictions = Predictions(group)
    for variant in group.variants:
        for arm in group.arms(variant):
            if arm == SCRATCH:
                continue
            for task in group.old_tasks:
                before, after = before_and_after(group, variant, arm, task)
                sample = before.combine(after, lambda a, b: a - b)
                rows = predictions.compare(
                    sorted(sample.values),
                    task,
                    partial(group.baseline, variant, arm),
                    finder(group, variant, arm, task),
                )
                equivalent = stats.equivalence_test(list(sample.values.values()), group.options.margin)
                found.append(Comparison(variant, arm, task, sample, _p(sample), rows=rows, p_equivalent=equivalent))
    return _adjusted(found)


def not_worse_than_best(samples: Sequence[Sample]) -> set[int]:
    """Places of samples that a paired test (Holm) does not part from the one with the best mean, itself left out.

    Only samples over the most seeds take part: a mean over fewer is ranked nowhere.
    """
    most = max((len(sample.values) for sample in samples), default=0)
    means = {place: stats.mean(list(s.values.values())) for place, s in enumerate(samples) if len(s.values) == most > 0}
    if len(means) < 2:
        return set()
    best = max(means, key=lambda place: means[place])
    others = [place for place in means if place != best]
    p_values = stats.holm([_p(samples[best].combine(samples[place], lambda a, b: a - b)) for place in others])
    return {place for place, p in zip(others, p_values, strict=True) if p is not None and p >= stats.ALPHA}


class Predictions:
    """Stored test predictions, reduced to DeLong's placements; the last few are kept, since neighbours share them."""

    KEPT = 4

    def __init__(self, group: Group) -> None:
        self.group = group
        self._kept: dict[tuple[str, ...], tuple[stats.Placements, bytes] | None] = {}

    def compare(self, seeds: Sequence[int], task: str, first: Finder, second: Finder) -> stats.AucDifference | None:
        """DeLong on the means over ``seeds``; None unless every run has predictions on the same rows."""
        one, two = (self._average([find(seed) for seed in seeds], task) for find in (first, second))
        if one is None or two is None or one[1] != two[1]:
            return None
        return stats.delong(one[0], two[0])

    def _average(self, runs: Sequence[Record | None], task: str) -> tuple[stats.Placements, bytes] | None:
        """Placements of the mean AUC over the runs, and a fingerprint of the labels they rest on."""
        if not runs or None in runs:
            return None
        key = (task, *(run.run_id for run in runs if run))
        if key not in self._kept:
            if len(self._kept) >= self.KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = self._average_of([run for run in runs if run], task)
        else:
            self._kept[key] = self._kept.pop(key)  # used just now: goes last
        return self._kept[key]

    def _average_of(self, runs: Sequence[Record], task: str) -> tuple[stats.Placements, bytes] | None:
        members, labels = [], set()
        for run in runs:
            arrays = self._read(run, task)
            found = stats.placements(*arrays) if arrays is not None else None
            if arrays is None or found is None:
                return None
            members.append(found)
            labels.add(_fingerprint(arrays[1]))
        return (stats.average_placements(members), labels.pop()) if len(labels) == 1 else None

    def _read(self, record: Record, task: str) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        path = self.group.options.file(record.key, PREDICTIONS)
        arrays = read_arrays(path) if path is not None else None
        if arrays is None or not {f"logits_{task}", f"labels_{task}"} <= arrays.keys():
            return None  # not stored, or not readable: then the table says that only seeds were asked
        return arrays[f"logits_{task}"], arrays[f"labels_{task}"]


def _fingerprint(labels: NDArray[np.float32]) -> bytes:
    return hashlib.blake2b(labels.tobytes(), digest_size=16).digest()


def _contests(group: Group, reference: Variant) -> Iterator[tuple[Variant, str, str, str]]:
    """Variant, arm of the reference, the variant's own arm, task."""
    for variant in group.variants:
        if variant == reference:
            continue
        single = variant.method == SINGLE_TASK
        for arm in [STAGE0, *group.arms(reference)]:
            for task in group.old_tasks if arm == STAGE0 else group.new_tasks:
                yield variant, arm, SCRATCH if single else arm, task


def _p(sample: Sample) -> float | None:
    return stats.t_test(list(sample.values.values()))


def _adjusted(found: Sequence[Comparison]) -> list[Comparison]:
    p = stats.holm([item.p for item in found])
    rows = stats.holm([item.rows.p if item.rows else None for item in found])
    equivalent = stats.holm([item.p_equivalent for item in found])
    return [
        replace(item, p_holm=a, p_rows_holm=b, p_equivalent_holm=c)
        for item, a, b, c in zip(found, p, rows, equivalent, strict=True)
    ]
