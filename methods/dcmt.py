"""Direct entire-space Causal Multi-Task framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from methods.base import Batch, Between, Progress, Search, register_method
from methods.funnels import EntireSpace, FunnelConfig, exposure


@register_method(
    "dcmt",
    title="DCMT",
    paper="Zhu et al., DCMT: A Direct Entire-Space Causal Multi-Task Framework for Post-Click Conversion Estimation, "
    "ICDE 2023",
    without=("adapter", "lora", "bias_only"),
)
class DCMT(EntireSpace):
    """ESMM whose conditional probability has a counterfactual twin, learnt where the task was not reached.

    For a task that follows another, with o = 1 where the one before happened and o^ the predicted probability of that
    (no gradient, within ``floor`` of 0 and 1): r^ is the conditional probability, and a second tower on the task's MLP
    predicts r* = 1 - r in the mirrored space. The loss adds

        sum_{o=1} w BCE(r, r^) + sum_{o=0} w* BCE(1, r^*) + soft mean |1 - (r^ + r^*)|

    with w = (1/o^) / sum_{o=1} 1/o^ and w* = (1/(1-o^)) / sum_{o=0} 1/(1-o^), self-normalised propensities: in the
    space that was not reached r is 0, so the counterfactual label is 1, and the last term ties the two softly, since
    such a row may be a conversion nobody saw. Product and first task are learnt as in ESMM. Binary tasks only. See
    `EntireSpace` for funnels, spaces and new tasks.

    Established from the authors' account of the paper, no code of theirs being public: the three terms, the mirrored
    labels, the self-normalisation. Own choices: ``counterfactual`` (1) and ``soft`` (1e-3) as their weights, ``floor``,
    one MLP under the twin towers, sizes of the comparison. In the frozen arm a chained new task comes without the
    labels of the task before it, so that only ESMM's loss is left (a task with a ``space`` brings them along).
    """

    second_towers = True
    search_space: ClassVar[Mapping[str, Search]] = {
        "counterfactual": Between(0.1, 3.0, log=True),
        "soft": Between(1e-4, 0.1, log=True),
    }

    @dataclass(frozen=True)
    class Config(FunnelConfig):
        counterfactual: float = 1.0
        soft: float = 1e-3
        floor: float = 0.05

        def __post_init__(self) -> None:
            if not 0 < self.floor <= 0.5:
                raise UsageError(f"dcmt.floor keeps propensities away from 0 and 1, in (0, 0.5], not {self.floor}")

    def loss(self, batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        terms = super().loss(batch, outputs, progress)
        for task in self.tasks:
            seen = exposure(self, task, batch, outputs)
            if seen is None:
                continue
            propensity = seen.propensity.clamp(self.config.floor, 1 - self.config.floor)
            twin = outputs[f"second/{task.name}"]
            # the cross-entropy to a label of 1; where the task was reached the twin learns through the last term alone
            mirrored = F.softplus(-twin)
            factual = _normalised(seen.reached / propensity, seen.errors)
            counterfactual = _normalised((1 - seen.reached) / (1 - propensity), mirrored)
            tie = (1 - (seen.probability + torch.sigmoid(twin))).abs().mean()
            terms[f"factual/{task.name}"] = self.config.counterfactual * factual
            terms[f"counterfactual/{task.name}"] = self.config.counterfactual * counterfactual
            terms[f"tie/{task.name}"] = self.config.soft * tie
        return terms


def _normalised(weights: Tensor, errors: Tensor) -> Tensor:
    """Mean of errors by weights; 0 where all weights are."""
    return (weights * errors).sum() / weights.sum().clamp(min=1e-12)
