"""What a test decided, as values; `benchmark.report.verdicts` puts them into words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto


class Outcome(Enum):
    """What is said of a difference. Of an old task's score: degraded, improved, unchanged; of two rows: worse, better,
    identical."""

    DEGRADED = auto()
    WORSE = auto()
    UNSTABLE = auto()
    UNDECIDED = auto()
    TOO_FEW_POSITIVES = auto()
    ONE_SEED = auto()
    NO_RUNS = auto()
    NOT_BETTER = auto()
    NOT_WORSE = auto()
    BETTER = auto()
    IDENTICAL = auto()
    IMPROVED = auto()
    NO_DEGRADATION = auto()
    EQUIVALENT = auto()
    UNCHANGED = auto()


NOT_DEGRADED = (Outcome.UNCHANGED, Outcome.EQUIVALENT, Outcome.NO_DEGRADATION, Outcome.IMPROVED)
"""Shown not to cost an old task more than the margin; from the clearest to the one that says least."""


@dataclass(frozen=True)
class Verdict:
    """``worse`` of ``seeds`` seeds were worse, where seeds are counted because no test can speak for others.

    ``within_margin``: a difference that is shown, and shown to be no more than the margin. ``seeds_only``: test rows
    are unknown. ``positives``: how many the task's test rows have, where they are too few.
    """

    outcome: Outcome
    within_margin: bool = False
    seeds_only: bool = False
    worse: int | None = None
    seeds: int | None = None
    positives: int | None = None

    @property
    def worse_on_every_seed(self) -> bool:
        return self.worse is not None and self.worse == self.seeds

    @property
    def not_degraded(self) -> bool:
        return self.outcome in NOT_DEGRADED


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Of several old tasks: degraded, then worse on counted seeds, then undecided or untested, then the others."""

    def rank(verdict: Verdict) -> tuple[bool, bool, bool, int]:
        last = NOT_DEGRADED.index(verdict.outcome) if verdict.not_degraded else -1
        return verdict.outcome is not Outcome.DEGRADED, verdict.worse is None, verdict.not_degraded, -last

    return min(verdicts, key=rank, default=Verdict(Outcome.NO_RUNS))
