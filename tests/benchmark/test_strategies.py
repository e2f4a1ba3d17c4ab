"""Strategies that control for what else could explain a gain: more training, a teacher, a copy of its own."""

import numpy as np
import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.planning.fitting import fitted
from benchmark.records.lineage import parent_key, stage0_key
from benchmark.spec.arms import ARMS
from benchmark.training.meters import weights_fingerprint
from benchmark.training.models import build_model, take_in
from benchmark.training.protocol import execute
from methods.base import Task
from tests.benchmark.fakes import FakeData
from tests.benchmark.test_protocol import BUDGET, CPU, auc, key
from tests.methods.toys import SCHEMA


@pytest.fixture(scope="module")
def stage0(tmp_path_factory):
    outcome = execute(key(), FakeData(), CPU)
    path = tmp_path_factory.mktemp("stage0") / "weights.pt"
    torch.save(outcome.weights, path)
    return outcome, path


def run(arm, stage0, data=None, **options):
    changed = key(arm).model_copy(update={"arm_config": ARMS[arm].resolve(options)})
    return execute(changed, data or FakeData(), CPU, stage0=stage0[1])


@pytest.mark.parametrize("method", ["shared_bottom", "mpt_rec"])
def test_a_fine_tuned_copy_is_fine_tuning_for_the_new_task_and_stage_0_for_the_old(method, tmp_path):
    before = execute(key(method=method), FakeData(), CPU)
    torch.save(before.weights, tmp_path / "weights.pt")
    copy, tuned = (
        execute(key(arm, method), FakeData(), CPU, stage0=tmp_path / "weights.pt")
        for arm in ("finetune_copy", "finetune")
    )
    assert np.array_equal(copy.predictions["c"], tuned.predictions["c"])
    for task in "ab":
        assert np.array_equal(copy.predictions[task], before.predictions[task])
    assert copy.invariants["old_tasks_unchanged"]
    assert copy.params.trainable == tuned.params.trainable
    assert copy.params.total == before.params.total + tuned.params.total
    assert copy.serving.flops == pytest.approx(before.serving.flops + tuned.serving.flops)


def test_warm_joint_goes_on_from_stage_0_on_all_labels(stage0):
    slow = key("warm_joint", learning_rate=1e-9, epochs=1)
    started = execute(slow, FakeData(), CPU, stage0=stage0[1])
    for task in "ab":
        np.testing.assert_allclose(started.predictions[task], stage0[0].predictions[task], atol=1e-4)
    data = FakeData()
    data._labels["train", "a"] = 1 - data._labels["train", "a"]
    assert auc(run("warm_joint", stage0))["a"] > 0.6 > 0.5 > auc(run("warm_joint", stage0, data))["a"]
    assert parent_key(key("warm_joint")) == stage0_key(key("warm_joint"))


def test_joint_training_with_a_teacher_starts_afresh_and_reads_no_old_label(stage0):
    taught = run("joint_distil", stage0)
    data = FakeData()
    data._labels["train", "a"] = 1 - data._labels["train", "a"]
    assert weights_fingerprint(run("joint_distil", stage0, data).weights) == weights_fingerprint(taught.weights)
    teacher = torch.load(stage0[1], weights_only=True)
    other = stage0[1].with_name("other.pt")
    torch.save({name: tensor * 0 for name, tensor in teacher.items()}, other)
    untaught = execute(key("joint_distil"), FakeData(), CPU, stage0=other)
    assert auc(untaught)["a"] < auc(taught)["a"]


def test_epochs_of_both_stages_are_granted_where_the_arm_says_so():
    table = BUDGET | {"new_task_epochs": 3, "new_task_patience": None}
    epochs = {name: ARMS[name].budget(table).epochs for name in ("finetune", "finetune_long", "warm_joint", "joint")}
    assert epochs == {"finetune": 3, "finetune_long": 7, "warm_joint": 4, "joint": 4}


def test_loras_scale_stays_when_its_rank_is_set_or_fitted():
    lora = ARMS["lora"]
    assert lora.resolve({}) == {"rank": 8, "alpha": 8.0}
    assert lora.resolve({"rank": 22}) == {"rank": 22, "alpha": 22.0}
    assert lora.resolve({"rank": 22, "alpha": 8.0}) == {"rank": 22, "alpha": 8.0}
    assert fitted(lambda o: 100 * int(o["rank"]), lora, lora.resolve({}), 2200).options == {"rank": 22, "alpha": 22.0}


def test_an_option_that_joined_later_renames_no_run_and_acts_when_it_is_set(stage0):
    assert "l2" not in ARMS["lora"].resolve({"l2": 0.0}) and ARMS["lora"].resolve({"l2": 1e-3})["l2"] == 1e-3
    with pytest.raises(UsageError, match="l2"):
        ARMS["lora"].resolve({"l2": -1.0})
    model, _ = build_model("shared_bottom", {"hidden": (8, 6), "tower": (5,)}, SCHEMA, [Task("a")], ("w", 0))
    model, _, _ = take_in(model, ARMS["lora"], [Task("new")], ARMS["lora"].resolve({"l2": 0.5}), ("w", 0))
    decayed = {id(parameter): value for parameter, value in model.weight_decay()}
    assert {decayed[id(part.up.weight)] for part in model.parts.values()} == {0.5}


def test_a_continual_arm_can_let_the_old_tasks_choose_the_epoch_too(stage0):
    alone, together = run("lwf", stage0), run("lwf", stage0, select_old=1)
    assert set(alone.curve[0].validation) == {"c"} and set(together.curve[0].validation) == {"a", "b", "c"}
    scores = [sum(m["auc"] for m in epoch.validation.values()) / 3 for epoch in together.curve]
    assert together.selection.epoch == 1 + int(np.argmax(scores))


def test_each_task_of_a_joint_run_is_also_scored_at_its_own_best_epoch(stage0):
    outcome = execute(key("joint", learning_rate=0.05, epochs=8, patience=8), FakeData(), CPU)
    for task, kept in outcome.by_task_epoch.items():
        values = [epoch.validation[task]["auc"] for epoch in outcome.curve]
        assert kept.epoch == 1 + int(np.argmax(values))
        shorter = execute(key("joint", learning_rate=0.05, epochs=kept.epoch, patience=8), FakeData(), CPU)
        assert shorter.by_task_epoch[task] == kept
    epochs = {kept.epoch for kept in outcome.by_task_epoch.values()}
    assert len(epochs | {outcome.selection.epoch}) > 1, "the tasks agree: this run shows nothing"
    assert run("frozen", stage0).by_task_epoch is None
