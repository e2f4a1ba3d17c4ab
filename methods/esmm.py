"""Entire Space Multi-task Model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import Batch, MultiTaskModel, Progress, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding, Tower, predecessors


@register_method(
    "esmm",
    title="ESMM",
    paper="Ma et al., Entire Space Multi-Task Model, SIGIR 2018",
    without=("adapter", "lora", "bias_only"),
    kinds=("binary", "regression"),
)
class ESMM(MultiTaskModel):
    """A conversion is learnt on all rows, through the product with the probability of what comes before it.

    Embeddings are shared; every task has an MLP and a tower of its own, [B, d_in] to logits [B]. For a task whose
    predecessor in the funnel is another one, p(both) = p(predecessor) p(task | predecessor), and the product is what
    is compared with the labels (equations 1 and 3 of the paper). Which task precedes which:

    * a task with a ``space`` (conversion among clicked rows) follows that task. Its logit is the conditional one, and
      its loss counts rows outside the space as negatives, so it is learnt from all rows;
    * ``funnel=("click", "purchase")`` chains tasks whose labels are defined on all rows. The logit of a later one is
      that of the product.

    Tasks outside of any funnel are predicted by their tower as they are; without a funnel the model shares nothing but
    the embeddings. A product reaches over the whole chain. A new task gets an MLP and a tower.
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128)
        dropout: tuple[float, ...] = ()
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4
        funnel: tuple[str, ...] = ()

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.networks = nn.ModuleDict()
        for task in self.tasks:
            self.add_task(task)

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        config = self.config
        body = MLP(self.embed.width, config.hidden, config.dropout)
        self.networks[task.name] = nn.Sequential(body, Tower(config.hidden[-1], config.tower))
        return [self.networks[task.name]]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        return self._chained({name: network(z) for name, network in self.networks.items()})

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        own = {name: network(z) for name, network in self.networks.items() if name not in self.new_tasks}
        return {"z": z} | own

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        own = {name: features[name] for name in self.networks if name not in self.new_tasks}
        own |= {name: self.networks[name](features["z"]) for name in self.new_tasks}
        return {name: value for name, value in self._chained(own).items() if name not in features}

    def _chained(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits as they are predicted, and where the loss needs them "product/<task>": log p of the whole chain."""
        before = predecessors(self.tasks, self.config.funnel)
        outputs: dict[str, Tensor] = {}
        products: dict[str, Tensor] = {}

        def product(name: str) -> Tensor:
            if name not in products:
                log_p = F.logsigmoid(own[name])
                products[name] = log_p if before[name] is None else log_p + product(before[name])
            return products[name]

        spaces = {task.name for task in self.tasks if task.space is not None and task.space == before[task.name]}
        for name, logit in own.items():
            if before[name] is None:
                outputs[name] = logit
            elif name in spaces:
                outputs[name] = logit
                outputs[f"product/{name}"] = product(name)
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


def logit_of(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p."""
    return log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-6)))
