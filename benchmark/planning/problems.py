"""What a suite asks of one dataset: which tasks are old, which are new, and how the new ones arrive.

A problem is a dataset with one partition of its tasks. A suite that makes each task the new one in turn
(``new_tasks = "each"``) gives a dataset with T tasks T problems; one with ``label_shares`` gives a problem for each
share; one with a ``chain`` gives a problem whose new tasks arrive one after another, in one order or in several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.core.errors import UsageError, unknown_name
from benchmark.spec.labels import with_share

if TYPE_CHECKING:
    from benchmark.planning.suite import Suite
    from datasets_registry.base import Dataset

EACH = "each"


class NoProblem(UsageError):
    """A dataset offers nothing of what the suite asks for; other datasets of the suite may."""


@dataclass(frozen=True)
class Problem:
    """A dataset under the name that its runs bear, with its old and new tasks.

    ``orders`` are those in which the new tasks arrive one by one (none: all together). ``shared`` tells that runs which
    do not depend on the partition serve all problems of the dataset: single-task models and joint retraining.
    """

    name: str
    dataset: Dataset
    old: tuple[str, ...]
    new: tuple[str, ...]
    orders: tuple[tuple[str, ...], ...] = ()
    shared: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        return (*self.old, *self.new)


def problems(suite: Suite, dataset: Dataset, name: str) -> list[Problem]:
    """The problems of one dataset, in the order of its tasks or of the shares. Raises UsageError, NoProblem where the
    dataset has too few tasks or no chain."""
    each = suite.new_tasks in (EACH, (EACH,))
    orders = suite.chain.get(name) or suite.chain.get(name.partition("@")[0]) or suite.chain.get("*")
    orders = orders or ((dataset.chain, dataset.chain[::-1]) if dataset.chain else ())
    if (each or suite.new_tasks) and suite.chain:
        raise UsageError("A suite has new_tasks or a chain, not both: the chain names its new tasks.")
    if suite.label_shares and (suite.new_tasks or suite.chain):
        raise UsageError("label_shares thin the labels of the dataset's own new tasks: no new_tasks or chain with it.")
    if each:
        tasks = dataset.candidates or tuple(task.name for task in dataset.tasks)
        if len(tasks) < 2:
            raise NoProblem(f"{name} has one task alone: none of them can be new to the others.")
        return [Problem(name, dataset, tuple(t for t in tasks if t != new), (new,), shared=True) for new in tasks]
    if suite.chain:
        if not orders:
            raise NoProblem(f"The suite has no chain for {name}; name its tasks: [chain] {name} = [[...], [...]]")
        return [_chained(dataset, name, orders)]
    old, new = partition(dataset, suite.new_tasks)
    return [Problem(with_share(name, share), dataset, tuple(old), tuple(new)) for share in suite.label_shares or (100,)]


def partition(dataset: Dataset, new_tasks: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Old and new tasks: the dataset's default, or every default task that is not named new. Raises UsageError."""
    if new_tasks is None:
        return list(dataset.old_tasks), list(dataset.new_tasks)
    new = _known(dataset, new_tasks)
    old = [task for task in dataset.old_tasks if task not in new]
    if not old:
        raise UsageError(f"--new-task: {dataset.name} has no old task left.")
    return old, new


def _chained(dataset: Dataset, name: str, orders: Sequence[Sequence[str]]) -> Problem:
    """The problem of a chain; its new tasks are named in the dataset's own order, whatever the orders of arrival."""
    for order in orders:
        _known(dataset, order)
        if len(set(order)) != len(order) or len(order) < 2:
            raise UsageError(f"A chain has two or more different tasks; of {name}: {', '.join(order)}.")
        if set(order) != set(orders[0]):
            raise UsageError(f"The orders of a chain bring the same tasks; of {name}: {', '.join(order)}.")
    new = tuple(task.name for task in dataset.tasks if task.name in orders[0])
    old = tuple(task for task in dataset.old_tasks if task not in new)
    if not old:
        raise UsageError(f"The chain of {name} leaves no old task.")
    return Problem(name, dataset, old, new, tuple(tuple(order) for order in orders))


def _known(dataset: Dataset, tasks: Sequence[str]) -> list[str]:
    known = [task.name for task in dataset.tasks]
    for task in tasks:
        if task not in known:
            raise unknown_name(f"task of {dataset.name}", task, known)
    return list(tasks)
