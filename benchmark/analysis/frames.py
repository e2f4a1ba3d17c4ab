"""What the groups of a result tree say, as rows of plain values: the parts of `benchmark.api.analyse`.

Every row names its problem and entry: ``dataset``, ``track``, ``budget`` (canonical JSON), ``task``, ``method``,
``title`` (with the values by which configurations of a method differ), ``config`` (canonical JSON) and ``arm``. A
number over seeds is ``value`` (mean, or median where ``unstable``), ``half_width`` of its 95 % interval and ``seeds``;
where there is none, ``code`` says why (see `benchmark.analysis.codes`). Scores are AUC, or R² of a regression task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmark.analysis.comparisons import Comparison, against_reference, degradations
from benchmark.analysis.front import standings
from benchmark.analysis.groups import STAGE0, Group, Sample, Variant, worst_code
from benchmark.analysis.measures import finder, new_task_gain, taken_in, trained
from benchmark.analysis.slugs import slugs

Rows = list[dict[str, Any]]


def scores(groups: Sequence[Group]) -> Rows:
    """Test scores of every task that an entry has; stage 0 (before the new task) is an arm of its own."""
    return [
        _entry(group, variant, arm, task) | {"metric": metric} | _numbers(sample)
        for group in groups
        for variant in group.variants
        for arm in (STAGE0, *group.arms(variant))
        for task in (*group.old_tasks, *group.new_tasks)
        for metric in _metrics(group, task)
        if (sample := group.score(variant, arm, task, metric)).values
    ]


def gain(groups: Sequence[Group]) -> Rows:
    """Score of each new task minus the single-task baseline's, same seed; positive: better."""
    return [
        _entry(group, variant, arm, task)
        | _numbers(new_task_gain(group, variant, arm, task))
        | {"trained": group.sample(finder(group, variant, arm, task), trained).centre}
        for group in groups
        for task in group.new_tasks
        for variant, arm, _ in taken_in(group)
    ]


def differences(groups: Sequence[Group]) -> Rows:
    """Score minus that of the reference method in the same arm, same seed; positive: better. With the test's result."""
    return [_tested(group, item) for group in groups for item in against_reference(group)]


def degradation(groups: Sequence[Group]) -> Rows:
    """Score of each old task before minus after the new task was added; positive: worse. With the test's result."""
    return [_tested(group, item) for group in groups for item in degradations(group)]


def front(groups: Sequence[Group]) -> Rows:
    """Where each entry stands by gain of the new task and degradation of the worst old task.

    ``dominated_by``: entries that are at least as good in both and better in one, 0 on the front, missing without
    numbers; ``dominated_with_parameters``: by trained parameters, too; ``frequency``: in how many percent of bootstrap
    draws the entry is on the front.
    """
    rows: Rows = []
    for group, slug in zip(groups, slugs(groups), strict=True):
        for task in group.new_tasks:
            for standing in standings(group, task, slug):
                rows.append(
                    _entry(group, standing.variant, standing.arm, task)
                    | {
                        "degradation": standing.lost.centre,
                        "gain": standing.gained.centre,
                        "dominated_by": standing.dominated_by,
                        "dominated_with_parameters": standing.dominated_with_parameters,
                        "frequency": standing.frequency,
                    }
                )
    return rows


def _metrics(group: Group, task: str) -> Iterator[str]:
    yield from sorted({name for r in group.records if task in r.scores for name in r.scores[task].metrics})


def _entry(group: Group, variant: Variant, arm: str, task: str) -> dict[str, Any]:
    return {
        "dataset": group.dataset,
        "track": group.track,
        "budget": group.budget,
        "task": task,
        "method": variant.method,
        "title": group.labels[variant],
        "config": variant.config,
        "arm": arm,
    }


def _numbers(sample: Sample) -> dict[str, Any]:
    interval = None if sample.unstable else sample.interval()
    return {
        "value": sample.centre,
        "half_width": None if interval is None else interval.half_width,
        "seeds": len(sample.values),
        "unstable": sample.unstable,
        "code": None if sample.values else worst_code(sample.codes.values()),
    }


def _tested(group: Group, item: Comparison) -> dict[str, Any]:
    """``low`` to ``high`` cover together with the intervals of the question's other rows and decide the ``outcome``
    (see `benchmark.analysis.verdicts`)."""
    verdict = item.verdict()
    low, high = item.bounds or (None, None)
    return (
        _entry(group, item.variant, item.arm, item.task)
        | _numbers(item.sample)
        | {
            "low": low,
            "high": high,
            "p": item.p,
            "margin": item.margin,
            "detectable": item.detectable,
            "outcome": verdict.outcome.name.lower(),
            "within_margin": verdict.within_margin,
            "worse_seeds": verdict.worse,
        }
    )
