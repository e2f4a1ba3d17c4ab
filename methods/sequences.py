"""One vector from an ordered sequence of embeddings.

Shapes: B rows, L places of the sequence, d width of an embedding. ``values`` [B, L, d] are the embeddings of the
places, ``inside`` bool [B, L] says which places hold a value; what an empty place holds changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datasets_registry.schema import SequenceFeature

UNIT = 36
"""Hidden width of the activation unit (Zhou et al., section 4.3)."""


def mean(values: Tensor, inside: Tensor) -> Tensor:
    """Mean over the places that hold a value [B, d]; zeros where none does."""
    weights = inside.to(values.dtype)
    return (weights.unsqueeze(1) @ values).squeeze(1) / weights.sum(1, keepdim=True).clamp(min=1)


class TargetAttention(nn.Module):
    """Sum of the values, each weighted by how it goes with the candidate t [B, d] (DIN; Zhou et al., KDD 2018, eq. 3).

    The weight of a value h is one number from an activation unit on [h, t, h - t, h * t]: a hidden layer of 36, then a
    linear one. As in the paper weights are not normalised by a softmax, so that a long history of the same interest
    says more than a short one. Deviations: the hidden layer has ReLU where the paper has PReLU or Dice, and h - t and
    h * t stand for the paper's outer product, as in its authors' code.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.unit = nn.Sequential(nn.Linear(4 * dim, UNIT), nn.ReLU(), nn.Linear(UNIT, 1))

    def forward(self, values: Tensor, inside: Tensor, target: Tensor) -> Tensor:
        candidate = target.unsqueeze(1).expand_as(values)
        weights = self.unit(torch.cat([values, candidate, values - candidate, values * candidate], -1)).squeeze(-1)
        weights = torch.where(inside, weights, 0.0)
        return (weights.unsqueeze(1) @ values).squeeze(1)


class SelfAttention(nn.Module):
    """Each value plus what it reads from the others, averaged: one layer of one head with learnt positions.

    h' = h + softmax(q(h + p) k(h + p)' / sqrt(d)) v(h), then the mean over the places that hold a value (Vaswani et
    al., 2017, equation 1, on a user's history as in SASRec, Kang and McAuley, ICDM 2018, without its causal mask: all
    values lie before the row). Position p counts from the fixed end of the sequence. Zeros where there is no value.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(length, dim))
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.positions)

    def forward(self, values: Tensor, inside: Tensor) -> Tensor:
        placed = values + self.positions
        scores = self.query(placed) @ self.key(placed).transpose(1, 2) / values.shape[-1] ** 0.5
        scores = scores.masked_fill(~inside.unsqueeze(1), torch.finfo(scores.dtype).min)
        return mean(values + torch.softmax(scores, -1) @ self.value(values), inside)


class SequencePool(nn.Module):
    """Embeddings of a sequence to one vector [B, d], as ``sequence.pool`` says: "mean", "target" or "self"."""

    def __init__(self, sequence: SequenceFeature, dim: int) -> None:
        super().__init__()
        self.pool = sequence.pool
        if sequence.pool == "target":
            self.attention: nn.Module | None = TargetAttention(dim)
        else:
            self.attention = SelfAttention(dim, sequence.length) if sequence.pool == "self" else None

    def forward(self, values: Tensor, inside: Tensor, target: Tensor | None) -> Tensor:
        if self.attention is None:
            return mean(values, inside)
        return self.attention(values, inside, target) if self.pool == "target" else self.attention(values, inside)
