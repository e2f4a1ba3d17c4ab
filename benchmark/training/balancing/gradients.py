"""Balancers that combine the tasks' gradients of the shared parameters: one backward pass for each task."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmark.training.balancing.base import Gradients, Losses, OfTasks, add_gradients, flat
from benchmark.training.rows import split_batch
from methods.base import MultiTaskModel
from methods.batch import Batch

CAGRAD_C = 0.4
"""How far CAGrad may go from the mean gradient (the paper's choice for its scene-understanding tasks)."""


@dataclass(frozen=True)
class _Aggregator:
    """``make`` gives torchjd's aggregator of K tasks.

    ``scale`` is the factor that makes K times a gradient out of K identical ones; None for a kind whose result does not
    grow with its gradients: its weights are scaled to sum to K. ``unit`` says by what gradients are divided before it
    sees them: their root mean square norm ("all": no other result, but thresholds of the library for tiny gradients do
    not bite), each by its own ("each": for a kind whose direction does not depend on their lengths), or nothing ("").
    """

    make: Callable[[Any, int], Any]
    scale: Callable[[int], float] | None = lambda tasks: float(tasks)
    unit: str = "all"


AGGREGATORS = {
    "pcgrad": _Aggregator(lambda jd, tasks: jd.PCGrad(), lambda tasks: 1.0),
    "graddrop": _Aggregator(lambda jd, tasks: jd.GradDrop(), lambda tasks: 1.0),
    "gradvac": _Aggregator(lambda jd, tasks: jd.GradVac(), lambda tasks: 1.0),
    "mgda": _Aggregator(lambda jd, tasks: jd.MGDA()),
    "imtl_g": _Aggregator(lambda jd, tasks: jd.IMTLG()),
    "aligned_mtl": _Aggregator(lambda jd, tasks: jd.AlignedMTL()),
    "upgrad": _Aggregator(lambda jd, tasks: jd.UPGrad()),
    "cagrad": _Aggregator(lambda jd, tasks: jd.CAGrad(c=CAGRAD_C), lambda tasks: tasks / (1 + CAGRAD_C)),
    "nash_mtl": _Aggregator(lambda jd, tasks: _quiet(jd.NashMTL, tasks), None, unit="each"),
    # 1 would be Nash-MTL's proportional fairness once more
    "fairgrad": _Aggregator(lambda jd, tasks: jd.FairGrad(alpha=2.0), None),
    # it goes by how gradients grow and shrink from step to step
    "excess_mtl": _Aggregator(lambda jd, tasks: jd.ExcessMTL(), unit=""),
}


class Aggregated(OfTasks):
    """The shared parameters follow an aggregate of the tasks' gradients."""

    def __init__(self, kind: _Aggregator, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        super().__init__(model, tasks)
        from torchjd import aggregation

        self.kind = kind
        self.aggregator = kind.make(aggregation, len(tasks))

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        rows = []
        for _, gradients, own in self.task_gradients(terms):
            rows.append(gradients)
            add_gradients(self.own, own)
        used = [i for i in range(len(self.shared)) if any(row[i] is not None for row in rows)]
        parameters = [self.shared[i] for i in used]
        combined = self.combine(torch.stack([flat([row[i] for i in used], parameters) for row in rows]))
        parts = combined.split([parameter.numel() for parameter in parameters])
        add_gradients(parameters, [part.view_as(p) for part, p in zip(parts, parameters, strict=True)])

    def combine(self, jacobian: Tensor) -> Tensor:
        """The step's gradient [n] from the tasks' gradients [K, n], on the scale of their sum."""
        tasks, norms = len(jacobian), jacobian.norm(dim=1).clamp(min=1e-30)
        whole = norms.square().mean().sqrt().expand(tasks)
        sizes = {"all": whole, "each": norms, "": torch.ones_like(norms)}[self.kind.unit]
        unit = jacobian / sizes.unsqueeze(1)
        if self.kind.scale is not None:
            return self.kind.scale(tasks) * sizes.mean() * self.aggregator(unit)
        weights = self._weights(unit)
        return (weights * (tasks / weights.sum() * sizes.mean())) @ unit

    def _weights(self, jacobian: Tensor) -> Tensor:
        weighting = getattr(self.aggregator, "gramian_weighting", None)
        weights = self.aggregator.weighting(jacobian) if weighting is None else weighting(jacobian @ jacobian.T)
        return weights.to(jacobian)

    def state(self) -> dict[str, Tensor]:
        # torchjd keeps Nash-MTL's last solution, from which the next one starts, outside of its state_dict
        if hasattr(weighting := getattr(self.aggregator, "weighting", None), "prvs_alpha"):
            return {"alpha": torch.as_tensor(weighting.prvs_alpha)}  # type: ignore[union-attr]  # it has one
        return self.aggregator.state_dict()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if "alpha" in state:
            self.aggregator.weighting.prvs_alpha = state["alpha"].numpy()
        elif state:
            # torchjd makes the buffers that state_dict fills at the first call, for the shape that it sees there
            wide = max((part.shape[1] for part in state.values() if part.dim() == 2), default=1)
            self.aggregator(torch.zeros(len(self.tasks), wide, device=self.device))
            self.aggregator.load_state_dict(dict(state))


class SDMGrad(OfTasks):
    """SDMGrad (Xiao, Ban and Ji, NeurIPS 2023, algorithm 1): weights from gradients of independent rows.

    The weights move by J J'^T, where J and J' are the tasks' gradients on two samples, so that the product is without
    bias; the step is taken on a third sample. The three are thirds of a batch, so the budget of rows is that of the
    other kinds (the paper draws three batches). Weights sum to 1, here to K.
    """

    def __init__(self, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        super().__init__(model, tasks)
        from torchjd.aggregation import SDMGradWeighting

        self.weighting = SDMGradWeighting()

    def step(self, batch: Batch, losses: Losses) -> Mapping[str, Tensor]:
        thirds = [*split_batch(batch, math.ceil(len(batch) / 3))]
        first, second, last = (thirds * 3)[:3]  # an epoch's last batch may have fewer rows than three
        weights = self.weights(self._jacobian(losses(first)), self._jacobian(losses(second)))
        terms = losses(last)
        torch.stack([weights @ self.stacked(terms), *self.others(terms)]).sum().backward()
        return terms

    def weights(self, first: Tensor, second: Tensor) -> Tensor:
        """Weights [K] that sum to K from two samples' gradients [K, n]."""
        weights = self.weighting(first @ second.T)
        return weights * (len(self.tasks) / weights.sum())

    def _jacobian(self, terms: Mapping[str, Tensor]) -> Tensor:
        rows = [
            torch.autograd.grad(terms[name], self.shared, retain_graph=True, allow_unused=True) for name in self.tasks
        ]
        return torch.stack([flat(row, self.shared) for row in rows])

    def state(self) -> dict[str, Tensor]:
        return self.weighting.state_dict()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if state:
            self.weighting(torch.eye(len(self.tasks), device=self.device))  # makes the buffer
            self.weighting.load_state_dict(dict(state))


class GradNorm(OfTasks):
    """GradNorm (Chen et al., ICML 2018): weights w_k that bring the tasks' gradient norms to a common rate.

    G_k = w_k |grad of L_k| over all shared parameters (the paper takes the last shared layer, which a general model
    does not name); target mean(G) r_k^alpha, where r_k is L_k / L_k(0) over its mean. The weights descend on
    sum_k |G_k - target_k| with the targets held fixed (the paper's section 3.2) and are scaled to sum to K.
    """

    ALPHA = 1.5
    RATE = 0.025

    def __init__(self, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        super().__init__(model, tasks)
        self.weights = torch.ones(len(tasks), device=self.device)
        self.first: Tensor | None = None

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        found = list(self.task_gradients(terms))
        losses = torch.stack([loss for loss, _, _ in found])
        norms = torch.stack([_norm(gradients) for _, gradients, _ in found])
        if self.first is None:
            self.first = losses.clone()
        for weight, (_, shared, own) in zip(self.weights, found, strict=True):
            add_gradients([*self.shared, *self.own], [g if g is None else weight * g for g in (*shared, *own)])
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
        self.weights = state["weights"].to(self.device)
        self.first = state["first"].to(self.device) if "first" in state else None


def _quiet(make: Callable[..., Any], tasks: int) -> Any:
    # its solver warns once per process that the problem is slow to compile; it is small
    warnings.filterwarnings("ignore", message="You are solving a parameterized problem that is not DPP")
    return make(tasks, max_norm=0.0)  # the size of the step is set by its weights' sum


def _norm(gradients: Gradients) -> Tensor:
    return torch.stack([gradient.square().sum() for gradient in gradients if gradient is not None]).sum().sqrt()
