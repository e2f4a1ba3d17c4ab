"""Embedding tables of single features: of a size of their own, or filled with vectors that were made elsewhere.

A feature with its own size d_f is looked up in its own table and mapped to the method's size d by a linear layer
without bias (Ginart et al., Mixed Dimension Embeddings, ISIT 2021), so that every method gets inputs of one size.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from datasets_registry.schema import CategoricalFeature


class OwnEmbedding(nn.Embedding):
    """A feature's own table [size, d_f], trained: from N(0, 1), or from its vectors where it has some."""

    def __init__(self, feature: CategoricalFeature) -> None:
        self.vectors, self.reserved = feature.vectors, feature.reserved
        super().__init__(feature.size, feature.dim)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.vectors:
            with torch.no_grad():
                self.weight.copy_(_load(self.vectors))


class FrozenVectors(nn.Module):
    """A feature's vectors [size, d_f] as they are: kept with the weights, never trained, no parameters."""

    weight: Tensor

    def __init__(self, feature: CategoricalFeature) -> None:
        super().__init__()
        self.vectors, self.reserved = feature.vectors, feature.reserved
        self.register_buffer("weight", torch.empty(feature.size, feature.dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.weight.copy_(_load(self.vectors))


class OwnTable(nn.Module):
    """Rows of the stacked table from ``start`` on, int32 [B, k], to embeddings [B, k, dim]."""

    def __init__(self, feature: CategoricalFeature, start: int, dim: int) -> None:
        super().__init__()
        self.start = start
        self.table = FrozenVectors(feature) if feature.frozen else OwnEmbedding(feature)
        self.project = nn.Linear(feature.dim, dim, bias=False)

    def forward(self, codes: Tensor) -> Tensor:
        return self.project(look_up(self.table.weight, codes - self.start))


def look_up(weight: Tensor, codes: Tensor) -> Tensor:
    """Rows of the table, codes [B, columns] to [B, columns, dim].

    On a CPU the gradient of ``index_select`` with int64 codes adds rows up several times as fast as that of
    ``nn.Embedding``, in the same order and so to the same bits; on a GPU only the latter is deterministic by itself.
    """
    if codes.is_cuda:
        return nn.functional.embedding(codes, weight)
    return weight.index_select(0, codes.reshape(-1).long()).view(*codes.shape, -1)


def _load(path: str) -> Tensor:
    return torch.from_numpy(np.load(path))
