"""Customized Gate Control, the one-level form of PLE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from methods.base import Batch, MultiTaskModel, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Gate, Tower, mix


@register_method(
    "cgc",
    title="CGC",
    paper="Tang et al., Progressive Layered Extraction (PLE), RecSys 2020 (its one-level model)",
    kinds=("binary", "regression"),
)
class CGC(MultiTaskModel):
    """Task k mixes its own experts and the shared ones by its own softmax gate (equations 1-3 of the paper).

    Shapes: dense input z [B, d_in], experts [B, m], gate k [B, specific + shared], logits [B]. Gates have no bias. A
    new task gets specific experts, a gate and a tower; the frozen arm trains those on the frozen shared experts.
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        shared_experts: int = 1
        specific_experts: int = 1
        hidden: tuple[int, ...] = (256, 128)
        dropout: tuple[float, ...] = ()
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.shared = self._experts(config.shared_experts)
        self.specific: Any = nn.ModuleDict()
        self.gates: Any = nn.ModuleDict()
        self.towers: Any = nn.ModuleDict()
        for task in self.tasks:
            self.add_task(task)

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        config = self.config
        self.specific[task.name] = self._experts(config.specific_experts)
        self.gates[task.name] = Gate(self.embed.width, config.specific_experts + config.shared_experts)
        self.towers[task.name] = Tower(config.hidden[-1], config.tower)
        return [part[task.name] for part in (self.specific, self.gates, self.towers)]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        shared = [expert(z) for expert in self.shared]
        return {name: self._task(name, z, shared) for name in self.towers}

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        return {"z": z} | {f"shared{e}": expert(z) for e, expert in enumerate(self.shared)}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        shared = [features[f"shared{e}"] for e in range(len(self.shared))]
        return {name: self._task(name, features["z"], shared) for name in self.new_tasks}

    def _task(self, name: str, z: Tensor, shared: list[Tensor]) -> Tensor:
        experts = [expert(z) for expert in self.specific[name]] + shared
        return self.towers[name](mix(self.gates[name](z), experts))

    def _experts(self, number: int) -> nn.ModuleList:
        return nn.ModuleList(MLP(self.embed.width, self.config.hidden, self.config.dropout) for _ in range(number))
