"""From records to an answer: which way to take in a new task, with its evidence, or why none can be recommended.

The way is chosen on validation rows alone. What is said of it is measured on test rows: its gain over a model of the
new task's own, its cost to the old tasks as a one-sided upper bound (Bonferroni over the ways that were in
question), and joint retraining beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.analysis import stats, transfer
from benchmark.analysis.groups import JOINT, SCRATCH, STAGE0, Group, Sample, Variant
from benchmark.analysis.measures import degradation, new_task_gain, seconds, trained
from benchmark.report.measures import arm_title

LEAST_SEEDS = 3
POWER_SEEDS = 200


@dataclass(frozen=True)
class Evidence:
    """What is known of one way. ``harm``: upper bound of the worst old task's loss, None below two seeds; ``weights``
    trained; ``extra_flops``: what serving a row costs beyond the model before the new task, in percent."""

    name: str
    variant: Variant
    arm: str
    validation: float
    seeds: int
    gain: stats.Interval | None
    harm: float | None
    unchanged: bool
    weights: float | None
    seconds: float | None
    extra_flops: float | None


@dataclass(frozen=True)
class Answer:
    """``sentence`` first, then ``reasons``; ``chosen`` is None where nothing is recommended; ``ways`` best first."""

    sentence: str
    reasons: tuple[str, ...]
    chosen: Evidence | None
    ways: tuple[Evidence, ...]

    def paragraphs(self) -> tuple[str, ...]:
        """The sentence and its reasons."""
        return self.sentence, *self.reasons

    def rows(self) -> list[dict[str, str]]:
        """What is known of each way, by what is to stand above it."""
        return [_row(way) for way in self.ways]

    def text(self) -> str:
        """As a page of Markdown, paragraph by paragraph."""
        found = self.rows()
        table = [list(found[0]), ["---", *["---:"] * (len(found[0]) - 1)]] if found else []
        table += [list(row.values()) for row in found]
        lines = ["| " + " | ".join(cells) + " |" for cells in table]
        return "\n\n".join([f"# {self.sentence}", *self.reasons, *(["\n".join(lines)] if lines else [])]) + "\n"


def _row(way: Evidence) -> dict[str, str]:
    harm = "nothing (bit-equal)" if way.unchanged else "unknown" if way.harm is None else f"{way.harm:.4f}"
    return {
        "way": way.name,
        "seeds": str(way.seeds),
        "validation": f"{way.validation:.4f}",
        "gain of the new task": _gain(way.gain),
        "old tasks lose at most": harm,
        "weights trained": "-" if way.weights is None else f"{way.weights:,.0f}",
        "seconds": "-" if way.seconds is None else f"{way.seconds:.1f}",
        "serving": "-" if way.extra_flops is None else f"{way.extra_flops:+.1f} %",
    }


def answer(group: Group, task: str, validation: Mapping[tuple[str, str], Sequence[float]]) -> Answer:
    """The answer that the group's records support. ``validation``: scores of ``task`` by (method, arm)."""
    ways = _evidence(group, task, validation)
    if not ways:
        return Answer("No recommendation: no way to take in the new task has ended yet.", (_more(),), None, ())
    best = max(way.seeds for way in ways)
    if best < LEAST_SEEDS:
        reason = (
            f"The longest row has {best} seed{'s' if best > 1 else ''}; below {LEAST_SEEDS} a difference says no more "
            f"than chance. On validation rows {ways[0].name} leads so far."
        )
        return Answer("No recommendation yet: too few seeds.", (reason, _more()), None, tuple(ways))
    candidates = [way for way in ways if way.seeds >= LEAST_SEEDS]
    margin = group.strictest_margin
    harmless = [way for way in candidates if way.unchanged or (way.harm is not None and way.harm <= margin)]
    if not harmless:
        reason = (
            f"No way with {LEAST_SEEDS} seeds or more is shown to cost the old tasks less than {margin:g}. "
            f"{candidates[0].name} leads on validation rows and may cost them {candidates[0].harm or math.nan:.4f}."
        )
        sentence = "No recommendation: harm to the old tasks is not ruled out."
        return Answer(sentence, (reason, _more()), None, tuple(ways))
    return _judged(group, task, harmless[0], ways)


def _judged(group: Group, task: str, way: Evidence, ways: Sequence[Evidence]) -> Answer:
    assert way.gain is not None and way.gain.half_width is not None
    margin = group.strictest_margin
    low, high = way.gain.mean - way.gain.half_width, way.gain.mean + way.gain.half_width
    gain = _gain(way.gain)
    reasons = (_cost(way, margin), *_joint(group, task, way), _change(group, task, way))
    if low > 0:
        sentence = f"Take {task} in with {way.name}: it gains {gain} over a model of its own."
        return Answer(sentence, reasons, way, tuple(ways))
    if low > -margin:
        sentence = f"Take {task} in with {way.name}: as good as a model of its own within {margin:g} ({gain})."
        return Answer(sentence, reasons, way, tuple(ways))
    if high < 0:
        sentence = f"No recommendation: a model of {task} alone beats {way.name}, the best harmless way ({gain})."
        return Answer(sentence, reasons, None, tuple(ways))
    sentence = f"No recommendation: whether {way.name} beats a model of {task} alone is not shown ({gain})."
    return Answer(sentence, reasons, None, tuple(ways))


def _cost(way: Evidence, margin: float) -> str:
    harm = (
        "It leaves the old tasks' predictions bit-equal"
        if way.unchanged
        else f"The old tasks lose at most {way.harm:.4f} (one-sided 95 % bound, margin {margin:g})"
    )
    parts = [harm]
    if way.weights is not None:
        parts.append(f"trains {way.weights:,.0f} weights")
    if way.seconds is not None:
        parts.append(f"takes {way.seconds:.1f} s on this machine beyond the model that is there")
    if way.extra_flops is not None:
        parts.append(f"makes serving a row {way.extra_flops:+.1f} % dearer in operations")
    return ", ".join(parts) + "."


def _joint(group: Group, task: str, way: Evidence) -> list[str]:
    """What joint retraining of the same method would add."""
    if way.arm == JOINT:
        return []
    more = group.score(way.variant, JOINT, task).combine(group.score(way.variant, way.arm, task), lambda a, b: a - b)
    found = more.interval()
    if found is None or found.half_width is None:
        return ["What joint retraining of the same method would add was not measured with two seeds or more."]
    loss = degradation(group, way.variant, JOINT, transfer.worst_degradation).interval()
    old = f" and cost the worst old task {_gain(loss)}" if loss else ""
    return [f"Retraining everything jointly would add {_gain(found)} to {task}{old}."]


def _change(group: Group, task: str, way: Evidence) -> str:
    """What would change the answer: seeds that would part the gain from 0, or labels."""
    sample = list(new_task_gain(group, way.variant, way.arm, task).values.values())
    positives = {s.positives for r in group.records if (s := r.scores.get(task)) and s.positives is not None}
    errors = [s.auc_standard_error for r in group.records if (s := r.scores.get(task)) and s.auc_standard_error]
    labels = ""
    if positives and errors:
        labels = (
            f" The test rows have {max(positives):,} positives, which alone leave a standard error of "
            f"{stats.mean(errors):.4f} in the score: more labels would narrow what seeds cannot."
        )
    needed = seeds_needed(sample)
    if needed is None:
        return f"More seeds would hardly part a gain of this size from nothing.{labels}"
    if needed <= len(sample):
        return f"{len(sample)} seeds were enough to part it from nothing.{labels}"
    return f"About {needed} seeds ({len(sample)} so far) would part a gain of this size from nothing.{labels}"


def seeds_needed(values: Sequence[float]) -> int | None:
    """How many seeds a 95 % Student-t interval needs to leave out 0, if mean and deviation stay; None above
    `POWER_SEEDS`."""
    if len(values) < 2:
        return None
    mean, deviation = abs(stats.mean(values)), stats.standard_deviation(values)
    for n in range(2, POWER_SEEDS + 1):
        if stats.t_quantile(0.975, n - 1) * deviation / math.sqrt(n) < mean:
            return n
    return None


def _evidence(group: Group, task: str, validation: Mapping[tuple[str, str], Sequence[float]]) -> list[Evidence]:
    """Every way that has a number, best by validation first."""
    found = []
    ways = [(variant, arm) for variant in group.variants for arm in group.arms(variant) if arm != SCRATCH]
    for variant, arm in ways:
        scores = validation.get((variant.method, arm))
        after = group.score(variant, arm, task)
        if not scores or not after.values:
            continue
        losses = degradation(group, variant, arm, transfer.worst_degradation)
        runs = [run for seed in group.seeds if (run := group.find(variant, arm, seed, task)) and run.status == "ok"]
        found.append(
            Evidence(
                f"{group.labels[variant]}, {arm_title(arm)}",
                variant,
                arm,
                stats.mean(scores),
                len(after.values),
                new_task_gain(group, variant, arm, task).interval(),
                upper_bound(losses, len(ways)),
                bool(runs) and all(run.invariants.get("old_tasks_unchanged") is True for run in runs),
                _average([trained(run) for run in runs]),
                _average([seconds(run) for run in runs]),
                _extra_flops(group, variant, arm),
            )
        )
    return sorted(found, key=lambda way: (-way.validation, way.name))


def upper_bound(losses: Sample, ways: int) -> float | None:
    """One-sided 95 % bound of a mean loss, from seeds and rows, for one of ``ways`` that are looked at together."""
    found = losses.estimate()
    return None if found is None else found.mean + found.half_width(max(1, ways), level=1 - 2 * stats.ALPHA)


def _extra_flops(group: Group, variant: Variant, arm: str) -> float | None:
    for seed in group.seeds:
        after, before = group.find(variant, arm, seed), group.find(variant, STAGE0, seed)
        if after and before and after.flops and before.flops and before.flops.forward:
            return 100 * (after.flops.forward / before.flops.forward - 1)
    return None


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return stats.mean(known) if known else None


def _gain(found: stats.Interval | None) -> str:
    if found is None:
        return "unknown"
    return f"{found.mean:+.4f}" + (f" ± {found.half_width:.4f}" if found.half_width is not None else "")


def _more() -> str:
    return "The same command with more --minutes goes on where this ended; nothing is run twice."
