"""The trainer beside a minimal hand loop and beside the usual DataLoader, on the Census shape. Not part of the tests:

python -m pytest tests/benchmarks --benchmark-only
"""

import statistics
import time

import numpy as np
import pytest
import torch

from benchmark.execution.executor import Options, execute_plan
from benchmark.execution.watcher import Watcher
from benchmark.planning.plan import make_plan
from benchmark.planning.suite import Suite
from benchmark.spec.arms import ARMS
from benchmark.spec.budget import Budget
from benchmark.training import metrics
from benchmark.training.backend import set_up_torch
from benchmark.training.learner import Learner, Streams
from benchmark.training.models import build_model
from benchmark.training.rows import DataRows, cache_features
from benchmark.training.trainer import train
from datasets_registry.schema import CategoricalFeature, Schema, Task
from methods import METHODS
from tests.benchmarks import peers
from tests.benchmarks.loops import dataloader_loop, hand_loop

VOCABULARIES = (9, 52, 47, 3, 24, 15, 5, 10, 2, 3, 6, 8, 6, 6, 51, 38, 8, 10, 9, 10, 3, 4, 5, 43, 43, 43, 5, 3)
SCHEMA = Schema(
    tuple(CategoricalFeature(f"c{i}", size) for i, size in enumerate(VOCABULARIES)), tuple(f"n{i}" for i in range(11))
)
TASKS = [Task("income"), Task("marital")]
METHODS_MEASURED = ("shared_bottom", "mmoe", "ple", "mpt_rec")
FUNNELS = ("esmm", "aitm")
ROWS = 20_480  # 80 batches of 256, 5 of 4096
DEVICE = torch.device("cpu")


class Arrays:
    """Census-shaped rows in memory, in the form of a dataset's split."""

    def __init__(self, rows=ROWS):
        generator = np.random.default_rng(0)
        columns = [generator.integers(0, size, rows) + start for size, start in zip(VOCABULARIES, SCHEMA.offsets)]
        self._categorical = np.stack(columns, axis=1).astype(np.int32)
        self._numeric = generator.random((rows, 11), dtype=np.float32)
        self.labels = {task.name: (generator.random(rows) < 0.2).astype(np.float32) for task in TASKS}

    def __len__(self):
        return len(self._categorical)

    def categorical(self, index):
        return self._categorical if index is None else self._categorical[index]

    def numeric(self, index):
        return self._numeric if index is None else self._numeric[index]

    def sequences(self, index):
        return {}


@pytest.fixture(scope="module", autouse=True)
def threads():
    set_up_torch(1)


def fresh(method, tasks=TASKS):
    config = dict(vars(METHODS.get(method).Config()))
    if method in FUNNELS:
        config["funnel"] = ("income", "marital")
    model, _ = build_model(method, config, SCHEMA, tasks, ("bench", method, 0))
    return model


def trainer_epoch(model, rows, batch_size, epochs=1, trained=None, cached=None, device=DEVICE):
    model.start_training(rows, torch.Generator().manual_seed(0))
    learner = Learner(model, rows, trained or list(model.parameters()), Streams("bench", "bench", 0), device)
    learner.cached = cached
    budget = Budget(batch_size=batch_size, learning_rate=1e-3, epochs=epochs, patience=epochs)
    return train(learner, lambda: {"income": {"auc": None}}, budget)


def prepared(method, rows, device=DEVICE):
    """A fresh model, ready to train."""
    model = fresh(method).to(device)
    model.start_training(rows, torch.Generator().manual_seed(0))
    return model.train()


@pytest.mark.parametrize("batch_size", [256, 4096])
@pytest.mark.parametrize("method", [*METHODS_MEASURED, "cgc", *FUNNELS])
def test_trainer_beside_hand_loop_dataloader_and_peers(side_by_side, method, batch_size):
    arrays = Arrays()
    rows = DataRows(arrays, arrays.labels, DEVICE)
    categorical, numeric = torch.from_numpy(arrays.categorical(None)), torch.from_numpy(arrays.numeric(None))
    labels = {task: torch.from_numpy(label) for task, label in arrays.labels.items()}
    ours, hand, usual = (prepared(method, rows) for _ in range(3))
    alternatives = {
        "trainer": lambda: trainer_epoch(ours, rows, batch_size),
        "hand loop": lambda: hand_loop(hand, categorical, numeric, labels, batch_size),
        "DataLoader": lambda: dataloader_loop(usual, categorical, numeric, labels, batch_size),
    }
    if method != "mpt_rec":  # no peer has it
        for name, build in peers.available().items():
            if (epoch := build(method, arrays, batch_size, VOCABULARIES, 11)) is not None:
                alternatives[name] = epoch
    side_by_side(alternatives, rounds=3, title=f"{method}, batch {batch_size}, {ROWS:,} rows")


@pytest.mark.parametrize("method", METHODS_MEASURED)
def test_epochs_stay_as_fast_as_the_first(benchmark, say, method):
    arrays = Arrays()
    rows = DataRows(arrays, arrays.labels, DEVICE)
    model = prepared(method, rows)
    # 1,920 steps: denormal numbers would show after about 1,500
    trained = benchmark.pedantic(lambda: trainer_epoch(model, rows, 256, epochs=24), rounds=1)
    seconds = [epoch.train_seconds for epoch in trained.curve]
    first, last = statistics.median(seconds[1:5]), statistics.median(seconds[-4:])
    say(f"{method}: median of epochs 2-5 {first:.3f} s, of epochs 21-24 {last:.3f} s ({last / first:.2f}x)")


@pytest.mark.parametrize("method", ["shared_bottom", "mpt_rec"])
def test_stage_two_on_cached_outputs(side_by_side, method):
    """Against recomputing the frozen backbone in every step, by the same trainer and by the usual DataLoader."""
    arrays = Arrays()
    labels = {"education": arrays.labels["income"]}
    rows = DataRows(arrays, labels, DEVICE)
    models = []
    for _ in range(3):
        model = fresh(method)
        models.append((model.eval(), ARMS["frozen"].take_in(model, [Task("education")])))
    cached = cache_features(models[0][0], rows)
    categorical, numeric = torch.from_numpy(arrays.categorical(None)), torch.from_numpy(arrays.numeric(None))
    tensors = {task: torch.from_numpy(label) for task, label in labels.items()}
    new, trained = models[0]
    side_by_side(
        {
            "cached": lambda: trainer_epoch(new, rows, 256, trained=trained, cached=cached),
            "recomputed": lambda: trainer_epoch(models[1][0], rows, 256, trained=models[1][1]),
            "DataLoader": lambda: dataloader_loop(models[2][0], categorical, numeric, tensors, 256),
        },
        rounds=3,
        title=f"{method}, new task on a frozen backbone, batch 256",
    )


def test_auc_of_a_million_rows(side_by_side):
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    scores, labels = generator.normal(size=1_000_000).astype(np.float32), generator.random(1_000_000) < 0.05
    side_by_side(
        {"ours": lambda: metrics.auc(scores, labels), "scikit-learn": lambda: roc_auc_score(labels, scores)},
        rounds=5,
        title="AUC of a million rows",
    )


class Clock(Watcher):
    """When the first run that trained ended its first epoch, and the last one its last."""

    def __init__(self):
        self.times = []

    def epoch(self, run, epoch, epochs):
        self.times.append(time.perf_counter())


def one_method_suite(seeds, epochs=8):
    return Suite(
        name="jobs",
        title="",
        datasets=("synthetic",),
        methods=("mpt_rec",),
        arms=("joint",),
        seeds=tuple(seeds),
        budget={"batch_size": 256, "epochs": epochs, "patience": epochs},
    )


def test_two_runs_at_once(benchmark, say, tmp_path):
    """Throughput of ``--jobs 2`` against one run after the other, by the wall-clock between first and last epoch."""
    suite = one_method_suite(seeds=(0, 1))

    def seconds(jobs):
        plan = make_plan(suite)
        plan.runs = [run for run in plan.runs if run.key.method == "mpt_rec"]
        clock = Clock()
        execute_plan(plan, Options(out=tmp_path / str(jobs), jobs=jobs, mode="fresh"), clock, warn=print)
        return clock.times[-1] - clock.times[0]

    two = benchmark.pedantic(lambda: seconds(2), rounds=1)
    one = seconds(1)
    say(f"four MPT-Rec runs: one after the other {one:.1f} s, two at once {two:.1f} s, {one / two:.2f}x the throughput")
