"""AutoInt's interacting layers under one tower per task: a plain attention model as a control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from methods.base import Among, Batch, MultiTaskModel, Schema, Search, Task, register_method
from methods.layers import Tower
from methods.tokens import Attention, FieldTokens


@register_method(
    "auto_int",
    title="AutoInt (shared bottom)",
    paper="Song et al., AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks, CIKM 2019, "
    "arXiv 1810.11921",
    kinds=("binary", "regression"),
)
class AutoInt(MultiTaskModel):
    """Self-attention over field tokens, shared by all tasks, and a tower for each.

    Tokens e_m [B, T, d] (`FieldTokens`). An interacting layer (equations 5 to 8) gives every token, per head, the sum
    over k of softmax_k(<Q e_m, K e_k>) V e_k (inner products unscaled), heads side by side, and then
    ReLU(that + W_res e_m) [B, T, width]. After ``layers`` of them all tokens side by side [B, T width] go through one
    tower per task to logits [B]. A new task gets a tower.

    The paper has one task and a linear output; towers and sizes here are those of the comparison, so that what differs
    from Shared-Bottom is the attention in place of its MLP.
    """

    search_space: ClassVar[Mapping[str, Search]] = {"layers": Among((1, 2, 3)), "width": Among((8, 16, 32))}

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        width: int = 16
        heads: int = 2
        layers: int = 2
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.fields = FieldTokens(schema, config.embedding_dim)
        widths = [config.embedding_dim] + [config.width] * config.layers
        self.interactions: Any = nn.ModuleList(
            _Interaction(before, after, config.heads) for before, after in pairwise(widths)
        )
        self.flat = self.fields.tokens * widths[-1]
        self.towers: Any = nn.ModuleDict()
        for task in self.tasks:
            self.add_task(task)

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self.towers[task.name] = Tower(self.flat, self.config.tower)
        return [self.towers[task.name]]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        h = self._read(batch)
        return {name: tower(h) for name, tower in self.towers.items()}

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        return {"h": self._read(batch)}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.towers[name](features["h"]) for name in self.new_tasks}

    def _read(self, batch: Batch) -> Tensor:
        tokens = self.fields(batch)
        for layer in self.interactions:
            tokens = layer(tokens)
        return tokens.flatten(1)


class _Interaction(nn.Module):
    def __init__(self, before: int, after: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(before, after, heads, bias=False, scale=1.0, out=False)
        self.residual = nn.Linear(before, after, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.relu(self.attention(tokens, tokens) + self.residual(tokens))
