"""Parameter and Embedding Personalized Network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Batch, MultiTaskModel, Schema, Task, register_method
from methods.layers import MLP, FeatureEmbedding


@register_method(
    "pepnet",
    title="PEPNet",
    paper="Chang et al., PEPNet: Parameter and Embedding Personalized Network, KDD 2023, arXiv 2302.01115",
    without=("adapter", "lora", "bias_only"),
    kinds=("binary", "regression"),
)
class PEPNet(MultiTaskModel):
    """Prior information scales the shared embedding (EPNet) and the layers of every task's network (PPNet).

    A gate NU(x) = 2 sigmoid(W' relu(W x + b) + b') in (0, 2) scales element by element (equations 1-2 of the paper).

    * EPNet: e = z * NU_ep(domain, sg(z)) [B, d_in], where z is the dense input, sg stops the gradient and ``domain``
    are
      the embeddings of the features that tell the scenario.
    * PPNet, task t, layer l: h_{l+1} = relu(W_{l,t} (h_l * NU_{l,t}(prior, sg(e))) + b_{l,t}), h_0 = e, where ``prior``
      are the embeddings of the features that identify user, item and author. The last layer gives the logit [B].

    ``domain`` and ``prior`` name categorical features; those that are not inputs of a run (a label's own feature) are
    passed over, and where none is named the gate reads sg alone, so that it personalises by the whole row: the honest
    reading of data without users and items. Named in presets for Ali-CCP (301; 101, 205, 206, 207) and KuaiRand.

    Deviations: gates have a hidden layer as wide as their output, one pair of layers for each task and layer (the paper
    cuts one wide output into parts); sizes are the comparison's, ``hidden`` and ``tower`` in one network. A new task
    gets a network with its gates, on the frozen embedding and EPNet. Gates are not regularised.
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128)
        dropout: tuple[float, ...] = ()
        tower: tuple[int, ...] = (64, 32)
        domain: tuple[str, ...] = ()
        prior: tuple[str, ...] = ()
        l2_embedding: float = 3e-4
        l2_dnn: float = 3e-4

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        width = self.embed.width
        self.register_buffer("domain", self._places(config.domain), persistent=False)
        self.register_buffer("prior", self._places(config.prior), persistent=False)
        self.domain: Tensor
        self.prior: Tensor
        self.epnet = _GateUnit(len(self.domain) + width, width)
        self.networks = nn.ModuleDict()
        for task in self.tasks:
            self.add_task(task)

    def warnings(self, kept_epoch: int) -> list[str]:
        lacking = [what for what in ("domain", "prior") if not len(getattr(self, what))]
        if not lacking:
            return []
        return [f"PEPNet without {' and '.join(lacking)} features: in their place its gates read the row alone."]

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self.networks[task.name] = _Network(self.embed.width, len(self.prior) + self.embed.width, self.config)
        return [self.networks[task.name]]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        features = self.frozen_features(batch)
        return {name: network(features["e"], features["prior"]) for name, network in self.networks.items()}

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        e = z * self.epnet(torch.cat([z[:, self.domain], z.detach()], 1))
        return {"e": e, "prior": torch.cat([z[:, self.prior], e.detach()], 1)}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.networks[name](features["e"], features["prior"]) for name in self.new_tasks}

    def _places(self, names: Sequence[str]) -> Tensor:
        """Columns of the dense input that hold the named features' embeddings."""
        dim, first = self.config.embedding_dim, len(self.schema.numeric)
        known = [feature.name for feature in self.schema.categorical]
        starts = [first + dim * known.index(name) for name in names if name in known]
        return torch.tensor([start + d for start in starts for d in range(dim)], dtype=torch.int64)


class _GateUnit(nn.Sequential):
    """Scales in (0, 2): [B, width] to [B, out]."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(nn.Linear(width, out), nn.ReLU(inplace=True), nn.Linear(out, out), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class _Network(nn.Module):
    """One task's layers, each behind its gate: e [B, width] and what the gates read [B, context] to logits [B]."""

    def __init__(self, width: int, context: int, config: PEPNet.Config) -> None:
        super().__init__()
        layers = (*config.hidden, *config.tower)
        widths = (width, *layers)
        rates = (*config.dropout, *(0.0 for _ in layers[len(config.dropout) :]))
        self.gates = nn.ModuleList(_GateUnit(context, size) for size in widths)
        self.layers = nn.ModuleList(
            MLP(before, (after,), (rate,)) for before, after, rate in zip(widths, layers, rates, strict=False)
        )
        self.last = nn.Linear(layers[-1], 1)

    def forward(self, e: Tensor, context: Tensor) -> Tensor:
        x = e
        for gate, layer in zip(self.gates, self.layers, strict=False):
            x = layer(x * gate(context))
        return self.last(x * self.gates[-1](context)).squeeze(-1)
