"""What is looked for in every encoded dataset: inputs that give a label away, and labels of one class.

A single feature that predicts a task with an AUC above LEAK_AUC is taken for a leak and refused, unless the task
excludes the feature or the dataset names it in ``allow_leaks``. A feature's score is the training rows' mean label
per value (numeric: the value itself), and the AUC is taken on validation rows, so that an id that occurs once says
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import DataError
from datasets_registry.base import UNDEFINED, Dataset
from datasets_registry.schema import Task

LEAK_AUC = 0.99
LEAK_ROWS = 500_000  # rows of train and of valid that the check looks at, from the start
ENOUGH = 20  # rows of the smaller class below which an AUC is too coarse to accuse anyone


def check(dataset: Dataset, directory: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """``{"warnings": [...], "base_rates": ..., "single_feature_auc": ...}`` of an encoded directory.

    Raises DataError when one feature alone gives a label away.
    """
    warnings, rates = [], {}
    tasks = [task for task in dataset.tasks if task.kind == "binary"]
    for task in tasks:
        rates[task.name] = {}
        for name in ("train", "valid", "test"):
            labels = np.memmap(directory / f"{name}.label.{task.name}", np.uint8, "r")
            tally = np.bincount(labels, minlength=256)
            defined, positives = int(tally[0] + tally[1]), int(tally[1])
            rates[task.name][name] = {"defined": defined, "positives": positives}
            if min(positives, defined - positives) == 0:
                warnings.append(f"task '{task.name}': the {name} split has one class only ({positives}/{defined}).")
    strongest = {
        name: {"feature": best[0], "auc": round(best[1], 6)} for name, best in _strongest(tasks, directory, meta)
    }
    for name, best in strongest.items():
        if best["auc"] > LEAK_AUC and best["feature"] not in dataset.allow_leaks:
            raise DataError(
                f"'{dataset.name}': feature '{best['feature']}' alone predicts task '{name}' with AUC "
                f"{best['auc']:.4f}: it gives the label away. List it in the task's excludes, drop it from the "
                f"features, or name it in allow_leaks if it is legitimate."
            )
    return {"warnings": warnings, "base_rates": rates, "single_feature_auc": strongest}


def _strongest(tasks: list[Task], directory: Path, meta: dict[str, Any]) -> Iterator[tuple[str, tuple[str, float]]]:
    """(task, (feature, AUC)) of the feature that says most about each task that has rows enough."""
    labels = {
        (task.name, name): np.array(np.memmap(directory / f"{name}.label.{task.name}", np.uint8, "r")[:LEAK_ROWS])
        for task in tasks
        for name in ("train", "valid")
    }
    tasks = [t for t in tasks if all(_enough(labels[t.name, name]) for name in ("train", "valid"))]
    found: dict[str, list[tuple[float, str]]] = {task.name: [] for task in tasks}
    columns = sum(entry["length"] for entry in meta["categorical"])
    codes = {
        name: _matrix(directory / f"{name}.categorical", np.int32, columns)[:LEAK_ROWS] for name in ("train", "valid")
    }
    column = 0
    for entry in meta["categorical"]:
        if entry["length"] == 1:
            train, valid = (np.ascontiguousarray(codes[name][:, column]) for name in ("train", "valid"))
            for task in tasks:
                if entry["name"] in task.excludes:
                    continue
                seen = labels[task.name, "train"]
                totals = np.bincount(train, seen != UNDEFINED, entry["size"])
                positives = np.bincount(train, seen == 1, entry["size"])
                score = (positives + positives.sum() / totals.sum()) / (totals + 1)
                found[task.name].append((_auc(score[valid], labels[task.name, "valid"]), entry["name"]))
        column += entry["length"]
    numbers = _matrix(directory / "valid.numeric", np.float32, len(meta["numeric"]))[:LEAK_ROWS]
    for column, entry in enumerate(meta["numeric"]):
        for task in tasks:
            if entry["name"] not in task.excludes:
                one = _auc(numbers[:, column], labels[task.name, "valid"])
                found[task.name].append((max(one, 1 - one), entry["name"]))
    for task, results in found.items():
        if results:
            best = max(results)
            yield task, (best[1], best[0])


def _enough(labels: np.ndarray) -> bool:
    return min(int((labels == 1).sum()), int((labels == 0).sum())) >= ENOUGH


def _auc(score: np.ndarray, label: np.ndarray) -> float:
    defined = label != UNDEFINED
    return auc(score, label) if defined.all() else auc(score[defined], label[defined])


def _matrix(path: Path, dtype: type, columns: int) -> np.ndarray:
    if columns == 0 or path.stat().st_size == 0:
        return np.zeros((0, columns), dtype)
    return np.memmap(path, dtype, "r").reshape(-1, columns)


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; both classes must be there."""
    _, place, tally = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(tally) - (tally - 1) / 2)[place]
    positive = label == 1
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(label) - n)))
