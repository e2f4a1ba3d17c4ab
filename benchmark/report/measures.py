"""What tables and figures draw from a group: measures as samples over seeds, costs, and what footers say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from statistics import median

from benchmark.records.record import Record
from benchmark.report import transfer
from benchmark.report.groups import SCRATCH, SINGLE_TASK, Group, Sample, Variant, combine
from benchmark.report.model import Cell
from benchmark.report.stats import LEVEL
from benchmark.spec.arms import ARMS

Finder = Callable[[int], Record | None]
Measure = Callable[[Record], float | str | None]

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


def before_and_after(group: Group, variant: Variant, arm: str, task: str) -> tuple[Sample, Sample]:
    """Score of an old task after stage 0 and after the arm, over the seeds."""
    before = group.scores_of(lambda seed: group.baseline(variant, arm, seed), task)
    return before, group.score(variant, arm, task)


def degradation(group: Group, variant: Variant, arm: str, measure: Callable[..., float | None]) -> Sample:
    """A measure of `benchmark.report.transfer` on stages 0 and 1, over the seeds."""
    pairs = [before_and_after(group, variant, arm, task) for task in group.old_tasks]
    if not pairs:
        return Sample(codes=dict.fromkeys(group.seeds, "n/a"))
    count = len(pairs)

    def measured(values: list[float]) -> float | None:
        stages = [dict(zip(group.old_tasks, part, strict=True)) for part in (values[:count], values[count:])]
        return measure(stages, group.old_tasks)

    return combine([before for before, _ in pairs] + [after for _, after in pairs], measured)


def new_task_gain(group: Group, variant: Variant, arm: str, task: str) -> Sample:
    return group.score(variant, arm, task).combine(group.single_task(task), transfer.gain)


def trained(record: Record) -> float | None:
    return record.params.trainable if record.params else None


def total(record: Record) -> float | None:
    return record.params.total if record.params else None


def paper_trained(record: Record) -> float | str | None:
    return record.params.paper_trainable if record.params and record.params.paper_trainable is not None else "n/a"


def flops(record: Record) -> float | None:
    """Per example and training step; without the part that a frozen backbone computes once."""
    if record.flops is None:
        return None
    new = record.flops.training_step_new
    return record.flops.training_step if new is None else new


def forward(record: Record) -> float | None:
    """Operations of a forward pass per example; without the part that a frozen backbone computes once."""
    if record.flops is None:
        return None
    return record.flops.forward if record.flops.forward_new is None else record.flops.forward_new


def seconds(record: Record) -> float | None:
    return record.seconds.total if record.seconds else None


def percent(part: Sample, whole: Sample) -> Sample:
    return part.combine(whole, lambda a, b: 100 * a / b if b else None)


def exact(sample: Sample) -> Cell:
    """A number that does not depend on the seed: shown without an interval. If it does differ, with one."""
    interval = sample.interval()
    if interval is None or len(set(sample.values.values())) > 1:
        return sample.cell(0)
    return Cell(interval.mean, None, interval.n, marks=("stale",) if sample.stale & set(sample.values) else ())


def arm_title(arm: str) -> str:
    """What a column or legend calls an arm; options by which its runs differ stay behind it in brackets."""
    name, bracket, options = arm.partition(" (")
    return ARM_TITLES.get(name, name) + bracket + options


def adds_to_frozen(arm: str) -> bool:
    """Whether an arm trains all that the frozen row of the same method trains, and parts of its own besides."""
    known = ARMS.get(arm.partition(" (")[0])
    return known is not None and known.adaptation != "" and not known.own_head


def cell(group: Group, sample: Sample) -> Cell:
    return sample.cell(len(group.seeds))


def times(sample: Sample, factor: float) -> Sample:
    return replace(combine([sample], lambda values: factor * values[0]), score=False)


def delta_m(group: Group, scores: Mapping[str, Sample]) -> Sample:
    """Δm in percent, over the seeds."""
    tasks = list(scores)

    def measured(values: list[float]) -> float | None:
        mine, alone = (dict(zip(tasks, part, strict=True)) for part in (values[: len(tasks)], values[len(tasks) :]))
        share = transfer.delta_m(mine, alone)
        return None if share is None else 100 * share

    found = combine([*scores.values(), *(group.single_task(task) for task in tasks)], measured)
    return replace(found, score=False)  # percent


def label(group: Group, variant: Variant) -> Cell:
    return Cell(text=group.labels[variant] or "(no name)")


def reference_cell(variant: Variant) -> Cell | None:
    return Cell(code="n/a") if variant.method == SINGLE_TASK else None


def share(group: Group, run: Finder, full: Finder, of: Measure, over: Measure) -> Sample:
    return percent(group.sample(run, of), group.sample(full, over))


def planned(sample: Sample) -> bool:
    return bool(sample.values) or set(sample.codes.values()) != {"n/a"}


def taken_in(group: Group, with_scratch: str | None = None) -> Iterable[tuple[Variant, str, bool]]:
    """Variant, arm and whether a new variant starts, for every way in which a new task was taken in."""
    for variant in group.variants:
        arms = [arm for arm in group.arms(variant) if arm != SCRATCH or with_scratch]
        for place, arm in enumerate(arms):
            yield variant, arm, place == 0


def finder(group: Group, variant: Variant, arm: str, task: str) -> Finder:
    return lambda seed: group.find(variant, arm, seed, task)


def is_auc(group: Group, task: str) -> bool:
    return metric_title(group, task) == "AUC"


def metric_title(group: Group, task: str) -> str:
    metrics = {name for r in group.records if task in r.scores for name in r.scores[task].metrics}
    return "R²" if "r2" in metrics and "auc" not in metrics else "AUC"


def reference_row(group: Group) -> tuple[Variant, str] | None:
    """The row that all others stand against across arms: the reference method, frozen if it was run so."""
    if group.reference is None:
        return None
    arms = [arm for arm in group.arms(group.reference) if arm != SCRATCH]
    chosen = next((arm for arm in arms if arm.partition(" ")[0] == "frozen"), arms[0] if arms else None)
    return None if chosen is None else (group.reference, chosen)


def metric_name(group: Group, task: str) -> str:
    return "r2" if metric_title(group, task) == "R²" else "auc"


def positives(group: Group, task: str) -> int | None:
    """How many test rows of the task are positive, at most over the runs."""
    found = [n for r in group.records if task in r.scores and (n := r.scores[task].positives) is not None]
    return max(found, default=None)


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


def cpu_seconds(record: Record) -> float | str | None:
    """Processor seconds, all threads together; unknown for runs that were resumed and for old records."""
    return "n/a" if record.seconds is None or record.seconds.cpu is None else record.seconds.cpu


def kernel_steps(record: Record) -> float | str | None:
    """The run's time in calibration steps of its machine: of processor time, on a GPU of wall-clock."""
    origin, spent = record.provenance, record.seconds
    if origin is None or spent is None or not origin.kernel_milliseconds:
        return "n/a"
    taken = spent.total if origin.device != "cpu" else spent.cpu
    return "n/a" if taken is None else 1000 * taken / origin.kernel_milliseconds


def machine_kind(record: Record) -> str:
    """Runs compare in wall-clock only if all of this agrees."""
    p = record.provenance
    if p is None:
        return "unknown"
    kind = p.times_kind or f"{p.gpu or p.cpu}, {p.device}, {p.threads} thread(s), {p.jobs} job(s)"
    return kind if p.times_version in (None, 1) else f"{kind}, times of version {p.times_version}"
