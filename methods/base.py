"""The interface between a method and the harness.

A method is one file with one class: a constructor that sees schema, tasks and config (never data), a ``forward``
that maps a batch to one logit per task, and ``add_task``. Everything else has a default. Methods know nothing of
files, seeds, records or tables.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from benchmark.core.errors import UsageError
from datasets_registry.schema import Schema, Task
from methods import METHODS, MethodInfo, first_line
from methods import presets as named_presets
from methods.batch import Batch, Fitting, Progress, Rows, Training, mean_loss, row_losses

__all__ = [
    "Among",
    "Batch",
    "Between",
    "Fitting",
    "MultiTaskModel",
    "Progress",
    "Rows",
    "Schema",
    "Search",
    "Task",
    "Training",
    "mean_loss",
    "register_method",
    "row_losses",
]


@dataclass(frozen=True)
class Between:
    """Values of a config field that `run_all.py tune` may try: from ``low`` to ``high``, whole numbers if both are.

    ``log`` spreads the trials evenly over orders of magnitude; ``step`` leaves only low, low + step, and so on.
    Raises UsageError for a range that is empty or cannot be logarithmic.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UsageError(f"{self}: low must be below high.")
        if self.log and (self.low <= 0 or self.step is not None):
            raise UsageError(f"{self}: a logarithmic range lies above 0 and has no step.")
        if self.step is not None and not self.step > 0:
            raise UsageError(f"{self}: step must be above 0.")


@dataclass(frozen=True)
class Among:
    """Values of a config field that `run_all.py tune` may try, one by one. The default always joins them."""

    choices: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.choices:
            raise UsageError(f"{self}: needs at least one choice.")


Search = Between | Among


class MultiTaskModel(nn.Module):
    """Base class of all methods.

    A subclass defines ``Config`` (a frozen dataclass, every field with a default), ``__init__(schema, tasks,
    config)``, ``forward`` and, for arms other than ``joint``, ``add_task``.

    Initial weights: after construction the harness calls ``reset_parameters`` of every submodule that has one, under
    a random stream named after the module's path. So a task or a layer more changes no other layer's start, and the
    order of tasks does not matter. Parameters made directly with ``nn.Parameter(torch.randn(...))`` are drawn from
    the method's own stream while it is constructed.
    """

    info: ClassVar[MethodInfo]
    Config: ClassVar[type]
    search_space: ClassVar[Mapping[str, Search]] = {}
    """What tuning tries beside, or instead of, the common ranges of `benchmark.tuning.space`, by Config field."""
    preparation_epochs: int = 0
    """For how many epochs ``prepare`` trains (an attribute or a property): part of a dry run's estimate."""
    training_step: Callable[[Batch, Progress, torch.optim.Optimizer], dict[str, Tensor]] | None = None
    """A step of the method's own, ``training_step(batch, progress, optimizer)``, instead of forward, loss, backward and
    optimizer step. Returns the named terms of the loss, detached. Loss balancing and the arms that add to the loss
    cannot change such a step and are refused."""

    fit: Callable[[Fitting], list[float]] | None = None
    """For a method that is not trained by gradient steps: ``fit(data)`` fits it whole. It keeps the best of its own
    steps (trees, penalties) by the validation score and returns that score after every step. Before it, ``forward``
    gives any logits of the right shape. Such a method declares ``arms=("scratch",)`` and gets one task at a time."""

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Any = None) -> None:
        """``self.tasks`` is sorted by name: a method that counts on positions (a row per task, say) goes by it, so
        that the order in which tasks are named changes nothing. ``config`` is kept for ``weight_decay``."""
        super().__init__()
        self.schema = schema
        self.config = config
        self.tasks = tuple(sorted(tasks, key=lambda task: task.name))
        self._built_for = frozenset(task.name for task in tasks)

    @property
    def new_tasks(self) -> tuple[str, ...]:
        """Names of the tasks that ``add_task`` brought in, in that order."""
        return tuple(task.name for task in self.tasks if task.name not in self._built_for)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits [B] (or values, for regression) by task name.

        Further entries for ``loss`` are allowed under keys that are no task's name. In training mode tasks that have
        no labels in the batch may be left out.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(batch)")

    def add_task(self, task: Task) -> Sequence[nn.Module | nn.Parameter]:
        """Make the parameters for one more task; from now on ``forward`` predicts it as well.

        Returns the new modules, which are all that the ``frozen`` arm trains. Old tasks' logits must not change by
        a bit, neither now nor while only the returned modules are trained. The harness extends ``self.tasks``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define add_task(task)")

    # ---- optional hooks -------------------------------------------------------------------------------------------

    @classmethod
    def unfit_for(cls, tasks: Sequence[Task], config: Any) -> str | None:
        """Why the method has nothing of its own to do with these tasks (old and new ones together), or None.

        A plan skips the method on such a dataset and shows the reason, instead of running a shell of it under its
        name. A Config field named ``funnel`` is filled in by the dataset's declared funnel where it is left empty.
        """
        return None

    def loss(self, batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        """Named scalar terms, summed by the trainer. Default: the mean loss of each task that has labels here."""
        return {
            task.name: mean_loss(task, outputs[task.name], batch.labels[task.name])
            for task in self.tasks
            if task.name in batch.labels
        }

    def frozen_features(self, batch: Batch) -> dict[str, Tensor] | None:
        """What the frozen backbone computes for the tasks added last: name to [B, ...], or None if not separable.

        If given, the frozen arm computes it once per row and trains on ``forward_new``. Called in eval mode.
        """
        return None

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits of the tasks added by ``add_task``, from ``frozen_features``; equals ``forward`` on those tasks."""
        raise NotImplementedError(f"{type(self).__name__} gives frozen_features and must define forward_new")

    def start_training(self, rows: Rows, generator: torch.Generator) -> None:
        """Called once before training on ``rows``. ``generator`` is the method's own random stream."""

    def prepare(self, training: Training) -> None:
        """Called once before the main training, for methods that search or train something first (its time counts).

        What it finds has to be kept in parameters, buffers or ``training_state``: a run that is resumed does not
        prepare again.
        """

    def end_epoch(self, epoch: int, rows: Rows) -> None:
        """Called after each epoch of training (counted from 1), before validation, in eval mode."""

    def inspect(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """What figures show of the inside of a trained model: file name to arrays [B, ...] by name.

        "representations" holds "general" and "specific_<task>" [B, m] (drawn as t-SNE); "attention" holds one
        weight [B] per old task, by its name. Called in eval mode on some test rows; default: nothing.
        """
        return {}

    def diagnostics(self, rows: Rows) -> dict[str, Any]:
        """What the record shows of the inside of a trained model: nested dicts and lists of plain numbers.

        Called once after training in eval mode, without gradients, with the kept epoch's weights, on a sample of the
        training rows (with labels and ``index``). Curves over epochs that the method kept itself belong here too.
        A dict of numbers by name is drawn as bars. Default: nothing.
        """
        return {}

    def warnings(self, kept_epoch: int) -> list[str]:
        """What a reader of this run's scores has to know, a sentence each: above all that the method's own mechanism
        did not act, because the budget was too short for it. ``kept_epoch`` (from 1) is the epoch whose weights were
        kept. Called once after training; the harness puts it into the record and under the tables. Default: nothing.
        """
        return []

    def training_state(self) -> dict[str, Tensor]:
        """Tensors beside the weights that training needs to go on after an interruption (e.g. an id per row)."""
        return {}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``training_state`` gave. Called after ``start_training``."""

    def weight_decay(self) -> list[tuple[Tensor, float]]:
        """Parameters with their L2 coefficient c: adds the gradient of c/2 ||w||^2 over the whole tensor.

        Default: ``config.l2_embedding`` for embedding tables and ``config.l2_dnn`` for the weight matrices (no
        biases) of the `MLP` and `Tower` blocks, where the config has them.
        """
        from methods.layers import decayed_parameters

        config = getattr(self, "config", None)
        return decayed_parameters(self, getattr(config, "l2_embedding", 0.0), getattr(config, "l2_dnn", 0.0))

    def parameter_roles(self) -> dict[str, list[nn.Parameter]]:
        """Every parameter under one role: "embedding", "shared" or "task:<name>".

        Default: tables are "embedding"; whatever lies in a ModuleDict or ParameterDict under a task's name belongs
        to that task (tables too); the rest is "shared".
        """
        from methods.layers import default_roles

        return default_roles(self, [task.name for task in self.tasks])


Model = TypeVar("Model", bound=type[MultiTaskModel])


def register_method(
    name: str,
    *,
    title: str,
    paper: str,
    arms: tuple[str, ...] = ("joint", "frozen", "finetune"),
    kinds: tuple[str, ...] = ("binary",),
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    paper_counts: str = "new",
    without: tuple[str, ...] = (),
) -> Callable[[Model], Model]:
    """Class decorator: makes a MultiTaskModel known to the suite under ``name``. See MethodInfo for the options.

    Raises UsageError, with the file, when the class lacks a required part.
    """

    def register(model: Model) -> Model:
        file = inspect.getsourcefile(model) or "<unknown>"
        problem = _lacks(model)
        if problem:
            raise UsageError(f"{file}: method '{name}': {problem}")
        model.info = MethodInfo(
            name,
            title,
            paper,
            tuple(arms),
            tuple(kinds),
            named_presets(name, presets),
            paper_counts,
            tuple(without),
            first_line(model.__doc__),
        )
        METHODS.add(name, model, file)
        return model

    return register


def _lacks(model: type) -> str | None:
    """What a class needs to be a method and does not have, or None."""
    if not (inspect.isclass(model) and issubclass(model, MultiTaskModel)):
        return "the decorated object must be a subclass of methods.base.MultiTaskModel"
    config = getattr(model, "Config", None)
    if not (inspect.isclass(config) and is_dataclass(config)):
        return "needs an inner '@dataclass(frozen=True) class Config' (it may be empty: 'pass')"
    missing = [f.name for f in fields(config) if _no_default(f)]
    if missing:
        return f"Config fields need defaults: {', '.join(missing)}"
    if model.forward is MultiTaskModel.forward:
        return "needs 'def forward(self, batch)' returning {task name: logits [B]}"
    return None


def _no_default(f: Any) -> bool:
    from dataclasses import MISSING

    return f.default is MISSING and f.default_factory is MISSING
