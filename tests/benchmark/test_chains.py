"""New tasks that arrive one after another, on a dataset in memory."""

import numpy as np
import pytest
import torch

from benchmark.records.lineage import ancestors, keeps_weights, known_before, parent_key
from benchmark.records.record import Key, run_id
from benchmark.spec.arms import ARMS
from benchmark.training.meters import weights_fingerprint
from benchmark.training.protocol import InvariantBroken, execute
from methods import METHODS
from tests.benchmark.fakes import FakeData
from tests.benchmark.test_protocol import CPU, _through_disk, auc

BUDGET = {"batch_size": 64, "learning_rate": 1e-2, "epochs": 2, "patience": 2}


def key(arm, *chain, method="shared_bottom"):
    """A run of the chain b, c on top of the old task a; without tasks stage 0."""
    return Key(
        dataset="fake", old_tasks=["a"], new_tasks=["b", "c"], tasks=[chain[-1]] if chain else ["a"], method=method,
        config={}, arm=arm, stage=len(chain), budget=BUDGET, selection="rule", seed=0, chain=list(chain),
        arm_config=ARMS[arm].resolve({}),
    )  # fmt: skip


def stages(tmp_path, arm, order=("b", "c"), method="shared_bottom"):
    """The outcomes of stage 0 and of every stage of a chain, each continuing the one before."""
    outcomes, weights = [], None
    for stage in range(len(order) + 1):
        wanted = key(arm, *order[:stage], method=method) if stage else key("stage0", method=method)
        outcomes.append(execute(wanted, FakeData(), CPU, stage0=weights))
        weights = tmp_path / f"{arm}-{stage}.pt"
        torch.save(outcomes[-1].weights, weights)
    return outcomes


@pytest.mark.parametrize("method", ["shared_bottom", "mpt_rec"])
@pytest.mark.parametrize("arm", ["frozen", "lora", "linear_probe", "soft_prompt"])
def test_what_a_frozen_chain_has_learnt_never_changes_by_a_bit(tmp_path, arm, method):
    first, second, third = stages(tmp_path, arm, method=method)
    for outcome in (second, third):
        assert outcome.invariants["old_tasks_unchanged"]
        assert np.array_equal(outcome.predictions["a"], first.predictions["a"])
    assert np.array_equal(third.predictions["b"], second.predictions["b"])
    assert set(third.scores) == {"a", "b", "c"}
    # what was trained for b is kept, and only what c brought in is trained
    assert third.params.total > second.params.total > first.params.total
    assert third.params.trainable == third.params.total - second.params.total
    # the first stage of a chain is what taking in that task alone would be
    alone = key(arm, method=method).model_copy(update={"new_tasks": ["b"], "tasks": ["b"], "stage": 1})
    whole = execute(alone, FakeData(), CPU, stage0=tmp_path / f"{arm}-0.pt")
    assert weights_fingerprint(whole.weights) == weights_fingerprint(second.weights)


def test_serving_costs_grow_by_a_pass_with_every_adapted_task(tmp_path):
    """A pass holds all towers by then, so the steps grow a little; that they double would be a pass too many."""
    first, second, third = stages(tmp_path, "lora")
    added = second.flops.forward - first.flops.forward
    assert added > 0.9 * first.flops.forward
    assert added <= third.flops.forward - second.flops.forward < 1.5 * added


@pytest.mark.parametrize("spoilt", [("b",), ("b", "c")])
def test_a_method_that_changes_known_tasks_by_taking_one_in_is_caught_at_that_stage(tmp_path, monkeypatch, spoilt):
    """Before training has begun: what counts are the predictions of the run before."""
    shared_bottom = METHODS.get("shared_bottom")
    add_task = shared_bottom.add_task

    def careless(model, task):
        if task.name == spoilt[-1]:
            with torch.no_grad():
                next(model.parameters()).mul_(1.001)
        return add_task(model, task)

    monkeypatch.setattr(shared_bottom, "add_task", careless)
    with pytest.raises(InvariantBroken, match="old_tasks_unchanged"):
        stages(tmp_path, "frozen", order=spoilt)
    assert len(list(tmp_path.glob("frozen-*.pt"))) == len(spoilt), "another stage is blamed"


@pytest.mark.parametrize("arm", ["finetune", "lwf", "replay", "ewc"])
def test_later_stages_of_tuned_arms_know_all_tasks_before(tmp_path, arm):
    _, second, third = stages(tmp_path, arm)
    assert not np.array_equal(third.predictions["b"], second.predictions["b"])
    assert set(third.scores) == {"a", "b", "c"} and auc(third)["c"] > 0.55
    if arm == "lwf":  # the teacher answers for the task that the stage before brought in, too
        assert set(third.curve[0].loss) == {"a", "b", "c"} and set(second.curve[0].loss) == {"a", "b"}
    if arm == "replay":
        assert {"replay/a", "replay/b", "c"} <= set(third.curve[0].loss)


def test_a_stage_that_is_killed_and_resumed_ends_with_the_same_bits(tmp_path):
    *_, whole = stages(tmp_path, "lora")
    states = []
    wanted, weights = key("lora", "b", "c"), tmp_path / "lora-1.pt"
    save = lambda state: states.append(torch.load(_through_disk(state)))  # noqa: E731
    execute(wanted, FakeData(), CPU, stage0=weights, checkpoint=(save, None))
    resumed = execute(wanted, FakeData(), CPU, stage0=weights, checkpoint=(lambda _: None, states[0]))
    assert weights_fingerprint(resumed.weights) == weights_fingerprint(whole.weights)


def test_a_chain_knows_its_line():
    last = key("lora", "b", "c")
    line = ancestors(last)
    assert [(k.arm, k.chain, k.tasks, k.stage) for k in line] == [("stage0", [], ["a"], 0), ("lora", ["b"], ["b"], 1)]
    assert parent_key(line[0]) is None and parent_key(key("joint", "b")) is None
    assert known_before(last) == ["a", "b"] and known_before(line[1]) == ["a"]
    assert [keeps_weights(k) for k in (*line, last)] == [True, True, False]
    # stage 0 is the same whatever is done with it, and whatever share of the new labels there is
    scarce = key("frozen", "b").model_copy(update={"dataset": "fake@users2pct+new1pct", "chain": []})
    assert parent_key(scarce).dataset == "fake@users2pct" and parent_key(key("ewc", "c")) == line[0]


def test_runs_without_a_chain_keep_their_names():
    ordinary = key("frozen")
    assert run_id(ordinary) == run_id(Key.model_validate(ordinary.model_dump(exclude={"chain"})))
    assert run_id(key("frozen", "b", "c")) != run_id(key("frozen", "c", "b"))
