"""Learning a new task from few labels, on a dataset in memory."""

import numpy as np
import torch

from benchmark.training.meters import weights_fingerprint
from benchmark.training.protocol import execute
from benchmark.training.rows import labelled_rows
from tests.benchmark.fakes import ROWS, FakeData
from tests.benchmark.test_protocol import CPU, key

LABELLED = 60


def scarce(disturbed=False):
    """Only every tenth row has a label of the new task; ``disturbed`` changes the inputs of the others."""
    data = FakeData()
    labels = data._labels["train", "c"].copy()
    hidden = np.arange(ROWS["train"]) % 10 != 0
    labels[hidden] = np.nan
    data._labels["train", "c"] = labels
    if disturbed:
        codes, numeric = data._inputs["train"]
        data._inputs["train"] = np.where(hidden[:, None], 0, codes).astype(np.int32), numeric
    return data


def run(arm, data, weights=None, **changes):
    wanted = key(arm, method="shared_bottom").model_copy(update={"dataset": "fake@new10pct", **changes})
    return execute(wanted, data, CPU, stage0=weights)


def test_labelled_rows_are_repeated_until_an_epoch_is_worth_its_name():
    label = np.full(1000, np.nan, np.float32)
    label[[3, 500]] = 1, 0
    assert labelled_rows({"c": label}).tolist() == [3, 500] * 100
    label[:400] = 1
    assert len(labelled_rows({"c": label})) == 401  # more than the least epoch: each once
    assert len(labelled_rows({"c": np.full(10, np.nan, np.float32)})) == 0


def test_arms_of_the_new_task_alone_learn_from_its_labelled_rows_alone(tmp_path):
    stage0 = execute(key(), FakeData(), CPU)
    torch.save(stage0.weights, tmp_path / "weights.pt")
    for arm in ("frozen", "finetune"):
        plain, disturbed = (run(arm, scarce(flag), tmp_path / "weights.pt") for flag in (False, True))
        assert plain.train_rows == 2 * LABELLED  # a fifth of all rows
        assert weights_fingerprint(plain.weights) == weights_fingerprint(disturbed.weights)
    # what concerns the old tasks still sees every row
    for arm in ("ewc", "replay"):
        plain, disturbed = (run(arm, scarce(flag), tmp_path / "weights.pt") for flag in (False, True))
        assert plain.train_rows == 2 * LABELLED
        assert weights_fingerprint(plain.weights) != weights_fingerprint(disturbed.weights)
