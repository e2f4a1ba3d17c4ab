"""MAML: a start from which one step adapts to a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.core.errors import UsageError
from methods.base import (
    Batch,
    Between,
    MultiTaskModel,
    Progress,
    Rows,
    Schema,
    Search,
    Task,
    mean_loss,
    register_method,
)
from methods.layers import MLP, FeatureEmbedding, Tower

Weights = Mapping[str, Tensor]


@register_method(
    "maml",
    title="MAML",
    paper="Finn, Abbeel and Levine, Model-Agnostic Meta-Learning, ICML 2017",
    arms=("finetune",),
    without=("ewc", "lwf", "replay"),
    kinds=("binary", "regression"),
)
class MAML(MultiTaskModel):
    """Meta-weights theta of one network, a single-task model in size; old tasks are the tasks it is trained on.

    **Own design**: the MPT-Rec comparison shows a MAML row but released neither code nor settings, so no number here
    reproduces that row. Each batch is cut in two halves. For every old task the support half takes ``inner_steps``
    of gradient descent from theta to theta_t (equation of section 2.2), and the query half's loss at theta_t is what
    theta is trained on (algorithm 1, lines 5-8). ``order=2`` differentiates through the inner steps, ``order=1`` takes
    d theta_t / d theta as the identity (section 5.2, first-order).

    After each epoch every old task's theta_t is computed once, on the first ``adaptation_rows`` training rows, and kept
    in buffers: the old tasks are predicted with it. A new task starts from theta and trains all of it, which leaves
    the old tasks' theta_t alone (so there is nothing to forget); there is room for one new task. Shapes: dense input
    [B, d_in], logits [B].
    """

    search_space: ClassVar[Mapping[str, Search]] = {"inner_learning_rate": Between(0.01, 1.0, log=True)}

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128)
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 0.0
        l2_dnn: float = 0.0
        order: int = 1
        inner_steps: int = 1
        inner_learning_rate: float = 0.1
        adaptation_rows: int = 4096

        def __post_init__(self) -> None:
            if self.order not in (1, 2):
                raise UsageError(f"maml.order must be 1 or 2, not {self.order!r}")
            if self.inner_steps < 1 or self.adaptation_rows < 1 or not self.inner_learning_rate > 0:
                raise UsageError("maml: inner_steps, adaptation_rows and inner_learning_rate must be above 0")

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.network = _Network(schema, config)
        self.adapted: Any = nn.ModuleDict({task.name: _Weights(self.network) for task in self.tasks})

    def reset_parameters(self) -> None:
        for task in self.adapted:
            self.adapted[task].set(dict(self.network.named_parameters()))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        old = {name: functional_call(self.network, kept.weights(), (batch,)) for name, kept in self.adapted.items()}
        return old | {name: self.network(batch) for name in self.new_tasks}

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        if self.new_tasks:
            raise UsageError(
                f"maml has taken in '{self.new_tasks[0]}' and has no room for '{task.name}': one new task."
            )
        return []  # it brings nothing: theta itself goes on

    def training_step(self, batch: Batch, progress: Progress, optimizer: Any) -> dict[str, Tensor]:
        """One step of theta: on the old tasks' query losses, or plainly on the new task's loss."""
        optimizer.zero_grad(set_to_none=True)
        if self.new_tasks:
            logits = self.network(batch)
            terms = {t.name: mean_loss(t, logits, batch.labels[t.name]) for t in self.tasks if t.name in self.new_tasks}
        else:
            terms = self.query_losses(batch)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        return {name: term.detach() for name, term in terms.items()}

    def query_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Every old task's loss on the second half of the batch, at the weights adapted on the first half."""
        half = len(batch) // 2
        support, query = (batch, batch) if not half else (batch.take(slice(0, half)), batch.take(slice(half, None)))
        losses = {}
        for task in self.tasks:
            weights = self.adapt(task, support, self.config.order)
            losses[task.name] = mean_loss(
                task, functional_call(self.network, weights, (query,)), query.labels[task.name]
            )
        return losses

    def adapt(self, task: Task, support: Batch, order: int) -> dict[str, Tensor]:
        """theta_t: ``inner_steps`` of gradient descent from theta on the support rows."""
        weights: dict[str, Tensor] = dict(self.network.named_parameters())
        for _ in range(self.config.inner_steps):
            loss = mean_loss(task, functional_call(self.network, weights, (support,)), support.labels[task.name])
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=order == 2)
            weights = {
                name: weight - self.config.inner_learning_rate * gradient
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
        return weights

    def end_epoch(self, epoch: int, rows: Rows) -> None:
        if not self.new_tasks:
            support = next(rows.batches(min(self.config.adaptation_rows, len(rows))))
            for task in self.tasks:
                self.adapted[task.name].set(self.adapt(task, support, order=1))


class _Network(nn.Module):
    """Tables, MLP and tower: [B] logits of whatever task its weights are adapted to."""

    def __init__(self, schema: Schema, config: MAML.Config) -> None:
        super().__init__()
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.body = MLP(self.embed.width, config.hidden)
        self.tower = Tower(config.hidden[-1], config.tower)

    def forward(self, batch: Batch) -> Tensor:
        return self.tower(self.body(self.embed(batch)))


class _Weights(nn.Module):
    """A network's weights as buffers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._names = [name for name, _ in network.named_parameters()]
        for name, parameter in network.named_parameters():
            self.register_buffer(name.replace(".", "/"), parameter.detach().clone())

    def weights(self) -> dict[str, Tensor]:
        return dict(zip(self._names, self.buffers(), strict=True))

    @torch.no_grad()
    def set(self, weights: Weights) -> None:
        for name, buffer in self.weights().items():
            buffer.copy_(weights[name])
