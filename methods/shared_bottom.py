"""Shared-Bottom: all tasks on one representation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Batch, MultiTaskModel, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Tower


@register_method(
    "shared_bottom",
    title="Shared-Bottom",
    paper="Caruana, Machine Learning 1997",
    kinds=("binary", "regression"),
    paper_counts="old_task_parameters",
)
class SharedBottom(MultiTaskModel):
    """Embeddings and one MLP for all tasks, a tower for each.

    Shapes: dense input [B, d_in], bottom [B, hidden[-1]], logits [B]. A new task gets a tower of its own; the frozen
    arm trains that tower alone (Shared* of the MPT-Rec paper).
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128)
        dropout: tuple[float, ...] = ()
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.bottom = MLP(self.embed.width, config.hidden, config.dropout)
        self.towers = nn.ModuleDict({task.name: Tower(config.hidden[-1], config.tower) for task in self.tasks})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        bottom = self.bottom(self.embed(batch))
        return {name: tower(bottom) for name, tower in self.towers.items()}

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self.towers[task.name] = Tower(self.config.hidden[-1], self.config.tower)
        return [self.towers[task.name]]

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        return {"bottom": self.bottom(self.embed(batch))}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.towers[name](features["bottom"]) for name in self.new_tasks}
