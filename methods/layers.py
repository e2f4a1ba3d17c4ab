"""Building blocks that the methods share.

Shapes: B rows, d_in width of the dense input, m width of a representation, E number of experts. A block that draws
random numbers has ``reset_parameters``, because the harness draws every module's start under a random stream of the
module's own (see MultiTaskModel).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from datasets_registry.schema import Schema, Task
from methods.batch import Batch
from methods.sequences import SequencePool
from methods.tables import OwnTable, look_up

__all__ = [
    "MLP",
    "Discriminator",
    "FeatureEmbedding",
    "Gate",
    "TaskEmbedding",
    "Tower",
    "decayed_parameters",
    "default_roles",
    "mix",
    "no_funnel",
    "predecessors",
    "reverse_gradient",
]


class FeatureEmbedding(nn.Module):
    """Batch to dense input [B, width]: numeric columns, one embedding per categorical feature, one per sequence.

    All features share one stacked table, so a batch is looked up in one call; entries start from N(0, 1). The
    columns of a multi-valued feature are averaged, padding (code 0) left out; a row with nothing but code 0 gets the
    embedding of code 0. A sequence becomes one vector by a `SequencePool`; one without any value gives zeros.
    """

    columns: Tensor
    padding: Tensor

    def __init__(self, schema: Schema, dim: int) -> None:
        super().__init__()
        self.width = schema.width(dim)
        self.sequences = tuple(sequence.name for sequence in schema.sequences)
        # a list, not a dict by name: what lies under a task's name is counted as that task's own
        self.pools = nn.ModuleList(SequencePool(sequence, dim) for sequence in schema.sequences)
        self.candidates = tuple(schema.candidate(sequence) for sequence in schema.sequences)
        tables = schema.categorical or schema.sequences
        self.table = nn.Embedding(schema.table_rows, dim) if tables and schema.table_rows else None
        self._lay_out(schema, dim)
        self.pooled = any(feature.length > 1 for feature in schema.categorical)
        if self.pooled:
            owner = [f for f, feature in enumerate(schema.categorical) for _ in range(feature.length)]
            columns = F.one_hot(torch.tensor(owner), len(schema.categorical)).float()  # [schema.columns, features]
            padding = [schema.offsets[f] if schema.categorical[f].length > 1 else -1 for f in owner]
            self.register_buffer("columns", columns, persistent=False)
            self.register_buffer("padding", torch.tensor(padding, dtype=torch.int32), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        if self.table is None and not self.own:
            return batch.numeric
        values = self._embeddings(batch.categorical)
        if self.pooled:
            values = self._pool(batch.categorical, values)
        parts = [batch.numeric] if batch.numeric.shape[1] else []
        parts.append(values.flatten(1))
        if self.sequences:
            parts += self._sequences(batch, values)
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def _sequences(self, batch: Batch, values: Tensor) -> list[Tensor]:
        """One vector [B, dim] per sequence; ``values`` [B, features, dim] are the candidates of target attention."""
        parts = []
        for i, (sequence, pool, candidate) in enumerate(zip(self.sequences, self.pools, self.candidates, strict=True)):
            codes = batch.sequences[sequence]
            target = None if candidate is None else values[:, candidate]
            (_, owner, shift), inside = self.places[i], codes >= 0
            parts.append(pool(self._rows(torch.where(inside, codes, self.first[i]), owner, shift), inside, target))
        return parts

    def _lay_out(self, schema: Schema, dim: int) -> None:
        """Which columns and sequences are looked up where: (columns, own table or None, rows to take off the code)."""
        own = [feature for feature in schema.categorical if feature.dim]
        starts = dict(zip((feature.name for feature in schema.categorical), schema.offsets, strict=True))
        self.own = nn.ModuleList(OwnTable(feature, starts[feature.name], dim) for feature in own)
        place = {feature.name: i for i, feature in enumerate(own)}
        self.layout = [(f.length, place.get(f.name), schema.before(starts[f.name])) for f in schema.categorical]
        self.first = schema.sequence_offsets  # an empty place looks up its table's first row, which the mask hides
        self.places = [
            (one.length, place.get(one.shares), schema.before(start))
            for one, start in zip(schema.sequences, self.first, strict=True)
        ]

    def _embeddings(self, codes: Tensor) -> Tensor:
        """Codes [B, columns] to [B, columns, dim]."""
        if not self.own:
            assert self.table is not None
            return look_up(self.table.weight, codes)
        columns = codes.split([width for width, _, _ in self.layout], 1)
        parts = [self._rows(part, *where[1:]) for part, where in zip(columns, self.layout, strict=True)]
        return torch.cat(parts, 1)

    def _rows(self, codes: Tensor, owner: int | None, shift: int) -> Tensor:
        if owner is not None:
            return self.own[owner](codes)
        assert self.table is not None
        return look_up(self.table.weight, codes - shift if shift else codes)

    def shares(self, codes: Tensor) -> Tensor:
        """The weight of each column in its feature's mean, [B, columns]: 1 but for multi-valued features."""
        if not self.pooled:
            return torch.ones(codes.shape, device=codes.device)
        weights = (codes != self.padding).float()
        empty = (weights @ self.columns == 0).float()
        weights = weights + empty @ self.columns.T
        return weights * ((1 / (weights @ self.columns)) @ self.columns.T)

    def _pool(self, codes: Tensor, values: Tensor) -> Tensor:
        """Mean over each feature's columns: [B, columns, dim] to [B, features, dim]."""
        weights = (codes != self.padding).to(values.dtype)
        counts = weights @ self.columns
        # where every column is padding all count, and since all look up code 0 the mean is its embedding
        empty = (counts == 0).to(values.dtype)
        weights = weights + empty @ self.columns.T
        counts = counts + empty * self.columns.sum(0)
        return (self.columns.T @ (weights.unsqueeze(-1) * values)) / counts.unsqueeze(-1)


class MLP(nn.Sequential):
    """Linear and ReLU for each width in ``hidden``: [B, d_in] to [B, hidden[-1]], entries >= 0.

    ReLU (and dropout, where its rate is above 0) follows the last layer too. ``dropout`` has one rate per layer, or
    none at all.
    """

    def __init__(self, width: int, hidden: Sequence[int], dropout: Sequence[float] = ()) -> None:
        rates = tuple(dropout) or (0.0,) * len(hidden)
        if len(rates) != len(hidden):
            raise UsageError(
                f"dropout needs one rate for each of the {len(hidden)} layers {tuple(hidden)}, not {rates}"
            )
        layers: list[nn.Module] = []
        for out, rate in zip(hidden, rates, strict=True):
            layers += [nn.Linear(width, out), nn.ReLU(inplace=True)]
            if rate:
                layers.append(nn.Dropout(rate))
            width = out
        super().__init__(*layers)


class Tower(nn.Sequential):
    """Prediction head of one task: [B, m] through hidden ReLU layers to logits [B]."""

    def __init__(self, width: int, hidden: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for out in hidden:
            layers += [nn.Linear(width, out), nn.ReLU(inplace=True)]
            width = out
        super().__init__(*layers, nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(-1)


class Gate(nn.Linear):
    """Mixing weights from the input: [B, d_in] to [B, E], each row summing to 1. Never regularised, a bias if asked."""

    def __init__(self, width: int, experts: int, bias: bool = False) -> None:
        super().__init__(width, experts, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(F.linear(x, self.weight, self.bias), -1)


def mix(weights: Tensor, experts: Sequence[Tensor]) -> Tensor:
    """Sum over e of ``weights[:, e]`` times ``experts[e]``: [B, E] and E tensors [B, m] to [B, m].

    A chain of fused multiply-adds: on a CPU as fast as a batched matrix product over all tasks at once and 2-4 times
    as fast as one per task, and each task's result is independent of how many other tasks there are.
    """
    first, *rest = weights.split(1, 1)
    total = first * experts[0]
    for weight, expert in zip(rest, experts[1:], strict=True):
        total = torch.addcmul(total, weight, expert)
    return total


class TaskEmbedding(nn.Module):
    """One trainable vector [m], N(0, 1) at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)


class Discriminator(nn.Linear):
    """Linear classifier with logits [B, classes]; weight Xavier-uniform, bias as usual."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.xavier_uniform_(self.weight)


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * -ctx.strength, None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """Identity whose gradient is multiplied by ``-strength`` (Ganin and Lempitsky, ICML 2015)."""
    return _ReverseGradient.apply(x, strength)


def predecessors(tasks: Iterable[Task], funnel: Sequence[str] = ()) -> dict[str, str | None]:
    """The task that comes right before each one in a funnel: the one it is a space of, or its left neighbour in
    ``funnel``, where names of tasks that are not present are passed over."""
    before = {task.name: task.space for task in tasks}
    before = {name: space if space in before else None for name, space in before.items()}
    present = [name for name in funnel if name in before]
    for earlier, later in pairwise(present):
        before[later] = before[later] or earlier
    return before


def no_funnel(tasks: Sequence[Task], funnel: Sequence[str], method: str) -> str | None:
    """Why a method that lives on a funnel cannot be shown on these tasks, or None where some task follows another."""
    if any(predecessors(tasks, funnel).values()):
        return None
    names = ", ".join(f'"{task.name}"' for task in tasks[:2])
    return f"no task here follows another, as {method} needs; name such tasks: --set '{method}.funnel=[{names}]'"


def decayed_parameters(model: nn.Module, l2_embedding: float, l2_dnn: float) -> list[tuple[Tensor, float]]:
    """Embedding tables with ``l2_embedding``, weight matrices inside `MLP` and `Tower` blocks with ``l2_dnn``.

    Each parameter once; nothing for a coefficient of 0.
    """
    found: dict[int, tuple[Tensor, float]] = {}
    for module in model.modules():
        if l2_embedding and isinstance(module, nn.Embedding):
            found[id(module.weight)] = (module.weight, l2_embedding)
        if l2_dnn and isinstance(module, MLP | Tower):
            for layer in module.modules():
                if isinstance(layer, nn.Linear):
                    found[id(layer.weight)] = (layer.weight, l2_dnn)
    return list(found.values())


def default_roles(model: nn.Module, task_names: Iterable[str]) -> dict[str, list[nn.Parameter]]:
    """Every parameter under "embedding", "shared" or "task:<name>"; see MultiTaskModel.parameter_roles.

    Raises UsageError for a parameter that would belong to two roles (one tensor used in two places, or a task's
    module inside another task's).
    """
    names = set(task_names)
    containers = {
        path for path, module in model.named_modules() if isinstance(module, nn.ModuleDict | nn.ParameterDict)
    }
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    roles: dict[str, list[nn.Parameter]] = {"embedding": [], "shared": []}
    seen: dict[int, tuple[str, str]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        parts = path.split(".")
        owners = {part for i, part in enumerate(parts) if part in names and ".".join(parts[:i]) in containers}
        if len(owners) > 1:
            raise UsageError(f"parameter '{path}' lies under several tasks ({', '.join(sorted(owners))})")
        role = f"task:{owners.pop()}" if owners else "embedding" if id(parameter) in tables else "shared"
        if id(parameter) in seen:
            other, other_role = seen[id(parameter)]
            if role != other_role:
                raise UsageError(f"parameter '{path}' ({role}) is the same tensor as '{other}' ({other_role})")
            continue
        seen[id(parameter)] = (path, role)
        roles.setdefault(role, []).append(parameter)
    return roles
