"""Training from the memory map beside training from memory, on Ali-CCP's shape. Not part of the tests:

python -m pytest tests/benchmarks/test_data_speed.py --benchmark-only

MPTBENCH_BENCH_ROWS chooses the number of generated rows (2 million; 52,900,000 has as many training rows as Ali-CCP and
needs some 15 GB of disk for a while).
"""

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest
import torch

from benchmark.spec.budget import Budget
from benchmark.training.backend import set_up_torch
from benchmark.training.learner import Learner, Streams
from benchmark.training.models import build_model
from benchmark.training.rows import DataRows
from benchmark.training.trainer import train
from datasets_registry import prepare
from datasets_registry.synthetic import synthetic
from methods import METHODS

BATCH_SIZE = 2000
STEPS = 300
WARM_UP = 30
TASKS = ("click", "like")
VOCABULARY = (120_000, 98, 14, 3, 8, 4, 4, 3, 5, 70_000, 7_000, 60_000, 50_000, 6_000, 45_000, 33_000, 27_000, 3)
DEVICE = torch.device("cpu")


class Enough(Exception):
    """The measured steps are done."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    set_up_torch(1)
    rows = int(os.environ.get("MPTBENCH_BENCH_ROWS", "2000000"))
    shape = synthetic("synthetic_ali_ccp", rows=rows, vocabulary=VOCABULARY, numerics=0)
    return prepare(shape, cache_dir=tmp_path_factory.mktemp("map"))


def own_bytes():
    """Memory that belongs to this process alone; pages of mapped files do not."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def measure(data, in_memory_bytes):
    """Seconds from opening the arrays to the first step, rows/s of the steps after the warm-up, peak of own memory."""
    schema = data.schema(TASKS)
    tasks = [data.tasks[name] for name in TASKS]
    model, _ = build_model("shared_bottom", METHODS.get("shared_bottom").Config().__dict__, schema, tasks, ("data", 0))
    peak, done = [own_bytes()], threading.Event()

    def watch():
        while not done.wait(0.02):
            peak[0] = max(peak[0], own_bytes())

    threading.Thread(target=watch, daemon=True).start()
    opened, steps = time.perf_counter(), []

    def forward(batch):
        steps.append(time.perf_counter())
        if len(steps) > STEPS:
            raise Enough
        return model(batch)

    labels = {name: data.labels("train", name) for name in TASKS}
    rows = DataRows(data.split("train", schema), labels, DEVICE, in_memory_bytes)
    with contextlib.suppress(Enough):
        learner = Learner(model, rows, list(model.parameters()), Streams("data", "shared_bottom", 0), DEVICE)
        learner.forward = forward
        budget = Budget(batch_size=BATCH_SIZE, learning_rate=1e-3, epochs=STEPS, patience=STEPS)
        train(learner, lambda: {"click": {"auc": None}}, budget)
    done.set()
    speed = BATCH_SIZE * (STEPS - WARM_UP) / (steps[STEPS] - steps[WARM_UP])
    return {"first_step_seconds": steps[0] - opened, "rows_per_second": speed, "own_bytes": peak[0]}


def test_training_from_the_map_beside_memory(benchmark, say, data):
    """In turns, three times each; the best of each counts, since whatever else the machine does only slows down."""
    measure(data, 0)
    runs = {"map": [], "memory": []}
    for _ in range(3):
        runs["map"].append(measure(data, 0))
        runs["memory"].append(measure(data, 1 << 40))
    best = {name: max(run["rows_per_second"] for run in mine) for name, mine in runs.items()}
    benchmark.extra_info |= {"runs": runs, "map_over_memory": best["map"] / best["memory"]}
    benchmark.pedantic(measure, (data, 0), rounds=1)
    say(
        f"{data.rows('train'):,} training rows, shared_bottom, batch {BATCH_SIZE}: map {best['map']:,.0f} rows/s, "
        f"memory {best['memory']:,.0f} rows/s ({best['map'] / best['memory']:.2f}x)"
    )
    assert best["map"] > 0.8 * best["memory"]
    assert max(run["own_bytes"] for run in runs["map"]) < 6 << 30
