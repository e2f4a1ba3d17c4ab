"""An evolving mixture of low-rank experts, adapted from continual user modelling to tabular backbones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from methods.base import Among, Batch, MultiTaskModel, Progress, Schema, Search, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Tower


@register_method(
    "low_rank_experts",
    title="Low-rank experts (adaptation)",
    paper="after: Evolving Mixture of Low-Rank Experts for Continual User Modeling, ECIR 2026 (its published abstract)",
    without=("adapter", "lora", "bias_only"),
    kinds=("binary", "regression"),
)
class LowRankExperts(MultiTaskModel):
    """An adaptation: each task adds rank-1 experts to a shared MLP, and attends to those of the tasks before it.

    What the abstract fixes and is kept: low-rank adapters in the form of a singular value decomposition, read as a
    relaxed mixture of rank-1 experts; a new task trains few weights on a frozen backbone; it weighs the experts that
    past tasks have trained, by attention coefficients learnt together with its own adapter, and never changes them. The
    paper adapts sequence models; here the backbone is the comparison's Shared-Bottom:

        x_{l+1} = relu(W_l x_l + b_l + sum_s a_{t,s} P_{l,s} (sigma_{l,s} * (Q_{l,s} x_l)))        [B, hidden[l]]

    for task t, with P_{l,s} [out, r], sigma_{l,s} [r], Q_{l,s} [r, in] of task s, and a_{t,.} = n softmax over the n
    tasks that t sees of <query_t, key_s> / sqrt(k), so that it starts near 1 for each. sigma starts at 0: a new task
    starts from the backbone and what the old ones added to it. The loss adds ``orthogonal`` times the squared distance
    of P^T P and Q Q^T from the identity, of the adapters that train (the decomposition's constraint, as AdaLoRA has
    it).

    Own choices, not known from the paper: the attention's form and its width ``key``, the rank, the penalty's weight,
    and that tasks learnt together in stage 0, backbone included, attend to one another. Logits tower_t(x) [B]. A new
    task gets adapters, a query, a key and a tower; the frozen arm trains nothing else. Tasks that arrive together count
    in the order in which they are named.
    """

    search_space: ClassVar[Mapping[str, Search]] = {"rank": Among((2, 4, 8, 16))}

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128)
        tower: tuple[int, ...] = (64, 32)
        rank: int = 8
        key: int = 16
        orthogonal: float = 1e-3
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

        def __post_init__(self) -> None:
            if self.rank < 1 or self.key < 1:
                raise UsageError(f"low_rank_experts: rank and key are at least 1, not {self.rank} and {self.key}")

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.old = tuple(task.name for task in self.tasks)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.bottom = MLP(self.embed.width, config.hidden)
        self.adapters: Any = nn.ModuleDict()
        self.towers: Any = nn.ModuleDict()
        for name in self.old:
            self._add(name)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self._logits(self.embed(batch), list(self.towers))

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self._add(task.name)
        return [self.adapters[task.name], self.towers[task.name]]

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        return {"z": self.embed(batch)}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._logits(features["z"], self.new_tasks)

    def loss(self, batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        terms = super().loss(batch, outputs, progress)
        if self.config.orthogonal:
            distances = [
                distance
                for adapter in self.adapters.values()
                for distance in adapter.distances()
                if distance.requires_grad
            ]
            terms["orthogonal"] = self.config.orthogonal * torch.stack(distances).sum()
        return terms

    def seen_by(self, name: str) -> list[str]:
        """Tasks whose experts a task reads: those of stage 0, and for a new one those added before it and itself."""
        tasks = list(self.towers)
        return list(self.old) if name in self.old else tasks[: tasks.index(name) + 1]

    def attention(self, name: str) -> Tensor:
        """Coefficients of a task [tasks it sees]; they sum to their number."""
        keys = torch.stack([self.adapters[other].key for other in self.seen_by(name)])
        scores = keys @ self.adapters[name].query / keys.shape[1] ** 0.5
        return len(keys) * torch.softmax(scores, 0)

    def _logits(self, z: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        layers = [layer for layer in self.bottom if isinstance(layer, nn.Linear)]
        logits = {}
        for name in names:
            x, weights = z, self.attention(name).unbind()
            for number, layer in enumerate(layers):
                added = [
                    weight * self.adapters[other](number, x)
                    for weight, other in zip(weights, self.seen_by(name), strict=True)
                ]
                x = torch.relu(sum(added, start=layer(x)))
            logits[name] = self.towers[name](x)
        return logits

    def _add(self, name: str) -> None:
        self.adapters[name] = _Adapter((self.embed.width, *self.config.hidden), self.config.rank, self.config.key)
        self.towers[name] = Tower(self.config.hidden[-1], self.config.tower)


class _Adapter(nn.Module):
    """One task's rank-1 experts at every layer, its query and its key."""

    def __init__(self, widths: Sequence[int], rank: int, key: int) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.left = nn.ParameterList(torch.empty(out, rank) for _, out in pairs)
        self.right = nn.ParameterList(torch.empty(rank, width) for width, _ in pairs)
        self.singular = nn.ParameterList(torch.empty(rank) for _ in pairs)
        self.query = nn.Parameter(torch.empty(key))
        self.key = nn.Parameter(torch.empty(key))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for left, right, singular in zip(self.left, self.right, self.singular, strict=True):
            nn.init.normal_(left, std=left.shape[0] ** -0.5)
            nn.init.normal_(right, std=right.shape[1] ** -0.5)
            nn.init.zeros_(singular)
        nn.init.normal_(self.query, std=0.1)
        nn.init.normal_(self.key, std=0.1)

    def forward(self, layer: int, x: Tensor) -> Tensor:
        """What the experts add at a layer: [B, in] to [B, out]."""
        return F.linear(F.linear(x, self.right[layer]) * self.singular[layer], self.left[layer])

    def distances(self) -> list[Tensor]:
        """Squared distance from orthogonality of every factor."""
        grams = [*(left.T @ left for left in self.left), *(right @ right.T for right in self.right)]
        return [(gram - torch.eye(len(gram), device=gram.device)).square().sum() for gram in grams]
