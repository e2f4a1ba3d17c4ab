"""What verdicts are called in tables, figures and on the page: the one place that words them."""

from __future__ import annotations

from benchmark.analysis.verdicts import Outcome, Verdict

WORDS = {
    Outcome.DEGRADED: "degraded",
    Outcome.IMPROVED: "improved",
    Outcome.UNCHANGED: "unchanged",
    Outcome.WORSE: "worse",
    Outcome.BETTER: "better",
    Outcome.IDENTICAL: "identical",
    Outcome.EQUIVALENT: "equivalent",
    Outcome.NO_DEGRADATION: "no harm",
    Outcome.NOT_WORSE: "not worse",
    Outcome.NOT_BETTER: "not better",
    Outcome.UNDECIDED: "undecided",
    Outcome.TOO_FEW_POSITIVES: "cannot be shown with {positives:,} positives",
    Outcome.UNSTABLE: "unstable",
    Outcome.ONE_SEED: "one seed",
    Outcome.NO_RUNS: "no runs",
}

VERDICTS = (
    "verdict: by the adjusted interval alone. unchanged / identical: the same number on every seed, a fact; degraded / "
    "improved, worse / better: the interval leaves 0 out (within the margin: and shows that it is no more than that); "
    "equivalent, no harm / not worse: its bound on the side of harm is below the margin (not better: that of gain); "
    "otherwise undecided, or cannot be shown with so many positives: the test rows alone leave more than the margin. "
    "undecided: worse on n of n seeds: each of these runs is worse by more than the margin and than its test rows "
    "explain, but they differ too much to say so of further seeds. unstable: no test, see †."
)


def words(verdict: Verdict) -> str:
    counted = f": {_counted(verdict)}" if verdict.worse is not None else ""
    return _outcome(verdict) + counted + " (seeds only)" * verdict.seeds_only


def few_words(verdict: Verdict) -> str:
    """For a narrow column: the seeds that were counted, or else what was shown."""
    return _counted(verdict) if verdict.worse is not None else _outcome(verdict)


def _outcome(verdict: Verdict) -> str:
    return WORDS[verdict.outcome].format(positives=verdict.positives) + ", within the margin" * verdict.within_margin


def _counted(verdict: Verdict) -> str:
    return f"worse on {verdict.worse} of {verdict.seeds} seeds"
