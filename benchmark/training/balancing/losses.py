"""Balancers that weigh the tasks' losses: one weighted sum, one backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.training.balancing.base import Losses, OfTasks
from methods.base import MultiTaskModel
from methods.batch import Batch


@dataclass(frozen=True)
class _Scalarizer:
    """``make`` gives torchjd's scalarizer of K tasks; ``scale`` is the factor with which its weights sum to K: always,
    or where weights are learnt at the start, or where they are drawn on average."""

    make: Callable[[Any, int], nn.Module]
    scale: Callable[[int], float]


RATES_FROM = 2
"""Epochs after which DWA has the two means whose ratio it goes by; until then all tasks weigh 1."""

SCALARIZERS = {
    "uncertainty": _Scalarizer(lambda jd, tasks: jd.UW(tasks), lambda tasks: 2.0),
    "imtl_l": _Scalarizer(lambda jd, tasks: jd.IMTLL(tasks), lambda tasks: 1.0),
    "random": _Scalarizer(lambda jd, tasks: jd.Random(), lambda tasks: float(tasks)),
    # the paper's temperature
    "dwa": _Scalarizer(lambda jd, tasks: jd.DWA(temperature=2.0), lambda tasks: 1.0),
    # of the values of mu that the paper evaluates the one at which losses that differ by tenths get different weights
    "stch": _Scalarizer(lambda jd, tasks: jd.STCH(mu=0.1), lambda tasks: float(tasks**2)),
}


class Scalarized(OfTasks):
    """One weighted sum of the losses, its weights learned, drawn or computed from the losses."""

    def __init__(self, kind: _Scalarizer, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        super().__init__(model, tasks)
        from torchjd import scalarization

        self.scale = kind.scale(len(tasks))
        self.scalarizer = kind.make(scalarization, len(tasks)).to(self.device)

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        torch.stack([self.scale * self.scalarizer(self.stacked(terms)), *self.others(terms)]).sum().backward()

    def parameters(self) -> list[nn.Parameter]:
        return list(self.scalarizer.parameters())

    def end_epoch(self) -> None:
        if callable(roll := getattr(self.scalarizer, "step", None)):  # DWA goes by the means of epochs
            roll()

    def warnings(self, kept_epoch: int) -> list[str]:
        if kept_epoch > RATES_FROM or not callable(getattr(self.scalarizer, "step", None)):
            return []
        return [
            f"DWA did not act: it weighs by the rates of two epochs, and the kept epoch {kept_epoch} is one of them."
        ]

    def state(self) -> dict[str, Tensor]:
        # torchjd keeps DWA's means of past epochs outside of its state_dict
        means = getattr(self.scalarizer, "_previous_averages", [])
        return self.scalarizer.state_dict() | {f"mean{i}": mean for i, mean in enumerate(means)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        means = [state[name].to(self.device) for name in sorted(state) if name.startswith("mean")]
        if means:
            self.scalarizer._previous_averages = means  # type: ignore[assignment]
        self.scalarizer.load_state_dict({name: value for name, value in state.items() if not name.startswith("mean")})


class FastAdaptive(OfTasks):
    """FAMO (Liu et al., NeurIPS 2023, algorithm 2): weights z that let all losses fall at an equal rate.

    The step descends on c sum_k z_k log L_k, whose weights z_k c / L_k sum to 1 (here to K). z = softmax(w), and w
    moves by how far each log L_k fell, for which the losses are computed once more after each step.
    """

    def __init__(self, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        super().__init__(model, tasks)
        from torchjd.scalarization import FAMO

        self.scalarizer = FAMO(len(tasks)).to(self.device)

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        torch.stack([len(self.tasks) * self.scalarizer(self.stacked(terms)), *self.others(terms)]).sum().backward()

    @torch.no_grad()
    def after_step(self, batch: Batch, losses: Losses) -> None:
        self.scalarizer.update(self.stacked(losses(batch)))

    # torchjd keeps the optimizer of the weights, which belongs to the state, to itself

    def state(self) -> dict[str, Tensor]:
        optimizer = self.scalarizer._optimizer
        moments = {} if optimizer is None else optimizer.state_dict()["state"][0]
        return {"w": self.scalarizer._w.detach().clone()} | dict(moments)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        weights = self.scalarizer._w
        with torch.no_grad():
            weights.copy_(state["w"])
        if moments := {name: value for name, value in state.items() if name != "w"}:
            optimizer = torch.optim.Adam([weights], lr=self.scalarizer.lr, weight_decay=self.scalarizer.weight_decay)
            optimizer.load_state_dict(optimizer.state_dict() | {"state": {0: moments}})
            self.scalarizer._optimizer = optimizer
