"""Metrics per user beside a plain loop over pandas groups: a million rows of 100,000 users.

python -m pytest tests/benchmarks/test_user_metrics_speed.py --benchmark-only -o addopts=
"""

import numpy as np
import pandas as pd
import pytest

from benchmark.training.metrics import auc
from benchmark.training.user_metrics import user_scores

ROWS, USERS = 1_000_000, 100_000


def loop(scores, labels, groups, k=10):
    """GAUC, UAUC, NDCG@k, HR@k and MRR, user by user, without a thought for ties beyond the AUC's."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    found = []
    for _, rows in pd.DataFrame({"score": scores, "label": labels, "user": groups}).groupby("user"):
        if rows["label"].nunique() < 2:
            continue
        ranked = rows.sort_values("score", ascending=False)["label"].to_numpy()
        hits = np.flatnonzero(ranked)
        gained = (ranked[:k] * discounts[: len(ranked)]).sum() / discounts[: len(hits)].sum()
        value = auc(rows["score"].to_numpy(), rows["label"].to_numpy())
        found.append((len(rows), value, gained, float(hits[0] < k), 1 / (hits[0] + 1)))
    sizes, *values = np.array(found).T
    return [np.average(values[0], weights=sizes), *(value.mean() for value in values)]


def test_a_million_rows_of_a_hundred_thousand_users(side_by_side):
    generator = np.random.default_rng(0)
    groups = generator.integers(USERS, size=ROWS)
    labels = (generator.random(ROWS) < 0.2).astype(np.float32)
    scores = (generator.normal(size=ROWS) + labels).astype(np.float32)
    few = groups < USERS // 20  # the loop's share of the users; its time is scaled up
    ours = list(user_scores(scores[few], labels[few], groups[few]).metrics().values())
    assert ours == pytest.approx(loop(scores[few], labels[few], groups[few]), abs=1e-6)
    medians, _ = side_by_side(
        {
            "vectorised": lambda: user_scores(scores, labels, groups).metrics(),
            "pandas loop on a twentieth": lambda: loop(scores[few], labels[few], groups[few]),
        },
        rounds=3,
        title=f"metrics per user, {ROWS:,} rows, {USERS:,} users",
    )
    assert medians["vectorised"] < medians["pandas loop on a twentieth"]
