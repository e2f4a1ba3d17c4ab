"""What is looked for in every encoded dataset: inputs that give a label away, and labels of one class.

A single feature that predicts a task with an AUC above LEAK_AUC is taken for a leak and refused, unless the task
excludes the feature or the dataset names it in ``allow_leaks``. A feature's score is the training rows' mean label
per value (numeric: the value itself), and the AUC is taken on validation rows, so that an id that occurs once says
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.core.errors import DataError
from datasets_registry.base import Dataset
from datasets_registry.schema import Task

SPLITS = ("train", "valid", "test")
LEAK_AUC = 0.99
LEAK_ROWS = 500_000  # rows of train and of valid that the check looks at, from the start
HEADER = 1 << 24  # bytes that a header may have: hundreds of features' names are more than NumPy expects
FEW = 5  # rows of the smaller class in each half of the training rows below which nothing is suspected
ENOUGH = 20  # rows of the smaller class below which an AUC is too coarse to accuse anyone


def check(dataset: Dataset, directory: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """``{"warnings": [...], "base_rates": ..., "single_feature_auc": ...}`` of an encoded directory.

    Raises DataError when one feature alone gives a label away.
    """
    warnings, rates = [], {}
    for task in dataset.tasks:
        if task.kind == "regression":
            values = {name: _load(directory, f"{name}.label.{task.name}") for name in SPLITS}
            rates[task.name] = {n: {"defined": int((~np.isnan(v)).sum()), "positives": None} for n, v in values.items()}
    tasks = [task for task in dataset.tasks if task.kind == "binary"]
    for task in tasks:
        rates[task.name] = {}
        for name in SPLITS:
            labels = _load(directory, f"{name}.label.{task.name}")
            tally = np.bincount(labels, minlength=256)
            defined, positives = int(tally[0] + tally[1]), int(tally[1])
            rates[task.name][name] = {"defined": defined, "positives": positives}
            if min(positives, defined - positives) == 0:
                warnings.append(f"task '{task.name}': the {name} split has one class only ({positives}/{defined}).")
    strongest: dict[str, dict[str, Any]] = {
        name: {"feature": best[0], "auc": round(best[1], 6)} for name, best in _strongest(tasks, directory, meta)
    }
    for name, best in strongest.items():
        if best["auc"] > LEAK_AUC and best["feature"] not in dataset.allow_leaks:
            raise DataError(
                f"'{dataset.name}': feature '{best['feature']}' alone predicts task '{name}' with AUC "
                f"{best['auc']:.4f}: it gives the label away. List it in the task's excludes, drop it from the "
                f"features, or name it in allow_leaks if it is legitimate."
            )
    warnings += _suspects([task for task in tasks if task.name not in strongest], directory, meta, dataset.allow_leaks)
    warnings += _out_of_order(dataset, directory)
    return {"warnings": warnings, "base_rates": rates, "single_feature_auc": strongest}


def _strongest(tasks: list[Task], directory: Path, meta: dict[str, Any]) -> Iterator[tuple[str, tuple[str, float]]]:
    """(task, (feature, AUC)) of the feature that says most about each task that has rows enough."""
    labels = {
        (task.name, name): np.array(_load(directory, f"{name}.label.{task.name}")[:LEAK_ROWS])
        for task in tasks
        for name in ("train", "valid")
    }
    tasks = [t for t in tasks if all(_enough(labels[t.name, name]) for name in ("train", "valid"))]
    found: dict[str, list[tuple[float, str]]] = {task.name: [] for task in tasks}
    codes: dict[str, Any] = {
        name: _load(directory, f"{name}.codes")[:LEAK_ROWS] if meta["categorical"] else None
        for name in ("train", "valid")
    }
    for entry in meta["categorical"]:
        if entry["length"] == 1:
            train, valid = (codes[name][entry["name"]].astype(np.int64) for name in ("train", "valid"))
            for task in tasks:
                if entry["name"] in task.excludes:
                    continue
                positives, negatives = _tally(train, labels[task.name, "train"], entry["size"])
                rate = positives.sum() / (positives.sum() + negatives.sum())
                score = (positives + rate) / (positives + negatives + 1)
                tallies = _tally(valid, labels[task.name, "valid"], entry["size"])
                found[task.name].append((_group_auc(score, *tallies), entry["name"]))
    numbers = _load(directory, "valid.numeric")[:LEAK_ROWS] if meta["numeric"] else np.zeros((0, 0))
    for column, entry in enumerate(meta["numeric"]):
        values, group = np.unique(numbers[:, column], return_inverse=True)
        name = entry.get("feature", entry["name"])
        for task in tasks:
            if name not in task.excludes:
                one = _group_auc(values, *_tally(group, labels[task.name, "valid"], len(values)))
                found[task.name].append((max(one, 1 - one), name))
    for name, hit in _hits(directory, meta):
        for task in tasks:
            if name not in task.excludes:
                one = _group_auc(np.array([0.0, 1.0]), *_tally(hit, labels[task.name, "valid"], 2))
                found[task.name].append((max(one, 1 - one), name))
    for task, results in found.items():  # type: ignore[assignment]  # a name, above a task
        if results:
            best = max(results)
            yield task, (best[1], best[0])  # type: ignore[misc]


def _hits(directory: Path, meta: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """(sequence, whether the row's own value is in it, int [n]) on validation rows: a history that holds the clicked
    impression itself tells clicks apart by this alone."""
    columns = {entry["name"] for entry in meta["categorical"]}
    for entry in meta.get("sequences", ()):
        if entry["shares"] in columns:
            own = _load(directory, "valid.codes")[:LEAK_ROWS][entry["shares"]]
            places = _load(directory, "valid.sequences")[:LEAK_ROWS][entry["name"]]
            told_apart = own >= max(entry["reserved"], 1)  # an unseen value is no particular one
            yield entry["name"], ((places == own[:, None]).any(1) & told_apart).astype(np.int64)


def _suspects(tasks: list[Task], directory: Path, meta: dict[str, Any], allowed: Collection[str]) -> Iterator[str]:
    """Warnings for tasks that have too few rows to accuse anyone: features that tell apart the few there are.

    Every other training row says what a value's mean label is, and the rows between them are told apart by it.
    """
    codes: Any = _load(directory, "train.codes")[:LEAK_ROWS] if meta["categorical"] else None
    numbers: Any = _load(directory, "train.numeric")[:LEAK_ROWS] if meta["numeric"] else None
    for task in tasks:
        labels = np.array(_load(directory, f"train.label.{task.name}")[:LEAK_ROWS])
        fit, rest = labels[::2], labels[1::2]
        fewest = min(int((half == value).sum()) for half in (fit, rest) for value in (0, 1))
        if fewest < FEW:
            continue
        found = []
        for entry in meta["categorical"]:
            if entry["length"] == 1:
                column = codes[entry["name"]].astype(np.int64)
                positives, negatives = _tally(column[::2], fit, entry["size"])
                score = (positives + positives.sum() / (positives + negatives).sum()) / (positives + negatives + 1)
                found.append((_group_auc(score, *_tally(column[1::2], rest, entry["size"])), entry["name"]))
        for position, entry in enumerate(meta["numeric"]):
            one = auc(numbers[1::2, position], rest)
            found.append((max(one, 1 - one), entry.get("feature", entry["name"])))
        for value, name in found:
            if value > LEAK_AUC and name not in task.excludes and name not in allowed:
                yield (
                    f"feature '{name}' alone predicts task '{task.name}' with AUC {value:.4f} on training rows, "
                    "few of which are of the smaller class: a copy of the label? Then list it in excludes, or drop it."
                )


def _out_of_order(dataset: Dataset, directory: Path) -> Iterator[str]:
    """Warnings for steps of the dataset's funnel that rows take without the step before."""
    for earlier, later in zip(dataset.funnel, dataset.funnel[1:]):
        found, steps = 0, 0
        for name in SPLITS:
            before, after = (_load(directory, f"{name}.label.{task}") for task in (earlier, later))
            found += int(((before == 0) & (after == 1)).sum())
            steps += int((after == 1).sum())
        if found:
            yield (
                f"{found:,} of the {steps:,} rows with '{later}' are without '{earlier}', which comes before it in the "
                "funnel; they are kept as they are."
            )


def _enough(labels: np.ndarray) -> bool:
    return min(int((labels == 1).sum()), int((labels == 0).sum())) >= ENOUGH


def _tally(group: np.ndarray, labels: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of label 1 and of label 0 in each group; undefined labels count nowhere."""
    return np.bincount(group, labels == 1, groups), np.bincount(group, labels == 0, groups)


def _group_auc(score: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> float:
    """Area under the ROC curve of rows that come in groups of equal score."""
    there = np.flatnonzero(positives + negatives)
    order = there[np.argsort(score[there], kind="stable")]
    ordered = score[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    up, down = np.add.reduceat(positives[order], starts), np.add.reduceat(negatives[order], starts)
    below = np.cumsum(down) - down
    return float((up * (below + down / 2)).sum() / (up.sum() * down.sum()))


def _load(directory: Path, name: str) -> np.ndarray:
    return np.load(directory / f"{name}.npy", mmap_mode="r", max_header_size=HEADER)


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve of scores [N] and labels 0/1 [N], ties counted half; both classes must be there."""
    values, group = np.unique(score, return_inverse=True)
    return _group_auc(values, *_tally(group, np.asarray(label), len(values)))
