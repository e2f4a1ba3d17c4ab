"""Entire Space Counterfactual Multi-task Model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from methods.base import Batch, Between, Progress, Search, register_method
from methods.funnels import EntireSpace, FunnelConfig, exposure


@register_method(
    "escm2",
    title="ESCM2",
    paper="Wang et al., ESCM2: Entire Space Counterfactual Multi-Task Model, SIGIR 2022, arXiv 2204.05125",
    without=("adapter", "lora", "bias_only"),
)
class ESCM2(EntireSpace):
    """ESMM with a counterfactual risk of the conditional probability, meant to be unbiased on the entire space.

    For a task that follows another: o = 1 where the one before happened, o^ the predicted probability of that (no
    gradient, at least ``floor``), e = BCE of the conditional probability, per row. The loss adds ``counterfactual``
    (lambda_c) times a mean over *all* rows,

    * ``risk="ips"``: o e / o^ (inverse propensity score), or
    * ``risk="dr"`` (doubly robust): e^ + o (e - e^) / o^, where a second tower on the task's MLP imputes e^ >= 0 and
      learns it by o (e - e^)^2 / o^ (e without gradient there);

    and weighs ESMM's loss of the product with ``entire`` (lambda_g). Binary tasks only. See `EntireSpace` for funnels,
    spaces and new tasks.

    Deviations: the paper puts its towers on MMoE's experts; here each task has the MLP of the comparison's ESMM, so
    that the two methods differ in the loss alone. In the frozen arm a chained new task comes without the labels of the
    task before it, so that only ESMM's loss is left (a task with a ``space`` brings them along).
    """

    second_towers = True
    search_space: ClassVar[Mapping[str, Search]] = {
        "counterfactual": Between(0.01, 1.0, log=True),
        "entire": Between(0.1, 1.0, log=True),
    }

    @dataclass(frozen=True)
    class Config(FunnelConfig):
        risk: str = "dr"
        counterfactual: float = 0.1
        entire: float = 1.0
        floor: float = 0.05

        def __post_init__(self) -> None:
            if self.risk not in ("ips", "dr"):
                raise UsageError(f"escm2.risk must be ips or dr, not {self.risk!r}")
            if not 0 < self.floor <= 1:
                raise UsageError(f"escm2.floor is the smallest propensity, in (0, 1], not {self.floor}")

    def loss(self, batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        terms = super().loss(batch, outputs, progress)
        for task in self.tasks:
            seen = exposure(self, task, batch, outputs)
            if seen is None:
                continue
            terms[task.name] = self.config.entire * terms[task.name]
            weights = seen.reached / seen.propensity.clamp(min=self.config.floor)
            if self.config.risk == "ips":
                risk = (weights * seen.errors).mean()
            else:
                imputed = F.softplus(outputs[f"second/{task.name}"])
                risk = (imputed + weights * (seen.errors - imputed)).mean()
                missed = (weights * (seen.errors.detach() - imputed).square()).mean()
                terms[f"imputation/{task.name}"] = self.config.counterfactual * missed
            terms[f"counterfactual/{task.name}"] = self.config.counterfactual * risk
        return terms
