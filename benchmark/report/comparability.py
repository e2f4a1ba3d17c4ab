"""Why two sets of records do not compare: the first condition that differs, and what would make it the same."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence

from benchmark.analysis.groups import Group
from benchmark.records.agreement import compare, seeds_of


def why_not(group: Group, known: Sequence[Group]) -> str | None:
    """The first condition in which ``group`` differs from the nearest of the ``known`` groups of its dataset, with the
    way to mend it; None where one of them compares. Conditions are asked in the order dataset, split, old tasks, new
    tasks, budget, selection rule, track, data."""
    near = [other for other in known if other.dataset == group.dataset]
    if not near:
        names = sorted({other.dataset for other in known})
        have = f" The reference has {', '.join(names)}." if names else ""
        return f"no reference records of this dataset.{have} {_at_other_data(group, names)}".rstrip()
    found = [_first_difference(group, other) for other in near]
    if None in found:
        return None
    return max((difference for difference in found if difference), key=lambda difference: difference[0])[1]


def agreement(group: Group, other: Group) -> str:
    """Where every row of ``group`` is one of the other's: how far the runs of the same names agree."""
    theirs = {record.run_id: record for record in other.records if record.status == "ok"}
    pairs = [(r, theirs[r.run_id]) for r in group.records if r.status == "ok" and r.run_id in theirs]
    if not pairs:
        return "no row that the reference records do not have, and no run of the same name to check them by"
    found = Counter(compare(there, here, seeds_of(there, other.records)).state for here, there in pairs)
    largest = max(
        (
            abs(value - expected)
            for here, there in pairs
            for task in here.scores.keys() & there.scores.keys()
            if (value := here.scores[task].metrics.get("auc")) is not None
            and (expected := there.scores[task].metrics.get("auc")) is not None
        ),
        default=0.0,
    )
    return (
        f"no row that the reference records do not have; of {len(pairs)} runs of the same name {found['equal']} are "
        f"equal bit for bit, {found['within tolerance']} within what 'verify' allows another kind of machine, "
        f"{found['different']} differ; largest difference of an AUC {largest:.1e}"
    )


def fingerprints(group: Group) -> set[str]:
    """Of the data behind a group's records."""
    return {record.provenance.data_fingerprint for record in group.records if record.provenance}


def _first_difference(mine: Group, theirs: Group) -> tuple[int, str] | None:
    """How many conditions agree before it, and the sentence."""
    conditions = (
        ("split", mine.split, theirs.split, "Both have to use the dataset's same split; run yours again with it."),
        (
            "old tasks", ", ".join(mine.old_tasks), ", ".join(theirs.old_tasks),
            f"Run yours with --new-task {shlex.quote(','.join(theirs.new_tasks))}.",
        ),
        (
            "new tasks", ", ".join(mine.new_tasks), ", ".join(theirs.new_tasks),
            f"Run yours with --new-task {shlex.quote(','.join(theirs.new_tasks))}.",
        ),
    )  # fmt: skip
    for place, (name, here, there, remedy) in enumerate(conditions):
        if here != there:
            return place, _sentence(name, here, there, remedy)
    if mine.budget != theirs.budget:
        return 3, _budget(mine, theirs)
    if mine.selection != theirs.selection:
        return 4, _sentence("selection rule", mine.selection, theirs.selection, "Run yours with the present program.")
    if mine.track != theirs.track:
        remedy = (
            "Configs as published and configs that were searched for are never mixed: run yours in the other track."
        )
        return 5, _sentence("track", mine.track, theirs.track, remedy)
    our_data, their_data = fingerprints(mine), fingerprints(theirs)
    if our_data and their_data and our_data != their_data:
        remedy = (
            "The encoded data is not the same (another copy of the raw files, or another version of the program): "
            f"'python run_all.py validate {mine.dataset}' checks your files, --mode rerun-stale runs yours again."
        )
        here, there = (" and ".join(sorted(f[:8] for f in found)) for found in (our_data, their_data))
        return 6, _sentence("data", here, there, remedy)
    return None


def _budget(mine: Group, theirs: Group) -> str:
    here, there = json.loads(mine.budget), json.loads(theirs.budget)
    names = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    settings = " ".join(f"--set budget.{name}={there[name]}" for name in names if name in there)
    extra = [name for name in names if name not in there]
    remedy = f"Run yours with {settings}" if settings else "Run yours"
    remedy += f", without a value for budget.{', budget.'.join(extra)}." if extra else "."
    first = names[0]
    return _sentence(f"budget ({first})", here.get(first, "none"), there.get(first, "none"), remedy)


def _sentence(name: str, here: object, there: object, remedy: str) -> str:
    return f"the reference records differ in {name}: {here} in yours, {there} there. {remedy}"


def _at_other_data(group: Group, names: Sequence[str]) -> str:
    if not names:
        return ""
    base = group.dataset.partition("@")[0]
    same = [name for name in names if name.partition("@")[0] == base]
    return f"Run yours on {(same or list(names))[0]} (--datasets {(same or list(names))[0]})."
