"""Metrics per user: ranking within a user's rows, for datasets whose rows name one."""

from __future__ import annotations

from benchmark.analysis import transfer
from benchmark.analysis.groups import Group
from benchmark.analysis.measures import planned, taken_in
from benchmark.report.measures import arm_title, cell, footer, label, reference_cell
from benchmark.report.model import Cell, Column, Row, Table

TITLES = {"gauc": "GAUC", "uauc": "UAUC", "ndcg@10": "NDCG@10", "hr@10": "HR@10", "mrr": "MRR"}
NOTE = (
    "Per user, over users with test rows of both classes; the others are excluded. GAUC: AUC within users, weighted by "
    "their rows; UAUC: the plain mean. Equal scores of a user: the expected value over their orders. Gain: minus the "
    "single-task model's, same seed; its interval is over seeds and users, whose rows go together."
)


def user_metrics(group: Group, task: str, slug: str) -> Table | None:
    """The new task's metrics per user and their gains over a single-task model; None where rows name no user."""
    counts = [users for r in group.records if task in r.scores and (users := r.scores[task].users) is not None]
    if not counts:
        return None
    columns = [Column("method", "Method", "text"), Column("arm", "Arm", "text")]
    for metric, title in TITLES.items():
        columns += [
            Column(metric, "score", better=1, group=title),
            Column(f"gain_{metric}", "gain", better=1, signed=True, group=title),
        ]
    rows = []
    for variant, arm, first in taken_in(group, with_scratch=task):
        cells = {"method": label(group, variant), "arm": Cell(text=arm_title(arm))}
        samples = {metric: group.score(variant, arm, task, metric) for metric in TITLES}
        if not any(planned(sample) for sample in samples.values()):
            continue
        for metric, sample in samples.items():
            alone = group.single_task(task, metric)
            cells[metric] = cell(group, sample)
            cells[f"gain_{metric}"] = reference_cell(variant) or cell(group, sample.combine(alone, transfer.gain))
        rows.append(Row(cells, rule_above=first))
    spread = sorted({(users.scored, users.excluded) for users in counts})
    said = f"Users: {spread[-1][0]:,} scored, {spread[-1][1]:,} excluded."
    stem = f"user_metrics-{slug}" if len(group.new_tasks) == 1 else f"user_metrics-{task}-{slug}"
    notes = (NOTE, said, *footer(group))
    return Table(stem, f"{group.dataset}: {task} within users", tuple(columns), tuple(rows), notes)
