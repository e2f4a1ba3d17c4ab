"""The conformance kit: what every method has to do, as checks that say what fails, why, and what to do about it.

``check(SomeMethod)`` runs all of them on a model class with its default config and synthetic rows, in seconds on a
CPU. A check is a function that takes the class and returns a remark (or None) or raises `Failed`; any other error
inside the method is reported with its file and line.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.core.errors import UsageError
from benchmark.core.registry import where
from benchmark.core.seeding import stream_seed
from benchmark.spec.arms import ARMS
from benchmark.spec.budget import Budget
from benchmark.training.learner import Learner, Streams
from benchmark.training.models import initialise, take_in
from benchmark.training.preparation import prepare
from benchmark.training.trainer import train
from datasets_registry.schema import CategoricalFeature, Schema, Task
from methods.base import MultiTaskModel
from methods.batch import Batch

__all__ = ["Check", "Failed", "SyntheticRows", "check"]

CPU = torch.device("cpu")
SCHEMA = Schema(
    (CategoricalFeature("user", 20, reserved=1), CategoricalFeature("item", 30), CategoricalFeature("tags", 9, 1, 3)),
    ("age", "price"),
)
TOLERANCE = 1e-4
"""Logits of one row may differ by this between batches: a matrix product rounds differently at different sizes."""


@dataclass(frozen=True)
class Check:
    """Outcome of one check. ``passed`` is None where it does not apply; then ``reason`` says why."""

    name: str
    passed: bool | None
    reason: str
    hint: str


class Failed(Exception):
    """The method does not do what the interface asks for; the text says what was seen instead."""


class SyntheticRows:
    """Rows whose labels follow from the inputs; every task has weights of its own. A `RowSource` for the trainer."""

    def __init__(self, tasks: Sequence[Task], rows: int = 512, schema: Schema = SCHEMA, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        columns = [
            torch.randint(feature.size, (rows,), generator=generator, dtype=torch.int32) + offset
            for feature, offset in zip(schema.categorical, schema.offsets, strict=True)
            for _ in range(feature.length)
        ]
        self.categorical = torch.stack(columns, 1) if columns else torch.empty(rows, 0, dtype=torch.int32)
        self.numeric = torch.rand(rows, len(schema.numeric), generator=generator)
        self.labels: dict[str, Tensor] = {}
        for task in tasks:
            own = torch.Generator().manual_seed(stream_seed("synthetic", task.name))
            effects = torch.randn(max(schema.embedding_rows, 1), generator=own)
            slopes = torch.randn(len(schema.numeric), generator=own)
            score = effects[self.categorical.long()].sum(1) + self.numeric @ slopes
            score = score - score.mean()
            label = score if task.kind == "regression" else (score > 0).float()
            if task.partial:
                label = torch.where(torch.arange(rows) % 3 == 0, torch.nan, label)
            self.labels[task.name] = label

    def __len__(self) -> int:
        return len(self.categorical)

    def gather(self, index: Tensor | slice) -> Batch:
        """The rows at ``index``."""
        positions = torch.arange(len(self))[index]
        labels = {name: label[index] for name, label in self.labels.items()}
        return Batch(self.categorical[index], self.numeric[index], labels, positions)

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in file order."""
        for start in range(0, len(self), size):
            yield self.gather(slice(start, start + size))


def check(model: type[MultiTaskModel]) -> list[Check]:
    """Run every check on a registered method."""
    results = []
    for function, hint in CHECKS.items():
        name = function.__name__.replace("_", " ")
        try:
            remark = function(model)
            results.append(Check(name, None if remark else True, remark or "", hint))
        except Failed as failure:
            results.append(Check(name, False, str(failure), hint))
        except Exception as error:
            from methods import METHODS

            results.append(Check(name, False, where(error, METHODS.file(model.info.name)), hint))
    return results


# ---- the checks ---------------------------------------------------------------------------------------------------


def builds_for_any_schema(model: type[MultiTaskModel]) -> str | None:
    schemas = {
        "no categorical feature": Schema((), ("age",)),
        "no numeric feature": Schema((CategoricalFeature("user", 7),), ()),
        "a multi-valued feature": SCHEMA,
    }
    for what, schema in schemas.items():
        for names in ("a", "abcde"):
            tasks = _tasks(names)
            built = _build(model, tasks, schema)
            try:
                outputs = _predict(built, SyntheticRows(tasks, 5, schema).gather(slice(0, 5)))
            except Exception as error:
                raise Failed(f"with {what} and {len(names)} task(s): {type(error).__name__}: {error}") from error
            if missing := {task.name for task in tasks} - outputs.keys():
                raise Failed(f"with {what} and {len(names)} task(s): no logits for {', '.join(sorted(missing))}")
    return None


def logits_are_finite_and_one_per_row(model: type[MultiTaskModel]) -> str | None:
    built = _build(model, _tasks())
    for size in (17, 1):
        for name, logits in _predict(built, SyntheticRows(_tasks()).gather(slice(0, size))).items():
            if name not in ("a", "b"):
                continue
            if logits.shape != (size,):
                raise Failed(
                    f"task '{name}': expected shape ({size},) for a batch of {size}, got {tuple(logits.shape)}"
                )
            if not logits.isfinite().all():
                raise Failed(f"task '{name}': {int((~logits.isfinite()).sum())} of {size} logits are not finite")
    return None


def loss_falls(model: type[MultiTaskModel]) -> str | None:
    built = _build(model, _tasks())
    first, last = _ends(_train(built, SyntheticRows(_tasks())), ("a", "b"))
    if not last < 0.95 * first:
        raise Failed(f"mean loss of the tasks went from {first:.4f} to {last:.4f} in training on learnable labels")
    return None


def same_seed_gives_same_weights(model: type[MultiTaskModel]) -> str | None:
    states = []
    for global_seed in (1, 2):  # whatever state the process is in
        torch.manual_seed(global_seed)
        built = _build(model, _tasks())
        _train(built, SyntheticRows(_tasks(), 128), epochs=2)
        states.append({name: tensor.clone() for name, tensor in built.state_dict().items()})
    if different := [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]:
        raise Failed(f"two runs with one seed differ in {', '.join(different[:3])}")
    return None


def row_order_and_batch_size_do_not_change_predictions(model: type[MultiTaskModel]) -> str | None:
    built = _trained(model)
    rows = SyntheticRows(_tasks(), 60)
    whole = _predict(built, rows.gather(slice(0, 60)))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    for name in ("a", "b"):
        parts = torch.cat([_predict(built, rows.gather(part))[name] for part in order.split(7)])
        if not torch.allclose(parts, whole[name][order], atol=TOLERANCE):
            worst = float((parts - whole[name][order]).abs().max())
            raise Failed(f"task '{name}': logits move by up to {worst:.2g} with the order and number of rows")
    return None


def no_peeking_across_rows(model: type[MultiTaskModel]) -> str | None:
    built = _trained(model)
    rows = SyntheticRows(_tasks(), 40)
    before = _predict(built, rows.gather(slice(0, 40)))
    rows.categorical[1:], rows.numeric[1:] = rows.categorical[1:].flip(0), rows.numeric[1:] + 5.0
    after = _predict(built, rows.gather(slice(0, 40)))
    for name in ("a", "b"):
        if not torch.allclose(before[name][0], after[name][0], atol=TOLERANCE):
            raise Failed(f"task '{name}': the first row's logit changes when the other rows do")
    return None


def task_order_does_not_matter(model: type[MultiTaskModel]) -> str | None:
    rows = SyntheticRows(_tasks("abc"), 128)
    logits = []
    for names in ("abc", "cab"):
        built = _build(model, _tasks(names))
        _train(built, rows, epochs=1)
        logits.append(_predict(built, rows.gather(slice(0, 50))))
    for name in "abc":
        if not torch.allclose(logits[0][name], logits[1][name], atol=TOLERANCE):
            raise Failed(f"task '{name}': logits depend on the order in which the tasks were named")
    return None


def a_new_task_leaves_the_old_ones_alone(model: type[MultiTaskModel]) -> str | None:
    if "frozen" not in model.info.arms:
        return "the method has no frozen arm"
    built = _trained(model)
    batch = SyntheticRows(_tasks(), 64).gather(slice(0, 64))
    before = _predict(built, batch)
    old = {id(parameter): name for name, parameter in built.named_parameters()}
    trained = _grow(built)
    if not trained:
        raise Failed("add_task returned nothing to train")
    if known := [old[id(parameter)] for parameter in trained if id(parameter) in old]:
        raise Failed(f"add_task returned '{known[0]}', which was there before: only new parameters may be trained")
    with_new = _predict(built, batch)
    if "new" not in with_new:
        raise Failed("after add_task, forward has no logits for the new task")
    frozen = {id(p) for p in built.parameters()} - {id(p) for p in trained}
    state = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    curve = _train(built, SyntheticRows([Task("new")]), trained=trained)
    after = _predict(built, batch)
    for name in ("a", "b"):
        if not torch.equal(before[name], with_new[name]):
            raise Failed(f"task '{name}': logits changed when the new task was added")
        if not torch.equal(before[name], after[name]):
            raise Failed(f"task '{name}': logits changed while only the new task's parameters were trained")
    for name, parameter in built.named_parameters():
        if id(parameter) in frozen and (parameter.grad is not None or not torch.equal(parameter, state[name])):
            raise Failed(f"frozen parameter '{name}' got a gradient or moved")
    first, last = _ends(curve, ("new",))
    if not last < first:
        raise Failed(f"the new task's loss went from {first:.4f} to {last:.4f}: its parameters do not learn")
    return None


def cached_features_give_the_same_logits(model: type[MultiTaskModel]) -> str | None:
    if "frozen" not in model.info.arms:
        return "the method has no frozen arm"
    built = _trained(model)
    _grow(built)
    built.eval()
    batch = SyntheticRows(_tasks(), 64).gather(slice(0, 64))
    with torch.no_grad():
        features = built.frozen_features(batch)
        if features is None:
            return "frozen_features is not defined: the frozen arm runs without a cache"
        cached = built.forward_new(features)["new"]
    if not torch.allclose(cached, _predict(built, batch)["new"], atol=TOLERANCE):
        raise Failed("forward_new(frozen_features(batch)) differs from forward(batch) on the new task")
    return None


def fine_tuning_learns_the_new_task(model: type[MultiTaskModel]) -> str | None:
    if "finetune" not in model.info.arms:
        return "the method has no finetune arm"
    built = _trained(model)
    take_in(built, ARMS["finetune"], [Task("new")], {}, ("conformance", model.info.name, 0))
    first, last = _ends(_train(built, SyntheticRows([Task("new")])), ("new",))
    if not last < 0.97 * first:
        raise Failed(f"the new task's loss went from {first:.4f} to {last:.4f}")
    return None


def parts_of_the_harness_fit_on(model: type[MultiTaskModel]) -> str | None:
    fitting = [a for a in ARMS.values() if a.adaptation and a.supported_by(model.info.arms, model.info.without)]
    if not fitting:
        return "the method has no frozen arm"
    trained_once = _trained(model)
    batch = SyntheticRows(_tasks(), 64).gather(slice(0, 64))
    before = _predict(trained_once, batch)
    for arm in fitting:
        built = copy.deepcopy(trained_once)
        try:
            adapted, trained, _ = take_in(
                built, arm, [Task("new")], arm.resolve({}), ("conformance", model.info.name, 0)
            )
        except UsageError as error:
            raise Failed(f"arm '{arm.name}': {error}") from error
        adapted.zero_grad(set_to_none=True)
        first, last = _ends(_train(adapted, SyntheticRows([Task("new")]), epochs=3, trained=trained), ("new",))
        after = _predict(adapted, batch)
        if any(not torch.equal(before[name], after[name]) for name in before if name in ("a", "b")):
            raise Failed(f"arm '{arm.name}': an old task's logits changed")
        if not last < first:
            raise Failed(f"arm '{arm.name}': the new task's loss went from {first:.4f} to {last:.4f}")
    return None


def every_parameter_has_one_role(model: type[MultiTaskModel]) -> str | None:
    built = _build(model, _tasks())
    if model.info.arms != ("scratch",) and set(model.info.arms) - {"joint"}:
        _grow(built)
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
    built = _trained(model)
    file = io.BytesIO()
    torch.save(built.state_dict(), file)
    file.seek(0)
    other = _build(model, _tasks(), seed=1)
    other.load_state_dict(torch.load(file, weights_only=True))
    batch = SyntheticRows(_tasks()).gather(slice(0, 50))
    one, two = _predict(built, batch), _predict(other, batch)
    if any(not torch.equal(one[name], two[name]) for name in ("a", "b")):
        raise Failed("a model that loaded another's state_dict predicts differently")
    return None


def regression_if_claimed(model: type[MultiTaskModel]) -> str | None:
    if "regression" not in model.info.kinds:
        return "the method does not claim regression"
    tasks = [Task("a"), Task("b", kind="regression")]
    built = _build(model, tasks)
    first, last = _ends(_train(built, SyntheticRows(tasks)), ("b",))
    if not last < 0.95 * first:
        raise Failed(f"squared error went from {first:.4f} to {last:.4f} in training on learnable values")
    return None


def undefined_labels(model: type[MultiTaskModel]) -> str | None:
    tasks = [Task("a"), Task("b", space="a", partial=True)]
    built = _build(model, tasks)
    rows = SyntheticRows(tasks, 128)
    for what, defined in (("two thirds", rows.labels["b"]), ("none", torch.full((128,), torch.nan))):
        rows.labels["b"] = defined
        for epoch in _train(built, rows, epochs=1):
            if bad := [name for name, value in epoch.items() if value != value]:
                raise Failed(f"loss term '{bad[0]}' is NaN where {what} of the labels of task 'b' are defined")
        if bad_weights := [name for name, p in built.named_parameters() if not p.isfinite().all()]:
            raise Failed(f"'{bad_weights[0]}' is not finite after training where {what} of the labels are defined")
    return None


def same_on_a_gpu(model: type[MultiTaskModel]) -> str | None:
    if not torch.cuda.is_available():
        return "no GPU here"
    built = _trained(model)
    batch = SyntheticRows(_tasks()).gather(slice(0, 50))
    one = _predict(built, batch)
    there = Batch(batch.categorical.cuda(), batch.numeric.cuda(), {}, None)
    two = _predict(built.cuda(), there)
    for name in ("a", "b"):
        if not torch.allclose(one[name], two[name].cpu(), atol=1e-2):
            raise Failed(f"task '{name}': logits on the GPU differ from those on the CPU")
    return None


CHECKS: dict[Callable[[type[MultiTaskModel]], str | None], str] = {
    builds_for_any_schema: "Take sizes from the schema (methods.layers.FeatureEmbedding does) and loop over the tasks.",
    logits_are_finite_and_one_per_row: "End in methods.layers.Tower, or squeeze(-1): squeeze() drops a batch of 1.",
    loss_falls: "Are all modules reached by forward, and registered (in ModuleDict or ModuleList, not dict or list)?",
    same_seed_gives_same_weights: "Draw initial weights in reset_parameters(), anything else from the given generator.",
    row_order_and_batch_size_do_not_change_predictions: "Keep nothing by position; batch.index is for rows' own.",
    no_peeking_across_rows: "Batch statistics must be frozen in eval mode (self.training is False at prediction).",
    task_order_does_not_matter: "Where positions matter go by self.tasks, which is sorted by name.",
    a_new_task_leaves_the_old_ones_alone: "add_task may add modules, not change what old tasks read.",
    cached_features_give_the_same_logits: "frozen_features holds all that the new task reads of the frozen part.",
    fine_tuning_learns_the_new_task: "forward has to predict the added task in training mode too.",
    parts_of_the_harness_fit_on: "Shared layers: plain nn.Linear; towers: methods.layers.Tower in a ModuleDict "
    "under the task's name; or name the arms in register_method(..., without=(...)).",
    every_parameter_has_one_role: "Put a task's own modules in a ModuleDict under its name, or define parameter_roles.",
    survives_save_and_load: "Keep what prediction needs in parameters or buffers.",
    regression_if_claimed: "Use the base class's loss or mean_loss(task, outputs, labels), or do not claim regression.",
    undefined_labels: "Use mean_loss(task, outputs, labels): it leaves undefined rows of a partial task out.",
    same_on_a_gpu: "Make tensors on the batch's device, or register them as buffers.",
}
"""The checks in order, each with what to do when it fails."""


# ---- what they share ----------------------------------------------------------------------------------------------


def _tasks(names: str = "ab") -> list[Task]:
    return [Task(name) for name in names]


def _build(
    model: type[MultiTaskModel], tasks: Sequence[Task], schema: Schema = SCHEMA, seed: int = 0
) -> MultiTaskModel:
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed("conformance", seed))
        built = model(schema, sorted(tasks, key=lambda task: task.name), model.Config())
    initialise(built, ("conformance", model.info.name, seed))
    return built


def _grow(model: MultiTaskModel) -> list[torch.nn.Parameter]:
    _, trained, _ = take_in(model, ARMS["frozen"], [Task("new")], {}, ("conformance", model.info.name, 0))
    model.zero_grad(set_to_none=True)
    return trained


def _predict(model: MultiTaskModel, batch: Batch) -> dict[str, Tensor]:
    model.eval()
    with torch.no_grad():
        return dict(model(Batch(batch.categorical, batch.numeric)))


def _trained(model: type[MultiTaskModel]) -> MultiTaskModel:
    built = _build(model, _tasks())
    _train(built, SyntheticRows(_tasks(), 128), epochs=1)
    return built


def _train(
    model: MultiTaskModel,
    rows: SyntheticRows,
    epochs: int = 6,
    trained: Sequence[torch.nn.Parameter] | None = None,
) -> list[dict[str, float]]:
    """Train with the harness's own loop; returns the mean of each loss term by epoch."""

    budget = Budget(batch_size=64, learning_rate=0.01, epochs=epochs, patience=epochs)
    streams = Streams("conformance", model.info.name, 0)
    moving = list(model.parameters()) if trained is None else trained
    learner = Learner(model, rows, moving, streams, CPU, frozen=trained is not None)
    model.start_training(rows, streams.environment())
    if trained is None and not model.new_tasks:
        prepare(learner, lambda forward, task: None, budget)
    result = train(learner, lambda: {}, budget)
    return [epoch.loss for epoch in result.curve]


def _ends(curve: Sequence[dict[str, float]], tasks: Sequence[str]) -> tuple[float, float]:
    """Sum of the tasks' own loss terms in the first and in the last epoch."""
    if missing := [name for name in tasks if name not in curve[0]]:
        raise Failed(f"loss has no term named after task '{missing[0]}'; it has {', '.join(curve[0])}")
    first, *_, last = [sum(epoch[name] for name in tasks) for epoch in curve]
    return first, last
