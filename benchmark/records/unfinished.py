"""Whether training had stopped improving when a run ended: a pure function of its record.

A run that its budget cuts off while it still improves says nothing about what the method can do, and methods are cut
off unequally: what learns slowly loses most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmark.records.record import Record
from benchmark.spec.arms import ARMS

MOST_UNFINISHED = 0.05
"""Share of unfinished runs above which nothing is concluded from a comparison."""


def ends_by_epochs(record: Record) -> bool:
    """Whether a run was trained epoch by epoch; a method that fits itself ends by its own rule and reports no loss."""
    return record.status == "ok" and record.selection is not None and bool(record.curve and record.curve[0].loss)


def is_unfinished(record: Record) -> bool:
    """Whether the last epoch that the budget allows came before patience ended the training.

    The epochs in which an arm trains the new part alone do not count as without improvement, as in the trainer.
    """
    if not ends_by_epochs(record):
        return False
    assert record.selection is not None
    arm = ARMS[record.key.arm]
    budget = arm.budget(record.key.budget)
    probing = 0
    if arm.probes:
        share = arm.resolve(record.key.arm_config)["share"]
        probing = min(max(1, round(share * budget.epochs)), budget.epochs - 1)
    waited = record.selection.epochs_run - max(record.selection.epoch, probing)
    return record.selection.epochs_run >= budget.epochs and waited < budget.patience


def unfinished_by_cell(records: Iterable[Record]) -> Mapping[tuple[str, str], tuple[int, int]]:
    """By method and arm: how many runs are unfinished, and of how many. Runs that end by a rule of their own, and
    failed ones, are left out."""
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for record in records:
        if ends_by_epochs(record):
            cell = record.key.method, record.key.arm
            unfinished, runs = counts.get(cell, (0, 0))
            counts[cell] = unfinished + is_unfinished(record), runs + 1
    return counts
