"""Measures of a group as samples over seeds: degradation, gain, parameters, time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from benchmark.analysis import transfer
from benchmark.analysis.groups import SCRATCH, Group, Sample, Variant, arm_name, combine
from benchmark.records.record import Record
from benchmark.spec.arms import ARMS

Finder = Callable[[int], Record | None]


Measure = Callable[[Record], float | str | None]


def before_and_after(group: Group, variant: Variant, arm: str, task: str) -> tuple[Sample, Sample]:
    """Score of an old task after stage 0 and after the arm, over the seeds."""
    before = group.scores_of(lambda seed: group.baseline(variant, arm, seed), task)
    return before, group.score(variant, arm, task)


def degradation(group: Group, variant: Variant, arm: str, measure: Callable[..., float | None]) -> Sample:
    """A measure of `benchmark.analysis.transfer` on stages 0 and 1, over the seeds."""
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


def adds_to_frozen(arm: str) -> bool:
    """Whether an arm trains all that the frozen row of the same method trains, and parts of its own besides."""
    known = ARMS.get(arm_name(arm))
    return known is not None and known.adaptation != "" and not known.own_head


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


def reference_row(group: Group) -> tuple[Variant, str] | None:
    """The row that all others stand against across arms: the reference method, frozen if it was run so."""
    if group.reference is None:
        return None
    arms = [arm for arm in group.arms(group.reference) if arm != SCRATCH]
    chosen = next((arm for arm in arms if arm_name(arm) == "frozen"), arms[0] if arms else None)
    return None if chosen is None else (group.reference, chosen)


def metric_name(group: Group, task: str) -> str:
    """The metric by which a task is compared: "auc", or "r2" where its records have no AUC."""
    metrics = {name for r in group.records if task in r.scores for name in r.scores[task].metrics}
    return "r2" if "r2" in metrics and "auc" not in metrics else "auc"


def positives(group: Group, task: str) -> int | None:
    """How many test rows of the task are positive, at most over the runs."""
    found = [n for r in group.records if task in r.scores and (n := r.scores[task].positives) is not None]
    return max(found, default=None)


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
