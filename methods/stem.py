"""STEM: shared and task-specific embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.core.errors import UsageError
from methods.base import Batch, MultiTaskModel, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Gate, Tower, decayed_parameters, mix

EXACT_INTEGERS = 1 << 24
"""Up to here float32 holds every integer, so codes may lie among cached float features."""


@register_method(
    "stem",
    title="STEM",
    paper="Su et al., STEM: Unleashing the Power of Embeddings for Multi-task Recommendation, AAAI 2024",
    kinds=("binary", "regression"),
)
class STEM(MultiTaskModel):
    """K + 1 sets of embedding tables, each with its expert: one shared, one per task.

    Dense inputs z_k, z_shared [B, d_in] from the tables of task k and the shared ones; experts S_k(z_k) and G(z_shared)
    [B, m]. Task k mixes *all* experts by a softmax gate on z_k + z_shared [B, K + 1], but its loss reaches only S_k
    and G: the other tasks' experts are cut off from the gradient ("all forward, task-specific backward").

    Deviations: experts are two-layer MLPs and gates linear without bias, as in the MPT-Rec comparison.
    ``stop_gradient="as_released"`` repeats a slip of that comparison's code, which overwrites its list of experts: from
    the second task on, a task's own expert is cut off as well. A new task gets tables, an expert, a gate over [its
    expert, shared] and a tower (STEM*), with ``l2_new_task`` on its tables and weights.
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128)
        dropout: tuple[float, ...] = ()
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 6e-3
        l2_dnn: float = 0.0
        l2_new_task: float = 1e-4
        stop_gradient: str = "intended"

        def __post_init__(self) -> None:
            if self.stop_gradient not in ("intended", "as_released"):
                raise UsageError(f"stem.stop_gradient must be intended or as_released, not {self.stop_gradient!r}")

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.old = tuple(task.name for task in self.tasks)
        self.shared_embed = FeatureEmbedding(schema, config.embedding_dim)
        self.shared = MLP(self.shared_embed.width, config.hidden, config.dropout)
        self.embed = nn.ModuleDict()
        self.specific = nn.ModuleDict()
        self.gates = nn.ModuleDict()
        self.towers = nn.ModuleDict()
        for name in self.old:
            self._add(name, len(self.old) + 1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z_shared = self.shared_embed(batch)
        shared = self.shared(z_shared)
        added = [name for name in self.towers if name not in self.old]
        logits = {name: self._new_task(name, batch, z_shared, shared) for name in added}
        if self.training and batch.labels and not any(name in batch.labels for name in self.old):
            return logits
        z = {name: self.embed[name](batch) for name in self.old}
        specific = {name: self.specific[name](z[name]) for name in self.old}
        for position, name in enumerate(self.old):
            keeps = name if self.config.stop_gradient == "intended" or position == 0 else None
            experts = [output if other == keeps else output.detach() for other, output in specific.items()]
            logits[name] = self.towers[name](mix(self.gates[name](z[name] + z_shared), [*experts, shared]))
        return logits

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self._add(task.name, 2)
        return [part[task.name] for part in (self.embed, self.specific, self.gates, self.towers)]

    def frozen_features(self, batch: Batch) -> dict[str, Tensor] | None:
        if self.schema.embedding_rows > EXACT_INTEGERS:
            return None
        z = self.shared_embed(batch)
        # the new task's own tables are looked up at every step, hence the codes
        codes = batch.categorical.to(z.dtype)
        sequences = {f"sequence:{name}": values.to(z.dtype) for name, values in batch.sequences.items()}
        return {"codes": codes, "numeric": batch.numeric, "z": z, "shared": self.shared(z)} | sequences

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        sequences = {one.name: features[f"sequence:{one.name}"].to(torch.int32) for one in self.schema.sequences}
        batch = Batch(features["codes"].to(torch.int32), features["numeric"], sequences=sequences)
        return {name: self._new_task(name, batch, features["z"], features["shared"]) for name in self.new_tasks}

    def weight_decay(self) -> list[tuple[Tensor, float]]:
        new = nn.ModuleList(
            part[name] for name in self.new_tasks for part in (self.embed, self.specific, self.gates, self.towers)
        )
        own = decayed_parameters(new, self.config.l2_new_task, self.config.l2_new_task)
        mine = {id(parameter) for parameter in new.parameters()}
        return own + [(parameter, c) for parameter, c in super().weight_decay() if id(parameter) not in mine]

    def _new_task(self, name: str, batch: Batch, z_shared: Tensor, shared: Tensor) -> Tensor:
        z = self.embed[name](batch)
        return self.towers[name](mix(self.gates[name](z + z_shared), [self.specific[name](z), shared]))

    def _add(self, name: str, experts: int) -> None:
        config, width = self.config, self.shared_embed.width
        self.embed[name] = FeatureEmbedding(self.schema, config.embedding_dim)
        self.specific[name] = MLP(width, config.hidden, config.dropout)
        self.gates[name] = Gate(width, experts)
        self.towers[name] = Tower(config.hidden[-1], config.tower)
