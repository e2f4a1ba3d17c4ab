"""Tracks: where the values come from that a suite's methods are run with, and that all of them had equal chances."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.core.errors import UsageError
from benchmark.planning.suite import Suite
from benchmark.records.record import Key
from benchmark.spec.arms import ARMS
from methods import METHODS

FEW = 4
"""Cells that a message names."""


def to_search(suite: Suite) -> bool:
    """Whether a suite's values are to be searched before it is run."""
    return suite.track == "equal" and not suite.search


def untuned(suite: Suite) -> Suite:
    """The suite with the configs that its methods have without a search: as many runs, planned beforehand."""
    return suite.model_copy(update={"track": "published"})


def check_track(suite: Suite, keys: Sequence[Key]) -> None:
    """A tuned suite's methods, the single-task reference among them, have all been searched with equal trials: a gain
    over a reference or a rival that had none would be no gain. Raises UsageError."""
    if suite.track == "equal":
        return _check_passes(suite, keys)
    if suite.track != "tuned":
        return
    place = suite.config_file or f"suite {suite.name}"
    planned = dict.fromkeys((key.dataset, key.method) for key in keys)
    spent = {(dataset, method): suite.searched(dataset, method) for dataset, method in planned}
    if missing := [pair for pair, searched in spent.items() if searched is None]:
        dataset = missing[0][0]
        methods = ",".join(method for where, method in missing if where == dataset)
        raise UsageError(
            f'{place}: the track is "tuned", and no config was searched for {methods} on {dataset}. Next: python '
            f"run_all.py tune --suite {suite.name} --datasets {dataset} --methods {methods} --out DIR, with the DIR of "
            "that file."
        )
    trials = {pair: searched.trials for pair, searched in spent.items() if searched is not None}
    if len(set(trials.values())) > 1:
        said = ", ".join(f"{method} on {dataset} {number}" for (dataset, method), number in trials.items())
        raise UsageError(
            f'{place}: the track "tuned" compares equal trials, and there were: {said}. The same search with --trials '
            f"{max(trials.values())} goes on with those that had fewer."
        )


def _check_passes(suite: Suite, keys: Sequence[Key]) -> None:
    """Every method and arm of the track "equal" was searched with the same passes over the rows. Raises UsageError."""
    lacking = [key for key in keys if not (fits_itself(key.method) or key.search_passes)]
    if lacking:
        cells = list(dict.fromkeys(f"{key.dataset}/{key.method}/{key.arm}" for key in lacking))
        more = f" and {len(cells) - FEW} more" if len(cells) > FEW else ""
        raise UsageError(
            f'suite {suite.name}: the track is "equal", and nothing was searched for {", ".join(cells[:FEW])}'
            f"{more}. Next: python run_all.py --suite {suite.name}, which makes the search first."
        )
    spent = {key.search_passes for key in keys if not fits_itself(key.method)}
    if len(spent) > 1:
        said = ", ".join(f"{passes:g}" for passes in sorted(spent))
        raise UsageError(
            f'suite {suite.name}: the track "equal" compares equal searches, and there were some of {said} passes.'
        )


def fits_itself(method: str) -> bool:
    """Whether a method chooses its own settings on validation rows while it fits, so that no search serves it."""
    return METHODS.get(method).fit is not None


def passes(suite: Suite, dataset: str, method: str, arm: str) -> float:
    """Passes that the search of a run's config took; stage 0 and joint training share theirs, and what fits itself has
    none."""
    own = arm if ARMS[arm].reads_stage0 else ""
    searched = suite.searched(dataset, method, own) if suite.track == "equal" else None
    return (searched.passes or 0.0) if searched is not None else 0.0
