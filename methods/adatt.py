"""AdaTT: adaptive task-to-task fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Batch, MultiTaskModel, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Gate, Tower, mix


@register_method(
    "adatt",
    title="AdaTT",
    paper="Li et al., AdaTT: Adaptive Task-to-Task Fusion Network for Multitask Learning, KDD 2023",
    without=("adapter", "lora", "bias_only"),
    kinds=("binary", "regression"),
)
class AdaTT(MultiTaskModel):
    """At each level a task fuses all tasks' experts by a gate and adds a linear mixture of its own (AdaTT-sp).

    Level l, task t, input x_t [B, width(l)] (the dense input at the first level): native experts e_{t,j}(x_t)
    [B, levels[l]]; the output is the sum over *all* tasks' experts weighted by softmax(gate_t(x_t)), plus
    sum_j v_{t,j} e_{t,j} (the paper's AllExpertGF and NativeExpertLF). As in the released code gates are linear with a
    bias, and v starts uniformly within +-sqrt(1 / number of native experts); with one native expert v is fixed at 1.

    Deviations: this is the "-sp" form, without shared experts; an expert is one layer, and ``dropout``, which the
    released code does not have, is one rate for all levels (.1 on Ali-CCP, where the comparison's two-layer experts
    have .1 and .3). A new task gets experts, gates and a tower; it reads the old tasks' experts while they do not read
    its own, so the old path is untouched.
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        levels: tuple[int, ...] = (256, 128)
        experts: int = 1
        dropout: float = 0.0
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.old = tuple(task.name for task in self.tasks)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.units: Any = nn.ModuleDict()
        self.towers: Any = nn.ModuleDict()
        for name in self.old:
            self._add(name, len(self.old))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        outputs, levels = self._old_tasks(z)
        logits = {name: self.towers[name](x) for name, x in outputs.items()}
        return logits | {name: self._new_task(name, z, levels) for name in self.towers if name not in self.old}

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self._add(task.name, len(self.old) + 1)
        return [self.units[task.name], self.towers[task.name]]

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        levels = self._old_tasks(z)[1]
        return {"z": z} | {f"{n}/{e}": x for n, experts in enumerate(levels) for e, x in enumerate(experts)}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        number = len(self.old) * self.config.experts
        levels = [[features[f"{n}/{e}"] for e in range(number)] for n in range(len(self.config.levels))]
        return {name: self._new_task(name, features["z"], levels) for name in self.new_tasks}

    def _old_tasks(self, z: Tensor) -> tuple[dict[str, Tensor], list[list[Tensor]]]:
        """Outputs of the last level by task, and the experts' outputs of every level."""
        inputs = dict.fromkeys(self.old, z)
        levels = []
        for level in range(len(self.config.levels)):
            native = {name: self.units[name][level].experts_of(x) for name, x in inputs.items()}
            levels.append([output for outputs in native.values() for output in outputs])
            inputs = {name: self.units[name][level](x, native[name], levels[-1]) for name, x in inputs.items()}
        return inputs, levels

    def _new_task(self, name: str, z: Tensor, levels: Sequence[Sequence[Tensor]]) -> Tensor:
        x = z
        for unit, others in zip(self.units[name], levels, strict=True):
            native = unit.experts_of(x)
            x = unit(x, native, [*others, *native])
        return self.towers[name](x)

    def _add(self, name: str, tasks: int) -> None:
        config = self.config
        widths = (self.embed.width, *config.levels)
        self.units[name] = nn.ModuleList(
            _FusionUnit(widths[level], widths[level + 1], tasks, config) for level in range(len(config.levels))
        )
        self.towers[name] = Tower(config.levels[-1], config.tower)


class _FusionUnit(nn.Module):
    """One task's experts and fusion at one level; the gate reaches over ``tasks`` tasks' experts."""

    def __init__(self, width: int, out: int, tasks: int, config: AdaTT.Config) -> None:
        super().__init__()
        rates = (config.dropout,) if config.dropout else ()
        self.experts: Any = nn.ModuleList(MLP(width, (out,), rates) for _ in range(config.experts))
        self.gate = Gate(width, tasks * config.experts, bias=True)
        self.native = nn.Parameter(torch.empty(config.experts)) if config.experts > 1 else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.native is not None:
            scale = len(self.native) ** -0.5
            nn.init.uniform_(self.native, -scale, scale)

    def experts_of(self, x: Tensor) -> list[Tensor]:
        return [expert(x) for expert in self.experts]

    def forward(self, x: Tensor, native: Sequence[Tensor], everything: Sequence[Tensor]) -> Tensor:
        own = native[0] if self.native is None else mix(self.native.expand(len(x), -1), native)
        return mix(self.gate(x), everything) + own
