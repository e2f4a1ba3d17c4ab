"""Short names of groups, for files and for random streams."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

from benchmark.analysis.groups import Group
from benchmark.core.canonical import canonical


def slugs(groups: Sequence[Group]) -> list[str]:
    """A short name for each group's files: the dataset; where it has several groups, with the new tasks; where that
    does not tell them apart, with a hash of the rest instead."""
    names = [_word(group.dataset) or "dataset" for group in groups]
    counts = Counter(names)
    longer = [
        f"{name}-{_word('_'.join(group.new_tasks)) or 'alone'}" for name, group in zip(names, groups, strict=True)
    ]
    unique = Counter([*names, *longer])
    return [
        name if counts[name] == 1 else long if unique[long] == 1 else f"{name}-{_identity(group)}"
        for name, long, group in zip(names, longer, groups, strict=True)
    ]


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_")


def _identity(group: Group) -> str:
    return blake2b(canonical(group.identity).encode(), digest_size=3).hexdigest()
