"""Parts behind the embeddings that old and new tasks share: a batch and its dense input z [B, d] to [B, d].

Prompts come from sequence models, where learnt vectors are put before the input's own. A tabular network has one dense
input and no sequence, so here they are added to it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from datasets_registry.schema import Schema
from methods.batch import Batch
from methods.layers import FeatureEmbedding


class Prompt(nn.Module):
    """z + p with one learnt vector p [d] for the task, 0 at the start (after Lester et al., section 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(width))

    def forward(self, batch: Batch, z: Tensor) -> Tensor:
        return z + self.vector


class Prefix(nn.Module):
    """z + softmax(z K' / sqrt(d)) V with ``length`` learnt keys K and values V [length, d], V 0 at the start.

    After Li and Liang, section 4.2: there the input attends to learnt keys and values; here each row does, and what
    it reads is added to it. So rows get prompts of their own, unlike with `Prompt`.
    """

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.empty(length, width))
        self.values = nn.Parameter(torch.zeros(length, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.keys)
        nn.init.zeros_(self.values)

    def forward(self, batch: Batch, z: Tensor) -> Tensor:
        weights = torch.softmax(F.linear(z, self.keys) / z.shape[1] ** 0.5, -1)
        return z + weights @ self.values


class TableDelta(nn.Module):
    """Every table T [rows, dim] becomes T + A B with A [rows, rank], 0 at the start, and B [rank, dim].

    The low-rank delta of Hu et al. (LoRA, equation 3) on embedding tables, which hold most of a recommender's weights
    and which parts behind linear layers never touch. Rows are looked up in A and mapped by B, so T + A B is never made;
    mean pooling is linear and so the same on A's rows as on the sum's. Where the model pools a sequence by attention,
    the mean of its values' part is added, and the attention goes by T alone.
    """

    def __init__(self, schema: Schema, embed: FeatureEmbedding, rank: int) -> None:
        super().__init__()
        if embed.table is None:
            raise UsageError("the dataset has no categorical feature, so there is no table to change.")
        dim = embed.table.embedding_dim
        self.down = FeatureEmbedding(schema.uniform(), rank)
        self.up = nn.Linear(rank, dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        assert self.down.table is not None
        nn.init.zeros_(self.down.table.weight)

    def forward(self, batch: Batch, z: Tensor) -> Tensor:
        numeric, rank = batch.numeric.shape[1], self.up.in_features
        read = self.down(batch)[:, numeric:]  # [B, features * rank]
        delta = self.up(read.unflatten(1, (-1, rank))).flatten(1)
        return z + F.pad(delta, (numeric, 0))
