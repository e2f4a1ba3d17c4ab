"""Generated rows with known truth: tasks whose relatedness is chosen, and the exact best AUC that anyone can reach.

**Model.** A row has categorical features x_f (uniform over V_f values) and numeric features z_j (uniform in [0, 1]).
Task k has its own weights a_k: one standard normal number per value of each feature and per numeric feature. Its
latent score is t_k = (sum_f a_k[f, x_f] + sum_j a_k[j] sqrt(12) (z_j - 1/2)) / sqrt(number of features), about
standard normal, and P(y_k = 1 | x, z) = sigmoid(bias_k + (t_k + sin(2 t_k + 1)) / noise); bias_k is solved so that
the mean probability is the task's base rate. Given the row, labels of different tasks are independent.

**Relatedness.** ``like`` has weights of correlation 0.7 with ``click``'s. ``share``, the new task, has the weights
rho a_click + sqrt(1 - rho^2) a_own: rho = 1 identical, 0.9 related, 0 unrelated, -1 opposed; ``synthetic@rho0.5``
turns it to any value. The link t + sin(2 t + 1)
is not odd, so opposed tasks are no sign flip of one another. All variants share rows and old tasks' labels bit for
bit; only ``share`` differs.

**Bayes AUC.** No score ranks better than the true probability. For given rows with probabilities p_i its expected
AUC over the drawing of labels is, up to the tiny correlation between numerator and denominator,
sum_ij p_i (1 - p_j) [p_i > p_j] + 1/2 [p_i = p_j] over sum_ij p_i (1 - p_j), i != j: see `bayes_auc`. An AUC measured
on drawn labels scatters around it as any AUC does.

Rows come in blocks of BLOCK, each from its own random stream, so a larger dataset begins with the rows of a smaller.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.errors import UsageError
from benchmark.core.seeding import numpy_stream
from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    import numpy as np

BLOCK = 4096
RELATIONS = {"identical": 1.0, "related": 0.9, "unrelated": 0.0, "opposed": -1.0}
OLD_CORRELATION = 0.7
TASKS = ("click", "like", "share")


@dataclasses.dataclass(frozen=True)
class Synthetic(Dataset):
    """``rows`` in all (80/10/10), ``vocabulary`` sizes, number of ``numerics``, ``base_rates``, ``noise`` and rho."""

    rows: int = 20_000
    vocabulary: tuple[int, ...] = (50, 50, 30, 30, 20, 20, 10, 10, 5, 5)
    numerics: int = 2
    base_rates: tuple[float, ...] = (0.3, 0.1, 0.2)
    noise: float = 0.5
    rho: float = RELATIONS["related"]

    def configuration(self) -> str:
        return repr((self.rows, self.vocabulary, self.numerics, self.base_rates, self.noise, self.rho))

    def vary(self, word: str) -> Dataset | None:
        """``rho0.5``: the new task's correlation with ``click`` turned to that, from 1 (identical) to -1 (opposed)."""
        match = re.fullmatch(r"rho(-?\d+(?:\.\d+)?)", word)
        if match is None:
            return None
        rho = float(match[1])
        if not -1 <= rho <= 1:
            raise UsageError(f"Profile '{word}' of '{self.name}': rho must lie in [-1, 1].")
        return dataclasses.replace(self, title=f"Synthetic, rho {rho:g}", rho=rho)

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np

        weights = self._weights()
        biases = self._biases(weights)
        for block in range(-(-self.rows // BLOCK)):
            stream = numpy_stream("synthetic", "rows", block)
            codes, numbers = self._draw(stream)
            luck = stream.random((len(TASKS), BLOCK))
            n = min(BLOCK, self.rows - block * BLOCK)
            chances = {task: _sigmoid(self._logit(weights[task], codes, numbers) + biases[task])[:n] for task in TASKS}
            features = {f"c{f}": codes[:n, f].astype(np.int64) for f in range(len(self.vocabulary))}
            yield Chunk(
                features=features | {f"n{j}": numbers[:n, j] for j in range(self.numerics)},
                labels={task: (luck[k, :n] < chances[task]).astype(np.uint8) for k, task in enumerate(TASKS)},
                truth=chances,
            )

    def _draw(self, stream: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        sizes = np.array(self.vocabulary)
        codes = np.minimum((stream.random((BLOCK, len(sizes))) * sizes).astype(np.int64), sizes - 1)
        return codes, stream.random((BLOCK, self.numerics))

    def _weights(self) -> dict[str, np.ndarray]:
        n = sum(self.vocabulary) + self.numerics
        own = {task: numpy_stream("synthetic", "weights", task).standard_normal(n) for task in TASKS}

        def mixed(rho: float, task: str) -> np.ndarray:
            return rho * own["click"] + max(0.0, 1 - rho * rho) ** 0.5 * own[task]

        return {"click": own["click"], "like": mixed(OLD_CORRELATION, "like"), "share": mixed(self.rho, "share")}

    def _logit(self, weights: np.ndarray, codes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        import numpy as np

        starts = np.concatenate([[0], np.cumsum(self.vocabulary)[:-1]]).astype(np.int64)
        total = np.zeros(len(codes))
        for feature, start in enumerate(starts):  # one by one: a fixed order of additions
            total += weights[start + codes[:, feature]]
        for column in range(self.numerics):
            total += weights[sum(self.vocabulary) + column] * 12**0.5 * (numbers[:, column] - 0.5)
        score = total / (len(self.vocabulary) + self.numerics) ** 0.5
        return (score + np.sin(2 * score + 1)) / self.noise

    def _biases(self, weights: dict[str, np.ndarray]) -> dict[str, float]:
        import numpy as np

        rows = [self._draw(numpy_stream("synthetic", "calibration", block)) for block in range(5)]
        biases = {}
        for task, rate in zip(TASKS, self.base_rates, strict=True):
            logits = np.concatenate([self._logit(weights[task], *drawn) for drawn in rows])
            low, high = -60.0, 60.0
            for _ in range(60):
                middle = (low + high) / 2
                low, high = (middle, high) if _sigmoid(logits + middle).mean() < rate else (low, middle)
            biases[task] = (low + high) / 2
        return biases


def synthetic(name: str = "synthetic_custom", relation: str | float = "related", **choices: object) -> Synthetic:
    """An unregistered dataset for `prepare`; ``relation`` is a name in RELATIONS or rho itself in [-1, 1].

    ``choices``: rows, vocabulary, numerics, base_rates (of click, like, share), noise.
    """
    rho = RELATIONS[relation] if isinstance(relation, str) else float(relation)
    probe = Synthetic(name, "", (), (), (), (), **choices)  # type: ignore[arg-type]  # fills in the defaults
    return dataclasses.replace(
        probe,
        title=f"Synthetic, new task {relation}" if isinstance(relation, str) else f"Synthetic, rho {rho:g}",
        tasks=tuple(Task(task, f"generated, base rate {r:g}") for task, r in zip(TASKS, probe.base_rates, strict=True)),
        old_tasks=TASKS[:2],
        new_tasks=TASKS[2:],
        features=(
            *(Feature(f"c{f}") for f in range(len(probe.vocabulary))),
            *(Feature(f"n{j}", "numeric") for j in range(probe.numerics)),
        ),
        licence="none needed (generated)",
        citation="this project, datasets_registry/synthetic.py",
        size=f"{probe.rows:,} rows, {len(probe.vocabulary)} categorical and {probe.numerics} numeric features",
        split="random",
        splits=("random",),
        stream="synthetic",
        rho=rho,
    )


def bayes_auc(probability: np.ndarray) -> float:
    """Expected AUC of the true probabilities [N] as scores, over the drawing of the rows' labels; in [0.5, 1]."""
    import numpy as np

    p = np.sort(np.asarray(probability, np.float64))
    negative = 1 - p
    below = np.concatenate([[0.0], np.cumsum(negative)])  # expected negatives among the i smallest
    first, last = np.searchsorted(p, p, "left"), np.searchsorted(p, p, "right")
    tied = below[last] - below[first] - negative  # without the row itself
    wins = (p * (below[first] + 0.5 * tied)).sum()
    pairs = p.sum() * negative.sum() - (p * negative).sum()
    return float(wins / pairs)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    import numpy as np

    return 1 / (1 + np.exp(-x))


register_dataset(synthetic("synthetic"))
for _relation in RELATIONS:
    register_dataset(synthetic(f"synthetic_{_relation}", _relation))
