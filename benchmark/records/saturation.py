"""Tasks that are too easy to tell methods apart by: a pure function of records and margin."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import fmean

from benchmark.core.canonical import canonical
from benchmark.records.record import Record

LEAST_MARGINS = 10
"""A task needs headroom, what the best score lacks to a perfect one, of so many margins. With less, the margin is more
than a tenth of all errors that are left: no loss of practical meaning could be shown as one, and "no loss" means
nothing."""


def saturated_tasks(records: Iterable[Record], margin_of: Callable[[str], float]) -> dict[str, str]:
    """The tasks without headroom, each with a sentence. ``margin_of`` gives a task's margin.

    The best score is that of the method and arm with the highest mean over its seeds, on validation rows: the choice of
    tasks that claims are judged on must not see test rows.
    """
    scores: dict[str, dict[str, list[float]]] = {}
    for record in records:
        if record.status != "ok" or record.selection is None:
            continue
        key = record.key
        cell = canonical([key.method, key.config, key.arm, key.arm_config])
        for epoch in record.curve:
            if epoch.epoch == record.selection.epoch:
                for task, metrics in epoch.validation.items():
                    value = metrics.get("auc", metrics.get("r2"))
                    if value is not None:
                        scores.setdefault(task, {}).setdefault(cell, []).append(value)
    found = {}
    for task, by_cell in scores.items():
        best, margin = max(fmean(values) for values in by_cell.values()), margin_of(task)
        if 1 - best < LEAST_MARGINS * margin:
            found[task] = (
                f"{task} is saturated: the best validation score is {best:.4f}, and the margin {margin:g} is "
                f"{margin / max(1 - best, margin):.0%} of what it lacks to 1"
            )
    return found
