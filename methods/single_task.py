"""Single-task model: the control that every multi-task method is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Batch, MultiTaskModel, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Tower


@register_method(
    "single_task",
    title="Single-Task",
    paper="control, no paper",
    arms=("scratch",),
    kinds=("binary", "regression"),
)
class SingleTask(MultiTaskModel):
    """One network for one task: embeddings, an MLP and a tower, nothing shared and nothing regularised.

    Built for one task at a time. Given several it is one such network for each of them, embeddings included.
    Shapes: dense input [B, d_in], representation [B, hidden[-1]], logits [B].
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128)
        dropout: tuple[float, ...] = ()
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 0.0
        l2_dnn: float = 0.0

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.networks = nn.ModuleDict({task.name: _Network(schema, config) for task in tasks})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {name: network(batch) for name, network in self.networks.items()}


class _Network(nn.Module):
    def __init__(self, schema: Schema, config: SingleTask.Config) -> None:
        super().__init__()
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.body = MLP(self.embed.width, config.hidden, config.dropout)
        self.tower = Tower(config.hidden[-1], config.tower)

    def forward(self, batch: Batch) -> Tensor:
        return self.tower(self.body(self.embed(batch)))
