"""The trainer beside a minimal hand loop and beside the usual DataLoader, on the Census shape. Not part of the tests:

python -m pytest tests/benchmarks --benchmark-only
"""

import numpy as np
import pytest
import torch

from benchmark.protocol import build_model
from benchmark.rows import DataRows
from benchmark.runner import set_up_torch
from benchmark.trainer import Budget, train
from datasets_registry.schema import CategoricalFeature, Schema, Task
from methods import METHODS
from tests.benchmarks.loops import dataloader_loop, hand_loop

VOCABULARIES = (9, 52, 47, 3, 24, 15, 5, 10, 2, 3, 6, 8, 6, 6, 51, 38, 8, 10, 9, 10, 3, 4, 5, 43, 43, 43, 5, 3)
SCHEMA = Schema(
    tuple(CategoricalFeature(f"c{i}", size) for i, size in enumerate(VOCABULARIES)), tuple(f"n{i}" for i in range(11))
)
TASKS = [Task("income"), Task("marital")]
METHODS_MEASURED = ("shared_bottom", "mmoe", "ple", "mpt_rec")
ROWS = 51_200
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


@pytest.fixture(scope="module", autouse=True)
def threads():
    set_up_torch(1)


def fresh(method, tasks=TASKS):
    model, _ = build_model(method, METHODS.get(method).Config().__dict__, SCHEMA, tasks, ("bench", method, 0))
    return model


def trainer_epoch(model, rows, batch_size, forward=None, epochs=1, trained=None):
    model.start_training(rows, torch.Generator().manual_seed(0))
    return train(
        model,
        rows,
        lambda: {"income": {"auc": None}},
        Budget(batch_size, 1e-3, epochs, epochs),
        forward=forward or model,
        trained=trained or list(model.parameters()),
        training_mode=model.train,
        order=("bench", 0),
        noise=("bench", 1),
        device=DEVICE,
    )


@pytest.mark.parametrize("batch_size", [256, 4096])
@pytest.mark.parametrize("method", METHODS_MEASURED)
def test_trainer_against_hand_loop_and_dataloader(side_by_side, method, batch_size):
    arrays = Arrays()
    rows = DataRows(arrays, arrays.labels, DEVICE)
    categorical, numeric = torch.from_numpy(arrays.categorical(None)), torch.from_numpy(arrays.numeric(None))
    labels = {task: torch.from_numpy(label) for task, label in arrays.labels.items()}
    part = slice(0, ROWS // 4)  # the DataLoader is slow: a quarter of the rows, its time multiplied below

    def prepared():
        model = fresh(method)
        model.start_training(rows, torch.Generator().manual_seed(0))
        return model.train()

    models = {name: prepared() for name in ("trainer", "hand", "dataloader")}
    medians, ratios = side_by_side(
        {
            "trainer": lambda: trainer_epoch(models["trainer"], rows, batch_size),
            "hand loop": lambda: hand_loop(models["hand"], categorical, numeric, labels, batch_size),
            "DataLoader (quarter of the rows)": lambda: dataloader_loop(
                models["dataloader"],
                categorical[part],
                numeric[part],
                {t: v[part] for t, v in labels.items()},
                batch_size,
            ),
        },
        rounds=5,
        title=f"{method}, batch {batch_size}, {ROWS:,} rows",
    )
    print(f"trainer / hand loop {1 / ratios['hand loop']:.3f}")
