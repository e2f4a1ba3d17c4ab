"""A shared bottom with one binary mask per task on its weight matrices, and the search for the masks.

Shared by SparseSharing and CSRec.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from methods.base import Among, Batch, MultiTaskModel, Schema, Search, Task, Training, mean_loss
from methods.layers import MLP, FeatureEmbedding, Tower


@dataclass(frozen=True)
class MaskConfig:
    """Sizes of the network and of the search.

    ``rounds`` of the search prune ``prune`` of the weights that are left, starting with an unpruned one; masks with
    more than ``threshold`` of all weights pruned are candidates. ``mask`` chooses among them: "best" on validation
    rows, or "last" (what the released two-task code comes to: it keeps a reference to the mask it goes on pruning).
    """

    embedding_dim: int = 4
    hidden: tuple[int, ...] = (256, 128)
    tower: tuple[int, ...] = (64, 32)
    l2_embedding: float = 3e-4
    l2_dnn: float = 0.0
    warm_up_epochs: int = 1
    rounds: int = 10
    round_epochs: int = 1
    prune: float = 0.1
    threshold: float = 0.4
    mask: str = "best"

    def __post_init__(self) -> None:
        if self.mask not in ("best", "last"):
            raise UsageError(f"mask must be best or last, not {self.mask!r}")
        if not 0 < self.prune < 1 or not 0 <= self.threshold < 1:
            raise UsageError("prune must lie between 0 and 1, and threshold in [0, 1)")
        if min(self.rounds, self.round_epochs, self.warm_up_epochs) < 1:
            raise UsageError("rounds, round_epochs and warm_up_epochs must be at least 1")


@dataclass(frozen=True)
class Level:
    """One round's result: share of all weights pruned, the task's validation score, the mask [out, in] per layer."""

    pruned: float
    score: float
    mask: tuple[Tensor, ...]


class MaskedSharedBottom(MultiTaskModel):
    """Tables, an MLP whose weight matrices W_l carry a mask M_t,l per task, and a tower per task.

    Task t reads relu(z (W_l * M_t,l)^T + b_l) layer by layer; biases, tables and towers are not masked. Masks are ones
    until `prepare` has found them; they are buffers, so they are saved with the weights.
    Shapes: z [B, d_in], masks as the weights [out, in], logits [B].
    """

    # ten rounds reach .61; below .3 fewer than four of them would be left out
    search_space: ClassVar[Mapping[str, Search]] = {"threshold": Among((0.3, 0.4, 0.5))}

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Any) -> None:
        super().__init__(schema, tasks, config)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.bottom = MLP(self.embed.width, config.hidden)
        self.towers: Any = nn.ModuleDict({task.name: Tower(config.hidden[-1], config.tower) for task in self.tasks})
        self.masks: Any = nn.ModuleDict(
            {task.name: _Mask([layer.weight for layer in self.layers]) for task in self.tasks}
        )

    @property
    def layers(self) -> list[nn.Linear]:
        """The bottom's masked layers."""
        return [layer for layer in self.bottom if isinstance(layer, nn.Linear)]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        return {name: self.predict(name, z, mask.layers()) for name, mask in self.masks.items()}

    def predict(self, task: str, z: Tensor, mask: Sequence[Tensor]) -> Tensor:
        """Logits [B] of a task from the dense input [B, d_in], under any mask."""
        for layer, kept in zip(self.layers, mask, strict=True):
            z = torch.relu(F.linear(z, layer.weight * kept, layer.bias))
        return self.towers[task](z)

    def prepare(self, training: Training) -> None:
        """Find every task's mask; the weights are afterwards what they were before."""
        fresh = _copy(self)
        dense = {task.name: [torch.ones_like(layer.weight) for layer in self.layers] for task in self.tasks}
        optimizer = training.optimizer(self.parameters())
        self._fit(training, optimizer, self.tasks, dense, self.config.warm_up_epochs)
        start = _copy(self)
        found = {task.name: self.choose(self.search(training, task, start)) for task in self.tasks}
        self.load_state_dict(fresh)
        for name, mask in found.items():
            self.masks[name].set(mask)

    @property
    def preparation_epochs(self) -> int:  # type: ignore[override]
        """The warm-up's, and every task's rounds."""
        return self.config.warm_up_epochs + len(self.tasks) * self.config.rounds * self.config.round_epochs

    def search(self, training: Training, task: Task, start: Mapping[str, Tensor]) -> list[Level]:
        """Iterative magnitude pruning with rewinding to the weights ``start``: one level per round.

        From the second round on, in each matrix the smallest ``prune`` of the weights that are left, by |w| after the
        round before, are pruned. Adam's state goes on through the rounds.
        """
        mask = [torch.ones_like(layer.weight) for layer in self.layers]
        trained = [*self.embed.parameters(), *self.bottom.parameters(), *self.towers[task.name].parameters()]
        optimizer = training.optimizer(trained)
        levels: list[Level] = []
        for number in range(self.config.rounds):
            if number:
                pairs = zip(self.layers, mask, strict=True)
                mask = [pruned(layer.weight.detach(), kept, self.config.prune) for layer, kept in pairs]
            self.load_state_dict(start)
            score = self._fit(training, optimizer, [task], {task.name: mask}, self.config.round_epochs)
            weights = sum(kept.numel() for kept in mask)
            levels.append(Level(1 - float(sum(kept.sum() for kept in mask)) / weights, score, tuple(mask)))
        return levels

    def choose(self, levels: Sequence[Level]) -> tuple[Tensor, ...]:
        """The mask that a task gets: the best candidate's, the earlier one at a tie; without any candidate the last."""
        candidates = [level for level in levels if level.pruned > self.config.threshold]
        if self.config.mask == "last" or not candidates:
            return levels[-1].mask
        return max(candidates, key=lambda level: level.score).mask

    def warnings(self, kept_epoch: int) -> list[str]:
        shares = [
            1 - float(sum(kept.sum() for kept in mask.layers()) / sum(kept.numel() for kept in mask.layers()))
            for mask in self.masks.values()
        ]
        if min(shares) > self.config.threshold:
            return []
        least, wanted = f"{100 * min(shares):.0f} %", f"{100 * self.config.threshold:.0f} %"
        rounds = self.config.rounds
        return [
            f"{self.info.title}'s masks take out {least} of a task's weights, not the {wanted} it asks for: {rounds} "
            "rounds of its search are too few."
        ]

    def _fit(
        self,
        training: Training,
        optimizer: torch.optim.Optimizer,
        tasks: Sequence[Task],
        masks: Mapping[str, Sequence[Tensor]],
        epochs: int,
    ) -> float:
        """Train on ``tasks``, keep the epoch with the best mean validation score, and return that score."""

        def forward(batch: Batch) -> dict[str, Tensor]:
            z = self.embed(batch)
            return {task.name: self.predict(task.name, z, masks[task.name]) for task in tasks}

        best, kept = float("-inf"), None
        for _ in range(epochs):
            self.train()
            for batch in training.epoch():
                optimizer.zero_grad(set_to_none=True)
                outputs = forward(batch)
                losses = [mean_loss(task, outputs[task.name], batch.labels[task.name]) for task in tasks]
                torch.stack(losses).sum().backward()
                optimizer.step()
            self.eval()
            score = sum(training.score(forward, task.name) for task in tasks) / len(tasks)
            if kept is None or score > best:
                best, kept = score, _copy(self)
        assert kept is not None
        self.load_state_dict(kept)
        return best


class _Mask(nn.Module):
    """One task's mask: a buffer of zeros and ones for each layer."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        for number, weight in enumerate(weights):
            self.register_buffer(f"layer{number}", torch.ones_like(weight))

    def layers(self) -> list[Tensor]:
        return list(self.buffers())

    def set(self, mask: Sequence[Tensor]) -> None:
        for buffer, found in zip(self.buffers(), mask, strict=True):
            buffer.copy_(found)


def pruned(weight: Tensor, mask: Tensor, share: float) -> Tensor:
    """``mask`` without the alive weights whose magnitude lies below the ``share`` quantile of the alive ones."""
    magnitude = weight.abs()
    alive = magnitude[mask.bool()]
    if not len(alive):
        return mask
    place = 1 + math.ceil(share * (len(alive) - 1))  # the smallest one that is not below the quantile
    return mask * (magnitude >= alive.kthvalue(place).values)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
