"""Cross-Stitch networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.errors import UsageError
from methods.base import Batch, MultiTaskModel, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Tower


@register_method(
    "cross_stitch",
    title="Cross-Stitch",
    paper="Misra et al., Cross-Stitch Networks for Multi-Task Learning, CVPR 2016",
    without=("adapter", "lora", "bias_only"),
    kinds=("binary", "regression"),
)
class CrossStitch(MultiTaskModel):
    """A network per task; after every layer each task reads a learnt linear combination of all tasks' activations.

    Layer l, task t: a_t = relu(W_{l,t} x_t + b_{l,t}) [B, hidden[l]] with x_t = z [B, d_in] at the first layer, then
    the cross-stitch unit x_t = sum_s alpha_{l,t,s} a_s (equation 1 of the paper; one scalar per layer and pair of
    tasks, a unit of a fully connected layer being its "channel" of size one). alpha starts at ``own`` for the task's
    own activations and shares 1 - ``own`` among the others, the paper's 0.9 and 0.1. Logits tower_t(x_t) [B].

    Deviations: tables are shared and the paper's convolutional networks are MLPs, as everywhere in this comparison. A
    new task gets a network, a tower and its row of alpha; it reads the old tasks' activations while they do not read
    its own, so the old path is untouched.
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128)
        dropout: tuple[float, ...] = ()
        tower: tuple[int, ...] = (64, 32)
        own: float = 0.9
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

        def __post_init__(self) -> None:
            if not 0 < self.own <= 1:
                raise UsageError(f"cross_stitch.own, a task's first weight of itself, lies in (0, 1], not {self.own}")

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.old = tuple(task.name for task in self.tasks)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.networks: Any = nn.ModuleDict()
        self.stitches: Any = nn.ModuleDict()
        self.towers: Any = nn.ModuleDict()
        for position, name in enumerate(self.old):
            self._add(name, position, len(self.old))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        states, layers = self._old_tasks(z)
        logits = {name: self.towers[name](x) for name, x in states.items()}
        return logits | {name: self._new_task(name, z, layers) for name in self.towers if name not in self.old}

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self._add(task.name, len(self.old), len(self.old) + 1)
        return [part[task.name] for part in (self.networks, self.stitches, self.towers)]

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        layers = self._old_tasks(z)[1]
        return {"z": z} | {f"{n}/{t}": a for n, layer in enumerate(layers) for t, a in enumerate(layer)}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        layers = [[features[f"{n}/{t}"] for t in range(len(self.old))] for n in range(len(self.config.hidden))]
        return {name: self._new_task(name, features["z"], layers) for name in self.new_tasks}

    def _old_tasks(self, z: Tensor) -> tuple[dict[str, Tensor], list[list[Tensor]]]:
        """Each task's state after the last unit, and all tasks' activations of every layer."""
        states, layers = dict.fromkeys(self.old, z), []
        for number in range(len(self.config.hidden)):
            layers.append([self.networks[name][number](x) for name, x in states.items()])
            states = {name: self.stitches[name](number, layers[-1]) for name in self.old}
        return states, layers

    def _new_task(self, name: str, z: Tensor, layers: Sequence[Sequence[Tensor]]) -> Tensor:
        x = z
        for number, others in enumerate(layers):
            x = self.stitches[name](number, [*others, self.networks[name][number](x)])
        return self.towers[name](x)

    def _add(self, name: str, position: int, tasks: int) -> None:
        config = self.config
        widths = (self.embed.width, *config.hidden)
        self.networks[name] = nn.ModuleList(
            MLP(widths[n], (widths[n + 1],), config.dropout[n : n + 1]) for n in range(len(config.hidden))
        )
        self.stitches[name] = _Stitch(len(config.hidden), position, tasks, config.own)
        self.towers[name] = Tower(config.hidden[-1], config.tower)


class _Stitch(nn.Module):
    """One task's row of every cross-stitch unit: weights [layers, tasks]."""

    def __init__(self, layers: int, position: int, tasks: int, own: float) -> None:
        super().__init__()
        self.position, self.own = position, own
        self.weight = nn.Parameter(torch.empty(layers, tasks))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        others = self.weight.shape[1] - 1
        nn.init.constant_(self.weight, (1 - self.own) / others if others else 0.0)
        nn.init.constant_(self.weight[:, self.position], self.own if others else 1.0)

    def forward(self, layer: int, activations: Sequence[Tensor]) -> Tensor:
        weights = self.weight[layer].unbind()
        total = weights[0] * activations[0]
        for weight, activation in zip(weights[1:], activations[1:], strict=True):
            total = torch.addcmul(total, weight, activation)
        return total
