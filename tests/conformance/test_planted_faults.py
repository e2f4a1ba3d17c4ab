"""The kit sees what is wrong: faults planted into the skeleton of a method, each with the check that has to fail."""

from pathlib import Path

import pytest

from benchmark.kit import adding, learning, processes, rows, shape
from benchmark.kit.bench import Failed
from benchmark.kit.check_method import CHECKS
from methods import METHODS

SKELETON = Path(learning.__file__).with_name("templates") / "my_method.py"
READ = "shared = self.shared(self.embed(batch))"
LOGITS = "tower(shared) for"
RETURN = "return {name: tower(shared) for name, tower in self.towers.items()}"
ADDED = "return [self.towers[task.name]]"
BUILT = "self.towers = nn.ModuleDict("
LOSS = """

    def loss(self, batch, outputs, progress):
        return {{t.name: {} for t in self.tasks if t.name in batch.labels}}
"""
FEATURES = """

    def frozen_features(self, batch):
        return {{"h": {}}}

    def forward_new(self, features):
        return {{name: {} for name in self.new_tasks}}
"""


def loss(term):
    return [(ADDED, ADDED + LOSS.format(term))]


def hook(text):
    return [(ADDED, ADDED + "\n\n    " + text)]


FAULTS = {
    # a review planted these seven, and the kit of its day passed them
    "another_tasks_labels": (
        loss("mean_loss(t, outputs[t.name], batch.labels.get('a', batch.labels[t.name]))"),
        learning.losses_read_the_labels_of_the_batch),
    "undefined_is_negative": (
        loss("mean_loss(t, outputs[t.name], batch.labels[t.name].nan_to_num(0.0))"),
        learning.undefined_labels_teach_nothing),
    "two_paths": ([(LOGITS, "tower(shared if self.training else 0.5 * shared) for")],
                  rows.training_and_prediction_are_one_path),
    "centred_in_big_batches": ([(LOGITS, "tower(shared - (len(batch) > 256) * shared.mean(0)) for")],
                               rows.row_order_and_batch_size_do_not_change_predictions),
    "labels_by_index": (
        [(ADDED, ADDED + "\n\n    def start_training(self, rows, generator):\n"
          "        self.kept = next(rows.batches(len(rows))).labels"
          + LOSS.format("mean_loss(t, outputs[t.name], self.kept[t.name][batch.index])"))],
        learning.losses_read_the_labels_of_the_batch),
    "hash_of_a_name": ([(LOGITS, "tower(shared) + hash(name) % 7 for")],
                       processes.another_process_builds_the_same_model),
    "last_head_only": (hook(FEATURES.format("self.shared(self.embed(batch))",
                                            "self.towers[self.new_tasks[-1]](features['h'])").strip()),
                       adding.cached_features_give_the_same_logits),
    # and these are ours
    "swapped_in_training": (
        [(RETURN, "names = list(self.towers)[::-1] if self.training else list(self.towers)\n        "
          "return {name: tower(shared) for name, tower in zip(names, self.towers.values())}")],
        learning.each_task_learns_from_its_own_labels),
    "remembers_a_batch": (
        [(READ, "kept = {} if self.training else self.__dict__.setdefault('kept', {})\n"
          "        shared = kept.setdefault(len(batch), self.shared(self.embed(batch)))")],
        rows.row_order_and_batch_size_do_not_change_predictions),
    "noise_at_prediction": ([(LOGITS, "tower(shared) + 0.01 * torch.randn(len(batch)) for")],
                            rows.row_order_and_batch_size_do_not_change_predictions),
    "numbers_left_out": ([(READ, "x = self.embed(batch).clone()\n        x[:, : batch.numeric.shape[1]] = 0\n"
                                 "        shared = self.shared(x)")], rows.every_input_is_read),
    "last_feature_left_out": ([(READ, "x = self.embed(batch).clone()\n        x[:, -4:] = 0\n"
                                      "        shared = self.shared(x)")], rows.every_input_is_read),
    "layer_made_late": ([(READ, READ + "\n        if not hasattr(self, 'late'):\n"
                                "            self.late = nn.Linear(shared.shape[1], shared.shape[1])\n"
                                "        shared = self.late(shared)")], shape.every_parameter_has_one_role),
    "cache_reads_what_is_new": (
        hook(FEATURES.format("self.towers[self.new_tasks[-1]][0](self.shared(self.embed(batch))), "
                             "'s': self.shared(self.embed(batch))", "self.towers[name](features['s'])").strip()),
        adding.cached_features_give_the_same_logits),
    "statistics_of_one_row": ([(BUILT, "self.norm = nn.BatchNorm1d(config.hidden[-1])\n        " + BUILT),
                               (READ, "shared = self.norm(self.shared(self.embed(batch)))")],
                              learning.any_batch_can_be_trained_on),
    "one_class": (loss("mean_loss(t, outputs[t.name], batch.labels[t.name]) * "
                       "(0 / batch.labels[t.name].nan_to_num().sum() + 1)"), learning.any_batch_can_be_trained_on),
    "function_of_the_old_model": (
        [(BUILT, "self.read = lambda batch: self.shared(self.embed(batch))\n        " + BUILT),
         (READ, "shared = self.read(batch)")], shape.a_copy_stands_alone),
    "negative_penalty": (hook("def weight_decay(self):\n        return [(self.shared[0].weight, -1e-3)]"),
                         learning.penalties_are_of_its_own_parameters),
    "penalty_on_a_copy": (hook("def weight_decay(self):\n        return [(self.shared[0].weight.clone(), 1e-3)]"),
                          learning.penalties_are_of_its_own_parameters),
    "state_left_behind": (
        [(BUILT, "self.seen = 0\n        " + BUILT),
         (ADDED, ADDED + "\n\n    def end_epoch(self, epoch, rows):\n        self.seen += 1"
          + LOSS.format("mean_loss(t, outputs[t.name], batch.labels[t.name]) / (1 + self.seen) ** 4 "
                        "+ 0.1 * self.seen * outputs[t.name].square().mean()"))],
        learning.an_interrupted_training_ends_the_same),
    "order_of_a_set": ([(BUILT, "self.at = {n: i for i, n in enumerate({t.name for t in tasks})}\n        " + BUILT),
                        (LOGITS, "tower(shared) + self.at.get(name, 0) for")],
                       processes.another_process_builds_the_same_model),
    "loss_reads_what_the_cache_lacks": (
        [(RETURN, RETURN.replace("self.towers.items()}", "self.towers.items()} | {'s': shared}")),
         (ADDED, ADDED + FEATURES.format("self.shared(self.embed(batch))", "self.towers[name](features['h'])")
          + LOSS.format("mean_loss(t, outputs[t.name], batch.labels[t.name]) + 1e-3 * outputs['s'].square().mean()"))],
        adding.a_task_with_a_space_can_be_added),
    "shared_layer_drawn_anew": ([(ADDED, "self.shared[0].reset_parameters()\n        " + ADDED)],
                                adding.a_new_task_leaves_the_old_ones_alone),
    "weighed_by_another_label": (
        loss("mean_loss(t, outputs[t.name], batch.labels[t.name]) * (1 + batch.labels.get('a', batch.labels[t.name])"
             ".nan_to_num().mean())"), learning.losses_read_the_labels_of_the_batch),
}  # fmt: skip


def planted(tmp_path, name, changes=()):
    text = SKELETON.read_text()
    for right, wrong in changes:
        assert text.count(right) == 1, right
        text = text.replace(right, wrong)
    text = text.replace("from torch import nn", "import torch\nfrom torch import nn")
    text = text.replace("import MultiTaskModel,", "import MultiTaskModel, mean_loss,")
    file = tmp_path / f"planted_{name}.py"
    file.write_text(text.replace("my_method", f"planted_{name}").replace("(256, 128)", "(16, 8)"))
    METHODS.load_file(file)
    return METHODS.get(f"planted_{name}")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_fails_its_check(tmp_path, fault):
    changes, rule = FAULTS[fault]
    assert rule in CHECKS
    model = planted(tmp_path, fault, changes)
    with pytest.raises((Failed, ValueError, KeyError)):
        rule(model)


def test_the_skeleton_itself_passes_these_checks(tmp_path):
    model = planted(tmp_path, "control")
    for rule in {rule for _, rule in FAULTS.values()}:
        assert rule(model) is None or rule is adding.cached_features_give_the_same_logits
    good = hook(FEATURES.format("self.shared(self.embed(batch))", "self.towers[name](features['h'])").strip())
    assert adding.cached_features_give_the_same_logits(planted(tmp_path, "cached", good)) is None


def test_every_method_is_the_same_in_another_process():
    here = {name: processes.logits_of(METHODS.get(name)) for name in METHODS if not name.startswith("planted_")}
    there = processes.elsewhere(list(here))
    for name, logits in here.items():
        for task, values in logits.items():
            assert values == pytest.approx(there[name][task], abs=1e-5, nan_ok=True), name
