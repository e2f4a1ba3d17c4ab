"""How hard a dataset's problems are, and what differences its test rows can show. Plain models, no network.

Trees and a logistic regression are fitted to at most ``FITTED`` training rows and scored on at most ``SCORED``
*validation* rows, so that nobody chooses a problem by its test rows; of those only the number of positives counts.
Categorical inputs become the mean label of their value, out of fold on the training rows, beside its frequency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datasets_registry.encoding.store import EncodedDataset

FITTED, SCORED = 100_000, 50_000
INTEREST = 0.005  # of an AUC: the difference between two methods that one would act on
DETECTED = 2.8  # standard errors that a difference needs to be seen at 5 % in four tests of five
FEW = 20  # rows of the smaller class below which nothing is said
USERS = ("user_id", "user", "household_id", "uid")
ITEMS = ("item_id", "item", "video_id", "anime_id", "game_id", "product_id")
VALUES = 3  # of a multi-valued input that are looked at


@dataclass(frozen=True)
class Problem:
    """One task. AUCs are of validation rows; ``error`` is the AUC's standard error on the test rows, ``shown`` the
    smallest difference between two like models that they show."""

    task: str
    positives: Mapping[str, int]
    logistic: float
    trees: float
    single: float
    error: float
    shown: float

    @property
    def headroom(self) -> float:
        """What the trees gain over the best single input."""
        return self.trees - self.single


@dataclass(frozen=True)
class Difficulty:
    """All of a dataset's problems. ``cold``: by split, the share of rows whose user or item has no code of its own."""

    problems: tuple[Problem, ...]
    left_out: tuple[str, ...]
    sizes: Mapping[str, int]
    cold: Mapping[str, Mapping[str, float]]
    correlations: Mapping[tuple[str, str], float]
    rows: Mapping[str, int]

    def markdown(self, interest: float = INTEREST) -> str:
        """A section of a card."""
        lines = ["## Difficulty", ""]
        lines.append(
            f"Models fitted to {self.rows['train']:,} training rows and scored on {self.rows['valid']:,} validation "
            "rows; standard errors are those of the test rows. `shows from` is the smallest difference of AUC that the "
            f"test rows show between two models of one kind ({DETECTED:g} standard errors); models of different kinds "
            f"need more. Where it is above the difference of interest, {interest:g}, the problem cannot decide."
        )
        if self.sizes:
            lines += ["", f"In training: {', '.join(f'{size:,} {what}' for what, size in self.sizes.items())}."]
        lines += [
            "",
            "| task | positives train / valid / test | best input | logistic regression | trees | headroom | standard "
            "error | shows from | |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for p in self.problems:
            verdict = "cannot decide" if p.shown > interest else "may decide"
            counts = " / ".join(f"{p.positives[name]:,}" for name in ("train", "valid", "test"))
            lines.append(
                f"| `{p.task}` | {counts} | {p.single:.3f} | {p.logistic:.3f} | {p.trees:.3f} | {p.headroom:+.3f} | "
                f"{p.error:.4f} | {p.shown:.4f} | {verdict} |"
            )
        if self.left_out:
            lines += ["", f"Too few rows of one class to say anything: {', '.join(self.left_out)}."]
        for what, shares in self.cold.items():
            text = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
            lines += ["", f"Rows whose {what} has no training row, or too few for a code of its own: {text}."]
        if self.correlations:
            text = ", ".join(f"{a} and {b} {value:+.2f}" for (a, b), value in self.correlations.items())
            lines += ["", f"Correlation of the labels in training: {text}."]
        return "\n".join([*lines, ""])


def measure(data: EncodedDataset, fitted: int = FITTED, scored: int = SCORED) -> Difficulty:
    """The difficulty of all binary tasks of encoded data."""
    rng = np.random.default_rng(0)
    picked = {
        name: np.sort(rng.choice(data.rows(name), min(most, data.rows(name)), replace=False))
        for name, most in (("train", fitted), ("valid", scored))
    }
    binary = [task.name for task in data.tasks.values() if task.kind == "binary"]
    problems, left_out = [], []
    for task in binary:
        problem = _problem(data, task, picked)
        if problem is None:
            left_out.append(task)
        else:
            problems.append(problem)
    labels = {task: data.labels("train", task) for task in binary}
    correlations = {}
    for a, b in combinations(binary, 2):
        both = ~np.isnan(labels[a]) & ~np.isnan(labels[b])
        if both.any() and labels[a][both].std() and labels[b][both].std():
            correlations[a, b] = float(np.corrcoef(labels[a][both], labels[b][both])[0, 1])
    sizes, cold = _entities(data)
    return Difficulty(
        tuple(problems), tuple(left_out), sizes, cold, correlations, {name: len(rows) for name, rows in picked.items()}
    )


def _entities(data: EncodedDataset) -> tuple[dict[str, int], dict[str, dict[str, float]]]:
    """Values of users and items in training, and the share of rows whose own code is missing or that of rare ones."""
    sizes, cold = {}, {}
    schema = data.schema(())
    for what, names in (("user", USERS), ("item", ITEMS)):
        column, feature = next(
            ((c, f) for c, f in zip(_starts(schema), schema.categorical, strict=True) if f.name in names), (0, None)
        )
        if feature is None:
            continue
        sizes[f"{what}s with a code"] = feature.size - feature.reserved
        offset = schema.offsets[schema.categorical.index(feature)]
        cold[what] = {
            name: float((data.split(name, schema).categorical()[:, column] - offset < feature.reserved).mean())
            for name in ("valid", "test")
        }
    return sizes, cold


def _starts(schema: Any) -> list[int]:
    """First column of each categorical feature."""
    lengths = [feature.length for feature in schema.categorical]
    return [sum(lengths[:index]) for index in range(len(lengths))]


def _problem(data: EncodedDataset, task: str, picked: Mapping[str, np.ndarray]) -> Problem | None:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = {name: data.labels(name, task)[rows] for name, rows in picked.items()}
    defined = {name: ~np.isnan(values) for name, values in labels.items()}
    y = {name: labels[name][defined[name]].astype(int) for name in labels}
    test = data.labels("test", task)
    counts = (int((test == 1).sum()), int((test == 0).sum()))
    if min(*counts, *(int((values == c).sum()) for values in y.values() for c in (0, 1))) < FEW:
        return None
    columns = {name: _columns(data, name, task, rows)[defined[name]] for name, rows in picked.items()}
    x, x_valid = _encoded(columns["train"], columns["valid"], y["train"], data, task)
    boosted = [
        HistGradientBoostingClassifier(
            max_iter=100, learning_rate=0.1, early_stopping=False, max_features=0.5, random_state=seed
        )
        .fit(x, y["train"])
        .decision_function(x_valid)
        for seed in (0, 1)
    ]
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(x, y["train"])
    score, error = auc_with_error(boosted[0], y["valid"], counts)
    _, between = auc_with_error(boosted[0], y["valid"], counts, boosted[1])
    singles = [auc_with_error(column, y["valid"], counts)[0] for column in x_valid.T]
    tallies = data.meta["base_rates"][task]
    return Problem(
        task,
        {name: tallies[name]["positives"] for name in ("train", "valid", "test")},
        auc_with_error(linear.decision_function(x_valid), y["valid"], counts)[0],
        score,
        max(max(value, 1 - value) for value in singles),
        error,
        DETECTED * between,
    )


def _columns(data: EncodedDataset, name: str, task: str, rows: np.ndarray) -> np.ndarray:
    """float64 [n, columns]: codes of the inputs, the first values of multi-valued ones, then the numbers."""
    schema = data.schema({*data.old_tasks, *data.new_tasks, task})
    split = data.split(name, schema)
    kept = [
        start + place
        for start, feature in zip(_starts(schema), schema.categorical, strict=True)
        for place in range(min(feature.length, VALUES))
    ]
    codes = split.categorical()[rows][:, kept].astype(np.float64)
    return np.hstack([codes, split.numeric()[rows]]) if schema.numeric else codes


def _encoded(
    train: np.ndarray, valid: np.ndarray, y: np.ndarray, data: EncodedDataset, task: str
) -> tuple[np.ndarray, np.ndarray]:
    """Mean labels and frequencies in place of codes; the training rows' means come from the other folds."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.preprocessing import TargetEncoder

    categories = train.shape[1] - len(data.schema({*data.old_tasks, *data.new_tasks, task}).numeric)
    if not categories:
        return train, valid
    encoder = TargetEncoder(target_type="binary", cv=StratifiedKFold(5, shuffle=True, random_state=0))
    means = encoder.fit_transform(train[:, :categories], y), encoder.transform(valid[:, :categories])
    frequencies: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for column in range(categories):
        values, tallies = np.unique(train[:, column], return_counts=True)
        for out, part in zip(frequencies, (train, valid), strict=True):
            index = np.minimum(np.searchsorted(values, part[:, column]), len(values) - 1)
            out.append(np.log1p(np.where(values[index] == part[:, column], tallies[index], 0)))
    parts = zip(means, frequencies, (train, valid), strict=True)
    encoded = [np.hstack([mean, np.column_stack(often), part[:, categories:]]) for mean, often, part in parts]
    return encoded[0], encoded[1]


def auc_with_error(
    score: np.ndarray, label: np.ndarray, rows: tuple[int, int], other: np.ndarray | None = None
) -> tuple[float, float]:
    """AUC of scores [N] for labels 0/1 [N] and its standard error on so many (positive, negative) rows; with ``other``
    scores, the difference of the two AUCs and that one's error (DeLong, DeLong and Clarke-Pearson, Biometrics 1988)."""
    positive, negative = _placements(score, label)
    if other is not None:
        theirs = _placements(other, label)
        positive, negative = positive - theirs[0], negative - theirs[1]
    error = np.sqrt(positive.var(ddof=1) / rows[0] + negative.var(ddof=1) / rows[1])
    return float(positive.mean()), float(error)


def _placements(score: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative that of positives above it; ties half."""
    positive, negative = score[label == 1], score[label == 0]
    up, down = np.sort(positive), np.sort(negative)
    below = (np.searchsorted(down, positive, "left") + np.searchsorted(down, positive, "right")) / (2 * len(down))
    above = 1 - (np.searchsorted(up, negative, "left") + np.searchsorted(up, negative, "right")) / (2 * len(up))
    return below, above
