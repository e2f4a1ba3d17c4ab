"""Multi-gate Mixture-of-Experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Batch, MultiTaskModel, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Gate, Tower, mix


@register_method(
    "mmoe",
    title="MMoE",
    paper="Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018",
    kinds=("binary", "regression"),
    paper_counts="old_task_parameters",
)
class MMoE(MultiTaskModel):
    """Every task mixes the same experts by a softmax gate of its own (equations 5-7 of the paper).

    Shapes: dense input z [B, d_in], E experts f_e(z) [B, m], gate g_k(z) [B, E], logits [B]. Deviation: experts are
    two-layer MLPs as in the MPT-Rec comparison (the paper's have one layer). A new task gets a gate and a tower,
    which are all that the frozen arm trains (MMOE* of the MPT-Rec paper).
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
        self.gates = nn.ModuleDict()
        self.towers = nn.ModuleDict()
        for task in self.tasks:
            self.add_task(task)

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self.gates[task.name] = Gate(self.embed.width, self.config.experts)
        self.towers[task.name] = Tower(self.config.hidden[-1], self.config.tower)
        return [self.gates[task.name], self.towers[task.name]]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        experts = [expert(z) for expert in self.experts]
        return {name: self._task(name, z, experts) for name in self.towers}

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        return {"z": z} | {f"expert{e}": expert(z) for e, expert in enumerate(self.experts)}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        experts = [features[f"expert{e}"] for e in range(len(self.experts))]
        return {name: self._task(name, features["z"], experts) for name in self.new_tasks}

    def _task(self, name: str, z: Tensor, experts: Sequence[Tensor]) -> Tensor:
        return self.towers[name](mix(self.gates[name](z), experts))
