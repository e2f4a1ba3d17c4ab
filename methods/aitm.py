"""Adaptive Information Transfer Multi-task learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from methods.base import (
    Among,
    Batch,
    Between,
    MultiTaskModel,
    Progress,
    Schema,
    Search,
    Task,
    mean_loss,
    register_method,
)
from methods.layers import MLP, FeatureEmbedding, no_funnel, predecessors


@register_method(
    "aitm",
    title="AITM",
    paper="Xi et al., Modeling the Sequential Dependence among Audience Multi-step Conversions, KDD 2021",
    without=("adapter", "lora", "bias_only"),
)
class AITM(MultiTaskModel):
    """Along a funnel a later task receives what the one before it knows, through attention over the two.

    Embeddings are shared; q_t = tower_t(z) [B, m]. The first task of a chain has z_t = q_t. A later one receives
    p_{t-1} = transfer(z_{t-1}) and z_t = sum over u in (p_{t-1}, q_t) of w_u h1_t(u), with weights w_u the softmax over
    the two of <h2_t(u), h3_t(u)> / sqrt(m) (equations 3-6 of the paper). Logit_t = linear(z_t) [B]. The loss adds
    ``constraint`` times the mean of max(p_t - p_{t-1}, 0) (equation 8): a later step is no likelier than an earlier.

    Which task precedes which: ``space`` or ``funnel``, as in ESMM. All probabilities here are those of having come as
    far as the task, learnt on all rows; for a task with a ``space`` the prediction is p_t / p_{t-1}, the conditional
    one. Tasks outside of the funnel have no transfer; where no task follows another a plan skips the method. Binary
    tasks only. A new task gets a tower, the transfer into it and a linear head.

    Sizes, dropout and L2 are the released code's: towers of 128, 64 and 32 units with dropout .1, .3 and .3, the last
    rate on the transfer (m to m, ReLU) too; value, key and query without biases; constraint weight 0.6, L2 1e-6.
    Deviations: it starts embeddings and attention from N(0, 0.01^2), here from the framework's usual start, as in every
    method of the comparison; it regularises the attention, here tables and towers.
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        tower: tuple[int, ...] = (128, 64, 32)
        dropout: tuple[float, ...] = (0.1, 0.3, 0.3)
        l2_embedding: float = 1e-6
        l2_dnn: float = 1e-6
        constraint: float = 0.6
        funnel: tuple[str, ...] = ()

    search_space: ClassVar[Mapping[str, Search]] = {
        "tower": Among(((256, 128, 64), (128, 64, 32), (64, 32, 16))),  # as deep as there are rates of dropout
        "constraint": Between(0.2, 1.0, step=0.2),
    }

    @classmethod
    def unfit_for(cls, tasks: Sequence[Task], config: Config) -> str | None:
        return no_funnel(tasks, config.funnel, "aitm")

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.steps: Any = nn.ModuleDict()
        before = predecessors(self.tasks, config.funnel)
        for task in self.tasks:
            self.steps[task.name] = _Step(self.embed.width, config, before[task.name] is not None)

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        before = predecessors([*self.tasks, task], self.config.funnel)
        self.steps[task.name] = _Step(self.embed.width, self.config, before[task.name] is not None)
        return [self.steps[task.name]]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        states = self._states(self.embed(batch), list(self.steps))
        return self._outputs({name: self.steps[name].head(state).squeeze(-1) for name, state in states.items()})

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        return {"z": z} | self._states(z, [name for name in self.steps if name not in self.new_tasks])

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        known = {name: state for name, state in features.items() if name != "z"}
        before = predecessors(self.tasks, self.config.funnel)
        wanted = {*self.new_tasks, *(before[name] for name in self.new_tasks)} - {None}
        states = self._states(features["z"], list(self.new_tasks), known)
        reached = {name: self.steps[name].head(state).squeeze(-1) for name, state in states.items() if name in wanted}
        return {name: value for name, value in self._outputs(reached).items() if name not in features}

    def _states(self, z: Tensor, names: Sequence[str], known: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """z_t of the named tasks and of what comes before them."""
        before = predecessors(self.tasks, self.config.funnel)
        states = dict(known or {})

        def state(name: str) -> Tensor:
            if name not in states:
                earlier = before[name]
                states[name] = self.steps[name](z, None if earlier is None else state(earlier))
            return states[name]

        for name in names:
            state(name)
        return states

    def _outputs(self, reached: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predictions, and "reached/<task>" for the loss: the logit of having come as far as the task."""
        before = predecessors(self.tasks, self.config.funnel)
        outputs = dict(reached)
        for task in self.tasks:
            earlier = before.get(task.name)
            # on cached features only the new task and its predecessor are there
            if earlier is not None and task.name in reached and earlier in reached:
                outputs[f"reached/{task.name}"] = reached[task.name]
                outputs[f"reached/{earlier}"] = reached[earlier]
                if task.space == earlier:
                    p = torch.sigmoid(reached[task.name]) / torch.sigmoid(reached[earlier])
                    outputs[task.name] = torch.logit(p, eps=1e-6)
        return outputs

    def loss(self, batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        before = predecessors(self.tasks, self.config.funnel)
        terms: dict[str, Tensor] = {}
        for task in self.tasks:
            if task.name not in batch.labels:
                continue
            earlier = before[task.name]
            reached = outputs.get(f"reached/{task.name}", outputs[task.name])
            labels = batch.labels[task.name]
            if earlier is not None and task.space == earlier:
                # outside its space a step was not reached
                terms[task.name] = nn.functional.binary_cross_entropy_with_logits(reached, labels.nan_to_num(nan=0.0))
            else:
                terms[task.name] = mean_loss(task, reached, labels)
            if earlier is not None and self.config.constraint:
                excess = torch.sigmoid(reached) - torch.sigmoid(outputs[f"reached/{earlier}"])
                terms[f"order/{task.name}"] = self.config.constraint * excess.clamp(min=0).mean()
        return terms


class _Step(nn.Module):
    """One task: its tower, the transfer from the task before it, and its head."""

    def __init__(self, width: int, config: AITM.Config, has_earlier: bool) -> None:
        super().__init__()
        m = config.tower[-1]
        self.body = MLP(width, config.tower, config.dropout)
        self.transfer = MLP(m, (m,), config.dropout[-1:]) if has_earlier else None
        self.attention: Any = nn.ModuleList(nn.Linear(m, m, bias=False) for _ in range(3)) if has_earlier else None
        self.head = nn.Linear(m, 1)

    def forward(self, z: Tensor, earlier: Tensor | None) -> Tensor:
        own = self.body(z)
        if earlier is None or self.transfer is None or self.attention is None:
            return own
        both = torch.stack([self.transfer(earlier), own], 1)  # [B, 2, m]
        value, key, query = (layer(both) for layer in self.attention)
        weights = torch.softmax((key * query).sum(-1) / key.shape[-1] ** 0.5, 1)
        return (weights.unsqueeze(-1) * value).sum(1)
