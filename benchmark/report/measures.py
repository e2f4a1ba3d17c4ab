"""How tables write what a group holds: cells, titles of arms, clocks, and what footers say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from statistics import median

from benchmark.analysis.groups import SINGLE_TASK, Group, Sample, Variant, worst_code
from benchmark.analysis.measures import Finder, Measure, machine_kind, metric_name, percent, seconds
from benchmark.analysis.stats import LEVEL
from benchmark.records.record import Record
from benchmark.report.model import Cell

ARM_TITLES = {
    "stage0": "stage 0",
    "finetune": "fine-tuned",
    "scratch": "single task",
    "linear_probe": "linear probe",
    "adapter": "adapters",
    "lora": "LoRA",
    "bias_only": "biases only",
    "ia3": "(IA)3",
    "film": "FiLM",
    "soft_prompt": "soft prompt",
    "table_delta": "low-rank tables",
    "side": "side network",
    "lp_ft": "LP-FT",
    "ewc": "EWC",
    "lwf": "LwF",
    "warm_joint": "warm joint",
    "joint_distil": "joint, distilled",
    "finetune_long": "fine-tuned, long",
    "finetune_copy": "fine-tuned copy",
}
DELTA_M_NOTE = "Δm: mean over tasks of the relative gain over single-task models; higher is better."


def cell_of(sample: Sample, planned: int) -> Cell:
    """Mean with interval, or the code. Fewer seeds than ``planned`` are marked, unstable ones shown by range."""
    interval = sample.interval()
    if interval is None:
        return Cell(code=worst_code(sample.codes.values()))
    marks: tuple[str, ...] = (f"n={interval.n}",) if interval.n < planned else ()
    marks += ("stale",) if sample.stale & set(sample.values) else ()
    if sample.unstable:
        values = sample.ordered()
        return Cell(median(values), None, interval.n, marks=("†", *marks), seeds=tuple(values))
    return Cell(interval.mean, interval.half_width, interval.n, marks=marks)


def exact(sample: Sample) -> Cell:
    """A number that does not depend on the seed: shown without an interval. If it does differ, with one."""
    interval = sample.interval()
    if interval is None or len(set(sample.values.values())) > 1:
        return cell_of(sample, 0)
    return Cell(interval.mean, None, interval.n, marks=("stale",) if sample.stale & set(sample.values) else ())


def arm_title(arm: str) -> str:
    """What a column or legend calls an arm; options by which its runs differ stay behind it in brackets."""
    name, bracket, options = arm.partition(" (")
    return ARM_TITLES.get(name, name) + bracket + options


def cell(group: Group, sample: Sample) -> Cell:
    return cell_of(sample, len(group.seeds))


def label(group: Group, variant: Variant) -> Cell:
    return Cell(text=group.labels[variant] or "(no name)")


def reference_cell(variant: Variant) -> Cell | None:
    return Cell(code="n/a") if variant.method == SINGLE_TASK else None


def is_auc(group: Group, task: str) -> bool:
    return metric_name(group, task) == "auc"


def metric_title(group: Group, task: str) -> str:
    return {"auc": "AUC", "r2": "R²"}[metric_name(group, task)]


def _commit(record: Record) -> str:
    p = record.provenance
    if p is None or p.commit is None:
        return "unknown"
    return p.commit[:10] + ("+changes" if p.dirty else "")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def footer(group: Group, interval: bool = True) -> tuple[str, ...]:
    """Where the numbers come from: seeds, interval, selection, budget, commit, hash of the records."""
    seeds = group.seeds
    spoken = (
        f"{seeds[0]}-{seeds[-1]}"
        if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
        else (", ".join(map(str, seeds)) if len(seeds) <= 10 else f"{len(seeds)} values from {seeds[0]} to {seeds[-1]}")
    )
    commits = sorted({_commit(record) for record in group.records if record.provenance})
    budget = ", ".join(
        f"{name} {_plain(value)}" for name, value in sorted(json.loads(group.budget).items()) if value is not None
    )
    lines = []
    if interval and len(seeds) == 1:
        lines.append(f"One seed ({spoken}): no interval, and no difference here says more than chance.")
    elif interval:
        lines.append(
            f"Mean ± half-width of the {LEVEL:.0%} interval, n = {len(seeds)} seeds ({spoken}). {_noise(group)}"
        )
    lines.append(
        f"Selection: {group.selection} (validation rows only). Budget: {budget or 'none stated'}. "
        f"Split: {group.split}. Track: {group.track}."
    )
    kinds = {record.provenance.bits_kind for record in group.records if record.provenance} - {None}
    if kinds:
        lines.append(f"Bits: {'; '.join(sorted(map(str, kinds)))}.")
    lines.append(f"Commit {', '.join(commits) or 'unknown'}; {len(group.records)} records, hash {group.records_hash}.")
    return (*lines, *set_values(group), *still_improving(group.records), *_warnings(group))


def set_values(group: Group) -> list[str]:
    """What was set in place of the methods' own values, by a suite or on the command line: a table of the track
    "published" says where it is none for a row."""
    said = _set_values(group)
    return [f"Not the methods' own values: {said}."] if said else []


def set_values_by_dataset(groups: Iterable[Group]) -> list[str]:
    """The same for what compares several problems, each dataset once."""
    found = dict.fromkeys((group.dataset, said) for group in groups if (said := _set_values(group)))
    return [f"Not the methods' own values on {dataset}: {said}." for dataset, said in found]


def _set_values(group: Group) -> str:
    rows: dict[str, list[str]] = {}
    for variant in group.variants:
        values = group.set_values(variant)
        said = ", ".join(
            f"{name} {_plain(value)}" + ("" if own is None else f" (own: {_plain(own)})")
            for name, (value, own) in values.items()
        )
        if said:
            rows.setdefault(said, []).append(group.labels[variant])
    return "; ".join(f"{_and(titles)} {said}" for said, titles in rows.items())


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def still_improving(records: Iterable[Record]) -> list[str]:
    """How many runs the budget ended while they still improved, by arm: what another budget may well change.

    Their best epoch is their last one; what patience ends has its best epoch before.
    """
    ended, counted = Counter[str](), Counter[str]()
    for record in records:
        if record.status != "ok" or record.selection is None or record.selection.score is None:
            continue
        counted[record.key.arm] += 1
        ended[record.key.arm] += record.selection.epoch == record.selection.epochs_run
    if not ended.total():
        return []
    arms = sorted(+ended, key=lambda arm: (-ended[arm] / counted[arm], arm))
    by_arm = ", ".join(f"{arm_title(arm)} {ended[arm]} of {counted[arm]}" for arm in arms)
    said = f"{ended.total()} of {counted.total()} runs"
    return [f"Still improving when the budget ended (best epoch: the last): {said}; {by_arm}."]


def _warnings(group: Group) -> list[str]:
    """What runs warn of, once each, with how many of them do: a mechanism that did not act, above all."""
    counts = Counter(warning for record in group.records if record.status == "ok" for warning in record.warnings)
    return [f"Warning of {number} run{'s' * (number > 1)}: {text}" for text, number in sorted(counts.items())]


def _noise(group: Group) -> str:
    """Where the intervals of scores and of differences come from."""
    runs = [(record, task) for record in group.records if record.status == "ok" for task in record.scores]
    known = sum(group.noise.of(record, task) is not None for record, task in runs)
    if not known:
        return "Student t over seeds; the noise of the test rows is not in these records."
    words = "Scores: Student t over seeds; differences, gains and degradations: seeds and test rows together"
    return words + ("." if known == len(runs) else ", where the records know their rows, otherwise seeds alone.")


class Clock:
    """Wall-clock, compared only within one machine kind.

    Times of other kinds are converted by the calibration step that each run timed before it started, and marked: a run
    that takes as many steps there would take as long here. The kind that they are converted to is the one asked for
    (`Options.machine`), otherwise the first.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.runs = [record for record in group.records if record.status == "ok" and record.provenance]
        found = sorted({machine_kind(record) for record in self.runs})
        self.kinds = {kind: chr(ord("A") + place) for place, kind in enumerate(found)}
        self.base = group.options.machine or next(iter(found), "")
        here = [record for record in self.runs if machine_kind(record) == self.base]
        known = [p.kernel_milliseconds for r in here if (p := r.provenance) and p.kernel_milliseconds]
        self.kernel = median(known) if known else None
        self.basis = {_calibrated_by(record) for record in here}

    @property
    def comparable(self) -> bool:
        """All of the group's times come from one machine kind."""
        return len(self.kinds) < 2

    def cell(self, find: Finder, measure: Measure | None = None, rate: bool = False) -> Cell:
        """A time over the seeds, the whole run's wall-clock unless a measure is given; ``rate``: so much a second."""
        kinds = {machine_kind(r) for seed in self.group.seeds if (r := find(seed)) and r.status == "ok"}
        if refused := self._refused(kinds, find):
            return Cell(code=refused)
        found = cell(self.group, self.group.sample(find, self._converted(measure or seconds, rate)))
        if found.value is None or (self.comparable and not kinds - {self.base}):
            return found
        letters = "".join(sorted(self.kinds[kind] for kind in kinds))
        converted = kinds - {self.base} and self._convertible(find)
        return replace(found, marks=(*found.marks, *(("≈",) if converted else ()), letters))

    def share(self, find: Finder, full: Finder) -> Cell:
        runs = [r for f in (find, full) for seed in self.group.seeds if (r := f(seed)) and r.status == "ok"]
        kinds = {machine_kind(record) for record in runs}
        if refused := self._refused(kinds, find, full):
            return Cell(code=refused)
        measure = self._converted(seconds, False)
        found = cell(self.group, percent(self.group.sample(find, measure), self.group.sample(full, measure)))
        convert = len(kinds) > 1 and found.value is not None
        return replace(found, marks=(*found.marks, "≈")) if convert else found

    def _convertible(self, *finders: Finder) -> bool:
        """Every run and those of the base timed the same step."""
        runs = [r for find in finders for seed in self.group.seeds if (r := find(seed)) and r.status == "ok"]
        agree = len(self.basis) == 1 and {_calibrated_by(run) for run in runs} == self.basis
        return self.kernel is not None and agree

    def _refused(self, kinds: set[str], *finders: Finder) -> str | None:
        """Why the times of these kinds cannot stand together, if they cannot."""
        elsewhere = self.group.options.machine is not None and bool(kinds - {self.base})
        if not elsewhere and len(kinds) < 2:
            return None
        return None if self._convertible(*finders) else "machine" if elsewhere else "mixed"

    def _converted(self, measure: Measure, rate: bool) -> Measure:
        def converted(record: Record) -> float | str | None:
            found = measure(record)
            origin = record.provenance
            own = origin.kernel_milliseconds if origin is not None else None
            if not isinstance(found, int | float) or machine_kind(record) == self.base or not self.kernel or not own:
                return found
            return found * own / self.kernel if rate else found * self.kernel / own

        return converted

    def notes(self) -> list[str]:
        if self.comparable and self.base in (*self.kinds, ""):
            return []
        letters = "; ".join(f"{letter}: {kind}" for kind, letter in self.kinds.items())
        spoken = [f"Machine kinds, between which times do not compare: {letters}."]
        if self.kernel is not None:
            spoken.append(
                f"≈: in seconds of {self.kinds.get(self.base, self.base)}, converted by a fixed training step that "
                f"each run timed before it started ({self.kernel:.3g} ms there)."
            )
        return spoken


def _calibrated_by(record: Record) -> tuple[str, int | None, int | None]:
    """What has to agree for times to be converted: device, calibration step, version of the harness as to times."""
    p = record.provenance
    assert p is not None
    return (p.device, p.kernel if p.kernel_milliseconds else None, p.times_version)
