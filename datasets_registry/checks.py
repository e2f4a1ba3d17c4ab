"""What is looked for in every encoded dataset: inputs that give a label away, and labels of one class.

A single feature that predicts a task with an AUC above LEAK_AUC is taken for a leak and refused, unless the task
excludes the feature or the dataset names it in ``allow_leaks``. A feature's score is the training rows' mean label
per value (numeric: the value itself), and the AUC is taken on validation rows, so that an id that occurs once says
nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import DataError
from datasets_registry.base import UNDEFINED, Dataset

LEAK_AUC = 0.99
LEAK_ROWS = 1_000_000  # rows of train and of valid that the check looks at, from the start
ENOUGH = 10  # rows of the smaller class below which an AUC is too coarse to accuse anyone


def check(dataset: Dataset, directory: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """``{"warnings": [...], "base_rates": ..., "single_feature_auc": ...}`` of an encoded directory.

    Raises DataError when one feature alone gives a label away.
    """
    warnings, rates, strongest = [], {}, {}
    for task in dataset.tasks:
        if task.kind != "binary":
            continue
        rates[task.name] = {}
        for name in ("train", "valid", "test"):
            labels = np.memmap(directory / f"{name}.label.{task.name}", np.uint8, "r")
            tally = np.bincount(labels, minlength=256)
            defined, positives = int(tally[0] + tally[1]), int(tally[1])
            rates[task.name][name] = {"defined": defined, "positives": positives}
            if min(positives, defined - positives) == 0:
                warnings.append(f"task '{task.name}': the {name} split has one class only ({positives}/{defined}).")
        best = _strongest(dataset, task, directory, meta)
        if best is not None:
            strongest[task.name] = {"feature": best[0], "auc": round(best[1], 6)}
            if best[1] > LEAK_AUC and best[0] not in dataset.allow_leaks:
                raise DataError(
                    f"'{dataset.name}': feature '{best[0]}' alone predicts task '{task.name}' with AUC {best[1]:.4f}: "
                    f"it gives the label away. List it in the task's excludes, drop it from the features, or name it "
                    f"in allow_leaks if it is legitimate."
                )
    return {"warnings": warnings, "base_rates": rates, "single_feature_auc": strongest}


def _strongest(dataset: Dataset, task: Any, directory: Path, meta: dict[str, Any]) -> tuple[str, float] | None:
    labels, rows = {}, {}
    for name in ("train", "valid"):
        head = np.array(np.memmap(directory / f"{name}.label.{task.name}", np.uint8, "r")[:LEAK_ROWS])
        rows[name] = np.flatnonzero(head != UNDEFINED)
        labels[name] = head[rows[name]]
        if min(labels[name].sum(), (1 - labels[name].astype(int)).sum()) < ENOUGH:
            return None
    results = []
    columns = sum(entry["length"] for entry in meta["categorical"])
    codes = {name: _matrix(directory / f"{name}.categorical", np.int32, columns)[:LEAK_ROWS] for name in rows}
    column = 0
    for entry in meta["categorical"]:
        if entry["name"] not in task.excludes and entry["length"] == 1:
            train = codes["train"][rows["train"], column]
            positives = np.bincount(train, labels["train"], entry["size"])
            totals = np.bincount(train, minlength=entry["size"])
            score = (positives + labels["train"].mean()) / (totals + 1)
            results.append((entry["name"], auc(score[codes["valid"][rows["valid"], column]], labels["valid"])))
        column += entry["length"]
    numbers = _matrix(directory / "valid.numeric", np.float32, len(meta["numeric"]))[:LEAK_ROWS]
    for column, entry in enumerate(meta["numeric"]):
        if entry["name"] not in task.excludes:
            one = auc(numbers[rows["valid"], column], labels["valid"])
            results.append((entry["name"], max(one, 1 - one)))
    return max(results, key=lambda result: result[1]) if results else None


def _matrix(path: Path, dtype: type, columns: int) -> np.ndarray:
    if columns == 0 or path.stat().st_size == 0:
        return np.zeros((0, columns), dtype)
    return np.memmap(path, dtype, "r").reshape(-1, columns)


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; both classes must be there."""
    values, place, tally = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(tally) - (tally - 1) / 2)[place]
    positive = label == 1
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(label) - n)))
