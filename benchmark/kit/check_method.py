"""The conformance kit: what every method has to do, as checks that say what fails, why, and what to do about it.

``check(SomeMethod)`` runs all of them on a model class with its default config and synthetic rows, in seconds on a
CPU. A check is a function that takes the class and returns a remark (or None) or raises `Failed`; any other error
inside the method is reported with its file and line. Cheap checks come first, and where one of `BASICS` fails, the
others are not run: what they would say follows from it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from benchmark.core.errors import UsageError
from benchmark.core.registry import where
from benchmark.kit import reading
from benchmark.kit.bench import (
    SCHEMA,
    TOLERANCE,
    Failed,
    SyntheticRows,
    build,
    ends,
    grow,
    predict,
    toy_tasks,
    train_model,
    trained_model,
)
from benchmark.spec.arms import ARMS
from benchmark.training.models import take_in
from benchmark.training.rows import checked_features
from datasets_registry.schema import CategoricalFeature, Schema, Task
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


def check(model: type[MultiTaskModel], quick: bool = False) -> list[Check]:
    """Run every check on a registered method; ``quick``: only those that need next to no training."""
    return list(checks(model, quick))


def checks(model: type[MultiTaskModel], quick: bool = False) -> Iterator[Check]:
    """The outcomes of `check`, each as soon as it is there."""
    cause = ""
    for function, hint in CHECKS.items():
        name = function.__name__.replace("_", " ")
        if quick and function not in CHEAP:
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


FITS_ITSELF = "the method is not trained by steps of the harness (it defines fit)"

# ---- the checks ---------------------------------------------------------------------------------------------------


def builds_for_any_schema(model: type[MultiTaskModel]) -> str | None:
    schemas = {
        "no categorical feature": Schema((), ("age",)),
        "no numeric feature": Schema((CategoricalFeature("user", 7),), ()),
        "a multi-valued feature": SCHEMA,
    }
    for what, schema in schemas.items():
        for names in ("a", "abcde"):
            tasks = toy_tasks(names)
            built = build(model, tasks, schema)
            try:
                outputs = predict(built, SyntheticRows(tasks, 5, schema).gather(slice(0, 5)))
            except Exception as error:
                raise Failed(f"with {what} and {len(names)} task(s): {type(error).__name__}: {error}") from error
            if missing := {task.name for task in tasks} - outputs.keys():
                raise Failed(f"with {what} and {len(names)} task(s): no logits for {', '.join(sorted(missing))}")
    return None


def logits_are_finite_and_one_per_row(model: type[MultiTaskModel]) -> str | None:
    built = build(model, toy_tasks())
    for size in (17, 1):
        for name, logits in predict(built, SyntheticRows(toy_tasks()).gather(slice(0, size))).items():
            if name not in ("a", "b"):
                continue
            if logits.shape != (size,):
                raise Failed(
                    f"task '{name}': expected shape ({size},) for a batch of {size}, got {tuple(logits.shape)}"
                )
            if logits.dtype != torch.float32:
                raise Failed(f"task '{name}': the outputs are {logits.dtype}, not torch.float32")
            if not logits.isfinite().all():
                raise Failed(f"task '{name}': {int((~logits.isfinite()).sum())} of {size} logits are not finite")
    return None


def loss_falls(model: type[MultiTaskModel]) -> str | None:
    if model.fit is not None:
        return FITS_ITSELF
    built = build(model, toy_tasks())
    first, last = ends(train_model(built, SyntheticRows(toy_tasks())), ("a", "b"))
    if not last < 0.95 * first:
        raise Failed(f"mean loss of the tasks went from {first:.4f} to {last:.4f} in training on learnable labels")
    return None


def same_seed_gives_same_weights(model: type[MultiTaskModel]) -> str | None:
    states = []
    for global_seed in (1, 2):  # whatever state the process is in
        torch.manual_seed(global_seed)
        built = build(model, toy_tasks())
        train_model(built, SyntheticRows(toy_tasks(), 128), epochs=2)
        states.append({name: tensor.clone() for name, tensor in built.state_dict().items()})
    if different := [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]:
        raise Failed(f"two runs with one seed differ in {', '.join(different[:3])}")
    return None


def row_order_and_batch_size_do_not_change_predictions(model: type[MultiTaskModel]) -> str | None:
    built = trained_model(model)
    rows = SyntheticRows(toy_tasks(), 60)
    whole = predict(built, rows.gather(slice(0, 60)))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    for name in ("a", "b"):
        parts = torch.cat([predict(built, rows.gather(part))[name] for part in order.split(7)])
        if not torch.allclose(parts, whole[name][order], atol=TOLERANCE):
            worst = float((parts - whole[name][order]).abs().max())
            raise Failed(f"task '{name}': logits move by up to {worst:.2g} with the order and number of rows")
    return None


def no_peeking_across_rows(model: type[MultiTaskModel]) -> str | None:
    built = trained_model(model)
    rows = SyntheticRows(toy_tasks(), 40)
    before = predict(built, rows.gather(slice(0, 40)))
    rows.categorical[1:], rows.numeric[1:] = rows.categorical[1:].flip(0), rows.numeric[1:] + 5.0
    after = predict(built, rows.gather(slice(0, 40)))
    for name in ("a", "b"):
        if not torch.allclose(before[name][0], after[name][0], atol=TOLERANCE):
            raise Failed(f"task '{name}': the first row's logit changes when the other rows do")
    return None


def task_order_does_not_matter(model: type[MultiTaskModel]) -> str | None:
    rows = SyntheticRows(toy_tasks("abc"), 128)
    logits = []
    for names in ("abc", "cab"):
        built = build(model, toy_tasks(names))
        train_model(built, rows, epochs=1)
        logits.append(predict(built, rows.gather(slice(0, 50))))
    for name in "abc":
        if not torch.allclose(logits[0][name], logits[1][name], atol=TOLERANCE):
            raise Failed(f"task '{name}': logits depend on the order in which the tasks were named")
    return None


def a_new_task_leaves_the_old_ones_alone(model: type[MultiTaskModel]) -> str | None:
    if "frozen" not in model.info.arms:
        return "the method has no frozen arm"
    built = trained_model(model)
    batch = SyntheticRows(toy_tasks(), 64).gather(slice(0, 64))
    before = predict(built, batch)
    old = {id(parameter): name for name, parameter in built.named_parameters()}
    trained = grow(built)
    if not trained:
        raise Failed("add_task returned nothing to train")
    if known := [old[id(parameter)] for parameter in trained if id(parameter) in old]:
        raise Failed(f"add_task returned '{known[0]}', which was there before: only new parameters may be trained")
    with_new = predict(built, batch)
    if "new" not in with_new:
        raise Failed("after add_task, forward has no logits for the new task")
    frozen = {id(p) for p in built.parameters()} - {id(p) for p in trained}
    state = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    curve = train_model(built, SyntheticRows([Task("new")]), trained=trained)
    after = predict(built, batch)
    for name in ("a", "b"):
        if not torch.equal(before[name], with_new[name]):
            raise Failed(f"task '{name}': logits changed when the new task was added")
        if not torch.equal(before[name], after[name]):
            raise Failed(f"task '{name}': logits changed while only the new task's parameters were trained")
    for name, parameter in built.named_parameters():
        if id(parameter) in frozen and (parameter.grad is not None or not torch.equal(parameter, state[name])):
            raise Failed(f"frozen parameter '{name}' got a gradient or moved")
    first, last = ends(curve, ("new",))
    if not last < first:
        raise Failed(f"the new task's loss went from {first:.4f} to {last:.4f}: its parameters do not learn")
    return None


def cached_features_give_the_same_logits(model: type[MultiTaskModel]) -> str | None:
    if "frozen" not in model.info.arms:
        return "the method has no frozen arm"
    built = trained_model(model)
    grow(built)
    built.eval()
    batch = SyntheticRows(toy_tasks(), 64).gather(slice(0, 64))
    with torch.no_grad():
        features = checked_features(built.frozen_features(batch), model.info.name, len(batch))
        if features is None:
            return "frozen_features is not defined: the frozen arm runs without a cache"
        cached = built.forward_new(features)["new"]
    if not torch.allclose(cached, predict(built, batch)["new"], atol=TOLERANCE):
        raise Failed("forward_new(frozen_features(batch)) differs from forward(batch) on the new task")
    return None


def fine_tuning_learns_the_new_task(model: type[MultiTaskModel]) -> str | None:
    if "finetune" not in model.info.arms:
        return "the method has no finetune arm"
    built = trained_model(model)
    take_in(built, ARMS["finetune"], [Task("new")], {}, ("conformance", model.info.name, 0))
    first, last = ends(train_model(built, SyntheticRows([Task("new")])), ("new",))
    if not last < 0.97 * first:
        raise Failed(f"the new task's loss went from {first:.4f} to {last:.4f}")
    return None


def parts_of_the_harness_fit_on(model: type[MultiTaskModel]) -> str | None:
    fitting = [a for a in ARMS.values() if a.adaptation and a.supported_by(model.info.arms, model.info.without)]
    if not fitting:
        return "the method has no frozen arm"
    trained_once = trained_model(model)
    batch = SyntheticRows(toy_tasks(), 64).gather(slice(0, 64))
    before = predict(trained_once, batch)
    for arm in fitting:
        built = trained_model(model)
        try:
            adapted, trained, _ = take_in(
                built, arm, [Task("new")], arm.resolve({}), ("conformance", model.info.name, 0)
            )
        except UsageError as error:
            raise Failed(f"arm '{arm.name}': {error}") from error
        adapted.zero_grad(set_to_none=True)
        first, last = ends(train_model(adapted, SyntheticRows([Task("new")]), epochs=3, trained=trained), ("new",))
        after = predict(adapted, batch)
        if any(not torch.equal(before[name], after[name]) for name in before if name in ("a", "b")):
            raise Failed(f"arm '{arm.name}': an old task's logits changed")
        if not last < first:
            raise Failed(f"arm '{arm.name}': the new task's loss went from {first:.4f} to {last:.4f}")
    return None


def every_parameter_has_one_role(model: type[MultiTaskModel]) -> str | None:
    built = build(model, toy_tasks())
    if model.info.arms != ("scratch",) and set(model.info.arms) - {"joint"}:
        grow(built)
    counted = [id(parameter) for members in built.parameter_roles().values() for parameter in members]
    own = {id(parameter): name for name, parameter in built.named_parameters()}
    if twice := {own.get(identity, "?") for identity in counted if counted.count(identity) > 1}:
        raise Failed(f"under two roles: {', '.join(sorted(twice))}")
    if missing := [name for identity, name in own.items() if identity not in counted]:
        raise Failed(f"under no role: {', '.join(sorted(missing))}")
    known = {"embedding", "shared", *(f"task:{task.name}" for task in built.tasks)}
    if unknown := set(built.parameter_roles()) - known:
        raise Failed(f"unknown roles {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    return None


def survives_save_and_load(model: type[MultiTaskModel]) -> str | None:
    built = trained_model(model)
    file = io.BytesIO()
    torch.save(built.state_dict(), file)
    file.seek(0)
    other = build(model, toy_tasks(), seed=1)
    other.load_state_dict(torch.load(file, weights_only=True))
    batch = SyntheticRows(toy_tasks()).gather(slice(0, 50))
    one, two = predict(built, batch), predict(other, batch)
    if any(not torch.equal(one[name], two[name]) for name in ("a", "b")):
        raise Failed("a model that loaded another's state_dict predicts differently")
    return None


def regression_if_claimed(model: type[MultiTaskModel]) -> str | None:
    if "regression" not in model.info.kinds:
        return "the method does not claim regression"
    tasks = [Task("a"), Task("b", kind="regression")]
    built = build(model, tasks)
    first, last = ends(train_model(built, SyntheticRows(tasks)), ("b",))
    if not last < 0.95 * first:
        raise Failed(f"squared error went from {first:.4f} to {last:.4f} in training on learnable values")
    return None


def undefined_labels(model: type[MultiTaskModel]) -> str | None:
    tasks = [Task("a"), Task("b", space="a", partial=True)]
    built = build(model, tasks)
    rows = SyntheticRows(tasks, 128)
    for what, defined in (("two thirds", rows.labels["b"]), ("none", torch.full((128,), torch.nan))):
        rows.labels["b"] = defined
        for epoch in train_model(built, rows, epochs=1):
            if bad := [name for name, value in epoch.items() if value != value]:
                raise Failed(f"loss term '{bad[0]}' is NaN where {what} of the labels of task 'b' are defined")
        if bad_weights := [name for name, p in built.named_parameters() if not p.isfinite().all()]:
            raise Failed(f"'{bad_weights[0]}' is not finite after training where {what} of the labels are defined")
    return None


def same_on_a_gpu(model: type[MultiTaskModel]) -> str | None:
    if not torch.cuda.is_available():
        return "no GPU here"
    built = trained_model(model)
    batch = SyntheticRows(toy_tasks()).gather(slice(0, 50))
    one = predict(built, batch)
    there = batch.to("cuda")
    two = predict(built.cuda(), there)
    for name in ("a", "b"):
        if not torch.allclose(one[name], two[name].cpu(), atol=1e-2):
            raise Failed(f"task '{name}': logits on the GPU differ from those on the CPU")
    return None


BASICS = (builds_for_any_schema, logits_are_finite_and_one_per_row)
"""Where one of these fails, nothing that comes after it says more."""
CHEAP = (
    *BASICS,
    reading.inputs_are_left_alone,
    reading.forward_reads_the_inputs_alone,
    reading.logits_stay_finite_far_from_the_mean,
    reading.outputs_are_logits,
    every_parameter_has_one_role,
    row_order_and_batch_size_do_not_change_predictions,
    no_peeking_across_rows,
    survives_save_and_load,
    reading.old_tasks_do_not_read_what_is_new,
)
"""What --quick runs."""
CHECKS: dict[Rule, str] = {
    builds_for_any_schema: "Take sizes from the schema (methods.layers.FeatureEmbedding does) and loop over the tasks.",
    logits_are_finite_and_one_per_row: "End in methods.layers.Tower, or squeeze(-1): squeeze() drops a batch of 1.",
    reading.inputs_are_left_alone: "x = batch.numeric * 2, not batch.numeric.mul_(2): the same rows come again.",
    reading.forward_reads_the_inputs_alone: "Labels are for loss(), batch.index for what training keeps by row: "
    "at prediction there is neither.",
    reading.logits_stay_finite_far_from_the_mean: "Inputs reach far beyond 6 deviations: clamp before exp or log.",
    every_parameter_has_one_role: "Put a task's own modules in a ModuleDict under its name, or define parameter_roles.",
    row_order_and_batch_size_do_not_change_predictions: "Keep nothing by position; batch.index is for rows' own.",
    no_peeking_across_rows: "Batch statistics must be frozen in eval mode (self.training is False at prediction).",
    survives_save_and_load: "Keep what prediction needs in parameters or buffers.",
    reading.old_tasks_do_not_read_what_is_new: "Nothing of a new task may enter an old one's logits, "
    "not even multiplied by 0.",
    loss_falls: "Are all modules reached by forward, and registered (in ModuleDict or ModuleList, not dict or list)?",
    reading.outputs_are_logits: "Return what goes into the sigmoid, not what comes out of it: the loss applies it.",
    same_seed_gives_same_weights: "Draw initial weights in reset_parameters(), anything else from the given generator.",
    task_order_does_not_matter: "Where positions matter go by self.tasks, which is sorted by name.",
    a_new_task_leaves_the_old_ones_alone: "add_task may add modules, not change what old tasks read.",
    cached_features_give_the_same_logits: "frozen_features holds all that the new task reads of the frozen part.",
    fine_tuning_learns_the_new_task: "forward has to predict the added task in training mode too.",
    regression_if_claimed: "Use the base class's loss or mean_loss(task, outputs, labels), or do not claim regression.",
    undefined_labels: "Use mean_loss(task, outputs, labels): it leaves undefined rows of a partial task out.",
    same_on_a_gpu: "Make tensors on the batch's device, or register them as buffers.",
    parts_of_the_harness_fit_on: "Shared layers: plain nn.Linear; towers: methods.layers.Tower in a ModuleDict "
    "under the task's name; or name the arms in register_method(..., without=(...)).",
}
"""The checks in order, each with what to do when it fails."""
