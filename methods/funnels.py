"""What the entire-space methods share: a network per task, and probabilities multiplied along a funnel.

Used by ESMM, ESCM2 and DCMT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import Batch, MultiTaskModel, Progress, Schema, Task
from methods.layers import MLP, FeatureEmbedding, Tower, no_funnel, predecessors


@dataclass(frozen=True)
class FunnelConfig:
    """``funnel`` names tasks, earlier first; empty: the dataset's own."""

    embedding_dim: int = 4
    hidden: tuple[int, ...] = (256, 128)
    dropout: tuple[float, ...] = ()
    tower: tuple[int, ...] = (64, 32)
    l2_embedding: float = 3e-4
    l2_dnn: float = 3e-4
    funnel: tuple[str, ...] = ()


class EntireSpace(MultiTaskModel):
    """Shared tables and, for every task, an MLP and a tower of its own: [B, d_in] to logits [B].

    For a task whose predecessor in the funnel is another one, p(both) = p(predecessor) p(task | predecessor). Which
    task precedes which:

    * a task with a ``space`` (conversion among clicked rows) follows that task. Its logit is the conditional one, and
      its loss counts rows outside the space as negatives, so it is learnt from all rows;
    * ``funnel=("click", "purchase")`` chains tasks whose labels are defined on all rows. The logit of a later one is
      that of the product.

    Tasks outside of it are predicted by their tower as they are; where no task follows another the model would share
    nothing but the tables, so a plan skips it there. A product reaches over the whole chain. A new task gets an MLP and
    a tower.
    """

    second_towers: ClassVar[bool] = False
    """Whether a task that follows another has a second tower on its MLP, "second/<task>" [B], in training."""

    @classmethod
    def unfit_for(cls, tasks: Sequence[Task], config: Any) -> str | None:
        return no_funnel(tasks, config.funnel, cls.info.name)

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Any) -> None:
        super().__init__(schema, tasks, config)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.networks: Any = nn.ModuleDict()
        self.second: Any = nn.ModuleDict()
        for task in self.tasks:
            self.add_task(task)

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        config = self.config
        body = MLP(self.embed.width, config.hidden, config.dropout)
        self.networks[task.name] = nn.Sequential(body, Tower(config.hidden[-1], config.tower))
        if not self.second_towers or predecessors([*self.tasks, task], config.funnel)[task.name] is None:
            return [self.networks[task.name]]
        self.second[task.name] = Tower(config.hidden[-1], config.tower)
        return [self.networks[task.name], self.second[task.name]]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self._predicted(self.embed(batch), {}, self.networks)

    def _predicted(self, z: Tensor, own: dict[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
        """Outputs from the dense input, and the conditional logits ``own`` of further tasks."""
        second = {}
        for name in names:
            body, tower = self.networks[name]
            hidden = body(z)
            own[name] = tower(hidden)
            # By the tower's own mode: in the frozen arm it learns while the model around it stays in evaluation mode.
            if name in self.second and self.second[name].training:
                second[f"second/{name}"] = self.second[name](hidden)
        return self.chained(own) | second

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        own = {name: network(z) for name, network in self.networks.items() if name not in self.new_tasks}
        return {"z": z} | own

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        own = {name: features[name] for name in self.networks if name not in self.new_tasks}
        outputs = self._predicted(features["z"], own, self.new_tasks)
        return {name: value for name, value in outputs.items() if name not in features}

    @property
    def before(self) -> dict[str, str | None]:
        """The task that precedes each one."""
        return predecessors(self.tasks, self.config.funnel)

    @property
    def spaces(self) -> set[str]:
        """Tasks that follow the task on whose positive rows they are defined."""
        before = self.before
        return {task.name for task in self.tasks if task.space is not None and task.space == before[task.name]}

    def chained(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits as they are predicted, from every task's conditional logit [B].

        For the loss: "product/<task>", log p of the whole chain up to a task with a space; for every task that follows
        another, "conditional/<task>", its own logit, and "before/<task>", log p of the chain that leads to it.
        """
        before, spaces = self.before, self.spaces
        outputs: dict[str, Tensor] = {}
        products: dict[str, Tensor] = {}

        def product(name: str) -> Tensor:
            if name not in products:
                log_p, earlier = F.logsigmoid(own[name]), before[name]
                products[name] = log_p if earlier is None else log_p + product(earlier)
            return products[name]

        for name, logit in own.items():
            earlier = before[name]
            if earlier is None:
                outputs[name] = logit
                continue
            outputs[f"conditional/{name}"], outputs[f"before/{name}"] = logit, product(earlier)
            if name in spaces:
                outputs[name], outputs[f"product/{name}"] = logit, product(name)
            else:
                outputs[name] = logit_of(product(name))
        return outputs

    def loss(self, batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        terms = super().loss(batch, outputs, progress)
        for task in self.tasks:
            if task.name in terms and f"product/{task.name}" in outputs:
                # outside the space the label is undefined and the product's event did not happen
                happened = batch.labels[task.name].nan_to_num(nan=0.0)
                logits = logit_of(outputs[f"product/{task.name}"])
                terms[task.name] = F.binary_cross_entropy_with_logits(logits, happened)
        return terms


@dataclass(frozen=True)
class Exposure:
    """A batch as one later task of a funnel sees it, all [B].

    ``reached`` is 1 where the task before it happened; ``propensity`` the predicted probability of that, without a
    gradient; ``errors`` the cross-entropy of the conditional probability where reached, ``probability`` that itself.
    """

    reached: Tensor
    propensity: Tensor
    errors: Tensor
    probability: Tensor


def exposure(model: EntireSpace, task: Task, batch: Batch, outputs: Mapping[str, Tensor]) -> Exposure | None:
    """What a counterfactual risk of ``task`` needs.

    None where the batch does not say who reached it: a chained task that is learnt alone comes without the earlier
    task's labels.
    """
    earlier = model.before[task.name]
    if earlier is None or task.name not in batch.labels or f"conditional/{task.name}" not in outputs:
        return None
    label = batch.labels[task.name]
    if task.name in model.spaces:
        reached = (label == label).to(label.dtype)
    elif earlier in batch.labels:
        reached = ((batch.labels[earlier] == 1) & (label == label)).to(label.dtype)
    else:
        return None
    logit = outputs[f"conditional/{task.name}"]
    errors = F.binary_cross_entropy_with_logits(logit, label.nan_to_num(nan=0.0), reduction="none")
    propensity = outputs[f"before/{task.name}"].detach().exp()
    return Exposure(reached, propensity, errors * reached, torch.sigmoid(logit))


def logit_of(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p."""
    return log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-6)))
