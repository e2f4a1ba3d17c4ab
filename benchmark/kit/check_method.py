"""The conformance kit: what every method has to do, as checks that say what fails, why, and what to do about it.

``check(SomeMethod)`` runs all of them on a model class with its default config and synthetic rows, in seconds on a
CPU. A check is a function that takes the class and returns a remark (or None) or raises `Failed`; any other error
inside the method is reported with its file and line. Cheap checks come first, and where one of `BASICS` fails, the
others are not run: what they would say follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from benchmark.core.registry import where
from benchmark.kit import adding, learning, processes, reading, rows, shape
from benchmark.kit.bench import Failed, SyntheticRows
from methods import METHODS
from methods.base import MultiTaskModel

__all__ = ["Check", "Failed", "SyntheticRows", "check"]

Rule = Callable[[type[MultiTaskModel]], str | None]


@dataclass(frozen=True)
class Check:
    """Outcome of one check. ``passed`` is None where it does not apply or was not run; then ``reason`` says why."""

    name: str
    passed: bool | None
    reason: str
    hint: str


def check(model: type[MultiTaskModel], quick: bool = False, apart: Collection[Rule] = ()) -> list[Check]:
    """Run every check on a registered method but those named by ``apart``; ``quick``: only those that need next to no
    training."""
    return list(checks(model, quick, apart))


def checks(model: type[MultiTaskModel], quick: bool = False, apart: Collection[Rule] = ()) -> Iterator[Check]:
    """The outcomes of `check`, each as soon as it is there."""
    cause = ""
    for function, hint in CHECKS.items():
        name = function.__name__.replace("_", " ")
        if function in apart or (quick and function not in CHEAP):
            continue
        if cause:
            yield Check(name, None, f"not run, since '{cause}' failed", hint)
            continue
        result = _outcome(function, model, name, hint)
        if result.passed is False and function in BASICS:
            cause = name
        yield result


def _outcome(
    function: Callable[[type[MultiTaskModel]], str | None], model: type[MultiTaskModel], name: str, hint: str
) -> Check:
    try:
        remark = function(model)
        return Check(name, None if remark else True, remark or "", hint)
    except Failed as failure:
        return Check(name, False, str(failure), hint)
    except Exception as error:
        return Check(name, False, where(error, METHODS.file(model.info.name)), hint)


# ---- the checks ---------------------------------------------------------------------------------------------------


BASICS = (shape.builds_for_any_schema, shape.logits_are_finite_and_one_per_row)
"""Where one of these fails, nothing that comes after it says more."""
CHEAP = (
    *BASICS,
    reading.inputs_are_left_alone,
    reading.forward_reads_the_inputs_alone,
    reading.logits_stay_finite_far_from_the_mean,
    reading.outputs_are_logits,
    shape.every_parameter_has_one_role,
    rows.row_order_and_batch_size_do_not_change_predictions,
    rows.no_peeking_across_rows,
    shape.survives_save_and_load,
    reading.old_tasks_do_not_read_what_is_new,
    rows.every_input_is_read,
    rows.training_and_prediction_are_one_path,
    shape.a_copy_stands_alone,
    learning.penalties_are_of_its_own_parameters,
    learning.losses_read_the_labels_of_the_batch,
    learning.undefined_labels_teach_nothing,
)
"""What --quick runs."""
CHECKS: dict[Rule, str] = {
    shape.builds_for_any_schema: "Take sizes from the schema (FeatureEmbedding does) and loop over the tasks.",
    shape.logits_are_finite_and_one_per_row: "End in a Tower, or squeeze(-1): squeeze() drops a batch of 1.",
    reading.inputs_are_left_alone: "x = batch.numeric * 2, not batch.numeric.mul_(2): the same rows come again.",
    reading.forward_reads_the_inputs_alone: "Labels are for loss(), batch.index for what training keeps by row: "
    "at prediction there is neither.",
    rows.every_input_is_read: "FeatureEmbedding gives numbers and all features; leave none out.",
    rows.training_and_prediction_are_one_path: "Only dropout and batch statistics differ.",
    reading.logits_stay_finite_far_from_the_mean: "Inputs reach far beyond 6 deviations: clamp before exp or log.",
    shape.every_parameter_has_one_role: "A task's modules: in a ModuleDict under its name, or see parameter_roles.",
    rows.row_order_and_batch_size_do_not_change_predictions: "Keep nothing by position.",
    rows.no_peeking_across_rows: "Batch statistics must be frozen at prediction (self.training is False).",
    shape.survives_save_and_load: "Keep what prediction needs in parameters or buffers.",
    shape.a_copy_stands_alone: "Keep no lambda or bound method on self; look modules up when they are used.",
    learning.penalties_are_of_its_own_parameters: "weight_decay returns [(parameter, coefficient)], each once.",
    learning.losses_read_the_labels_of_the_batch: "mean_loss(task, outputs[task.name], batch.labels[task.name]).",
    learning.undefined_labels_teach_nothing: "mean_loss leaves rows without a label out: NaN is not 0.",
    reading.old_tasks_do_not_read_what_is_new: "Nothing of a new task may enter an old one's logits, "
    "not even multiplied by 0.",
    learning.loss_falls: "Are all modules registered (ModuleDict or ModuleList, not dict or list) and reached?",
    learning.each_task_learns_from_its_own_labels: "Does every task's tower get that task's labels?",
    learning.any_batch_can_be_trained_on: "Batches of one row and of one class come.",
    reading.outputs_are_logits: "Return what goes into the sigmoid, not what comes out of it: the loss applies it.",
    learning.same_seed_gives_same_weights: "Draw weights in reset_parameters(), all else from the given generator.",
    learning.an_interrupted_training_ends_the_same: "What training keeps beside weights belongs into training_state().",
    processes.another_process_builds_the_same_model: "hash(name) and the order of a set of names differ by process: "
    "sort, or count.",
    learning.task_order_does_not_matter: "Where positions matter go by self.tasks, which is sorted by name.",
    adding.a_new_task_leaves_the_old_ones_alone: "add_task may add modules, not change what old tasks read.",
    adding.cached_features_give_the_same_logits: "frozen_features holds all that new tasks read of the frozen part.",
    adding.a_task_with_a_space_can_be_added: "A partial task's labels hold NaN; forward_new gives what loss reads.",
    adding.fine_tuning_learns_the_new_task: "forward has to predict the added task in training mode too.",
    learning.regression_if_claimed: "Use the base class's loss or mean_loss, or do not claim regression.",
    learning.undefined_labels: "Use mean_loss(task, outputs, labels): it leaves undefined rows of a partial task out.",
    shape.same_on_a_gpu: "Make tensors on the batch's device, or register them as buffers.",
    adding.parts_of_the_harness_fit_on: "Shared layers: plain nn.Linear; towers: methods.layers.Tower in a ModuleDict "
    "under the task's name; or name the arms in register_method(..., without=(...)).",
}
"""The checks in order, each with what to do when it fails."""
