"""What the tables and figures of the studies share: rows of samples, the answer as a sentence, lines with intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.analysis import transfer
from benchmark.analysis.groups import JOINT, SCRATCH, SINGLE_TASK, Group, Sample, Variant, combine, records_hash
from benchmark.analysis.measures import degradation
from benchmark.report.figures import style
from benchmark.report.figures.plot import Row, below, unique
from benchmark.report.measures import arm_title, still_improving

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmark.records.record import Record

WIDTH = 5.2
"""Inches of the studies' figures."""
LINE_INCHES = 0.125
LINES: tuple[Any, ...] = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Way:
    """A method and the arm by which it takes in a group's new tasks."""

    group: Group
    variant: Variant
    arm: str

    @property
    def name(self) -> tuple[str, str]:
        """Method and arm as they are called."""
        return self.group.labels[self.variant], arm_title(self.arm)

    @property
    def common_name(self) -> tuple[str, str]:
        """Method and arm as they are called where problems stand side by side."""
        return self.group.labels[self.variant], arm_title(self.group.common_name(self.variant, self.arm))

    @property
    def label(self) -> str:
        return ", ".join(self.name)

    def score(self) -> Sample:
        """Mean test score of the new tasks."""
        return _mean([self.group.score(self.variant, self.arm, task) for task in self.group.new_tasks])

    def gain(self) -> Sample:
        """Mean over the new tasks of the score over that of a model of this task alone."""
        return _mean(
            [
                self.group.score(self.variant, self.arm, task).combine(self.group.single_task(task), transfer.gain)
                for task in self.group.new_tasks
            ]
        )

    def degradation(self) -> Sample:
        """Mean loss of the old tasks against stage 0."""
        return degradation(self.group, self.variant, self.arm, transfer.mean_degradation)


def ways(group: Group) -> list[Way]:
    """All ways of taking in the new tasks that a group has runs of, joint retraining among them."""
    return [
        Way(group, variant, arm)
        for variant in group.variants
        if variant.method != SINGLE_TASK
        for arm in group.arms(variant)
        if arm != SCRATCH
    ]


def light(way: Way) -> bool:
    """Whether the way is an alternative to training everything anew."""
    return way.arm != JOINT


def sentence(text: str) -> str:
    """With a capital at the start and one full stop at the end."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def where(found: Mapping[tuple[str, str], Sequence[str]], nowhere: str) -> str:
    """At which places each way (by its name) is found, those with the same places together: "A frozen and LoRA at 1
    and 5; the others nowhere". ``nowhere`` is said if none is found anywhere."""
    together: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for (method, arm), places in found.items():
        together.setdefault(tuple(dict.fromkeys(places)), {}).setdefault(method, []).append(arm)
    absent = together.pop((), None)
    if not together:
        return nowhere
    parts = [
        f"{', '.join(f'{method} {listed(arms)}' for method, arms in by_method.items())} at {listed(places)}"
        for places, by_method in together.items()
    ]
    return "; ".join([*parts, *(["the others nowhere"] if absent else [])])


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def tall(axes: float, said: str) -> float:
    """Height in inches of a figure whose axes and legend need ``axes`` below an answer."""
    return axes + LINE_INCHES * len(_wrapped(said, WIDTH))


def _wrapped(said: str, width: float) -> list[str]:
    return textwrap.wrap(said, int(width * 17))


def caption_above(drawn: Figure, rows: Sequence[Row]) -> None:
    """The answer over the picture; it stands in every row of the data."""
    text = "\n".join(_wrapped(rows[0]["answer"], drawn.get_figwidth()))
    drawn.suptitle(text, fontsize=7, x=0.02, ha="left")


def lines(axes: Axes, rows: Sequence[Row], x: str, y: str, apart: float = 0.0) -> None:
    """One line for each way: colour by arm, stroke by method, the interval as bars.

    Ways stand ``apart`` by so much from the first to the last, on the axis that is there (decades if logarithmic), so
    that their intervals can be told from one another.
    """
    arms, methods = unique(rows, "arm"), unique(rows, "method")
    ways = [(method, arm) for method in methods for arm in arms]
    for place, (method, arm) in enumerate(ways):
        points = [r for r in rows if (r["method"], r["arm"]) == (method, arm) and r[y] is not None]
        if points:
            step = apart * (place / max(len(ways) - 1, 1) - 0.5)
            axes.errorbar(
                [p[x] * 10**step if axes.get_xscale() == "log" else p[x] + step for p in points],
                [p[y] for p in points], [p.get(f"{y}_half_width") or 0.0 for p in points], color=shade(arm, arms),
                linestyle=LINES[methods.index(method) % len(LINES)], marker="o", markersize=2.5, linewidth=1,
                elinewidth=0.5,
            )  # fmt: skip


def shade(arm: str, arms: Sequence[str]) -> str:
    return style.COLOURS[list(arms).index(arm) % len(style.COLOURS)]


def legend(drawn: Figure, rows: Sequence[Row]) -> None:
    """Arms by colour, methods by stroke."""
    from matplotlib.lines import Line2D

    arms, methods = unique(rows, "arm"), unique(rows, "method")
    handles = [Line2D([], [], color=shade(arm, arms), marker="o", markersize=3, label=arm_title(arm)) for arm in arms]
    if len(methods) > 1:
        handles += [
            Line2D([], [], color="black", linestyle=LINES[i % len(LINES)], label=method)
            for i, method in enumerate(methods)
        ]
    below(drawn, handles)


def mean_of(sample: Sample) -> float | None:
    found = sample.interval()
    return None if found is None else found.mean


def clearly(sample: Sample, sign: int) -> bool:
    """Whether the mean is on that side of 0 with its whole interval over seeds (with one seed: the value itself)."""
    found = sample.interval()
    return found is not None and sign * found.mean - (found.half_width or 0.0) > 0


def how(groups: Sequence[Group]) -> str:
    """How sure `clearly` is: nothing is clear from one seed."""
    return "clearly" if min(len(group.seeds) for group in groups) > 1 else "by one seed alone"


def origin(records: Sequence[Record]) -> tuple[str, ...]:
    """Where a study's numbers come from: seeds, budget, commit, hash of the records."""
    found = {record.run_id: record for record in records}.values()
    seeds = sorted({record.key.seed for record in found})
    budgets = {
        ", ".join(f"{name} {value:g}" for name, value in sorted(record.key.budget.items()) if value is not None)
        for record in found
    }
    commits = {
        record.provenance.commit[:10] + ("+changes" if record.provenance.dirty else "")
        for record in found
        if record.provenance and record.provenance.commit
    }
    return (
        f"Seeds {', '.join(map(str, seeds))}. Budget: {' or '.join(sorted(budgets))}. "
        f"Commit {', '.join(sorted(commits)) or 'unknown'}; {len(found)} records, hash {records_hash(found)}.",
        *still_improving(found),
    )


def half_width_of(sample: Sample) -> float | None:
    found = sample.interval()
    return None if found is None else found.half_width


def _mean(samples: Sequence[Sample]) -> Sample:
    return samples[0] if len(samples) == 1 else combine(samples, lambda values: sum(values) / len(values))
