"""Loss and gradient balancing: an option of any joint training (``balancing`` in a method's config).

The tasks' losses are what is balanced: the terms of ``MultiTaskModel.loss`` that bear a task's name. Other terms (an
adversary, say) join the gradient as they are. The arithmetic comes from the library torchjd where it has it.

Balanced gradients act on the parameters that tasks share; a task's own parameters follow its own loss.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import MultiTaskModel

Gradients = Sequence[Tensor | None]


class Balancer:
    """How the terms of a step become gradients. ``parameters`` are trained with the model's by the same optimizer."""

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        """Fill the parameters' ``grad``."""
        raise NotImplementedError

    def parameters(self) -> list[nn.Parameter]:
        """Trainable parts of the balancer."""
        return []

    def state(self) -> dict[str, Tensor]:
        """Tensors by which an interrupted run goes on as if it had not been."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""


def balancer(kind: str, model: MultiTaskModel, tasks: Sequence[str]) -> Balancer | None:
    """The balancer of that name for a model trained on ``tasks``; None where there is nothing to balance."""
    if kind == "equal" or len(tasks) < 2:
        return None
    if kind == "gradnorm":
        return GradNorm(model, tasks)
    if kind in ("uncertainty", "imtl_l", "random"):
        return _Scalarized(kind, model, tasks)
    return _Aggregated(_aggregator(kind, len(tasks)), model, tasks)


class _OfTasks(Balancer):
    def __init__(self, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        self.tasks = tuple(tasks)
        roles = model.parameter_roles()
        self.shared = [p for role, members in roles.items() if not role.startswith("task:") for p in members]
        self.own = [p for role, members in roles.items() if role.startswith("task:") for p in members]

    def task_gradients(self, terms: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Gradients, Gradients]]:
        """For each task its loss and that loss's gradients of the shared and of the tasks' own parameters.

        The other terms' gradients are put where they belong on the way.
        """
        others = [term for name, term in terms.items() if name not in self.tasks]
        if others:
            torch.stack(others).sum().backward(retain_graph=True)
        parameters = [*self.shared, *self.own]
        for position, name in enumerate(self.tasks):
            last = position + 1 == len(self.tasks)
            gradients = torch.autograd.grad(terms[name], parameters, retain_graph=not last, allow_unused=True)
            yield terms[name].detach(), gradients[: len(self.shared)], gradients[len(self.shared) :]


class _Scalarized(_OfTasks):
    """One weighted sum of the losses, its weights learned or drawn."""

    def __init__(self, kind: str, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        super().__init__(model, tasks)
        scalarizer, self.scale = _scalarizer(kind, len(tasks))
        self.scalarizer = scalarizer.to(next(model.parameters()).device)

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        losses = torch.stack([terms[name] for name in self.tasks])
        others = [term for name, term in terms.items() if name not in self.tasks]
        torch.stack([self.scale * self.scalarizer(losses), *others]).sum().backward()

    def parameters(self) -> list[nn.Parameter]:
        return list(self.scalarizer.parameters())

    def state(self) -> dict[str, Tensor]:
        return self.scalarizer.state_dict()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.scalarizer.load_state_dict(state)


class _Aggregated(_OfTasks):
    """The shared parameters follow an aggregate of the tasks' gradients."""

    def __init__(self, aggregator: nn.Module, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        super().__init__(model, tasks)
        self.aggregator = aggregator

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        rows = []
        for _, gradients, own in self.task_gradients(terms):
            rows.append(gradients)
            _add_gradients(self.own, own)
        used = [i for i in range(len(self.shared)) if any(row[i] is not None for row in rows)]
        parameters = [self.shared[i] for i in used]
        jacobian = torch.stack([_flat([row[i] for i in used], parameters) for row in rows])
        combined = self.aggregator(jacobian)
        parts = combined.split([parameter.numel() for parameter in parameters])
        _add_gradients(parameters, [part.view_as(p) for part, p in zip(parts, parameters, strict=True)])

    def state(self) -> dict[str, Tensor]:
        # torchjd keeps Nash-MTL's last solution, from which the next one starts, outside of its state_dict
        weighting = getattr(self.aggregator, "weighting", None)
        return {"alpha": torch.as_tensor(weighting.prvs_alpha)} if hasattr(weighting, "prvs_alpha") else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if "alpha" in state:
            self.aggregator.weighting.prvs_alpha = state["alpha"].numpy()  # type: ignore[union-attr]


class GradNorm(_OfTasks):
    """GradNorm (Chen et al., ICML 2018): weights w_k that bring the tasks' gradient norms to a common rate.

    G_k = w_k |grad of L_k| over all shared parameters (the paper takes the last shared layer, which a general model
    does not name); target mean(G) r_k^alpha, where r_k is L_k / L_k(0) over its mean. The weights descend on
    sum_k |G_k - target_k| with the targets held fixed (the paper's section 3.2) and are scaled to sum to K.
    """

    ALPHA = 1.5
    RATE = 0.025

    def __init__(self, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        super().__init__(model, tasks)
        self.weights = torch.ones(len(tasks), device=next(model.parameters()).device)
        self.first: Tensor | None = None

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        found = list(self.task_gradients(terms))
        losses = torch.stack([loss for loss, _, _ in found])
        norms = torch.stack([_norm(gradients) for _, gradients, _ in found])
        if self.first is None:
            self.first = losses.clone()
        for weight, (_, shared, own) in zip(self.weights, found, strict=True):
            _add_gradients([*self.shared, *self.own], [g if g is None else weight * g for g in (*shared, *own)])
        self.weights = self.next_weights(losses, norms)

    def next_weights(self, losses: Tensor, norms: Tensor) -> Tensor:
        """One descent step of the weights [K] for losses [K] and the norms [K] of their unweighted gradients."""
        assert self.first is not None
        rates = losses / self.first
        weighted = self.weights * norms
        target = weighted.mean() * (rates / rates.mean()) ** self.ALPHA
        weights = (self.weights - self.RATE * torch.sign(weighted - target) * norms).clamp(min=1e-3)
        return weights * len(weights) / weights.sum()

    def state(self) -> dict[str, Tensor]:
        return {"weights": self.weights} | ({} if self.first is None else {"first": self.first})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.weights = state["weights"].to(self.weights.device)
        self.first = state["first"].to(self.weights.device) if "first" in state else None


def _scalarizer(kind: str, tasks: int) -> tuple[nn.Module, float]:
    """The scalarizer, and the factor with which it starts (random: is on average) the plain sum, so that L2 and the
    other terms keep their weight beside it."""
    from torchjd import scalarization

    makers: dict[str, tuple[Callable[[], nn.Module], float]] = {
        "uncertainty": (lambda: scalarization.UW(tasks), 2.0),
        "imtl_l": (lambda: scalarization.IMTLL(tasks), 1.0),
        "random": (scalarization.Random, float(tasks)),
    }
    make, scale = makers[kind]
    return make(), scale


def _aggregator(kind: str, tasks: int) -> Any:
    from torchjd import aggregation

    makers: dict[str, Callable[[], Any]] = {
        "pcgrad": aggregation.PCGrad,
        "mgda": aggregation.MGDA,
        "cagrad": lambda: aggregation.CAGrad(c=0.4),
        "nash_mtl": lambda: _quiet(aggregation.NashMTL, tasks),
        "imtl_g": aggregation.IMTLG,
        "aligned_mtl": aggregation.AlignedMTL,
        "graddrop": aggregation.GradDrop,
    }
    return makers[kind]()


def _quiet(make: Callable[[int], Any], tasks: int) -> Any:
    # its solver warns once per process that the problem is slow to compile; it is small
    warnings.filterwarnings("ignore", message="You are solving a parameterized problem that is not DPP")
    return make(tasks)


def _flat(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs])


def _add_gradients(parameters: Sequence[nn.Parameter], gradients: Gradients) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _norm(gradients: Gradients) -> Tensor:
    return torch.stack([gradient.square().sum() for gradient in gradients if gradient is not None]).sum().sqrt()
