"""Logistic regression on one-hot inputs: the simplest baseline, which shares nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from methods.base import Batch, Fitting, MultiTaskModel, Schema, Task, register_method
from methods.layers import FeatureEmbedding


@register_method(
    "logistic_regression",
    title="Logistic regression",
    paper="control, no paper",
    arms=("scratch",),
)
class LogisticRegression(MultiTaskModel):
    """logit = b + sum_j w_j x_j + sum_f v_f[code]: one weight for every value of every feature, nothing shared.

    The values of a multi-valued feature are averaged; ordered sequences are no inputs (nor are they of the trees).
    Fitted by L-BFGS (scikit-learn) for each inverse penalty of ``inverse_penalties`` in turn; the one with the best
    validation score is kept.
    """

    @dataclass(frozen=True)
    class Config:
        inverse_penalties: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
        iterations: int = 300

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.linear = nn.ModuleDict({task.name: _Linear(schema) for task in tasks})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {name: linear(batch) for name, linear in self.linear.items()}

    def fit(self, data: Fitting) -> list[float]:
        """Validation score with each penalty; leaves the best coefficients in the module of the one task."""
        from sklearn.linear_model import LogisticRegression as Solver

        ((task, module),) = self.linear.items()
        linear = cast(_Linear, module)
        labels, rows = data.labelled("train", task)
        _, valid_rows = data.labelled("valid", task)
        inputs = linear.design(rows)
        # The optimum does not depend on the start, where the solver stops does, in the last digits.
        start = np.random.default_rng(data.seed).normal(0, 0.01, (1, inputs.shape[1]))
        solver = Solver(solver="lbfgs", max_iter=self.config.iterations, warm_start=True)
        solver.coef_, solver.intercept_ = start, np.zeros(1)
        scores: list[float] = []
        best: tuple[np.ndarray, np.ndarray] = start, np.zeros(1)
        for inverse_penalty in self.config.inverse_penalties:
            solver.set_params(C=inverse_penalty).fit(inputs, labels)
            linear.take(solver.coef_, solver.intercept_)
            with torch.no_grad():
                score = data.score(task, linear(valid_rows).cpu().numpy())
            if not scores or score > max(scores):
                best = solver.coef_.copy(), solver.intercept_.copy()
            scores.append(score)
        linear.take(*best)
        return scores


class _Linear(nn.Module):
    """One weight per input: batch to logits [B]."""

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self._numbers = len(schema.numeric)
        self.embed = FeatureEmbedding(replace(schema, sequences=()), 1)
        self.weight = nn.Parameter(torch.zeros(self._numbers))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> Tensor:
        z = self.embed(batch)  # numbers, then one weight per feature
        return z[:, : self._numbers] @ self.weight + z[:, self._numbers :].sum(1) + self.bias

    def design(self, batch: Batch) -> Any:
        """The sparse matrix [B, numbers + embedding rows] whose product with all weights is the logit."""
        from scipy import sparse

        rows, columns = batch.categorical.shape
        codes = batch.categorical.cpu().numpy().astype(np.int64)
        share = self.embed.shares(batch.categorical).cpu().numpy()
        at = np.repeat(np.arange(rows), columns)
        size = self.embed.table.num_embeddings if self.embed.table is not None else 0
        one_hot = sparse.csr_matrix((share.ravel(), (at, codes.ravel())), shape=(rows, size))
        return sparse.hstack([sparse.csr_matrix(batch.numeric.cpu().numpy()), one_hot], format="csr")

    def take(self, coefficients: np.ndarray, intercept: np.ndarray) -> None:
        """Put a fitted model's numbers into the module's parameters."""
        flat = torch.from_numpy(coefficients[0].astype(np.float32))
        with torch.no_grad():
            self.weight.copy_(flat[: self._numbers])
            if self.embed.table is not None:
                self.embed.table.weight.copy_(flat[self._numbers :, None])
            self.bias.fill_(float(intercept[0]))
