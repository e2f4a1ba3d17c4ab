"""HoME: Hierarchy of Multi-gate Experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from methods.base import Among, Batch, MultiTaskModel, Schema, Search, Task, register_method
from methods.layers import FeatureEmbedding, Gate, Tower, mix


@register_method(
    "home",
    title="HoME",
    paper="Wang et al., HoME: Hierarchy of Multi-Gate Experts for Multi-Task Learning at Kuaishou, KDD 2025",
    kinds=("binary", "regression"),
)
class HoME(MultiTaskModel):
    """Two levels of normalised experts along a hierarchy: all tasks, groups of tasks, single tasks.

    Expert(x) = Swish(BatchNorm(linear(feature gate(x)))), where the feature gate scales x [B, d] element-wise by
    2 sigmoid(x A B) with a low-rank A B of the expert's own. Level 1 (meta): an expert for all tasks and one per
    group; a group reads its own and the common one, the common stream reads all. Level 2: an expert for all tasks (on
    the common stream), one per group and one per task (on the group's stream). A task mixes its own, its group's and
    the common expert by a softmax gate on both streams [B, 3]; every mixture adds a self gate, sigmoid(linear(x)) times
    the stream's own expert, so that no expert is left without a gradient. Widths: levels[0], then levels[1].

    What is followed at level 2 is the paper's text on the hierarchy mask: z_task sums, with weights
    Gate_task(z_group, z_common), the experts of all tasks read from z_common and those of the group and of the task
    read from z_group; only the gate reads both streams. (One public third-party implementation feeds both streams,
    concatenated, to every expert of level 2 and has no expert of the task's own; that is another model.)

    Deviations: the paper gives its groups and sizes for one company's tasks; here ``groups`` names them, the tasks in
    none are a group together (so without any there is one group), and every place has one expert. Neither BatchNorm
    nor gates are regularised, experts are (``l2_dnn``). A new task joins the group that names it or else the group of
    the rest, or the first if there is no such, with an expert, gates and a tower of its own on the frozen hierarchy.
    """

    search_space: ClassVar[Mapping[str, Search]] = {"levels": Among(((256, 128), (256, 256), (128, 64)))}

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        levels: tuple[int, ...] = (256, 128)
        gate_rank: int = 8
        groups: tuple[tuple[str, ...], ...] = ()
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

        def __post_init__(self) -> None:
            if len(self.levels) != 2:
                raise UsageError(f"home.levels is two widths, of the first and the second level, not {self.levels!r}")

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        first, second = config.levels
        self.old = tuple(task.name for task in self.tasks)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.group_of: dict[str, str] = {}
        for name in self.old:
            self.group_of[name] = self._group(name)
        self.groups = tuple(sorted(set(self.group_of.values())))
        width = self.embed.width
        self.meta_common = _Expert(width, first, config.gate_rank)
        self.meta_common_gate = Gate(width, len(self.groups) + 1)
        self.meta_common_self = nn.Linear(width, 1)
        self.meta = nn.ModuleDict({group: _Expert(width, first, config.gate_rank) for group in self.groups})
        self.meta_gates = nn.ModuleDict({group: Gate(width, 2) for group in self.groups})
        self.meta_self = nn.ModuleDict({group: nn.Linear(width, 1) for group in self.groups})
        self.common = _Expert(first, second, config.gate_rank)
        self.group_experts = nn.ModuleDict({group: _Expert(first, second, config.gate_rank) for group in self.groups})
        self.specific = nn.ModuleDict()
        self.gates = nn.ModuleDict()
        self.self_gates = nn.ModuleDict()
        self.towers = nn.ModuleDict()
        for name in self.old:
            self._add(name)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        features = self._hierarchy(batch, self.groups)
        return {name: self._task(name, features) for name in self.towers}

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        group = self._group(task.name)
        self.group_of[task.name] = group if group in self.groups else self.groups[0]
        self._add(task.name)
        return [part[task.name] for part in (self.specific, self.gates, self.self_gates, self.towers)]

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        return self._hierarchy(batch, sorted({self.group_of[name] for name in self.new_tasks}))

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self._task(name, features) for name in self.new_tasks}

    def _hierarchy(self, batch: Batch, groups: Sequence[str]) -> dict[str, Tensor]:
        """Streams and experts that all tasks of ``groups`` read."""
        z = self.embed(batch)
        meta = {group: expert(z) for group, expert in self.meta.items()}
        shared = self.meta_common(z)
        everything = [*meta.values(), shared]
        common = mix(self.meta_common_gate(z), everything) + torch.sigmoid(self.meta_common_self(z)) * shared
        features = {"common": common, "expert": self.common(common)}
        for group in groups:
            own = torch.sigmoid(self.meta_self[group](z)) * meta[group]
            stream = mix(self.meta_gates[group](z), [meta[group], shared]) + own
            features |= {f"group/{group}": stream, f"group expert/{group}": self.group_experts[group](stream)}
        return features

    def _task(self, name: str, features: Mapping[str, Tensor]) -> Tensor:
        group = self.group_of[name]
        stream = features[f"group/{group}"]
        own = self.specific[name](stream)
        weights = self.gates[name](torch.cat([stream, features["common"]], 1))
        mixed = mix(weights, [own, features[f"group expert/{group}"], features["expert"]])
        return self.towers[name](mixed + torch.sigmoid(self.self_gates[name](stream)) * own)

    def _add(self, name: str) -> None:
        first, second = self.config.levels
        self.specific[name] = _Expert(first, second, self.config.gate_rank)
        self.gates[name] = Gate(2 * first, 3)
        self.self_gates[name] = nn.Linear(first, 1)
        self.towers[name] = Tower(second, self.config.tower)

    def _group(self, name: str) -> str:
        return next((f"group{i}" for i, members in enumerate(self.config.groups) if name in members), "rest")

    def warnings(self, kept_epoch: int) -> list[str]:
        if self.config.groups:
            return []
        return ["HoME without groups of tasks: all tasks are one group, so what acts are its experts and gates alone."]

    def weight_decay(self) -> list[tuple[Tensor, float]]:
        experts = [module.linear.weight for module in self.modules() if isinstance(module, _Expert)]
        decayed = [(weight, self.config.l2_dnn) for weight in experts if self.config.l2_dnn]
        return super().weight_decay() + decayed


class _Norm(nn.BatchNorm1d):
    def forward(self, x: Tensor) -> Tensor:
        # one row has no spread: a last batch of size one is normalised by the running statistics
        if self.training and len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class _Expert(nn.Module):
    """[B, width] to [B, out]."""

    def __init__(self, width: int, out: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)
        self.linear = nn.Linear(width, out)
        self.norm = _Norm(out)

    def forward(self, x: Tensor) -> Tensor:
        scaled = 2 * torch.sigmoid(self.up(self.down(x))) * x
        return F.silu(self.norm(self.linear(scaled)))
