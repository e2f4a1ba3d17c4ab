"""The protocol's promises, each checked on a dataset in memory."""

import numpy as np
import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.records.record import Key, run_id
from benchmark.spec.arms import ARMS
from benchmark.spec.budget import SELECTION_RULES
from benchmark.training.meters import weights_fingerprint
from benchmark.training.models import initialise
from benchmark.training.protocol import execute
from benchmark.training.trainer import TrainingDiverged
from benchmark.training.untouched import InputsChanged
from benchmark.training.user_metrics import NAMES
from methods import METHODS
from tests.benchmark.fakes import FakeData

BUDGET = {"batch_size": 64, "learning_rate": 1e-2, "epochs": 4, "patience": 4}
CPU = torch.device("cpu")


def key(arm="stage0", method="shared_bottom", old=("a", "b"), seed=0, config=None, **budget):
    return Key(
        dataset="fake",
        old_tasks=list(old),
        new_tasks=["c"],
        tasks=ARMS[arm].tasks(old, ["c"]),
        method=method,
        config=config or {},
        arm=arm,
        stage=ARMS[arm].stage,
        budget=BUDGET | budget,
        selection="rule",
        seed=seed,
    )


def auc(outcome):
    return {task: scores.metrics["auc"] for task, scores in outcome.scores.items()}


@pytest.fixture(scope="module")
def stage0(tmp_path_factory):
    """Outcome of a stage 0 and the file with its weights."""
    outcome = execute(key(), FakeData(), CPU)
    path = tmp_path_factory.mktemp("stage0") / "weights.pt"
    torch.save(outcome.weights, path)
    return outcome, path


def test_the_frozen_arm_leaves_old_tasks_alone_and_fine_tuning_does_not(stage0):
    before, weights = stage0
    frozen = execute(key("frozen"), FakeData(), CPU, stage0=weights)
    assert frozen.invariants == {"old_tasks_unchanged": True, "frozen_parameters_without_gradient": True}
    for task in ("a", "b"):
        assert np.array_equal(frozen.predictions[task], before.predictions[task])
    assert auc(frozen)["c"] > 0.6
    tuned = execute(key("finetune"), FakeData(), CPU, stage0=weights)
    assert auc(tuned)["a"] < auc(before)["a"]


def test_noise_in_test_labels_changes_scores_and_nothing_else(stage0):
    clean, weights = stage0
    noisy = execute(key(), FakeData(test_noise=0.4), CPU)
    assert weights_fingerprint(noisy.weights) == weights_fingerprint(clean.weights)
    assert noisy.selection == clean.selection
    assert auc(noisy) != auc(clean)
    arm = [execute(key("frozen"), FakeData(noise), CPU, stage0=weights) for noise in (0.0, 0.4)]
    assert weights_fingerprint(arm[0].weights) == weights_fingerprint(arm[1].weights)


def test_a_run_that_may_not_see_test_rows_trains_the_same_model_without_them(stage0):
    data = FakeData()
    del data._inputs["test"]
    data._labels = {place: labels for place, labels in data._labels.items() if place[0] != "test"}
    blind = execute(key().model_copy(update={"scored": "validation"}), data, CPU)
    assert weights_fingerprint(blind.weights) == weights_fingerprint(stage0[0].weights)
    assert blind.selection == stage0[0].selection
    assert blind.scores == blind.predictions == blind.labels == blind.inspected == {}
    frozen = execute(key("frozen").model_copy(update={"scored": "validation"}), data, CPU, stage0=stage0[1])
    assert frozen.invariants["old_tasks_unchanged"] and not frozen.scores


def test_the_same_key_gives_the_same_bits_whatever_was_drawn_before(stage0):
    torch.rand(17)
    np.random.default_rng().random()
    again = execute(key(), FakeData(), CPU)
    assert weights_fingerprint(again.weights) == weights_fingerprint(stage0[0].weights)
    other = execute(key(seed=1), FakeData(), CPU)
    assert weights_fingerprint(other.weights) != weights_fingerprint(stage0[0].weights)


@pytest.mark.parametrize("method", ["shared_bottom", "mmoe", "ple", "mpt_rec"])
def test_permuting_tasks_permutes_results(method):
    one = execute(key("joint", method), FakeData(), CPU)
    data = FakeData(tasks=("c", "b", "a"))
    other = execute(key("joint", method, old=("b", "a")), data, CPU)
    for task in "abc":
        np.testing.assert_allclose(one.predictions[task], other.predictions[task], rtol=2e-3, atol=2e-3)


def test_a_resumed_run_ends_with_the_same_bits(stage0):
    """For every epoch after which it could have been stopped, and for a method that keeps state per row."""
    for method in ("shared_bottom", "mpt_rec"):
        states = []

        def save(state, states=states):
            states.append(torch.load(_through_disk(state), weights_only=True))

        whole = execute(key(method=method), FakeData(), CPU, checkpoint=(save, None))
        assert len(states) == BUDGET["epochs"] - 1
        for state in states:
            resumed = execute(key(method=method), FakeData(), CPU, checkpoint=(lambda _: None, state))
            assert weights_fingerprint(resumed.weights) == weights_fingerprint(whole.weights)
            assert [e.loss for e in resumed.curve] == [e.loss for e in whole.curve]
            assert resumed.selection == whole.selection


def _through_disk(state):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def test_the_best_validation_epoch_is_kept_and_patience_ends_training():
    outcome = execute(key(learning_rate=0.05, epochs=12, patience=2), FakeData(), CPU)
    means = [epoch.selection for epoch in outcome.curve]
    assert outcome.selection.epoch == 1 + int(np.argmax(means))
    assert outcome.selection.score == max(means)
    if len(outcome.curve) < 12:
        assert len(outcome.curve) - outcome.selection.epoch == 2


def test_one_class_validation_and_test_labels_end_with_null_and_a_reason():
    data = FakeData()
    for split in ("valid", "test"):
        data._labels[split, "a"] = np.zeros_like(data._labels[split, "a"])
    outcome = execute(key(), data, CPU)
    assert outcome.scores["a"].metrics["auc"] is None and outcome.scores["a"].reasons["auc"] == "one class"
    assert outcome.curve[0].validation["a"]["auc"] is None
    assert outcome.selection.score is not None  # task b still selects
    data._labels["valid", "b"] = np.ones_like(data._labels["valid", "b"])
    nothing = execute(key(), data, CPU)
    assert nothing.selection.epoch == nothing.selection.epochs_run and nothing.selection.reason


def test_a_loss_that_is_not_finite_names_epoch_step_and_term(monkeypatch):
    model = METHODS.get("shared_bottom")
    usual = model.loss

    def broken(self, batch, outputs, progress):
        terms = usual(self, batch, outputs, progress)
        return terms | {"b": terms["b"] * float("nan")} if (progress.epoch, progress.step) == (2, 3) else terms

    monkeypatch.setattr(model, "loss", broken)
    with pytest.raises(TrainingDiverged, match=r"'b' is nan at epoch 2, step 4"):
        execute(key(), FakeData(), CPU)


def test_metrics_per_user_are_scored_where_rows_have_users(stage0):
    data = FakeData()
    data.users["test"] = np.arange(300) // 12
    data._labels["test", "a"][:12] = 1  # a user of one class
    scores = execute(key(), data, CPU).scores["a"]
    assert set(NAMES) <= scores.metrics.keys() and all(0 < scores.metrics[name] <= 1 for name in NAMES)
    assert scores.users.scored + scores.users.excluded == 25 and scores.users.excluded >= 1
    assert set(scores.users.noise) == set(NAMES)
    assert not set(NAMES) & stage0[0].scores["a"].metrics.keys() and stage0[0].scores["a"].users is None


def test_a_test_score_far_above_validation_is_said():
    data = FakeData()
    assert not any("far above" in text for text in execute(key(), data, CPU).warnings)
    data._labels["valid", "a"] = np.resize([0.0, 1.0], 200).astype(np.float32)  # nothing that inputs tell
    (said,) = [text for text in execute(key(), data, CPU).warnings if "far above" in text]
    assert said.startswith("task 'a': AUC 0.")


@pytest.mark.parametrize("method", ["shared_bottom", "logistic_regression"])
def test_an_epoch_may_be_chosen_by_gauc_where_rows_have_users(method):
    data = FakeData()
    data.users["valid"] = np.arange(200) // 10
    asked = key(method=method, old=("a",), arm="stage0").model_copy(update={"selection": SELECTION_RULES["gauc"]})
    outcome = execute(asked, data, CPU)
    curve = [epoch.validation["a"]["gauc"] for epoch in outcome.curve]
    assert outcome.selection.score == max(curve) and outcome.selection.epoch == 1 + int(np.argmax(curve))
    assert outcome.selection.rule == asked.selection and run_id(asked) != run_id(key(method=method, old=("a",)))
    data.users.clear()
    with pytest.raises(UsageError, match="names no user"):
        execute(asked, data, CPU)


CHANGES = {
    "in place": lambda batch: batch.numeric.mul_(1.5),
    "replaced": lambda batch: setattr(batch, "numeric", batch.numeric * 1.5),
}


@pytest.mark.parametrize("where", ["training", "prediction"])
@pytest.mark.parametrize("how", CHANGES)
def test_a_method_that_changes_its_inputs_is_stopped(monkeypatch, how, where):
    model = METHODS.get("shared_bottom")
    usual = model.forward

    def changing(self, batch):
        if self.training == (where == "training") and len(batch) > 2:
            CHANGES[how](batch)
        return usual(self, batch)

    monkeypatch.setattr(model, "forward", changing)
    with pytest.raises(InputsChanged, match=rf"shared_bottom: batch\.numeric.*{how}"):
        execute(key(), FakeData(), CPU)


def test_what_writes_past_torch_stays_within_its_batch(monkeypatch):
    model = METHODS.get("shared_bottom")
    usual = model.forward
    seen = []

    def writing(self, batch):
        if not self.training:
            seen.append(batch.numeric.double().sum().item())
            batch.numeric.data.mul_(1.5)
        return usual(self, batch)

    monkeypatch.setattr(model, "forward", writing)
    execute(key(), FakeData(), CPU)
    validation = seen[1:5]  # after the look at two rows, one batch of each of four epochs
    assert len(set(validation)) == 1


def test_initial_weights_of_a_module_depend_on_its_path_alone():
    def linear():
        return torch.nn.ModuleDict({"x": torch.nn.Linear(3, 4), "y": torch.nn.Linear(3, 4)})

    one, two = linear(), torch.nn.ModuleDict({"new": torch.nn.Linear(9, 9), **linear()})
    initialise(one, ("d", "m", 0))
    initialise(two, ("d", "m", 0))
    assert torch.equal(one["x"].weight, two["x"].weight) and torch.equal(one["y"].bias, two["y"].bias)
    assert not torch.equal(one["x"].weight, one["y"].weight)


def test_initialisation_warns_when_it_replaces_what_a_constructor_set():
    layer = torch.nn.Linear(16, 16)
    torch.nn.init.zeros_(layer.weight)
    warnings = initialise(torch.nn.Sequential(layer), ("d", "m", 0))
    assert len(warnings) == 1 and "0.weight" in warnings[0]
    assert initialise(torch.nn.Sequential(torch.nn.Linear(16, 16)), ("d", "m", 0)) == []


def test_an_auc_far_below_chance_is_said():
    turned = execute(key("joint"), FakeData(test_noise=1.0), CPU)  # every test label flipped
    said = [warning for warning in turned.warnings if "below chance" in warning]
    assert len(said) == 3 and turned.scores["a"].metrics["auc"] < 0.3
    plain = execute(key("joint"), FakeData(), CPU)
    assert not any("below chance" in warning for warning in plain.warnings)
