"""MultiTab-Net: a transformer over field tokens and task tokens, where a new task is a new token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from methods.base import Among, Batch, MultiTaskModel, Schema, Search, Task, register_method
from methods.layers import TaskEmbedding, Tower
from methods.tokens import Attention, FieldTokens


@register_method(
    "multitab",
    title="MultiTab-Net",
    paper="MultiTab: A Scalable Foundation for Multitask Learning on Tabular Data, AAAI 2026, arXiv 2511.09970",
    kinds=("binary", "regression"),
)
class MultiTabNet(MultiTaskModel):
    """Field tokens attend to field tokens, a task's token to those and itself, and the task is read off its token.

    Tokens: T of the fields (`FieldTokens`) and one learnt vector [d] per task. ``layers`` blocks, each
    x <- x + A(LN x), x <- x + U relu(D LN x) with multi-head attention A under the multi-task mask: a field reads
    fields only, a task's token reads the fields and itself, never another task's token. So tasks do not compete in the
    attention, and, since nothing reads a task's token but itself, a new task (a token [d] and a tower) changes nothing
    for the old ones. Logit = tower(LN token) [B].

    The masked attention over T + K tokens is computed here as one pass over the fields and one query per task, which is
    the same. From the published description; docs/deviations.md says what was not certain.
    """

    search_space: ClassVar[Mapping[str, Search]] = {"layers": Among((1, 2, 3)), "heads": Among((1, 2, 4))}

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 16
        heads: int = 2
        layers: int = 2
        inner: int = 32
        tower: tuple[int, ...] = (32,)
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        d = config.embedding_dim
        self.fields = FieldTokens(schema, d)
        self.blocks: Any = nn.ModuleList(_Block(d, config.heads, config.inner) for _ in range(config.layers))
        self.norm = nn.LayerNorm(d)
        self.tokens: Any = nn.ModuleDict()
        self.towers: Any = nn.ModuleDict()
        for task in self.tasks:
            self.add_task(task)

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self.tokens[task.name] = TaskEmbedding(self.config.embedding_dim)
        self.towers[task.name] = Tower(self.config.embedding_dim, self.config.tower)
        return [self.tokens[task.name], self.towers[task.name]]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self._logits(self._contexts(batch), self.towers)

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        return {f"block {number}": context for number, context in enumerate(self._contexts(batch))}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._logits([features[f"block {number}"] for number in range(len(self.blocks))], self.new_tasks)

    def _contexts(self, batch: Batch) -> list[Tensor]:
        """What the tasks' tokens read of the fields in each block: their normalised tokens [B, T, d]."""
        x, contexts = self.fields(batch), []
        for number, block in enumerate(self.blocks):
            contexts.append(block.before_attention(x))
            if number + 1 < len(self.blocks):  # behind the last block nobody reads the fields
                x = block(x, contexts[-1], contexts[-1])
        return contexts

    def _logits(self, contexts: Sequence[Tensor], names: Iterable[str]) -> dict[str, Tensor]:
        outputs = {}
        for name in names:
            # a sum, not expand: the counter of operations stumbles over views of parameters
            token = contexts[0].new_zeros(len(contexts[0]), 1, 1) + self.tokens[name].weight
            for block, context in zip(self.blocks, contexts, strict=True):
                own = block.before_attention(token)
                token = block(token, own, torch.cat([context, own], 1))
            outputs[name] = self.towers[name](self.norm(token).squeeze(1))
        return outputs


class _Block(nn.Module):
    """Tokens [B, Q, d], their normalised selves and what they read [B, T, d], to [B, Q, d]."""

    def __init__(self, d: int, heads: int, inner: int) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(d)
        self.attention = Attention(d, d, heads)
        self.before_network = nn.LayerNorm(d)
        self.down, self.up = nn.Linear(d, inner), nn.Linear(inner, d)

    def forward(self, x: Tensor, queries: Tensor, read: Tensor) -> Tensor:
        x = x + self.attention(queries, read)
        return x + self.up(torch.relu(self.down(self.before_network(x))))
