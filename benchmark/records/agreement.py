"""Whether two records of one run agree: bit for bit, within a tolerance, or not, and where they part."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.records.record import Record

TOLERANCE = 0.002
"""Largest difference of a test score that counts as the same result where equal bits are not promised, whatever the
seeds say (see docs/rules.md for what was measured)."""
COARSER = {"pr_auc": 0.01, "calibration_error": 0.01}
"""The same for scores that rounding moves further: they hang on few rows."""
SHOWN = 5
"""So many values that differ are named."""
FEWEST_SEEDS = 3
"""With fewer runs the spread over seeds is unknown."""


@dataclass
class Verdict:
    """``state`` is "equal", "within tolerance" or "different"; ``lines`` say what was compared and where it parts."""

    state: str
    lines: list[str] = field(default_factory=list)


def compare(first: Record, second: Record, seeds: Sequence[Record] = ()) -> Verdict:
    """Compare two records of the same run: every value that the record states and that a repetition decides.

    Where equal bits are not promised, training makes of another rounding at most what it makes of another seed. So a
    score may differ by what two of the run's seeds differ by in 99 of 100 cases, as far as its records with every seed,
    ``seeds``, tell, and by the fixed tolerance in any case.
    """
    assert first.provenance is not None and second.provenance is not None
    score_differences = {
        (task, name): abs(value - other)
        for task, scores in first.scores.items()
        for name, value in scores.metrics.items()
        if value is not None and task in second.scores and (other := second.scores[task].metrics.get(name)) is not None
    }
    lines = [
        f"{title}: recorded {before or 'unknown'}, now {now or 'unknown'}"
        for title, before, now in _circumstances(first, second)
        if before != now
    ]
    promised = _equal_bits_promised(first, second)
    same_form = _defined(first).items() <= _defined(second).items()  # metrics may have joined since
    equal_weights = first.weights_fingerprint == second.weights_fingerprint
    departures = differences(first, second)
    left_out = _left_out(first, second)
    lines += left_out
    same_form &= not left_out
    if equal_weights and same_form and not departures:
        words = "weights, scores, curve, counts and every other value of the record are equal bit for bit"
        return Verdict("equal", [*lines, words, f"not looked at: {NOT_LOOKED_AT}{_unstated(first, second)}"])
    departed_counts = [line for line in departures if COUNTS.match(line)]
    lines += departed_counts[:SHOWN]
    if equal_weights and not departed_counts:
        lines += departures[:SHOWN]
    lines.append(_where_curves_part(first, second) or "the learning curves are equal")
    if promised:
        lines.append("kind of machine, code, data and packages agree: the numbers have to be equal bit for bit")
    if score_differences:
        tolerances = {place: _tolerance(seeds, *place) for place in score_differences}
        place = max(score_differences, key=lambda place: score_differences[place] / tolerances[place][0])
        tolerance, whence = tolerances[place]
        lines.append(
            f"largest difference of a score: {score_differences[place]:.2e} ({', '.join(place)}); "
            f"tolerance {tolerance:.2g}{whence}"
        )
        within = same_form and not departed_counts and score_differences[place] <= tolerance
        if within and not promised:
            return Verdict("within tolerance", lines)
    return Verdict("different", lines)


def seeds_of(record: Record, records: Sequence[Record]) -> list[Record]:
    """Of ``records`` the finished ones that differ from ``record`` in the seed alone, and itself."""
    key, seed = vars(record.key), {"seed": record.key.seed}
    return [other for other in records if other.status == "ok" and vars(other.key) | seed == key]


def _tolerance(seeds: Sequence[Record], task: str, metric: str) -> tuple[float, str]:
    """What two runs' scores may differ by where equal bits are not promised, and the words for where it is from."""
    fixed = COARSER.get(metric, TOLERANCE)
    values = [
        value
        for record in seeds
        if task in record.scores and (value := record.scores[task].metrics.get(metric)) is not None
    ]
    if len(values) < FEWEST_SEEDS:
        return fixed, ""
    from scipy import special

    student = float(special.stdtrit(len(values) - 1, 0.995))
    between = student * math.sqrt(2) * statistics.stdev(values)
    return (between, f", as between two of its {len(values)} seeds") if between > fixed else (fixed, "")


NOT_COMPARED = {"train_seconds", "validate_seconds", "rule"}
"""Times differ in every run; the rule's words may be put better."""
COMPARED = (
    *("weights_fingerprint", "scores", "by_task_epoch", "curve", "selection", "params", "flops", "serving"),
    *("train_rows", "invariants", "diagnostics"),
)
NOT_LOOKED_AT = "times, memory, warnings, the log, and where the run was made"
COUNTS = re.compile(r"(params|flops|serving|train_rows|invariants)\b|scores\.[^:]*\.(n|positives):")
"""What does not depend on rounding, and so is equal on every kind of machine."""


def differences(recorded: Record, again: Record) -> list[str]:
    """Where a run that was repeated departs from its record: one phrase for each value that is not equal bit for bit.

    Everything that the record states is compared; what only the new run states (a metric that joined) is not.
    """
    before, now = recorded.model_dump(mode="json"), again.model_dump(mode="json")
    return [line for name in COMPARED for line in _differences(name, before.get(name), now.get(name))]


def _left_out(first: Record, second: Record) -> list[str]:
    """What no version of a record may lack and the first one does: a task whose scores are bad, say."""
    tasks = [task for task, scores in second.scores.items() if scores.metrics and not _metrics(first, task)]
    found = [f"the record has no scores of task '{task}', and the run again has" for task in tasks]
    if second.invariants and not first.invariants:
        found.append("the record states no invariant, and the run again does")
    return found


def _metrics(record: Record, task: str) -> Mapping[str, float | None]:
    return record.scores[task].metrics if task in record.scores else {}


def _unstated(first: Record, second: Record) -> str:
    """The parts that only the run again states, as words to go on with."""
    names = [name for name in COMPARED if getattr(first, name) in (None, {}, []) and getattr(second, name)]
    return f"; nor, since the record does not state them: {', '.join(names)}" if names else ""


def _differences(name: str, before: Any, now: Any) -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        shared = [key for key, value in before.items() if key not in NOT_COMPARED and value is not None]
        return [line for key in shared for line in _differences(f"{name}.{key}", before[key], now.get(key))]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [line for i, pair in enumerate(zip(before, now)) for line in _differences(f"{name}[{i}]", *pair)]
    return [] if before is None or before == now else [f"{name}: recorded {before!r:.60}, now {now!r:.60}"]


CIRCUMSTANCES = {
    "bits_kind": "kind of machine for bits",
    "code_fingerprint": "code",
    "data_fingerprint": "data",
    "packages": "packages",
}
"""Equal bits are promised where all of these are known and agree."""


def _circumstances(first: Record, second: Record) -> list[tuple[str, Any, Any]]:
    """What may explain a difference: title, as recorded, as it is now. Of packages those that differ."""
    found = []
    for name, title in CIRCUMSTANCES.items():
        before, now = getattr(first.provenance, name), getattr(second.provenance, name)
        if isinstance(before, dict):
            parting = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
            before, now = (", ".join(f"{key} {of.get(key, '-')}" for key in parting) for of in (before, now))
        found.append((title, before, now))
    return found


def _equal_bits_promised(first: Record, second: Record) -> bool:
    return all(
        (before := getattr(first.provenance, name)) is not None and before == getattr(second.provenance, name)
        for name in CIRCUMSTANCES
    )


def _defined(record: Record) -> dict[tuple[str, str], bool]:
    """Which scores a record has, and which of them are numbers."""
    return {
        (task, name): value is not None
        for task, scores in record.scores.items()
        for name, value in scores.metrics.items()
    }


def _where_curves_part(first: Record, second: Record) -> str | None:
    for before, now in zip(first.curve, second.curve):
        for name, value in before.loss.items():
            if now.loss.get(name) != value:
                there = f"the curves part at epoch {before.epoch}"
                return f"{there}: loss '{name}' was {value!r}, now {now.loss.get(name)!r}"
        if before.validation != now.validation:
            return f"the curves part at epoch {before.epoch}: validation scores differ"
    if len(first.curve) != len(second.curve):
        return f"the curves have {len(first.curve)} and {len(second.curve)} epochs"
    return None
