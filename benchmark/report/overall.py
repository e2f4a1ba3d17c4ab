"""What holds over datasets: they are the units, seeds and problems within one are averaged first, few claim nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.analysis import stats, transfer
from benchmark.analysis.groups import SCRATCH, Group, Sample
from benchmark.analysis.measures import degradation
from benchmark.core.seeding import numpy_stream
from benchmark.report.measures import arm_title
from benchmark.report.model import Cell, Column, Row, Table


@dataclass(frozen=True)
class Study:
    """One measure: ``values[row]`` holds one mean over seeds per dataset, larger is better."""

    name: str
    title: str
    datasets: tuple[str, ...]
    values: dict[str, list[float]]
    reference: str
    margin: float

    def result(self) -> stats.AcrossDatasets:
        return stats.across_datasets(self.values, self.reference)


def studies(groups: Sequence[Group]) -> list[Study]:
    """New-task score and old-task retention of every row that has a number on every dataset.

    Problems are clustered: of several groups of one dataset and one new task (subsets, budgets) the one with most
    records counts, and the problems of a dataset (its tasks, each in turn the new one) are averaged before datasets
    are compared, since they share their rows. Fewer than two datasets give nothing.
    """
    problems: dict[str, dict[tuple[str, ...], Group]] = {}
    for group in groups:
        own = problems.setdefault(group.dataset.partition("@")[0], {})
        before = own.get(group.new_tasks)
        if group.new_tasks and (before is None or len(group.records) > len(before.records)):
            own[group.new_tasks] = group
    chosen = {base: list(own.values()) for base, own in problems.items() if own}
    if len(chosen) < 2:
        return []
    first = next(iter(chosen.values()))[0]
    found = []
    for name, title, larger in (
        ("new_task", "score of the new task", True),
        ("degradation", "mean degradation of the old tasks, sign turned", False),
    ):
        tables = [_averaged([_rows(group, new_task=larger) for group in clusters]) for clusters in chosen.values()]
        rows = [row for row in tables[0] if all(row in table for table in tables)]
        if len(rows) < 2:
            continue
        main = first.reference
        label = first.labels[main] if main else rows[0]
        mains = [row for row in rows if row.startswith(f"{label}, ")] or rows
        reference = next((row for row in mains if row.endswith(f", {arm_title('frozen')}")), mains[0])
        margin = first.margin(first.new_tasks[0])
        values = {row: [table[row] for table in tables] for row in rows}
        counted = tuple(f"{base} ({len(own)} problems)" if len(own) > 1 else base for base, own in chosen.items())
        found.append(Study(name, title, counted, values, reference, margin))
    return found


def across(study: Study) -> Table:
    """Wins, worst case and ranks; tests where there are datasets enough."""
    found = study.result()
    rows = []
    for name, own in study.values.items():
        differences = [mine - theirs for mine, theirs in zip(own, study.values[study.reference], strict=True)]
        is_reference = name == study.reference
        generator = numpy_stream("bootstrap", f"across_datasets-{study.name}-{name}")
        posterior = None if is_reference else stats.bayesian_signed_rank(differences, study.margin, generator)
        lacking = Cell(code="n/a" if is_reference else "few")
        p = found.wilcoxon.get(name)
        rows.append(
            Row(
                {
                    "method": Cell(text=name),
                    "wins": Cell(float(found.wins[name])),
                    "rank": Cell(found.ranks[name]),
                    "worst": lacking if is_reference else Cell(found.worst[name]),
                    "wilcoxon": lacking if p is None else Cell(p),
                    "worse": Cell(posterior.worse) if posterior else lacking,
                    "alike": Cell(posterior.alike) if posterior else lacking,
                    "better": Cell(posterior.better) if posterior else lacking,
                    "verdict": Cell(text=posterior.decided) if posterior else lacking,
                }
            )
        )
    return Table(
        f"across_datasets-{study.name}",
        f"{study.title} over {found.datasets} datasets",
        (
            Column("method", "Method, arm", "text"),
            Column("wins", "datasets won", "count", better=1),
            Column("rank", "mean rank", better=-1),
            Column("worst", "worst difference", signed=True),
            Column("wilcoxon", "Wilcoxon p, Holm", "p"),
            Column("worse", "worse", "p", group="posterior"),
            Column("alike", "alike", "p", group="posterior"),
            Column("better", "better", "p", group="posterior"),
            Column("verdict", "decided", "text", group="posterior"),
        ),
        tuple(rows),
        (
            f"Datasets are the units, seeds averaged first: {', '.join(study.datasets)}.",
            f"Differences and tests against {study.reference}; larger is better; ties share a win.",
            _claim(study, found),
        ),
    ).ranked()


def _averaged(tables: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean over a dataset's problems, for the rows that all of them have."""
    return {
        row: round(stats.mean([table[row] for table in tables]), 12)
        for row in tables[0]
        if all(row in table for table in tables)
    }


def _claim(study: Study, found: stats.AcrossDatasets) -> str:
    if found.datasets < stats.FEWEST_DATASETS:
        return f"Fewer than {stats.FEWEST_DATASETS} datasets: no claim over datasets is made."
    needed = stats.datasets_needed(len(study.values) - 1)
    if found.datasets < needed:
        wilcoxon = f"Wilcoxon with {len(study.values) - 1} comparisons needs {needed} datasets. "
    else:
        wilcoxon = ""
    friedman = "" if found.friedman is None else f"Friedman p = {found.friedman:.3g}. "
    return (
        f"{wilcoxon}{friedman}Nemenyi critical difference of mean ranks {found.critical_difference:.3g}. "
        f"Posterior: Bayesian signed rank, practical margin {study.margin:g}, decided from {stats.DECISION:g}."
    )


def _rows(group: Group, new_task: bool) -> dict[str, float]:
    """Mean over seeds (and over the tasks concerned), for every row that has one. Rounded, so that ties are ties."""
    found = {}
    for variant in group.variants:
        for arm in group.arms(variant):
            if new_task:
                samples = [group.score(variant, arm, task) for task in group.new_tasks]
            elif arm == SCRATCH:
                continue
            else:
                samples = [_turned(degradation(group, variant, arm, transfer.mean_degradation))]
            if all(sample.values for sample in samples):
                means = [stats.mean(list(sample.values.values())) for sample in samples]
                name = f"{group.labels[variant]}, {arm_title(group.common_name(variant, arm))}"
                found[name] = round(stats.mean(means), 12)
    return found


def _turned(sample: Sample) -> Sample:
    return Sample({seed: 0.0 - value for seed, value in sample.values.items()}, sample.codes, sample.stale)
