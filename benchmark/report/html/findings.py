"""What can be said at the top of the page: a few sentences with their evidence, each from the tests of the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmark.analysis import transfer
from benchmark.analysis.comparisons import Comparison, worse_than_best, worst_verdict
from benchmark.analysis.groups import Group, Variant
from benchmark.analysis.measures import degradation, new_task_gain, taken_in
from benchmark.analysis.verdicts import Outcome
from benchmark.report.measures import arm_title, cell
from benchmark.report.model import Cell, Column, digits

SCORE = Column("value", "value", signed=True)


@dataclass(frozen=True)
class Finding:
    """``mark`` is good, bad or open; ``items`` name the rows that the sentence is about, with their numbers."""

    mark: str
    verdict: str
    sentence: str
    items: tuple[str, ...] = ()


def findings(group: Group, losses: Sequence[Comparison]) -> list[Finding]:
    """Harm first, then what is shown to be harmless, what stays open, and who takes in the new task best."""
    ways = [(variant, arm) for variant, arm, _ in taken_in(group)]
    verdicts = {way: worst_verdict(losses, *way) for way in ways}
    found = []
    for mark, word, sentence, chosen in (
        ("bad", "degraded", "The new task costs an old one.", lambda v: v.outcome is Outcome.DEGRADED),
        ("bad", "worse on every seed", "Every run so far cost an old task more than the margin and than its test rows "
         "explain; more seeds would say how much to expect.", lambda v: v.worse_on_every_seed),
        ("good", "unchanged", "No old task changes: every seed's score is the same number.",
         lambda v: v.outcome is Outcome.UNCHANGED),
        ("good", "no harm", f"Every old task stays within the margin of {group.strictest_margin:g}, or gains.",
         lambda v: v.not_degraded and v.outcome is not Outcome.UNCHANGED),
        ("open", "undecided", "Neither harm nor its absence is shown; more seeds or more test rows would tell.",
         lambda v: v.outcome is not Outcome.DEGRADED and not v.not_degraded and not v.worse_on_every_seed),
    ):  # fmt: skip
        number = None if word == "unchanged" else _worst
        rows = _named(group, [way for way in ways if chosen(verdicts[way])], number)
        if rows:
            found.append(Finding(mark, word, sentence, rows))
    return found + [best for task in group.new_tasks if (best := _best(group, task, ways)) is not None]


def _best(group: Group, task: str, ways: Sequence[tuple[Variant, str]]) -> Finding | None:
    """Who has the highest mean, and who is not shown to be worse."""
    gains = [new_task_gain(group, variant, arm, task) for variant, arm in ways]
    means = {i: found.mean for i, gain in enumerate(gains) if (found := gain.interval()) is not None}
    if not means:
        return None
    top = max(means, key=lambda i: means[i])
    rest = means.keys() - worse_than_best(gains) - {top}
    peers = [top, *sorted(rest if len(group.seeds) > 1 else (), key=lambda i: -means[i])]

    def number(group: Group, variant: Variant, arm: str) -> Cell:
        return cell(group, new_task_gain(group, variant, arm, task))

    sentence = f"Highest mean gain of {task} over a single-task model"
    sentence += "." if len(peers) == 1 else ", and those that are not shown to be worse."
    if len(group.seeds) == 1:
        sentence = f"Gain of {task} over a single-task model; one seed parts nobody from anybody."
    rows = _named(group, [ways[i] for i in peers], number)
    return Finding("open", "best" if len(peers) == 1 else "tied", sentence, rows)


def _worst(group: Group, variant: Variant, arm: str) -> Cell:
    return cell(group, degradation(group, variant, arm, transfer.worst_degradation))


def _named(
    group: Group, ways: Sequence[tuple[Variant, str]], number: Callable[[Group, Variant, str], Cell] | None
) -> tuple[str, ...]:
    names = {way: f"{group.labels[way[0]]}, {arm_title(way[1])}" for way in ways}
    return tuple(f"{name} ({_text(number(group, *way))})" if number else name for way, name in names.items())


def _text(found: Cell) -> str:
    if found.value is None:
        return found.code or found.text or ""
    shown = digits(found, SCORE)
    return shown.value + (f" ± {shown.half_width}" if shown.half_width else "")
