"""Scarce labels: a share of the new tasks' training labels, as a word in a dataset's name."""

from __future__ import annotations

import re

LEAST_EPOCH = 0.2
"""An epoch on scarce labels alone repeats the labelled rows until it has this share of all rows. Without that a
budget in epochs would mean a handful of steps; with much more the first epoch would overfit before it is looked at."""

WORD = re.compile(r"new(\d+(?:\.\d+)?)pct")


def with_share(dataset: str, percent: float) -> str:
    """``census_income`` with 5 as ``census_income@new5pct``; 100 per cent is the dataset itself."""
    if percent == 100:
        return dataset
    return f"{dataset}{'+' if '@' in dataset else '@'}new{percent:g}pct"


def without_share(dataset: str) -> tuple[str, float | None]:
    """``census_income@new5pct`` as ("census_income", 0.05); None where the name holds no share."""
    base, _, words = dataset.partition("@")
    kept, share = [], None
    for word in filter(None, words.split("+")):
        found = WORD.fullmatch(word)
        share = float(found[1]) / 100 if found else share
        kept += [] if found else [word]
    return "@".join([base, *(["+".join(kept)] if kept else [])]), share
