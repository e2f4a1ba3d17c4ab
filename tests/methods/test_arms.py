"""Every method in every arm that it supports, through the protocol, on a dataset in memory."""

import numpy as np
import pytest
import torch

from benchmark.records.record import Key
from benchmark.spec.arms import ARMS, SCRATCH, STAGE0
from benchmark.training.protocol import execute
from methods import METHODS
from tests.benchmark.fakes import FakeData

CPU = torch.device("cpu")
BUDGET = {"batch_size": 100, "learning_rate": 1e-2, "epochs": 2, "patience": 2}


def key(method, arm):
    return Key(
        dataset="fake",
        old_tasks=["a", "b"],
        new_tasks=["c"],
        tasks=ARMS[arm].tasks(["a", "b"], ["c"]),
        method=method,
        config={},
        arm=arm,
        stage=ARMS[arm].stage,
        budget=BUDGET,
        selection="rule",
        seed=0,
    )


@pytest.mark.parametrize("method", [name for name in sorted(METHODS) if METHODS.get(name).info.arms != ("scratch",)])
def test_every_supported_arm_learns_the_new_task_and_a_frozen_one_keeps_the_old(method, tmp_path):
    info = METHODS.get(method).info
    before = execute(key(method, STAGE0), FakeData(), CPU)
    weights = tmp_path / "weights.pt"
    torch.save(before.weights, weights)
    sizes = {}
    for name, arm in ARMS.items():
        if name in (STAGE0, SCRATCH) or not arm.supported_by(info.arms, info.without):
            continue
        after = execute(key(method, name), FakeData(), CPU, stage0=weights if arm.reads_stage0 else None)
        assert after.scores["c"].metrics["auc"] > 0.55, name
        if name != "warm_joint":  # old tasks that are learnt already may move the shared part away from the new one
            assert after.curve[-1].loss["c"] < after.curve[0].loss["c"], name
        sizes[name] = after.params.trainable
        if arm.frozen:
            for task in ("a", "b"):
                assert np.array_equal(after.predictions[task], before.predictions[task]), (name, task)
    if "frozen" in sizes:
        assert sizes.get("linear_probe", 0) < sizes["frozen"]
        assert all(sizes["frozen"] < sizes[arm] for arm in ("adapter", "lora", "bias_only") if arm in sizes)
