"""What a balancer is, and the gradients of each task's loss that many of them start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from methods.base import MultiTaskModel
from methods.batch import Batch

Gradients = Sequence[Tensor | None]
Losses = Callable[[Batch], Mapping[str, Tensor]]


class Balancer:
    """How the terms of a step become gradients. ``parameters`` are trained with the model's by the same optimizer."""

    def step(self, batch: Batch, losses: Losses) -> Mapping[str, Tensor]:
        """Fill the parameters' ``grad``; returns the terms. ``losses`` gives the terms of any rows."""
        terms = losses(batch)
        self.backward(terms)
        return terms

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        """Fill the parameters' ``grad`` from the terms of a batch."""
        raise NotImplementedError

    def after_step(self, batch: Batch, losses: Losses) -> None:
        """Called when the optimizer has moved the parameters."""

    def end_epoch(self) -> None:
        """Called when an epoch's training is over."""

    def warnings(self, kept_epoch: int) -> list[str]:
        """As those of a method (`MultiTaskModel.warnings`): that it did not act in this budget."""
        return []

    def parameters(self) -> list[nn.Parameter]:
        """Trainable parts of the balancer."""
        return []

    def state(self) -> dict[str, Tensor]:
        """Tensors by which a run that was interrupted between two epochs goes on as if it had not been."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""


class OfTasks(Balancer):
    """A balancer of the tasks of a model."""

    def __init__(self, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        self.tasks = tuple(tasks)
        self.device = next(model.parameters()).device
        roles = model.parameter_roles()
        self.shared = [p for role, members in roles.items() if not role.startswith("task:") for p in members]
        self.own = [p for role, members in roles.items() if role.startswith("task:") for p in members]

    def stacked(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The tasks' losses, [K]."""
        return torch.stack([terms[name] for name in self.tasks])

    def others(self, terms: Mapping[str, Tensor]) -> list[Tensor]:
        """The terms that are not balanced."""
        return [term for name, term in terms.items() if name not in self.tasks]

    def task_gradients(self, terms: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Gradients, Gradients]]:
        """For each task its loss and that loss's gradients of the shared and of the tasks' own parameters.

        The other terms' gradients are put where they belong on the way.
        """
        if others := self.others(terms):
            torch.stack(others).sum().backward(retain_graph=True)
        parameters = [*self.shared, *self.own]
        for position, name in enumerate(self.tasks):
            last = position + 1 == len(self.tasks)
            gradients = torch.autograd.grad(terms[name], parameters, retain_graph=not last, allow_unused=True)
            yield terms[name].detach(), gradients[: len(self.shared)], gradients[len(self.shared) :]


def add_gradients(parameters: Sequence[nn.Parameter], gradients: Gradients) -> None:
    """Add to the parameters' ``grad``; None adds nothing."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def flat(gradients: Gradients, parameters: Sequence[Tensor]) -> Tensor:
    """One vector of all gradients, zeros for None."""
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs])
