"""What a plan asks of methods that live on a funnel of tasks, and whether a method has anything to do on a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import unknown_name
from benchmark.spec.options import split_config
from methods import METHODS

if TYPE_CHECKING:
    from datasets_registry.base import Dataset


def with_funnel(config: dict[str, Any], method: str, dataset: Dataset) -> dict[str, Any]:
    """The resolved config with the dataset's funnel, where the method has a field of that name and it is empty.

    Raises UsageError, with the nearest name, for a funnel of tasks that the dataset does not have.
    """
    if "funnel" not in config:
        return config
    funnel = config["funnel"] or list(dataset.funnel)
    known = [task.name for task in dataset.tasks]
    for task in funnel:
        if task not in known:
            raise unknown_name(f"task of {dataset.name} in {method}.funnel", task, known)
    return config | {"funnel": funnel}


def unfit(dataset: Dataset, names: Iterable[str], method: str, config: Mapping[str, Any]) -> str | None:
    """Why a method is not run on these tasks of a dataset: it would be a shell of itself there. Or None."""
    model = METHODS.get(method)
    own, _ = split_config(config)
    resolved = model.Config(**{key: tuple(value) if isinstance(value, list) else value for key, value in own.items()})
    known = {task.name: task for task in dataset.tasks}
    return model.unfit_for([known[name] for name in names], resolved)
