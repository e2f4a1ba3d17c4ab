"""Predictions from outside, beside those that runs have stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.analysis import stats
from benchmark.analysis.groups import PREDICTIONS, read_arrays, variant_of
from benchmark.core.errors import UsageError, unknown_name
from benchmark.records.record import Record, run_directory
from benchmark.records.tree import read_records

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def compare(
    logits: Mapping[str, NDArray[np.float64]], tree: Path, dataset: str | None, name: str
) -> list[dict[str, Any]]:
    """Rows of `benchmark.api.compare_predictions`; ``logits`` are [S, N] by task."""
    records = [r for r in read_records(tree)[0] if r.status == "ok" and r.key.scored == "test"]
    records = _of_one_dataset(records, dataset, tree)
    tasks = {task for record in records for task in record.scores}
    for task in logits:
        if task not in tasks:
            raise unknown_name("task", task, tasks)
    found = []
    for task, own in logits.items():
        for (variant, arm), members in _cells(records, task).items():
            arrays = [_stored(tree, record, task) for record in members]
            stored = [pair for pair in arrays if pair is not None]
            if stored:
                found.append({"task": task, "method": variant.method, "arm": arm, **_row(own, stored, task)})
    if not found:
        raise UsageError(
            f"No run under {tree} has stored predictions of {', '.join(logits)}: the reference results keep none. "
            "'python run_all.py --suite quick' makes a tree that has them."
        )
    for row, p in zip(found, stats.holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = p
        row["own"] = name
    return found


def _of_one_dataset(records: list[Record], dataset: str | None, tree: Path) -> list[Record]:
    names = sorted({record.key.dataset for record in records})
    if dataset is None and len(names) > 1:
        raise UsageError(f"{tree} has runs on {', '.join(names)}: say which by dataset=...")
    if dataset is not None and dataset not in names:
        raise unknown_name("dataset", dataset, names)
    return [record for record in records if dataset is None or record.key.dataset == dataset]


def _cells(records: list[Record], task: str) -> dict[tuple[Any, str], list[Record]]:
    cells: dict[tuple[Any, str], list[Record]] = {}
    for record in records:
        if task in record.scores:
            cells.setdefault((variant_of(record), record.key.arm), []).append(record)
    return dict(sorted(cells.items(), key=lambda item: (item[0][0].method, item[0][1], item[0][0].config)))


def _stored(tree: Path, record: Record, task: str) -> tuple[NDArray, NDArray] | None:
    arrays = read_arrays(run_directory(tree, record.key) / PREDICTIONS)
    if arrays is None or not {f"logits_{task}", f"labels_{task}"} <= arrays.keys():
        return None
    return arrays[f"logits_{task}"], arrays[f"labels_{task}"]


def _row(own: NDArray, stored: list[tuple[NDArray, NDArray]], task: str) -> dict[str, Any]:
    labels = stored[0][1]
    if own.shape[1] != len(labels):
        raise UsageError(f"logits of {task}: {own.shape[1]:,} values for {len(labels):,} test rows.")
    if len({hashlib.blake2b(known.tobytes()).digest() for _, known in stored}) > 1:
        raise UsageError(f"The runs' labels of {task} differ: they come from different data. Name one dataset or tree.")
    theirs = [stats.placements(values, labels) for values, _ in stored]
    mine = [stats.placements(values, labels) for values in own]
    if None in theirs or None in mine:
        raise UsageError(f"logits of {task}: not finite everywhere, or its test rows have one class only.")
    first = stats.average_placements([found for found in mine if found is not None])
    second = stats.average_placements([found for found in theirs if found is not None])
    result = stats.delong(first, second)
    return {
        "seeds": len(stored),
        "auc": second.auc,
        "own_auc": first.auc,
        "difference": result.difference,
        "standard_error": result.standard_error,
        "p": result.p,
    }
