"""Named, deterministic subsets: the words after ``@`` in a dataset's name, joined by ``+``.

=================  ===================================================================================================
word               keeps
=================  ===================================================================================================
``5pct``           that share of the rows of every split, drawn row by row (the sample of 1 % lies inside that of 5 %)
``users2pct``      all rows of that share of the users
``first10m``       the first N training rows in file order, N/10 validation rows and N test rows (k = 1e3, m = 1e6);
                   where a split needs no more (Ali-CCP, AliExpress), what comes after them is not read
``from20220501``   rows of that day and later (datasets with a day); ``to20220504`` rows of that day and earlier
``new5pct``        that share of the new tasks' training labels; the others are hidden, rows stay
``split1``         another split of the same rule, 1 to 5: another draw, or cuts at other dates
``deduplicated``   no validation or test row whose inputs are those of a training row (counted in the warnings)
``quantile``       numeric inputs as quantiles instead of min-max scaling; ``piecewise``: as piecewise-linear pieces
                   (`datasets_registry.encoding.numbers`)
``random``, ...    another split rule of the dataset, or one of its variants (``no_weight``)
=================  ===================================================================================================
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from benchmark.core.errors import UsageError, unknown_name
from datasets_registry.base import Dataset

FIXED = ("official", "aitm")  # split rules that leave nothing to draw


@dataclasses.dataclass(frozen=True)
class Profile:
    """What a name's words ask for. Shares are fractions in (0, 1]; days are YYYYMMDD."""

    share: float = 1.0
    users: float = 1.0
    first: int | None = None
    since: int | None = None
    until: int | None = None
    new_labels: float = 1.0
    draw: int = 0
    deduplicated: bool = False

    @property
    def subset(self) -> bool:
        """Whether rows are left out."""
        shares = (self.share, self.users, self.first, self.since, self.until, self.deduplicated)
        return shares != (1.0, 1.0, None, None, None, False)


_WORDS = (
    (re.compile(r"(\d+(?:\.\d+)?)pct"), "share"),
    (re.compile(r"users(\d+(?:\.\d+)?)pct"), "users"),
    (re.compile(r"new(\d+(?:\.\d+)?)pct"), "new_labels"),
    (re.compile(r"first(\d+)([km]?)"), "first"),
    (re.compile(r"from(\d{8})"), "since"),
    (re.compile(r"to(\d{8})"), "until"),
    (re.compile(r"split([1-5])"), "draw"),
    (re.compile(r"(deduplicated)"), "deduplicated"),
)


def apply(dataset: Dataset, words: str) -> tuple[Dataset, Profile]:
    """The dataset that ``name@words`` means: variants and split applied, name set; and the rows it keeps.

    Raises UsageError for a word that means nothing here, naming those that do.
    """
    base, profile = dataset, Profile()
    for word in words.split("+"):
        changed = dataset.vary(word)
        if changed is not None:
            dataset = changed
        elif word in ("quantile", "piecewise"):
            dataset = _scaled(dataset, word)
        elif word in base.splits:
            dataset = dataclasses.replace(dataset, split=word)
        else:
            profile = dataclasses.replace(profile, **_parse(base, word))
    if profile.draw and dataset.split in FIXED:
        raise UsageError(
            f"'{base.name}' has one '{dataset.split}' split and no other draw of it; leave out 'split{profile.draw}'."
        )
    return dataclasses.replace(dataset, name=f"{base.name}@{words}"), profile


def _scaled(dataset: Dataset, scale: str) -> Dataset:
    """The dataset with every numeric input encoded in one way. Raises UsageError if it has none."""
    features = tuple(
        dataclasses.replace(feature, scale=scale) if feature.kind == "numeric" else feature
        for feature in dataset.features
    )
    if features == dataset.features:
        raise UsageError(f"'{dataset.name}' has no numeric input, so @{scale} would change nothing.")
    return dataclasses.replace(dataset, features=features)


def _parse(dataset: Dataset, word: str) -> dict[str, Any]:
    for pattern, field in _WORDS:
        match = pattern.fullmatch(word)
        if match is None:
            continue
        if field == "first":
            return {field: int(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2]]}
        if field == "deduplicated":
            return {field: True}
        if field in ("since", "until", "draw"):
            return {field: int(match[1])}
        share = float(match[1]) / 100
        if not 0 < share <= 1:
            raise UsageError(f"Profile '{word}' of '{dataset.name}': the share must lie in (0, 100] percent.")
        return {field: share}
    known = [*dataset.variants, *dataset.splits]
    raise unknown_name(
        f"profile of '{dataset.name}'",
        word,
        known,
        "Any dataset also takes e.g. 5pct, first10k, new5pct, joined by '+'.",
    )
