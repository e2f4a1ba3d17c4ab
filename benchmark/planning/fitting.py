"""What can be known of a study only with a dataset's arrays at hand: enough labels, and options that fit a size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UsageError
from benchmark.spec.arms import ARMS, Arm

if TYPE_CHECKING:
    from benchmark.planning.problems import Problem
    from datasets_registry.encoding.store import EncodedDataset

NEAR = 0.25
"""An arm counts as of a size when it trains at most this share more or fewer weights."""

SIZES = ("rank", "width", "length")
"""Options by which an arm trains more or fewer weights. Other whole numbers count epochs."""


@dataclass(frozen=True)
class Sized:
    """An arm's options and how many weights it trains with them."""

    options: Mapping[str, float]
    trained: int


def too_few_positives(data: EncodedDataset, task: str, least: int) -> str | None:
    """Why a task's training labels are too few to learn from, or None. Regression needs as many labels instead."""
    import numpy as np

    labels = data.labels("train", task)
    binary = data.tasks[task].kind == "binary"
    found = int((labels == 1).sum()) if binary else int((~np.isnan(labels)).sum())
    what = "positive training labels" if binary else "training labels"
    return None if found >= least else f"{task} has {found} {what}, the suite asks for {least}"


def no_room(method: str, config: Mapping[str, Any], arm: str, problem: Problem, order: Sequence[str]) -> str | None:
    """Why a method cannot take in a chain's tasks one after another by an arm, or None if it can."""
    frozen = tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in config.items())
    return _no_room(method, frozen, arm, tuple(_task(problem, t) for t in problem.old), tuple(
        _task(problem, t) for t in order))  # fmt: skip


@functools.cache
def _no_room(method: str, config: tuple, arm: str, old: tuple, order: tuple) -> str | None:
    from benchmark.planning.sizes import census_schema
    from benchmark.spec.options import split_config
    from benchmark.training.models import build_model, take_in

    own, _ = split_config(dict(config))
    model, _ = build_model(method, own, census_schema(), old, ("room", method, 0))
    for place, task in enumerate(order):
        earlier = [done.name for done in order[:place]]
        try:
            model, _, _ = take_in(model, ARMS[arm], [task], ARMS[arm].resolve({}), ("room", method, 0), earlier)
        except UsageError as error:
            return str(error)
    return None


def size_option(arm: Arm) -> str | None:
    """The option by which an arm trains more or fewer weights, if it has one."""
    return next((name for name in SIZES if name in arm.options), None)


def fitted(count: Callable[[Mapping[str, float]], int], arm: Arm, options: Mapping[str, float], target: int) -> Sized:
    """The options with which an arm trains as nearly ``target`` weights as it can.

    ``count(options)`` gives the number of trained weights. It is affine in the size option for every arm there is (each
    unit of width or rank brings the same weights), so two counts give the nearest whole number and the weights with it.
    """
    name = size_option(arm)
    if name is None:
        return Sized(options, count(options))
    one, two = (count({**options, name: size}) for size in (1, 2))
    each = max(two - one, 1)
    size = max(1, round(1 + (target - one) / each))
    scaled = {"alpha": options["alpha"] / options[name] * size} if "alpha" in options else {}  # LoRA's scale stays
    return Sized({**options, name: size, **scaled}, one + (size - 1) * each)


def trained_weights(
    data: EncodedDataset, method: str, config: Mapping[str, Any], arm: str, problem: Problem, options: Mapping
) -> int:
    """Weights that an arm trains for a problem's new tasks, counted on a model that is thrown away."""
    from benchmark.spec.options import split_config
    from benchmark.training.meters import count_parameters
    from benchmark.training.models import build_model, take_in

    own, training = split_config(config)
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
    old, new = ([data.tasks[name] for name in names] for names in (problem.old, problem.new))
    model, _ = build_model(
        method, own, data.schema(problem.tasks).pooled(training.sequence_pooling), old, ("size", method, 0)
    )
    model, trained, _ = take_in(model, ARMS[arm], new, options, ("size", method, 0))
    return count_parameters(model, trained).trainable


def _task(problem: Problem, name: str) -> Any:
    return next(task for task in problem.dataset.tasks if task.name == name)
