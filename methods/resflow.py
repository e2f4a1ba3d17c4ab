"""ResFlow: residual links between the networks of tasks that follow one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Batch, MultiTaskModel, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding, no_funnel, predecessors


@register_method(
    "resflow",
    title="ResFlow",
    paper="Fu et al., Residual Multi-Task Learner for Applied Ranking, KDD 2024, arXiv 2411.09705",
    without=("adapter", "lora", "bias_only", "ia3", "film", "linear_probe", "side"),
)
class ResFlow(MultiTaskModel):
    """A network per task; each layer of a later task adds what the same layer of the task before it gives.

    Tables are shared, z [B, d_in]. Task t has layers 1 to L with h_t^0 = z and
    h_t^l = relu(W_t^l h_t^(l-1) + b_t^l) + h_s^l, and logit_t = w_t h_t^L + c_t + logit_s [B], where s is the task that
    precedes t on the conversion path (its ``space``, or its left neighbour in ``funnel``); without s both additions
    fall away. Gradients flow through the links into s. Binary tasks only; where no task follows another a plan skips
    the method. A new task gets a network, linked to its predecessor's.

    A task with a space is learnt and predicted on the rows of the space alone. From the published description;
    docs/deviations.md says what was not certain.
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128, 64, 32)
        dropout: tuple[float, ...] = ()
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4
        funnel: tuple[str, ...] = ()

    @classmethod
    def unfit_for(cls, tasks: Sequence[Task], config: Any) -> str | None:
        return no_funnel(tasks, config.funnel, "resflow")

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.networks: Any = nn.ModuleDict()
        for task in self.tasks:
            self.add_task(task)

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self.networks[task.name] = _Network(self.embed.width, self.config.hidden, self.config.dropout)
        return [self.networks[task.name]]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        flows = self._flows(self.embed(batch), self.networks, {})
        return {name: flow[-1].squeeze(-1) for name, flow in flows.items()}

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        before = predecessors(self.tasks, self.config.funnel)
        read = {before[name] for name in self.new_tasks} - {None, *self.new_tasks}
        flows = self._flows(z, sorted(name for name in read if name is not None), {})
        return {"z": z} | {f"flow {name}": torch.cat(list(flows[name]), 1) for name in flows if name in read}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        widths = [*self.config.hidden, 1]
        ready = {name.removeprefix("flow "): part.split(widths, 1) for name, part in features.items() if name != "z"}
        flows = self._flows(features["z"], self.new_tasks, ready)
        return {name: flows[name][-1].squeeze(-1) for name in self.new_tasks}

    def _flows(
        self, z: Tensor, names: Iterable[str], ready: Mapping[str, Sequence[Tensor]]
    ) -> dict[str, Sequence[Tensor]]:
        """h^1 to h^L and the logit [B, 1] of the named tasks, and of those that they follow."""
        before = predecessors(self.tasks, self.config.funnel)
        flows: dict[str, Sequence[Tensor]] = dict(ready)

        def flow(name: str) -> Sequence[Tensor]:
            if name not in flows:
                earlier = before[name]
                flows[name] = self.networks[name](z, flow(earlier) if earlier is not None else None)
            return flows[name]

        for name in names:
            flow(name)
        return flows


class _Network(nn.Module):
    def __init__(self, width: int, hidden: Sequence[int], dropout: Sequence[float]) -> None:
        super().__init__()
        widths = (width, *hidden)
        layers = (MLP(widths[i], (out,), dropout[i : i + 1]) for i, out in enumerate(hidden))
        self.layers: Any = nn.ModuleList(layers)
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, h: Tensor, links: Sequence[Tensor] | None) -> list[Tensor]:
        flow = []
        for number, layer in enumerate([*self.layers, self.head]):
            h = layer(h) if links is None else layer(h) + links[number]
            flow.append(h)
        return flow
