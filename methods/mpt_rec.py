"""MPT-Rec: adversarial separation of general and specific knowledge, then prompt tuning for a new task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    row_losses,
)
from methods.layers import MLP, Discriminator, FeatureEmbedding, Gate, TaskEmbedding, Tower, mix, reverse_gradient
from methods.prompts import PromptHead, divergence, entropy, mean_of

CLUSTERING_ROWS = 4096
RELEASED_INTERVALS = 5
"""Clustering intervals in the shortest budget of the released scripts: 10 epochs, an assignment every second one."""


@register_method(
    "mpt_rec",
    title="MPT-Rec",
    paper="Bai et al., Efficient Multi-task Prompt Tuning for Recommendation, ACM TOIS 2025, arXiv 2408.17214",
    kinds=("binary", "regression"),
)
class MPTRec(MultiTaskModel):
    """Stage 1 learns a general and one specific representation per task; stage 2 adds a small head per new task.

    Stage 1, for K tasks: dense input z [B, d_in]; general g = G(z) and specific s_i = S_i(z), both [B, m]; task
    embedding E_i [m]; gate H_i(z) [B, 2]; fused f_i = w_a (s_i * E_i) + w_g g; logits T_i(f_i) [B]. In training the
    same tower also predicts from g alone, and a linear discriminator behind gradient reversal tells from g to which
    environment a row belongs, so that g keeps nothing specific:

        loss = sum_i BCE(T_i(f_i)) + gen_coe sum_i BCE(T_i(g)) + env_coe NLL(D(reversed g), environment) + L2

    (equation 7 of the paper, where gen_coe = 1 - alpha and env_coe = alpha). Environments start at random and are
    re-assigned every ``clustering_interval`` epochs to the task with the smallest loss of the general prediction
    (equation 6). The reversal's strength grows as 2 / (1 + exp(-10 p)) - 1 with training progress p.

    Stage 2 (``add_task``): h = LayerNorm(P(z)); W = softmax_i(h . E_i / temperature) [B, K]; s_new = sum_i W_i s_i;
    f_new = w_a (s_new * E_new) + w_g g with a new gate; logits T_new(f_new). Only the head learns in the frozen arm.

    Deviations, each a choice between the paper and its released code (the other way is a config value):
    environments follow the general prediction (``cluster_on="fused"``: the code); reversal progress counts steps
    (``reversal="as_released"``: the code's saw-tooth, which has the batch size in place of the steps per epoch);
    environment ids belong to rows, not to positions in an unshuffled loader; the stage-2 gate is new and trained,
    and the raw s_i are mixed, as in the code. ``cluster_scale="rank"`` is an addition: raw losses of tasks with very
    different base rates put nearly all rows into one environment.

    ``adversary="as_released"`` reverses from the first step, at first against random environments, and assigns every
    ``clustering_interval`` epochs whatever the budget. A deviation for budgets of a few epochs, ``"assigned"``: nothing
    is reversed before environments have been assigned (until then the discriminator alone learns, from the random ids),
    p counts from there, and that is half-way through the epochs at the latest. ``"by_budget"`` is as released in
    budgets as long as the released ones, of 5 intervals (10 epochs) or more, and "assigned" in shorter ones.
    docs/deviations.md has what was measured.

    Ablations: ``use="general"`` (share-only) or ``"specific"`` (specific-only) drops the other representation from
    the fused prediction and from the new task's head, the parameters left unused stay in the model; ``env_coe=0`` is
    no-GAN; ``gen_coe=0`` as well is fused-only. ``fusion`` is how s_new is mixed: "prompt", "kl" (prompt, and
    ``kl_weight`` times the mean KL divergence of W from uniform), "fixed" (W_i = 1/K), "task_embedding"
    (softmax_i(E_new . E_i / temperature), the same for all rows); the last two have no projection P.
    """

    @dataclass(frozen=True)
    class Config:
        embedding_dim: int = 4
        hidden: tuple[int, ...] = (256, 128)
        dropout: tuple[float, ...] = ()
        tower: tuple[int, ...] = (64, 32)
        l2_embedding: float = 6e-3
        l2_dnn: float = 3e-5
        gen_coe: float = 0.9
        env_coe: float = 0.1
        adversary: str = "by_budget"
        reversal: str = "progress"
        clustering_interval: int = 2
        cluster_on: str = "general"
        cluster_scale: str = "raw"
        use: str = "both"
        fusion: str = "prompt"
        temperature: float = 150.0
        kl_weight: float = 0.1

        def __post_init__(self) -> None:
            allowed = {
                "adversary": ("by_budget", "assigned", "as_released"),
                "reversal": ("progress", "as_released"),
                "cluster_on": ("general", "fused"),
                "cluster_scale": ("raw", "rank"),
                "use": ("both", "general", "specific"),
                "fusion": ("prompt", "kl", "fixed", "task_embedding"),
            }
            for name, values in allowed.items():
                if getattr(self, name) not in values:
                    raise UsageError(f"mpt_rec.{name} must be one of {', '.join(values)}, not {getattr(self, name)!r}")

    # the grid of the released search, without 0, which switches a part off and is an ablation
    search_space: ClassVar[Mapping[str, Search]] = {
        "gen_coe": Between(0.1, 1.0, step=0.1),
        "env_coe": Between(0.1, 1.0, step=0.1),
    }

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        width, m = schema.width(config.embedding_dim), config.hidden[-1]
        self.old = tuple(task.name for task in self.tasks)
        self.embed = FeatureEmbedding(schema, config.embedding_dim)
        self.general = MLP(width, config.hidden, config.dropout)
        self.specific: Any = nn.ModuleDict({name: MLP(width, config.hidden, config.dropout) for name in self.old})
        self.task_embeddings: Any = nn.ModuleDict({name: TaskEmbedding(m) for name in self.old})
        self.gates: Any = nn.ModuleDict({name: Gate(width, 2) for name in self.old})
        self.towers: Any = nn.ModuleDict({name: Tower(m, config.tower) for name in self.old})
        self.discriminator = Discriminator(m, len(self.old))
        self.heads: Any = nn.ModuleDict()
        self.environments: Tensor | None = None
        self._assignments: list[list[int]] = []  # epoch, then rows of each environment, once per assignment
        self._first_assignment = config.clustering_interval
        self._waited = config.adversary == "assigned"
        self._batch_size = 1

    # ---- stage 1 --------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        general: Any = self.general(z) if self._needs_general else None
        specific = {} if self.config.use == "general" else {name: part(z) for name, part in self.specific.items()}
        outputs: dict[str, Tensor] = {}
        for name in self.old:
            if self.training and batch.labels and name not in batch.labels:
                continue
            fused = self._fused(name, z, general, specific)
            if self._stage_one_training and self.config.gen_coe and self.config.use != "general":
                assert general is not None
                both = self.towers[name](torch.cat([fused, general]))  # one pass: half the kernels of two
                outputs[name], outputs[f"general/{name}"] = both.split(len(fused))
            else:
                outputs[name] = self.towers[name](fused)
        if self._stage_one_training and self.config.env_coe:
            outputs["general"] = general
        for name, head in self.heads.items():
            outputs |= head.outputs(name, z, general, list(specific.values()), self._embeddings())
        return outputs

    def _fused(self, name: str, z: Tensor, general: Any, specific: Mapping[str, Tensor]) -> Tensor:
        if self.config.use == "general":
            return general
        adapted = specific[name] * self.task_embeddings[name].weight
        return adapted if self.config.use == "specific" else mix(self.gates[name](z), [adapted, general])

    def loss(self, batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        terms = super().loss(batch, outputs, progress)
        if self.heads:
            for name in self.heads:
                if f"attention/{name}" in outputs:
                    terms[f"kl/{name}"] = self.config.kl_weight * divergence(outputs[f"attention/{name}"])
            return terms
        if self.config.gen_coe:
            for task in self.tasks:
                # share-only has one prediction, which then is both the general and the final one
                prediction = outputs.get(f"general/{task.name}", outputs[task.name])
                term = mean_loss(task, prediction, batch.labels[task.name])
                terms[f"general/{task.name}"] = self.config.gen_coe * term
        self._waited = self._waits(progress.epochs)
        if self._waited:
            self._first_assignment = min(self.config.clustering_interval, max(1, progress.epochs // 2))
        if self.config.env_coe:
            assert self.environments is not None and batch.index is not None, "start_training has not been called"
            logits = self.discriminator(reverse_gradient(outputs["general"], self.reversal_strength(batch, progress)))
            environment = self.environments[batch.index].long()
            terms["environment"] = self.config.env_coe * F.cross_entropy(logits, environment)
        return terms

    def reversal_strength(self, batch: Batch, progress: Progress) -> float:
        """Lambda of this step; 0 while the adversary waits for environments."""
        fraction = progress.fraction
        if self._waits(progress.epochs):
            if not self._assignments or self._assignments[0][0] >= progress.epochs:
                return 0.0
            start = self._assignments[0][0] / progress.epochs
            fraction = (fraction - start) / (1 - start)
        if self.config.reversal == "as_released":
            if progress.step == 0:
                self._batch_size = len(batch)  # an epoch's last batch may be smaller
            steps = progress.step + (progress.epoch - 1) * self._batch_size
            fraction = steps / (progress.epochs * self._batch_size)
        return 2 / (1 + math.exp(-10 * fraction)) - 1

    def _waits(self, epochs: int) -> bool:
        """Whether nothing is reversed before environments are assigned, in a budget of so many epochs."""
        if self.config.adversary == "by_budget":
            return epochs < RELEASED_INTERVALS * self.config.clustering_interval
        return self.config.adversary == "assigned"

    def start_training(self, rows: Rows, generator: torch.Generator) -> None:
        if self._adversary:
            self._assignments = []
            ids = torch.randint(len(self.old), (len(rows),), generator=generator, device=generator.device)
            self.environments = ids.to(self.discriminator.weight.device, torch.uint8)

    def end_epoch(self, epoch: int, rows: Rows) -> None:
        if self._adversary and (epoch == self._first_assignment or epoch % self.config.clustering_interval == 0):
            self.assign_environments(rows)
            assert self.environments is not None
            counts = torch.bincount(self.environments.long(), minlength=len(self.old))
            self._assignments.append([epoch, *counts.tolist()])

    @torch.no_grad()
    def assign_environments(self, rows: Rows) -> None:
        """Put every row into the environment of the task that predicts it best; call in eval mode.

        Rows on which no task's label is defined keep their environment.
        """
        assert self.environments is not None
        parts = [self._row_losses(batch) for batch in rows.batches(CLUSTERING_ROWS)]
        losses = torch.cat([part for part, _ in parts])
        index = torch.cat([index for _, index in parts])
        if self.config.cluster_scale == "rank":
            losses = _ranks(losses)
        losses = losses.nan_to_num(nan=math.inf, posinf=math.inf)
        chosen = losses.argmin(1).to(torch.uint8)
        known = losses.isfinite().any(1)
        self.environments[index] = torch.where(known, chosen, self.environments[index])

    def _row_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss of every row for every task, [B, K], and the rows' index."""
        if self.config.cluster_on == "fused":
            outputs: Mapping[str, Tensor] = self(batch)
        else:
            general = self.general(self.embed(batch))
            outputs = {name: self.towers[name](general) for name in self.old}
        assert batch.index is not None
        columns = [row_losses(task, outputs[task.name], batch.labels[task.name]) for task in self.tasks]
        return torch.stack(columns, 1), batch.index

    def training_state(self) -> dict[str, Tensor]:
        if self.environments is None:
            return {}
        return {"environments": self.environments, "assignments": torch.tensor(self._assignments, dtype=torch.int64)}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        if "environments" in state:
            self.environments = state["environments"].to(self.discriminator.weight.device)
            self._assignments = state["assignments"].tolist()

    def warnings(self, kept_epoch: int) -> list[str]:
        if not self._adversary:
            return []
        first = self._assignments[0][0] if self._assignments else None
        if first is not None and kept_epoch > first:
            return []
        when = f"the first assignment of environments came after epoch {first}" if first else "none were assigned"
        against = "no environments at all" if self._waited else "random environments only"
        return [f"MPT-Rec's adversary did not act: the kept epoch {kept_epoch} was trained against {against}, {when}."]

    @torch.no_grad()
    def diagnostics(self, rows: Rows) -> dict[str, Any]:
        """Rows per environment at every assignment; on ``rows`` the discriminator's accuracy balanced over environments
        (chance: 1 / K), and the mean weights of every gate; for a new task the mean attention to each old task and the
        mean entropy of that attention as a share of its greatest value, log K."""
        found: dict[str, Any] = {}
        if self._assignments:
            found["environment_rows"] = {
                f"after epoch {epoch}": dict(zip(self.old, counts, strict=True)) for epoch, *counts in self._assignments
            }
        sums: dict[str, Tensor] = {}
        hits = torch.zeros(len(self.old), 2)
        seen = 0
        for batch in rows.batches(CLUSTERING_ROWS):
            z = self.embed(batch)
            seen += len(z)
            gates = {name: gate(z) for name, gate in self.gates.items()}
            gates |= {name: head.gate(z) for name, head in self.heads.items()}
            for name, head in self.heads.items():
                attention = head.attention(z, self._embeddings())
                if attention is not None:
                    gates[f"attention/{name}"] = attention
                    gates[f"entropy/{name}"] = entropy(attention)
            for name, weights in gates.items():
                sums[name] = sums.get(name, 0) + weights.sum(0)
            if self._adversary and self.environments is not None:
                hits += self._hits(self.general(z), self.environments[batch.index].long()).cpu()
        means: dict[str, Any] = {name: (total / seen).tolist() for name, total in sums.items()}
        if self._adversary and hits[:, 1].any():
            there = hits[:, 1] > 0
            found["discriminator_balanced_accuracy"] = float((hits[there, 0] / hits[there, 1]).mean())
            found["chance"] = 1 / len(self.old)
        found["gate_means"] = {
            name: dict(zip(("specific", "general"), means[name], strict=True)) for name in (*self.old, *self.heads)
        }
        for name in self.heads:
            if f"attention/{name}" in means:
                found[f"attention_of_{name}"] = dict(zip(self.old, means[f"attention/{name}"], strict=True))
                greatest = math.log(len(self.old)) if len(self.old) > 1 else 1.0
                found[f"attention_entropy_of_{name}"] = means[f"entropy/{name}"] / greatest
        return found

    def _hits(self, general: Tensor, environment: Tensor) -> Tensor:
        """For each environment, its rows that the discriminator tells and its rows: [K, 2]."""
        right = (self.discriminator(general).argmax(1) == environment).float()
        sums = torch.zeros(len(self.old), 2, device=general.device)
        return sums.index_add_(0, environment, torch.stack([right, torch.ones_like(right)], 1))

    # ---- stage 2 --------------------------------------------------------------------------------------------------

    def add_task(self, task: Task) -> Sequence[nn.Module]:
        self.heads[task.name] = PromptHead(self.embed.width, self.config)
        return [self.heads[task.name]]

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        z = self.embed(batch)
        features = {"z": z}
        if self.config.use != "specific":
            features["general"] = self.general(z)
        if self.config.use != "general":
            specific = {f"specific/{name}": part(z) for name, part in self.specific.items()}
            # with fixed weights the mixture is all that is read
            features |= {"mixed": mean_of(list(specific.values()))} if self.config.fusion == "fixed" else specific
        return features

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        specific = [features[f"specific/{name}"] for name in self.old if f"specific/{name}" in features]
        if "mixed" in features:
            specific = [features["mixed"]]
        outputs: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            outputs |= head.outputs(name, features["z"], features.get("general"), specific, self._embeddings())
        return outputs

    @torch.no_grad()
    def inspect(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        z = self.embed(batch)
        specific = {name: part(z) for name, part in self.specific.items()}
        if not self.heads:
            shown = {f"specific_{name}": part for name, part in specific.items()}
            return {"representations": {"general": self.general(z), **shown}}
        weights = next(reversed(self.heads.values())).attention(z, self._embeddings())
        return {} if weights is None else {"attention": dict(zip(self.old, weights.unbind(1)))}

    def _embeddings(self) -> Tensor | None:
        """Task embeddings [K, m], where the new task's mixture reads them."""
        if self.config.use == "general" or self.config.fusion == "fixed":
            return None
        return torch.stack([self.task_embeddings[name].weight for name in self.old])

    @property
    def _needs_general(self) -> bool:
        return self.config.use != "specific" or self._stage_one_training

    @property
    def _stage_one_training(self) -> bool:
        return self.training and not self.heads

    @property
    def _adversary(self) -> bool:
        return bool(self.config.env_coe) and not self.heads


def _ranks(losses: Tensor) -> Tensor:
    """Each column's values by their share of smaller values in the column, in [0, 1); NaN stays."""
    ranks = torch.full_like(losses, math.nan)
    for task in range(losses.shape[1]):
        rows = losses[:, task].isfinite().nonzero().squeeze(1)
        order = losses[rows, task].argsort(stable=True)
        ranks[rows[order], task] = torch.arange(len(rows), device=losses.device, dtype=losses.dtype) / max(len(rows), 1)
    return ranks
