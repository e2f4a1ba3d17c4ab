"""What MPT-Rec adds for a new task: a prompt that mixes the old tasks' specific representations, a gate and a tower."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from methods.layers import Gate, TaskEmbedding, Tower, mix


class Sizes(Protocol):
    """The part of MPT-Rec's Config that the head reads."""

    @property
    def hidden(self) -> tuple[int, ...]: ...
    @property
    def tower(self) -> tuple[int, ...]: ...
    @property
    def use(self) -> str: ...
    @property
    def fusion(self) -> str: ...
    @property
    def temperature(self) -> float: ...


class PromptHead(nn.Module):
    """What stage 2 adds for one new task."""

    def __init__(self, width: int, config: Sizes) -> None:
        super().__init__()
        m = config.hidden[-1]
        self.use, self.fusion, self.temperature = config.use, config.fusion, config.temperature
        self.embedding = TaskEmbedding(m)
        self.projection = None
        if config.fusion in ("prompt", "kl"):
            self.projection = nn.Sequential(
                nn.Linear(width, m // 2, bias=False), nn.ReLU(), nn.Linear(m // 2, m, bias=False), nn.LayerNorm(m)
            )
        self.gate = Gate(width, 2)
        self.tower = Tower(m, config.tower)

    def outputs(
        self, name: str, z: Tensor, general: Tensor | None, specific: Sequence[Tensor], embeddings: Tensor | None
    ) -> dict[str, Tensor]:
        """Logits under ``name``; the attention weights too, where the loss reads them."""
        weights = self.gate(z)
        if self.use == "general":
            return {name: self.tower(weights[:, 1:] * general)}
        attention = self.attention(z, embeddings)
        mixed = mean_of(specific) if attention is None else mix(attention, specific)
        adapted = mixed * self.embedding.weight
        if self.use == "specific":
            fused = weights[:, :1] * adapted
        else:
            assert general is not None
            fused = mix(weights, [adapted, general])
        outputs = {name: self.tower(fused)}
        if self.fusion == "kl" and self.training and attention is not None:
            outputs[f"attention/{name}"] = attention
        return outputs

    def attention(self, z: Tensor, embeddings: Tensor | None) -> Tensor | None:
        """Weights [B, K] of the specific representations; None for equal ones."""
        if embeddings is None:
            return None
        if self.projection is not None:
            return torch.softmax(self.projection(z) @ embeddings.T / self.temperature, -1)
        return torch.softmax(embeddings @ self.embedding.weight / self.temperature, -1).expand(len(z), -1)


def mean_of(tensors: Sequence[Tensor]) -> Tensor:
    """Of tensors of one shape."""
    first, *rest = tensors
    return sum(rest, start=first) / (len(rest) + 1)


def entropy(attention: Tensor) -> Tensor:
    """Of each row's weights, [B]."""
    return -(attention * attention.clamp(min=1e-12).log()).sum(-1)


def divergence(attention: Tensor) -> Tensor:
    """Mean over rows of KL(attention || uniform)."""
    return (math.log(attention.shape[-1]) - entropy(attention)).mean()
