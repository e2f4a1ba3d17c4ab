"""Loss and gradient balancing: an option of any joint training (``balancing`` in a method's config).

The tasks' losses are what is balanced: the terms of ``MultiTaskModel.loss`` that bear a task's name. Other terms (an
adversary, say) and L2 join the gradient as they are. So that they keep their weight beside the tasks whatever balances
these, every kind gives on identical gradients what the plain sum gives. The arithmetic comes from the library torchjd
where it has it.

Balanced gradients act on the parameters that tasks share; a task's own parameters follow its own loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmark.training.balancing.base import Balancer
from benchmark.training.balancing.gradients import AGGREGATORS, Aggregated, GradNorm, SDMGrad
from benchmark.training.balancing.losses import SCALARIZERS, FastAdaptive, Scalarized
from methods.base import MultiTaskModel

__all__ = ["KINDS", "Balancer", "balancer"]

Maker = Callable[[MultiTaskModel, Sequence[str]], Balancer]

KINDS: dict[str, Maker] = {
    "gradnorm": GradNorm,
    "sdmgrad": SDMGrad,
    "famo": FastAdaptive,
    # mypy infers no type of a lambda with a default
    **{name: lambda model, tasks, kind=kind: Scalarized(kind, model, tasks) for name, kind in SCALARIZERS.items()},  # type: ignore[misc]
    **{name: lambda model, tasks, kind=kind: Aggregated(kind, model, tasks) for name, kind in AGGREGATORS.items()},  # type: ignore[misc]
}
"""By name, every way but the plain sum."""


def balancer(kind: str, model: MultiTaskModel, tasks: Sequence[str]) -> Balancer | None:
    """The balancer of that name for a model trained on ``tasks``; None where there is nothing to balance."""
    return None if kind == "equal" or len(tasks) < 2 else KINDS[kind](model, tasks)
