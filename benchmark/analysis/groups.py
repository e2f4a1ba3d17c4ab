"""Records, grouped so that whatever stands side by side may be compared, and the samples drawn from them.

A `Group` is everything that shares dataset, split, partition into old and new tasks, budget and selection rule. Its
rows are `Variant`s: a method with one configuration. A `Sample` is one number per seed, with a code for each seed
that has none.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmark.analysis import stats
from benchmark.analysis.codes import CODES, STATUS_CODES
from benchmark.analysis.stats import Interval, t_interval
from benchmark.core.canonical import canonical
from benchmark.records.record import Key, Record, RowNoise, run_directory
from benchmark.spec.arms import JOINT, OWN_TRAINING, SCRATCH, STAGE0
from benchmark.spec.labels import without_share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SINGLE_TASK = "single_task"
PRIMARY = ("auc", "r2")
"""The score by which a task is compared: the first of these that its record has. Both: larger is better."""

ONE_CLASS = "one class"

DEFAULT_MARGIN = 0.001

PREDICTIONS = "predictions.npz"


@dataclass(frozen=True)
class Variant:
    """A method with one configuration. ``config`` is canonical JSON, so that variants can be dictionary keys."""

    method: str
    config: str


@dataclass(frozen=True)
class Sample:
    """One number per seed; ``codes`` says why a seed has none; ``stale`` names seeds whose run is out of date.

    ``rows`` is each seed's row noise: the vectors of `benchmark.records.row_noise`. ``crossed``: a difference, whose
    interval comes from seeds and test rows; the interval of a score by itself, as the field prints it, is over seeds.
    ``score``: in the unit of a score, so that a collapsed seed can be told.
    """

    values: Mapping[int, float] = field(default_factory=dict)
    codes: Mapping[int, str] = field(default_factory=dict)
    stale: frozenset[int] = frozenset()
    rows: Mapping[int, NDArray[np.float64]] = field(default_factory=dict, compare=False)
    crossed: bool = False
    score: bool = False

    def combine(self, other: Sample, function: Callable[[float, float], float | None]) -> Sample:
        """Seed by seed: ``function(mine, other's)``. A seed that either lacks keeps the code of the one lacking it."""
        return combine([self, other], lambda values: function(*values))

    def ordered(self) -> list[float]:
        return [self.values[seed] for seed in sorted(self.values)]

    @property
    def unstable(self) -> bool:
        """A seed collapsed or the seeds are visibly not normal: then the median and the range are shown."""
        return self.score and stats.unstable(self.ordered())

    @property
    def centre(self) -> float | None:
        """What every output shows and compares: the mean over seeds, or the median where the seeds are unstable."""
        if not self.values:
            return None
        return median(self.ordered()) if self.unstable else stats.mean(self.ordered())

    @property
    def knows_rows(self) -> bool:
        return bool(self.values) and set(self.values) <= set(self.rows)

    @property
    def constant(self) -> float | None:
        """The value that every seed has, bit for bit and on the same rows: a fact, which needs no test."""
        found = set(self.values.values())
        return found.pop() if len(found) == 1 else None

    def estimate(self) -> stats.Estimate | None:
        """Mean with the noise of seeds and, where it is known for every seed, of test rows; None below two seeds."""
        return stats.crossed(self.ordered(), self.row_covariance())

    def row_covariance(self) -> float | None:
        """Mean covariance over test rows between two different seeds; None if unknown."""
        n = len(self.values)
        if n < 2 or not self.knows_rows:
            return None
        vectors = [self.rows[seed] for seed in sorted(self.values)]
        total = sum(vectors[1:], vectors[0])
        found = float(total @ total - sum(float(v @ v) for v in vectors)) / (n * (n - 1))
        return found if abs(found) > LEAST_COVARIANCE else 0.0

    def interval(self) -> Interval | None:
        if not self.values:
            return None
        found = self.estimate() if self.crossed else None
        return t_interval(self.ordered()) if found is None else Interval(found.mean, found.half_width(), found.n)


LEAST_COVARIANCE = 1e-24
"""Below it there is rounding and no noise."""

STEP = 2.0**-20
"""Of the numeric derivative below: a power of two, so that linear functions have theirs without rounding."""


def combine(samples: Sequence[Sample], function: Callable[[list[float]], float | None]) -> Sample:
    """Seed by seed over several samples; None from ``function`` becomes the code "undefined".

    Row noise goes through the function's derivative (the delta method), which is exact for differences and means.
    """
    values: dict[int, float] = {}
    codes: dict[int, str] = {}
    rows: dict[int, NDArray[np.float64]] = {}
    for seed in sorted(set().union(*(set(sample.values) | set(sample.codes) for sample in samples))):
        lacking = [sample.codes.get(seed, "missing") for sample in samples if seed not in sample.values]
        given = [] if lacking else [sample.values[seed] for sample in samples]
        result = None if lacking else function(given)
        if result is None:
            codes[seed] = worst_code(lacking) if lacking else "undefined"
            continue
        values[seed] = result
        if all(seed in sample.rows for sample in samples):
            rows[seed] = _moved(function, given, [sample.rows[seed] for sample in samples])
    stale = frozenset().union(*(sample.stale for sample in samples))
    return Sample(values, codes, stale, rows, crossed=True, score=all(sample.score for sample in samples))


def _moved(
    function: Callable[[list[float]], float | None], at: list[float], vectors: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Row noise of ``function`` of several scores."""
    found = 0.0 * vectors[0]
    for place, vector in enumerate(vectors):
        above, below = (
            function([value + sign * STEP if i == place else value for i, value in enumerate(at)]) for sign in (1, -1)
        )
        if above is not None and below is not None:
            found = found + round((above - below) / (2 * STEP), 6) * vector
    return found


def worst_code(codes: Iterable[str]) -> str:
    """The code to show where seeds differ: the first in the order of CODES; "n/a" if there is none."""
    return min(codes, key=list(CODES).index, default="n/a")


@dataclass(frozen=True)
class Options:
    """What a rebuild is asked for, beyond the records.

    ``variants``: those that the suite declares, by name: their method, and the values that make them. What none of
    them describes is the method as it is, and claims speak of it.
    ``margin``: largest loss that counts as none, in units of the score, fixed before results are seen: one number,
    or a table by "DATASET/TASK", task, metric ("auc", "r2") or "default".
    ``claims``: the suite's own claims as tables (see `benchmark.report.claims`); None: those of the MPT-Rec paper.
    ``reference``: the method that paired differences refer to. ``stale``: run ids found out of date. ``roots``: the
    result trees, for the arrays beside the records. ``machine``: wall-clock of any other machine kind is not shown.
    ``search``: what the suite of a tuned track says was spent on each method, by dataset (see
    `benchmark.planning.suite.Searched`), ``arm_search`` on each arm of it. ``own_configs``: by dataset and method the
    config that the method has there where nobody sets anything, of those that are known. ``guarded``: no claim is
    stated from an unfair comparison.
    """

    margin: float | Mapping[str, float] = DEFAULT_MARGIN
    claims: Sequence[Mapping[str, Any]] | None = None
    reference: str = "mpt_rec"
    stale: frozenset[str] = frozenset()
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    roots: tuple[Path, ...] = ()
    machine: str | None = None
    search: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    arm_search: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]] = field(default_factory=dict)
    own_configs: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    guarded: bool = False

    def margin_of(self, dataset: str, task: str, metric: str) -> float:
        if not isinstance(self.margin, Mapping):
            return self.margin
        names = (f"{dataset}/{task}", f"{dataset.partition('@')[0]}/{task}", task, metric, "default")
        return next((self.margin[name] for name in names if name in self.margin), DEFAULT_MARGIN)

    def declares(self, method: str) -> bool:
        """Whether the suite has variants of this method."""
        return any(values.get("method") == method for values in self.variants.values())

    def place(self, variant: Variant) -> int:
        """0 for a method as it is, else the place from 1 of the variant among those that the suite declares: the one
        with most values of those that its config has."""
        own = {name: canonical(value) for name, value in json.loads(variant.config).items()} | {
            "method": variant.method
        }
        fitting = {}
        for place, values in enumerate(self.variants.values(), start=1):
            made_by = {name: value if name == "method" else canonical(value) for name, value in values.items()}
            if len(made_by) > 1 and made_by.items() <= own.items():
                fitting[place] = len(made_by)
        return max(fitting, key=lambda place: fitting[place], default=0)

    def file(self, key: Key, name: str) -> Path | None:
        """The array file of that name beside the record, in the first result tree that has it."""
        paths = (run_directory(root, key) / name for root in self.roots)
        return next((path for path in paths if path.is_file()), None)


@dataclass(frozen=True)
class Group:
    """Comparable records. ``seeds`` are all seeds that any of them has: what each cell should rest on."""

    dataset: str
    split: str
    old_tasks: tuple[str, ...]
    new_tasks: tuple[str, ...]
    budget: str
    selection: str
    records: tuple[Record, ...]
    titles: Mapping[str, str]
    options: Options = Options()
    track: str = "published"

    @property
    def identity(self) -> tuple[str, str, tuple[str, ...], tuple[str, ...], str, str, str]:
        """What records have to share to be compared."""
        return (self.dataset, self.split, self.old_tasks, self.new_tasks, self.budget, self.selection, self.track)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({record.key.seed for record in self.records}))

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """Rows in order: the single-task reference, then as in ``titles``, then by name; a method as it is before the
        variants that the suite declares, in its order."""
        order = {name: place for place, name in enumerate(self.titles)}

        def place(v: Variant) -> tuple[bool, int, str, int, str]:
            own = self.options.place(v)
            return v.method != SINGLE_TASK, order.get(v.method, len(order)), v.method, own, v.config

        return tuple(sorted({variant_of(record) for record in self.records}, key=place))

    @cached_property
    def labels(self) -> Mapping[Variant, str]:
        """What a row is called: the method's title, and the config values by which its variants differ."""
        labels = {}
        for variant in self.variants:
            siblings = [other for other in self.variants if other.method == variant.method]
            title = self.titles.get(variant.method) or variant.method
            main = self.main_variant(siblings) if self.options.declares(variant.method) else None
            if main is None:
                difference = _difference(json.loads(variant.config), [json.loads(other.config) for other in siblings])
            else:  # the main variant bears the plain title, the others say how they differ from it
                difference = _difference(json.loads(variant.config), [json.loads(v.config) for v in (main, variant)])
                difference = "" if variant == main else difference
            labels[variant] = f"{title} ({difference})" if difference else title
        return labels

    def set_values(self, variant: Variant) -> dict[str, tuple[object, object]]:
        """Config values of a row that are not the method's own on this dataset, and that its label does not name: each
        with the method's own. Empty where that is not known, and on the tuned track, which searched for all of them."""
        own = self.options.own_configs.get((self.dataset, variant.method))
        title = self.titles.get(variant.method) or variant.method
        if own is None or self.track != "published" or self.labels[variant] != title:
            return {}
        config = json.loads(variant.config)
        # Options of training stand in a config only where they differ from their defaults.
        return {name: (value, own.get(name)) for name, value in sorted(config.items()) if value != own.get(name)}

    @cached_property
    def _index(self) -> Mapping[tuple[Variant, str, int], list[Record]]:
        index = defaultdict(list)
        for record in self.records:
            index[variant_of(record), self.arm(record), record.key.seed].append(record)

        # The run that answers is the last stage's; found here once, not at every question.
        def order(record: Record) -> tuple[int, bool, str]:
            return record.key.stage, record.status == "ok", record.run_id

        return {place: sorted(runs, key=order, reverse=True) for place, runs in index.items()}

    def arm(self, record: Record) -> str:
        """The arm's name; where runs of an arm have different options, with those by which they differ."""
        siblings = self._arm_configs[record.key.arm]
        if len(siblings) == 1:
            return record.key.arm
        difference = _difference(_named_options(record), [json.loads(config) for config in siblings])
        return f"{record.key.arm} ({difference})"

    @cached_property
    def _arm_configs(self) -> Mapping[str, set[str]]:
        found = defaultdict(set)
        for record in self.records:
            found[record.key.arm].add(canonical(_named_options(record)))
        return found

    def common_name(self, variant: Variant, arm: str) -> str:
        """What an arm is called beside other problems: without options (such as a rank that is fitted to a size) where
        the variant has this arm in one form only, since elsewhere the same way has other options."""
        name = arm_name(arm)
        return name if sum(arm_name(other) == name for other in self.arms(variant)) == 1 else arm

    def arms(self, variant: Variant) -> list[str]:
        """Arms of a variant by which it takes in new tasks, reference arms first, then by name."""
        return self._arms.get(variant, [])

    @cached_property
    def _arms(self) -> Mapping[Variant, list[str]]:
        found = defaultdict(set)
        for variant, arm, _ in self._index:
            if arm != STAGE0:
                found[variant].add(arm)
        return {v: sorted(arms, key=lambda arm: (arm != SCRATCH, arm != JOINT, arm)) for v, arms in found.items()}

    def find(self, variant: Variant, arm: str, seed: int, task: str | None = None) -> Record | None:
        """The run that answers for ``task`` (any run if None): of several stages the last."""
        runs = self._index.get((variant, arm, seed), ())
        return next((run for run in runs if task is None or _covers(run, task)), None)

    def baseline(self, variant: Variant, arm: str, seed: int) -> Record | None:
        """The stage-0 run that an arm's run is measured against.

        Its parent where it names one that is at hand; otherwise stage 0 of the same method and configuration at the
        same seed; otherwise the method's only stage 0 at that seed (variants that differ in stage 1 alone share it).
        """
        run = self.find(variant, arm, seed)
        by_id = {record.run_id: record for record in self._stage0_of.get((variant.method, seed), ())}
        if run is not None and run.parent in by_id:
            return by_id[run.parent]
        if (same := self.find(variant, STAGE0, seed)) is not None:
            return same
        return next(iter(by_id.values())) if len(by_id) == 1 else None

    @cached_property
    def _stage0_of(self) -> Mapping[tuple[str, int], list[Record]]:
        index = defaultdict(list)
        for record in self.records:
            if record.key.arm == STAGE0:
                index[record.key.method, record.key.seed].append(record)
        return index

    def sample(self, find: Callable[[int], Record | None], measure: Callable[[Record], float | str | None]) -> Sample:
        """``measure`` of the run that ``find(seed)`` gives, for each seed; a string from ``measure`` is a code."""
        values: dict[int, float] = {}
        codes: dict[int, str] = {}
        stale = set()
        for seed in self.seeds:
            record = find(seed)
            if record is None:
                codes[seed] = "missing"
                continue
            result = measure(record) if record.status == "ok" else STATUS_CODES[record.status]
            if isinstance(result, str) or result is None:
                codes[seed] = result or "undefined"
            else:
                values[seed] = float(result)
            if record.run_id in self.options.stale:
                stale.add(seed)
        if set(codes.values()) == {"missing"} and not values:
            codes = dict.fromkeys(codes, "n/a")  # nobody planned it: not a gap among the seeds
        return Sample(values, codes, frozenset(stale))

    def score(self, variant: Variant, arm: str, task: str, metric: str | None = None) -> Sample:
        """Test score of ``task`` after ``arm``; the primary metric unless one is named."""
        asked = (variant, arm, task, metric)
        if asked not in self._scores:  # tables and figures ask for the same ones again and again
            self._scores[asked] = self.scores_of(lambda seed: self.find(variant, arm, seed, task), task, metric)
        return self._scores[asked]

    def scores_of(self, find: Callable[[int], Record | None], task: str, metric: str | None = None) -> Sample:
        """Test scores of ``task`` in the runs that ``find(seed)`` gives, with the noise of the test rows."""
        found = self.sample(find, lambda record: score(record, task, metric))
        primary_score = metric in (None, *PRIMARY)
        own = None if primary_score else metric
        vectors = {
            seed: vector for seed in found.values if (vector := self.noise.of(find(seed), task, own)) is not None
        }
        return replace(found, rows=vectors, score=primary_score)

    @cached_property
    def noise(self) -> Noise:
        return Noise(self)

    @cached_property
    def _scores(self) -> dict[tuple[Variant, str, str, str | None], Sample]:
        return {}

    @cached_property
    def reference(self) -> Variant | None:
        """The row that paired differences refer to: the named method, else the first that is no single-task model."""
        several = [variant for variant in self.variants if variant.method != SINGLE_TASK]
        named = [variant for variant in several if variant.method == self.options.reference]
        return self.main_variant(named or [v for v in several if v.method == several[0].method])

    def main_variant(self, variants: Sequence[Variant]) -> Variant | None:
        """Of a method's variants the one that the suite does not declare, else the one with most runs, else the first
        of those with the shortest config."""

        def rank(variant: Variant) -> tuple[bool, int, int]:
            return self.options.place(variant) == 0, self._runs_of[variant], -len(variant.config)

        return max(variants, key=rank, default=None)

    @cached_property
    def _runs_of(self) -> Counter[Variant]:
        return Counter(variant_of(record) for record in self.records)

    def single_task(self, task: str, metric: str | None = None) -> Sample:
        """The reference: a model trained on ``task`` alone."""
        variant = next((variant for variant in self.variants if variant.method == SINGLE_TASK), None)
        if variant is None:
            return Sample(codes=dict.fromkeys(self.seeds, "n/a"))
        return self.score(variant, SCRATCH, task, metric)

    def margin(self, task: str, metric: str = PRIMARY[0]) -> float:
        """Largest loss of ``task`` that counts as none, in the unit of the score; fixed before results are seen."""
        return self.options.margin_of(self.dataset, task, metric)

    @property
    def strictest_margin(self) -> float:
        """The smallest margin of the old tasks: what holds for the worst of them is measured by it."""
        return min((self.margin(task) for task in self.old_tasks), default=self.margin(""))

    @cached_property
    def records_hash(self) -> str:
        """Short hash of the records' content; it changes whenever a number behind the table does."""
        return records_hash(self.records)


class Noise:
    """Row noise of the runs of a group, from their records; for records without it, from stored predictions.

    A run scored on other labels than most of its group has none: it is not compared row by row. ``metric`` None: of the
    primary score; else of a metric per user, whose noise is over users. Other metrics have none.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._kept: dict[tuple[str, str], RowNoise | None] = {}
        self._labels: dict[tuple[str, str | None], str] = {}

    def of(self, record: Record | None, task: str, metric: str | None = None) -> NDArray[np.float64] | None:
        found = self._read(record, task, metric) if record is not None else None
        if found is None or found.labels != self._common_labels(task, metric):
            return None
        from benchmark.records.row_noise import unfolded

        return unfolded(found)

    def _common_labels(self, task: str, metric: str | None) -> str:
        """The labels (and users) that most runs were scored on; asked only where some run has any."""
        asked = task, metric
        if asked not in self._labels:
            read = [self._read(record, task, metric) for record in self._group.records]
            counts = Counter(noise.labels for noise in read if noise is not None)
            self._labels[asked] = min(counts, key=lambda labels: (-counts[labels], labels))
        return self._labels[asked]

    def _read(self, record: Record, task: str, metric: str | None) -> RowNoise | None:
        scores = record.scores.get(task)
        if scores is None:
            return None
        if metric is not None:
            return scores.users.noise.get(metric) if scores.users is not None else None
        asked = record.run_id, task
        if asked not in self._kept:
            self._kept[asked] = scores.rows or self._from_predictions(record, task)
        return self._kept[asked]

    def _from_predictions(self, record: Record, task: str) -> RowNoise | None:
        path = self._group.options.file(record.key, PREDICTIONS)
        arrays = read_arrays(path) if path is not None else None
        names = f"logits_{task}", f"labels_{task}"
        if arrays is None or not set(names) <= arrays.keys() or len({len(arrays[name]) for name in names}) != 1:
            return None  # not stored, or not readable: then the table says that only seeds were asked
        from benchmark.records.row_noise import row_noise

        kind = "binary" if primary(record.scores[task].metrics) == "auc" else "regression"
        return row_noise(kind, arrays[names[0]], arrays[names[1]])


def group_records(records: Iterable[Record], titles: Mapping[str, str], options: Options = Options()) -> list[Group]:
    """Groups in a fixed order.

    Trials of a search, which never saw test rows, belong to no table; stages of a chain have tables of their own. Runs
    that serve several partitions or label shares join each group that they serve.
    """
    groups: dict[tuple, list[Record]] = defaultdict(list)
    for record in records:
        if record.key.scored == "test" and not record.key.chain:
            groups[_place(record.key)].append(record)
    known = dict(groups)
    for place, found in known.items():
        served = [other for other in known if other != place and _serves(place, other)]
        for other in served:
            groups[other] = [*groups[other], *(record for record in found if _is_shared(record, other))]
        if served and not place[3]:
            del groups[place]
    return [
        Group(
            dataset, split, old, new, budget, selection, tuple(sorted(found, key=lambda r: r.run_id)), titles, options,
            track,
        )
        for (dataset, split, old, new, budget, selection, track), found in sorted(groups.items())
    ]  # fmt: skip


def _place(key: Key) -> tuple[str, str, tuple[str, ...], tuple[str, ...], str, str, str]:
    tasks = tuple(key.old_tasks), tuple(key.new_tasks)
    return key.dataset, key.split, *tasks, canonical(key.budget), key.selection, key.track


def _serves(place: tuple, other: tuple) -> bool:
    """Whether some runs of one place belong to another one, too: of no partition, or of all shares of the labels."""
    dataset, _, old, new, *_ = place
    if not new:
        return (dataset, place[1], place[4:]) == (other[0], other[1], other[4:]) and {*old} == {*other[2], *other[3]}
    base, share = without_share(other[0])
    return share is not None and (dataset, *place[1:]) == (base, *other[1:])


def _is_shared(record: Record, other: tuple) -> bool:
    """Of another share's records only what saw no label of a new task: stage 0 and the old tasks' references."""
    if not record.key.new_tasks:
        return True
    return record.key.arm == STAGE0 or (record.key.arm == SCRATCH and record.key.tasks[0] in other[2])


def arm_name(arm: str) -> str:
    """The name of an arm as `Group.arm` gives it, without the options by which its runs differ."""
    return arm.partition(" (")[0]


def score(record: Record, task: str, metric: str | None = None) -> float | str | None:
    """A test score, or the code that says why there is none."""
    if task not in record.scores:
        return "n/a"
    scores = record.scores[task]
    name = metric or primary(scores.metrics)
    value = scores.metrics.get(name)
    if value is None:
        return (
            "one-class" if scores.reasons.get(name) == ONE_CLASS else "undefined" if name in scores.metrics else "n/a"
        )
    return value


def primary(metrics: Mapping[str, float | None]) -> str:
    """Name of the metric by which a task with these metrics is compared."""
    return next((name for name in PRIMARY if name in metrics), PRIMARY[0])


def variant_of(record: Record) -> Variant:
    return Variant(record.key.method, canonical(record.key.config))


def read_arrays(path: Path) -> dict[str, NDArray] | None:
    """The arrays of a file beside a record, or None if it is damaged. Nothing in it is executed."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except Exception:  # what a spoilt archive raises has no common base, and no array is worth a report
        return None


def records_hash(records: Iterable[Record]) -> str:
    """8 hex digits over the content of all records, in any order; fields that the schema gains later change nothing."""
    lines = sorted(f"{record.run_id} {record.model_dump_json(exclude_defaults=True)}" for record in records)
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=4).hexdigest()


def _covers(record: Record, task: str) -> bool:
    """Does this run answer for the task? One that did not end well has no scores, but would score old ones too."""
    return task in record.scores or task in record.key.tasks or (record.status != "ok" and record.key.arm != SCRATCH)


def _difference(config: Mapping[str, object], siblings: Sequence[Mapping[str, object]]) -> str:
    """The values of ``config`` by which its siblings differ, as "name=value"; a name "variant" speaks for itself."""
    differing = sorted(
        name
        for name in set().union(*siblings)
        if len({canonical(sibling.get(name)) for sibling in siblings}) > 1 or any(name not in s for s in siblings)
    )
    if "variant" in differing:
        return str(config.get("variant", "default"))
    return ", ".join(f"{name}={_short(config[name])}" for name in differing if name in config)


def _short(value: object) -> str:
    return value if isinstance(value, str) else canonical(value)


def _named_options(record: Record) -> Mapping[str, float]:
    """The options of a run that tell ways of its arm apart: what the search of the track "equal" chose does not, since
    every method has its own learning rate and penalties there."""
    searched = {*OWN_TRAINING, "l2"} if record.key.track == "equal" else set()
    return {name: value for name, value in record.key.arm_config.items() if name not in searched}
