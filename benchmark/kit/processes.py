"""A check across processes: a model is the same one wherever it is built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

import torch

from benchmark.kit.bench import Failed, SyntheticRows, build, predict, toy_tasks
from methods import METHODS
from methods.base import MultiTaskModel

NAMES = "abcde"
HASH_SEED = "20240817"
"""Of the other process. Names of five tasks have 120 orders in a set, so two processes hardly agree by chance."""


def another_process_builds_the_same_model(model: type[MultiTaskModel]) -> str | None:
    """A process in which strings have other hashes gives the same logits."""
    name = model.info.name
    there = elsewhere([name])[name]
    for task, logits in logits_of(model).items():
        if not torch.allclose(torch.tensor(logits), torch.tensor(there[task]), atol=1e-5, equal_nan=True):
            raise Failed(f"task '{task}': a model that another process builds with the same seed has other logits")
    return None


def logits_of(model: type[MultiTaskModel]) -> dict[str, list[float]]:
    """Logits of a few rows, of a model of five tasks as it is built."""
    tasks = toy_tasks(NAMES)
    outputs = predict(build(model, tasks), SyntheticRows(tasks, 8).gather(slice(0, 8)))
    return {name: outputs[name].tolist() for name in NAMES}


def elsewhere(names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """`logits_of` methods by name, in a process of its own with other hashes of strings. Raises Failed."""
    files = [METHODS.file(name) for name in names]
    environment = os.environ | {
        "PYTHONHASHSEED": HASH_SEED,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "benchmark.kit.processes", json.dumps([*zip(names, files, strict=True)])]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise Failed(f"another process cannot build the model: {result.stderr.strip().splitlines()[-1]}")
    logits: dict[str, dict[str, list[float]]] = json.loads(result.stdout.splitlines()[-1])
    return logits


def _main(wanted: Sequence[tuple[str, str]]) -> None:
    for name, file in wanted:
        if name not in METHODS:
            METHODS.load_file(file)
    print(json.dumps({name: logits_of(METHODS.get(name)) for name, _ in wanted}))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
