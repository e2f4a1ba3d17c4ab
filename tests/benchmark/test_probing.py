"""LP-FT: first the new task's own part on a frozen backbone, then everything."""

import torch

from benchmark.training.meters import weights_fingerprint
from benchmark.training.protocol import execute
from tests.benchmark.fakes import FakeData
from tests.benchmark.test_protocol import CPU, _through_disk, auc, key, stage0  # noqa: F401


def run(path, arm="lp_ft", share=0.5, checkpoint=(None, None), **budget):
    wanted = key(arm, **budget).model_copy(update={"arm_config": {"share": share} if arm == "lp_ft" else {}})
    return execute(wanted, FakeData(), CPU, stage0=path, checkpoint=checkpoint)


def test_probing_is_the_frozen_arm_and_fine_tuning_starts_from_where_it_ends(stage0):  # noqa: F811
    before, path = stage0
    states = []
    outcome = run(path, checkpoint=(lambda state: states.append(_through_disk(state)), None))
    frozen = run(path, "frozen")
    losses = [epoch.loss for epoch in outcome.curve]
    assert len(losses) == 4 and losses[:2] == [epoch.loss for epoch in frozen.curve][:2]
    assert losses[2:] != [epoch.loss for epoch in frozen.curve][2:]
    for state, moved in zip((torch.load(state, weights_only=True) for state in states), (False, False, True)):
        same = [torch.equal(state["model"][name], weights) for name, weights in before.weights.items()]
        assert all(same) != moved
    assert auc(outcome)["c"] > 0.6
    assert outcome.params.trainable == outcome.params.total and not outcome.invariants


def test_the_kept_epoch_is_whole_even_if_it_was_one_of_probing(stage0, monkeypatch):  # noqa: F811
    before, path = stage0
    falling = iter([0.9, 0.8, 0.7, 0.6])
    monkeypatch.setattr("benchmark.training.trainer.selection_score", lambda scores: next(falling))
    outcome = run(path)
    assert outcome.selection.epoch == 1 and outcome.selection.epochs_run == 4
    assert all(torch.equal(outcome.weights[name], weights) for name, weights in before.weights.items())


def test_a_run_killed_while_it_probes_or_tunes_ends_with_the_same_bits(stage0):  # noqa: F811
    _, path = stage0
    states = []
    whole = run(path, checkpoint=(lambda state: states.append(_through_disk(state)), None))
    assert len(states) == 3
    for state in states:
        resumed = run(path, checkpoint=(lambda _: None, torch.load(state, weights_only=True)))
        assert weights_fingerprint(resumed.weights) == weights_fingerprint(whole.weights)
        assert [e.loss for e in resumed.curve] == [e.loss for e in whole.curve]


def test_patience_counts_from_where_fine_tuning_begins_and_one_epoch_is_left_to_it(stage0):  # noqa: F811
    _, path = stage0
    outcome = run(path, epochs=6, share=0.9, patience=1)
    assert outcome.selection.epochs_run >= 6  # five of probing, however they went, and the one that follows
    one = run(path, epochs=1)
    assert len(one.curve) == 1 and any("nothing was probed" in warning for warning in one.warnings)
    assert not outcome.warnings
