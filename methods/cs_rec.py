"""CSRec: contrastive sharing on top of one subnetwork per task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from methods.base import Batch, Progress, mean_loss, register_method
from methods.masks import MaskConfig, MaskedSharedBottom


@register_method(
    "cs_rec",
    title="CSRec",
    paper="Bai et al., A Contrastive Sharing Model for Multi-Task Recommendation, WWW 2022",
    arms=("joint",),
    kinds=("binary", "regression"),
)
class CSRec(MaskedSharedBottom):
    """Masks M_t as in SparseSharing; what not all tasks share is also pushed *away* from every task.

    The contrastive mask C = 1 - product over tasks of M_t covers the weights that some task does without. For each
    batch and task in turn: the gradient of *minus* the task's loss under W * C, kept on C; the gradient of its loss
    under W * M_t; the bottom's matrices follow the sum of the two, everything else the second alone; one Adam step.
    Shapes: see MaskedSharedBottom.

    Deviations: the released code means to thin C at random, but compares a number below 1 with 1, so it never does;
    neither does this one. Masks, their search (without dropout) and the fresh start as in SparseSharing.
    """

    @dataclass(frozen=True)
    class Config(MaskConfig):
        pass

    def contrastive_mask(self) -> list[Tensor]:
        """C, [out, in] for each layer."""
        per_task = [mask.layers() for mask in self.masks.values()]
        return [1 - torch.stack(layers).prod(0) for layers in zip(*per_task, strict=True)]

    def training_step(self, batch: Batch, progress: Progress, optimizer: Any) -> dict[str, Tensor]:
        """One Adam step for each task; returns the tasks' losses."""
        terms = {}
        contrast, weights = self.contrastive_mask(), [layer.weight for layer in self.layers]
        for task in self.tasks:
            optimizer.zero_grad(set_to_none=True)
            labels = batch.labels[task.name]
            z = self.embed(batch)
            away = -mean_loss(task, self.predict(task.name, z.detach(), contrast), labels)
            pushed = torch.autograd.grad(away, weights)
            terms[task.name] = mean_loss(task, self.predict(task.name, z, self.masks[task.name].layers()), labels)
            terms[task.name].backward()
            for weight, gradient in zip(weights, pushed, strict=True):
                weight.grad += gradient  # type: ignore[operator]  # backward has set it; masked by C already, as the forward pass was
            optimizer.step()
        return {name: term.detach() for name, term in terms.items()}
