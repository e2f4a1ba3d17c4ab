"""PCL: prompt-based continual learning, adapted from user sequences to tabular backbones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from methods.base import Among, Batch, MultiTaskModel, Schema, Search, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Tower


@register_method(
    "pcl",
    title="PCL (adaptation)",
    paper="after: Yang et al., PCL: Prompt-based Continual Learning for User Modeling in Recommender Systems, "
    "WWW 2025, arXiv 2502.19628",
    without=("adapter", "lora", "bias_only"),
    kinds=("binary", "regression"),
)
class PCL(MultiTaskModel):
    """An adaptation: a task's prompt is added to the inputs of a frozen MLP, with a mixture of the earlier ones.

    What the paper's account fixes and is kept: backbone and item embeddings are frozen for a new task; every task has
    position-wise prompts, one vector for each position of the input, kept as its memory; contextual prompts attend to
    the tasks' prompts, so that a new task uses how it relates to earlier ones. The paper's positions are those of a
    user's sequence; a row of a table has fields instead, so a position-wise prompt is one vector p_t [d_in] over all
    fields of the dense input z:

        logit_t = tower_t(MLP(z + p_t + c_t)),   c_t = sum_s softmax_s(<Q_t z, K_t p_s> / sqrt(k)) p_s       [B]

    over the tasks s that t sees: those learnt before it, and itself. Q_t, K_t [k, d_in] are the task's own and ``key``
    is k. Prompts start from N(0, 0.02^2).

    Own choices, not known from the paper: the attention's query is the row, so that the context differs from row to
    row; k; that the tasks of stage 0, learnt together with the backbone, see one another. A new task gets a prompt, Q,
    K and a tower; the frozen arm trains nothing else. Tasks that arrive together count in the order in which they are
    named.
    """

    search_space: ClassVar[Mapping[str, Search]] = {"key": Among((8, 16, 32))}

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128)
        dropout: tuple[float, ...] = ()
        tower: tuple[int, ...] = (64, 32)
        key: int = 16
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.old = tuple(task.name for task in self.tasks)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.bottom = MLP(self.embed.width, config.hidden, config.dropout)
        self.prompts: Any = nn.ModuleDict()
        self.towers: Any = nn.ModuleDict()
        for name in self.old:
            self._add(name)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        return {name: self._task(name, z) for name in self.towers}

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self._add(task.name)
        return [self.prompts[task.name], self.towers[task.name]]

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        return {"z": self.embed(batch)}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self._task(name, features["z"]) for name in self.new_tasks}

    def seen_by(self, name: str) -> list[str]:
        """Tasks whose prompts a task reads: those of stage 0, and for a new one those added before it and itself."""
        tasks = list(self.towers)
        return list(self.old) if name in self.old else tasks[: tasks.index(name) + 1]

    def _task(self, name: str, z: Tensor) -> Tensor:
        own = self.prompts[name]
        prompts = torch.stack([self.prompts[other].weight for other in self.seen_by(name)])  # [n, d_in]
        scores = own.query(z) @ own.key(prompts).T / own.key.out_features**0.5
        context = torch.softmax(scores, -1) @ prompts
        return self.towers[name](self.bottom(z + own.weight + context))

    def _add(self, name: str) -> None:
        self.prompts[name] = _Prompt(self.embed.width, self.config.key)
        self.towers[name] = Tower(self.config.hidden[-1], self.config.tower)


class _Prompt(nn.Module):
    """One task's prompt, and what its context is asked for with."""

    def __init__(self, width: int, key: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.query = nn.Linear(width, key, bias=False)
        self.key = nn.Linear(width, key, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)
