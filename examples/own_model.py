"""A model of your own beside the suite's, from Python: run a small suite, hand in your test predictions.

    PYTHONPATH=. python examples/own_model.py        # or without PYTHONPATH after: pip install -e .

The own model is naive Bayes on the categorical inputs, in a dozen lines of pandas: it shows the way, not the state of
the art. Everything is generated data, so this ends within a minute; with `DATASET, SUITE = "census_income", "quick"`
the same lines work on real data.
"""

import numpy as np
import pandas as pd

import benchmark as mb

DATASET, SUITE = "synthetic", "smoke"


def naive_bayes(train: pd.DataFrame, labels: pd.Series, test: pd.DataFrame) -> np.ndarray:
    """Log-odds of the label for each test row: a sum over the categorical features, each smoothed by one count."""
    prior = labels.mean()
    base = np.log(prior / (1 - prior))
    logits = np.full(len(test), base)
    for name in train.columns[train.dtypes == np.int32]:
        counts = labels.groupby(train[name]).agg(["sum", "count"])
        rates = (counts["sum"] + prior) / (counts["count"] + 1)
        logits += np.log(rates / (1 - rates)).reindex(test[name]).fillna(base).to_numpy() - base
    return logits


def main(out: str = "results/example") -> pd.DataFrame:
    print(mb.plan(SUITE, datasets=DATASET, methods=["shared_bottom"], seeds=2).skips)
    tree = mb.run(SUITE, datasets=DATASET, methods=["shared_bottom"], arms=["joint", "frozen"], seeds=2, out=out)

    runs = mb.load(tree)
    print(runs.groupby(["method", "arm", "task"])["auc"].agg(["mean", "count"]))

    inputs, labels = mb.rows(DATASET, "train")
    test, _ = mb.rows(DATASET, "test")
    task = runs.loc[runs.role == "new", "task"].iloc[0]
    compared = mb.compare_predictions({task: naive_bayes(inputs, labels[task], test)}, tree, name="naive Bayes")
    print(compared.round(4).to_string(index=False))
    return compared


if __name__ == "__main__":
    main()
