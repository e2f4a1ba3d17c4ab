"""One-gate Mixture-of-Experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Batch, MultiTaskModel, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Gate, Tower, mix


@register_method(
    "omoe",
    title="OMoE",
    paper="Ma et al., KDD 2018 (the one-gate baseline of MMoE)",
    kinds=("binary", "regression"),
)
class OMoE(MultiTaskModel):
    """All tasks read one mixture of experts, weighted by one softmax gate (equations 1 and 3 of the paper).

    Shapes: dense input z [B, d_in], experts f_e(z) [B, m], gate [B, E], logits [B]. What separates it from MMoE is the
    shared gate alone. A new task gets a tower, which is all that the frozen arm trains.
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        experts: int = 3
        hidden: tuple[int, ...] = (256, 128)
        dropout: tuple[float, ...] = ()
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.experts = nn.ModuleList(
            MLP(self.embed.width, config.hidden, config.dropout) for _ in range(config.experts)
        )
        self.gate = Gate(self.embed.width, config.experts)
        self.towers = nn.ModuleDict({task.name: Tower(config.hidden[-1], config.tower) for task in self.tasks})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        mixture = self._mixture(batch)
        return {name: tower(mixture) for name, tower in self.towers.items()}

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self.towers[task.name] = Tower(self.config.hidden[-1], self.config.tower)
        return [self.towers[task.name]]

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        return {"mixture": self._mixture(batch)}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.towers[name](features["mixture"]) for name in self.new_tasks}

    def _mixture(self, batch: Batch) -> Tensor:
        z = self.embed(batch)
        return mix(self.gate(z), [expert(z) for expert in self.experts])
