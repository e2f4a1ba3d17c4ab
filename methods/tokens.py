"""What the models on tokens share: a row as one token per field, and attention over tokens.

Shapes: B rows, T tokens of a row (one per number, categorical feature and sequence), d width of a token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from datasets_registry.schema import Schema
from methods.batch import Batch
from methods.layers import FeatureEmbedding

__all__ = ["Attention", "FieldTokens"]


class FieldTokens(nn.Module):
    """Batch to tokens [B, T, d], those of the numbers first.

    A categorical feature or a sequence gives its embedding; number j gives x_j u_j + c_j with vectors u_j and c_j [d]
    of its own (uniform within 1 / sqrt(d) at the start).
    """

    def __init__(self, schema: Schema, dim: int) -> None:
        super().__init__()
        self.dim, self.numbers = dim, len(schema.numeric)
        self.embed = FeatureEmbedding(schema, dim)
        self.tokens = self.numbers + (self.embed.width - self.numbers) // dim
        self.slopes = nn.Parameter(torch.empty(self.numbers, dim))
        self.constants = nn.Parameter(torch.empty(self.numbers, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for parameter in (self.slopes, self.constants):
            nn.init.uniform_(parameter, -(self.dim**-0.5), self.dim**-0.5)

    def forward(self, batch: Batch) -> Tensor:
        numbers, fields = self.embed(batch).tensor_split([self.numbers], 1)
        embedded = fields.reshape(len(batch), self.tokens - self.numbers, self.dim)
        return torch.cat([torch.addcmul(self.constants, numbers.unsqueeze(-1), self.slopes), embedded], 1)


class Attention(nn.Module):
    """Multi-head attention of queries [B, Q, d_in] to tokens [B, T, d_in]: [B, Q, d_out].

    Per head softmax(scale Q K') V, heads side by side. Projections are plain linear layers, so that LoRA, adapters and
    the like reach them. ``scale``: None is 1 / sqrt(d_out / heads). ``out``: a last projection [d_out, d_out].
    Raises UsageError where the heads do not divide ``d_out``.
    """

    def __init__(
        self, d_in: int, d_out: int, heads: int, *, bias: bool = True, scale: float | None = None, out: bool = True
    ) -> None:
        super().__init__()
        if d_out % heads:
            raise UsageError(f"{heads} heads do not divide a width of {d_out}")
        self.heads, self.scale = heads, scale
        self.query, self.key, self.value = (nn.Linear(d_in, d_out, bias=bias) for _ in range(3))
        self.out = nn.Linear(d_out, d_out) if out else nn.Identity()

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        q, k, v = self._split(self.query(queries)), self._split(self.key(tokens)), self._split(self.value(tokens))
        read = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.out(read.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """[B, T, d_out] to [B, heads, T, d_out / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
