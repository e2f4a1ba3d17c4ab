"""Progressive Layered Extraction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from methods.base import Batch, MultiTaskModel, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Gate, Tower, mix


@register_method(
    "ple",
    title="PLE",
    paper="Tang et al., Progressive Layered Extraction (PLE), RecSys 2020",
    kinds=("binary", "regression"),
)
class PLE(MultiTaskModel):
    """Levels of shared and task-specific experts, separated by gates (equations 4-8 of the paper).

    At each level task k mixes its own experts and the shared ones; a shared gate mixes all experts of all tasks and
    feeds the next level's shared experts. ``levels`` holds the width of each level's experts. The last
    level's shared gate exists but nothing reads it, as in the MPT-Rec comparison, whose parameter counts include it.
    ``expert_hidden`` are layers of an expert before its output: experts of several layers, which the paper's definition
    allows; the default and the presets, inherited from that comparison, have none.

    A new task gets specific experts, gates and a tower, and *its own* shared gates, which mix its own experts with
    the frozen shared ones: the old tasks' path is not touched, and a new task costs what PLE* costs in the MPT-Rec
    paper. A jointly trained model has one shared gate over all tasks instead. Gates have no bias.

    Shapes: dense input z [B, d_in], expert outputs [B, levels[l]], gates [B, number of mixed experts], logits [B].
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        levels: tuple[int, ...] = (256, 256)
        shared_experts: int = 1
        specific_experts: int = 1
        expert_hidden: tuple[int, ...] = ()
        dropout: float = 0.0
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.old = tuple(task.name for task in self.tasks)
        self.shared: Any = nn.ModuleList(self._experts(level, config.shared_experts) for level in range(self._depth))
        mixed = len(tasks) * config.specific_experts + config.shared_experts
        self.shared_gates: Any = nn.ModuleList(Gate(self._width(level), mixed) for level in range(self._depth))
        self.specific: Any = nn.ModuleDict()
        self.gates: Any = nn.ModuleDict()
        self.own_shared_gates: Any = nn.ModuleDict()
        self.towers: Any = nn.ModuleDict()
        for name in self.old:
            self._add(name)

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self._add(task.name)
        self.own_shared_gates[task.name] = self._gates()
        return [part[task.name] for part in (self.specific, self.gates, self.own_shared_gates, self.towers)]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        wanted = batch.labels.keys() if self.training and batch.labels else None
        logits = {}
        if wanted is None or any(name in wanted for name in self.old):
            logits = self._old_tasks(z)
        if self.own_shared_gates:
            first = [expert(z) for expert in self.shared[0]]
            logits |= {name: self._new_task(name, z, first) for name in self.own_shared_gates}
        return logits

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        return {"z": z} | {f"shared{e}": expert(z) for e, expert in enumerate(self.shared[0])}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first = [features[f"shared{e}"] for e in range(self.config.shared_experts)]
        return {name: self._new_task(name, features["z"], first) for name in self.own_shared_gates}

    def _old_tasks(self, z: Tensor) -> dict[str, Tensor]:
        inputs, shared_input = dict.fromkeys(self.old, z), z
        for level in range(self._depth):
            shared = [expert(shared_input) for expert in self.shared[level]]
            specific = {name: [expert(x) for expert in self.specific[name][level]] for name, x in inputs.items()}
            if level + 1 < self._depth:
                everything = [output for outputs in specific.values() for output in outputs] + shared
                shared_input = mix(self.shared_gates[level](shared_input), everything)
            inputs = {name: mix(self.gates[name][level](x), specific[name] + shared) for name, x in inputs.items()}
        return {name: self.towers[name](x) for name, x in inputs.items()}

    def _new_task(self, name: str, z: Tensor, first: list[Tensor]) -> Tensor:
        """Logits of an added task; ``first`` are the outputs of the shared experts of the first level."""
        x, shared_input, shared = z, z, first
        for level in range(self._depth):
            if level:
                shared = [expert(shared_input) for expert in self.shared[level]]
            experts = [expert(x) for expert in self.specific[name][level]] + shared
            if level + 1 < self._depth:
                shared_input = mix(self.own_shared_gates[name][level](shared_input), experts)
            x = mix(self.gates[name][level](x), experts)
        return self.towers[name](x)

    def _add(self, name: str) -> None:
        self.specific[name] = nn.ModuleList(
            self._experts(level, self.config.specific_experts) for level in range(self._depth)
        )
        self.gates[name] = self._gates()
        self.towers[name] = Tower(self.config.levels[-1], self.config.tower)

    def _gates(self) -> nn.ModuleList:
        mixed = self.config.specific_experts + self.config.shared_experts
        return nn.ModuleList(Gate(self._width(level), mixed) for level in range(self._depth))

    def _experts(self, level: int, number: int) -> nn.ModuleList:
        layers = (*self.config.expert_hidden, self.config.levels[level])
        rates = (self.config.dropout,) * len(layers) if self.config.dropout else ()
        return nn.ModuleList(MLP(self._width(level), layers, rates) for _ in range(number))

    @property
    def _depth(self) -> int:
        return len(self.config.levels)

    def _width(self, level: int) -> int:
        """Width of the inputs of a level."""
        return self.config.levels[level - 1] if level else self.embed.width
