"""Gradient-boosted trees: a baseline that shares nothing and is no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.base import Among, Batch, Between, Fitting, MultiTaskModel, Schema, Search, Task, register_method

BINS = 255
"""Values that a column of the trees can tell apart: the library's limit."""


@register_method(
    "gbdt",
    title="GBDT",
    paper="Ke et al., LightGBM, NIPS 2017",
    arms=("scratch",),
)
class GradientBoostedTrees(MultiTaskModel):
    """One ensemble of trees per task (scikit-learn's HistGradientBoosting, which follows LightGBM), nothing shared.

    Categorical columns with at most ``largest_vocabulary`` values are split natively; those with more become the mean
    label of their value, encoded out of fold on the training rows. Of a multi-valued feature with a small vocabulary
    every value is a column, of one with a large vocabulary the first value counts. Trees are added until the validation
    loss has not improved for ``patience`` of them; the number of trees with the best validation score is kept.

    Parameters: the values of the leaves. Stored beside them: feature and threshold of every split.
    """

    @dataclass(frozen=True)
    class Config:
        shrinkage: float = 0.1
        trees: int = 1000
        leaves: int = 31
        rows_per_leaf: int = 20
        l2: float = 1.0
        feature_share: float = 0.5
        largest_vocabulary: int = 200
        patience: int = 30

    search_space: ClassVar[Mapping[str, Search]] = {
        "shrinkage": Between(0.02, 0.3, log=True),
        "leaves": Among((15, 31, 63, 127)),
        "rows_per_leaf": Among((10, 20, 50, 100)),
        "l2": Between(0.01, 100.0, log=True),
        "feature_share": Among((0.3, 0.5, 0.8, 1.0)),
        "largest_vocabulary": Among((20, 100, 200)),
    }

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.ensembles = nn.ModuleDict({task.name: _Ensemble(schema, config) for task in tasks})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {name: ensemble(batch) for name, ensemble in self.ensembles.items()}

    def fit(self, data: Fitting) -> list[float]:
        ((task, ensemble),) = self.ensembles.items()
        return cast(_Ensemble, ensemble).fit(data, task)


class _Ensemble(nn.Module):
    """Trees for one task: batch to logits [B]; 0 before they are fitted."""

    def __init__(self, schema: Schema, config: GradientBoostedTrees.Config) -> None:
        super().__init__()
        self._schema, self._config = schema, config
        self._encoder: Any = None
        self._trees: Any = None
        self._kept = 0
        self.leaves = nn.Parameter(torch.zeros(1))
        self.register_buffer("splits", torch.zeros(0, 2))

    def forward(self, batch: Batch) -> Tensor:
        if self._trees is None:
            return self.leaves.expand(len(batch))
        inputs = self._encoded(self._columns(batch))
        (logits,) = islice(self._trees.staged_decision_function(inputs), self._kept - 1, self._kept)
        return torch.from_numpy(logits.astype(np.float32)).to(batch.categorical.device)

    def fit(self, data: Fitting, task: str) -> list[float]:
        """Validation score after each tree."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.model_selection import StratifiedKFold
        from sklearn.preprocessing import TargetEncoder

        labels, rows = data.labelled("train", task)
        valid_labels, valid_rows = data.labelled("valid", task)
        columns, valid_columns = self._columns(rows), self._columns(valid_rows)
        large = self._large(columns.shape[1])
        if large.any():
            folds = StratifiedKFold(5, shuffle=True, random_state=data.seed)
            self._encoder = TargetEncoder(target_type="binary", cv=folds)
            columns[:, large] = self._encoder.fit_transform(columns[:, large], labels)  # out of fold
            valid_columns = self._encoded(valid_columns)
        config = self._config
        self._trees = HistGradientBoostingClassifier(
            learning_rate=config.shrinkage,
            max_iter=config.trees,
            max_leaf_nodes=config.leaves,
            min_samples_leaf=config.rows_per_leaf,
            l2_regularization=config.l2,
            max_features=config.feature_share,
            categorical_features=self._native(columns.shape[1]),
            max_bins=BINS,
            early_stopping=True,
            scoring="loss",
            n_iter_no_change=config.patience,
            random_state=data.seed,
        ).fit(columns, labels, X_val=valid_columns, y_val=valid_labels)
        staged = self._trees.staged_decision_function(valid_columns)
        scores = [data.score(task, logits.astype(np.float32)) for logits in staged]
        self._kept = 1 + int(np.argmax(scores))
        self._keep_numbers()
        return scores

    def _keep_numbers(self) -> None:
        """Leaves and splits as tensors: they are counted, stored and compared like any model's."""
        nodes = np.concatenate([tree.nodes for (tree,) in self._trees._predictors[: self._kept]])
        is_leaf = nodes["is_leaf"].astype(bool)
        splits = np.stack([nodes["feature_idx"], nodes["num_threshold"]], 1)[~is_leaf].astype(np.float32)
        splits[~np.isfinite(splits)] = np.finfo(np.float32).max  # a split of missing values from all others
        self.leaves = nn.Parameter(torch.from_numpy(nodes["value"][is_leaf].astype(np.float32)))
        self.splits = torch.from_numpy(splits)

    def _columns(self, batch: Batch) -> NDArray[np.float32]:
        """Inputs [B, columns] before target encoding: numbers, then the features' codes or indicators in order."""
        codes = batch.categorical.cpu().numpy()
        parts, start = [batch.numeric.cpu().numpy()], 0
        for feature, offset in zip(self._schema.categorical, self._schema.offsets, strict=True):
            own_codes = codes[:, start : start + feature.length] - offset
            if feature.length > 1 and feature.size <= self._config.largest_vocabulary:
                indicators = np.zeros((len(codes), feature.size), np.float32)
                np.put_along_axis(indicators, own_codes, 1.0, axis=1)
                parts.append(indicators)
            else:
                parts.append(own_codes[:, :1])
            start += feature.length
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _encoded(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """``columns`` with large vocabularies replaced by what the training rows say of their values."""
        if self._encoder is not None:
            large = self._large(columns.shape[1])
            columns[:, large] = self._encoder.transform(columns[:, large])
        return columns

    def _large(self, width: int) -> NDArray[np.bool_]:
        return self._marked(width, lambda feature: feature.size > self._config.largest_vocabulary)

    def _native(self, width: int) -> NDArray[np.bool_]:
        small = lambda feature: feature.length == 1 and feature.size <= self._config.largest_vocabulary  # noqa: E731
        return self._marked(width, small)

    def _marked(self, width: int, of: Any) -> NDArray[np.bool_]:
        """Which input columns belong to the features that ``of`` says yes to."""
        marks = np.zeros(width, bool)
        start = len(self._schema.numeric)
        for feature in self._schema.categorical:
            spread = feature.length > 1 and feature.size <= self._config.largest_vocabulary
            size = feature.size if spread else 1
            marks[start : start + size] = of(feature)
            start += size
        return marks
