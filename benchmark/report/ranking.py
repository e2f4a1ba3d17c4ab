"""How every entry (method and strategy) stands on every problem of result trees: what the ranking page shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmark.analysis.front import Standing, standings
from benchmark.analysis.groups import SCRATCH, Group, Options, arm_name, group_records
from benchmark.analysis.measures import finder, seconds, trained
from benchmark.records.tree import read_records
from benchmark.records.unfinished import is_unfinished
from benchmark.report.measures import arm_title, exact
from benchmark.spec.arms import ARMS


def entries(trees: Iterable[Path], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row per tree, problem (dataset and new task) and entry.

    ``gain``: AUC of the new task over the single-task model, with ``gain_half_width`` of its 95 % interval;
    ``degradation``: the largest loss of an old task; ``trained``: parameters; ``seconds`` of the whole run on its own
    machine; ``rank``: place by gain among the entries of the problem, from 1; ``beaten``: share of the other entries
    with a lower gain; ``unfinished``: share of its runs that the budget ended before validation stopped improving.
    """
    rows = []
    for tree in trees:
        for group in group_records(read_records(tree)[0], titles, Options(roots=(tree,))):
            for task in group.new_tasks:
                problem = {"tree": tree.name, "dataset": group.dataset, "task": task, "track": _track(group)}
                rows += [problem | row for row in _ranked(_rows(group, task))]
    return rows


def _track(group: Group) -> str:
    return ", ".join(sorted({record.key.track for record in group.records}))


def _rows(group: Group, task: str) -> list[dict[str, Any]]:
    alone = [
        _row(
            group, task, variant, SCRATCH, group.score(variant, SCRATCH, task).combine(group.single_task(task), _minus)
        )
        for variant in group.variants
        if SCRATCH in group.arms(variant)
    ]
    shared = [_of_standing(group, task, standing) for standing in standings(group, task, group.dataset)]
    return [row for row in (*alone, *shared) if row["gain"] is not None]


def _minus(score: float | None, other: float | None) -> float | None:
    return None if score is None or other is None else score - other


def _of_standing(group: Group, task: str, standing: Standing) -> dict[str, Any]:
    row = _row(group, task, standing.variant, standing.arm, standing.gained)
    interval = standing.lost.interval()
    row["degradation"] = standing.lost.centre
    row["degradation_half_width"] = interval.half_width if interval and not standing.lost.unstable else None
    row["front"] = standing.dominated_by == 0
    return row


def _row(group: Group, task: str, variant: Any, arm: str, gain: Any) -> dict[str, Any]:
    find = finder(group, variant, arm, task)
    runs = [run for seed in group.seeds if (run := find(seed)) is not None and run.status == "ok"]
    interval, plain_arm = gain.interval(), arm_name(arm)
    times = [value for run in runs if (value := seconds(run)) is not None]
    return {
        "method": group.labels[variant] or variant.method,
        "method_name": variant.method,
        "arm": arm_title(arm) if arm != SCRATCH else "no sharing",
        "frozen": plain_arm in ARMS and ARMS[plain_arm].frozen,
        "gain": gain.centre,
        "gain_half_width": interval.half_width if interval and not gain.unstable else None,
        "degradation": 0.0 if arm == SCRATCH else None,
        "degradation_half_width": None,
        "trained": exact(group.sample(find, trained)).value,
        "seconds": sum(times) / len(times) if times else None,
        "seeds": len(runs),
        "unfinished": sum(map(is_unfinished, runs)) / len(runs) if runs else None,
        "runs": [run.run_id for run in runs],
    }


def _ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With each row's place by gain among the rows of its problem; equal gains share the better place."""
    gains = [row["gain"] for row in rows]
    others = max(len(rows) - 1, 1)
    return [
        row | {"rank": 1 + sum(g > row["gain"] for g in gains), "beaten": sum(g < row["gain"] for g in gains) / others}
        for row in rows
    ]
