"""What will be run: a suite spread out into runs with their dependencies, references added, impossible cells named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.errors import UsageError, unknown_name
from benchmark.planning.configs import resolve_config
from benchmark.planning.fitting import NEAR, fitted, no_room, size_option, too_few_positives, trained_weights
from benchmark.planning.funnels import unfit, with_funnel
from benchmark.planning.problems import NoProblem, Problem, problems
from benchmark.planning.suite import Suite
from benchmark.planning.tracks import check_track, passes
from benchmark.records.lineage import parent_key, stage0_key
from benchmark.records.record import Key, run_directory, run_id
from benchmark.spec.arms import ARMS, JOINT, SCRATCH, STAGE0
from benchmark.spec.budget import SELECTION_RULES
from benchmark.spec.labels import without_share
from methods import METHODS

if TYPE_CHECKING:
    from datasets_registry.base import Dataset
    from datasets_registry.encoding.store import EncodedDataset

REFERENCE_METHOD = "single_task"

Look = Callable[[str], "EncodedDataset | None"]


@dataclass(frozen=True)
class Run:
    """One planned run. ``parent`` is the run it continues; ``reference`` tells that the plan added it; ``note`` is what
    a dry run says of it."""

    key: Key
    parent: Key | None = None
    reference: bool = False
    note: str = ""

    @property
    def id(self) -> str:
        return run_id(self.key)

    @property
    def label(self) -> str:
        """What progress and messages call it."""
        task = f":{self.key.tasks[0]}" if self.key.arm == SCRATCH else ""
        task += f":{'>'.join(self.key.chain)}" if self.key.chain else ""
        return f"{self.key.dataset}/{self.key.method}/{self.key.arm}{task}/seed {self.key.seed}"

    def directory(self, out: Path) -> Path:
        return run_directory(out, self.key)


@dataclass(frozen=True)
class Skip:
    """A cell that cannot be run, and why. A declared skip is no failure."""

    dataset: str
    method: str
    arm: str
    reason: str


@dataclass
class Plan:
    """Runs in an order in which parents come first, and the skips. ``counted`` remembers trained weights, for which a
    model has to be built."""

    suite: Suite
    runs: list[Run] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    counted: dict[tuple[str, ...], int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Entry:
    """A method with its config on one dataset."""

    method: str
    config: dict[str, object]


def make_plan(suite: Suite, unavailable: dict[str, str] | None = None, look: Look | None = None) -> Plan:
    """Spread a suite out. ``unavailable`` maps datasets that cannot be had to the reason.

    Reference runs join by themselves: single-task models of every task, and joint retraining of every method that
    takes in the new task in another way. ``look`` gives a dataset's arrays by name, or None while they are not at hand:
    then nothing is skipped for want of labels, and no arm is fitted to a size. Raises UsageError for unknown names
    before anything is planned.
    """
    for arm in suite.arms:
        if arm not in ARMS:
            raise unknown_name("arm", arm, ARMS)
        if arm in (STAGE0, SCRATCH):
            raise UsageError(f"'{arm}' is no arm to ask for: its runs are added to every plan by themselves.")
    _check_dataset_config(suite)
    plan = Plan(suite)
    for name in suite.datasets:
        entries = _entries(suite, name)
        for problem in _problems(plan, name, entries):
            reason = (unavailable or {}).get(name) or _lacking(suite, problem, look)
            if reason:
                plan.skips += [Skip(problem.name, entry.method, arm, reason) for entry in entries for arm in suite.arms]
                continue
            for seed in suite.seeds:
                _Planner(plan, problem, seed, look).plan(entries)
    unique: dict[str, Run] = {}
    for run in plan.runs:
        unique.setdefault(run.id, run)  # problems share runs
    plan.runs = list(unique.values())
    check_track(suite, [run.key for run in plan.runs])
    return plan


def _problems(plan: Plan, name: str, entries: Sequence[_Entry]) -> list[Problem]:
    """A dataset's problems; where it has none and others are asked for, too, its cells are skipped."""
    try:
        return problems(plan.suite, _dataset(name), name)
    except NoProblem as error:
        if len(plan.suite.datasets) == 1:
            raise
        plan.skips += [Skip(name, entry.method, arm, str(error)) for entry in entries for arm in plan.suite.arms]
        return []


def _lacking(suite: Suite, problem: Problem, look: Look | None) -> str | None:
    """Why a problem with few labels cannot be learnt, or None."""
    data = look(problem.name) if look is not None and suite.label_shares else None
    if data is None:
        return None
    found = (too_few_positives(data, task, suite.least_positives) for task in problem.new)
    return next((reason for reason in found if reason), None)


@dataclass(frozen=True)
class _Planner:
    """The runs of one problem at one seed, put into a plan."""

    into: Plan
    problem: Problem
    seed: int
    look: Look | None

    def plan(self, entries: Sequence[_Entry]) -> None:
        suite, problem = self.into.suite, self.problem
        reference = _Entry(REFERENCE_METHOD, _config(suite, REFERENCE_METHOD, problem.name))
        for task in problem.tasks:
            self._add(self._reference(reference, SCRATCH, [task]), reference=True)
        for entry in entries:
            if entry.method != REFERENCE_METHOD:
                self._plan_entry(entry)

    def _plan_entry(self, entry: _Entry) -> None:
        info = METHODS.get(entry.method).info
        arms = self.into.suite.arms
        if info.arms == (SCRATCH,):  # it shares nothing: a model of each task, and no arm to skip
            for task in self.problem.tasks:
                self._add(self._reference(entry, SCRATCH, [task]), reference=True)
            return
        if reason := unfit(self.problem.dataset, self.problem.tasks, entry.method, entry.config):
            for arm in arms:
                self._skip(entry, arm, reason)
            return
        self._add(stage0_key(self._key(entry, STAGE0, self.problem.old)))
        wanted = [arm for arm in arms if ARMS[arm].supported_by(info.arms, info.without)]
        for arm in arms:
            if arm not in wanted:
                self._skip(entry, arm, f"{entry.method} does not support the arm '{arm}'")
        if JOINT in info.arms and wanted:
            self._plan_joint(entry, reference=JOINT not in wanted)
        for arm in wanted:
            if arm == JOINT:
                continue
            if self.problem.orders:
                self._plan_chains(entry, arm)
            elif self.into.suite.trained_weights:
                self._plan_sizes(entry, arm)
            else:
                self._add(self._key(entry, arm, ARMS[arm].tasks(self.problem.old, self.problem.new)))

    def _plan_joint(self, entry: _Entry, reference: bool) -> None:
        """Retraining with all tasks known; in a chain once for every set of tasks that an order has brought by then."""
        for order in self.problem.orders:
            for stage in range(1, len(order)):
                brought = [task for task in self.problem.new if task in order[:stage]]
                key = self._key(entry, JOINT, [*self.problem.old, *brought])
                self._add(key.model_copy(update={"chain": brought, "stage": stage}), reference)
        self._add(self._reference(entry, JOINT, list(self.problem.tasks)), reference)

    def _plan_chains(self, entry: _Entry, arm: str) -> None:
        """One run for every task of every order; orders that begin alike share their first stages."""
        for order in self.problem.orders:
            if reason := no_room(entry.method, entry.config, arm, self.problem, order):
                self._skip(entry, arm, reason)
                continue
            for stage in range(1, len(order) + 1):
                brought = order[:stage] if ARMS[arm].trains == "all" else [order[stage - 1]]
                key = self._key(entry, arm, ARMS[arm].tasks(self.problem.old, brought))
                self._add(key.model_copy(update={"chain": list(order[:stage]), "stage": stage}))

    def _plan_sizes(self, entry: _Entry, arm: str) -> None:
        """One run for every size that the arm can be given, and one at its own size where it has no choice."""
        suite, data = self.into.suite, self.look(self.problem.name) if self.look else None
        base = self._key(entry, arm, ARMS[arm].tasks(self.problem.old, self.problem.new))
        if data is None:
            return self._skip(entry, arm, "its options are fitted to the sizes once the data is at hand")

        def count(options: Mapping[str, float]) -> int:
            place = self.problem.name, entry.method, repr(entry.config), arm, repr(options)
            if place not in self.into.counted:  # the same for every seed and target
                found = trained_weights(data, entry.method, entry.config, arm, self.problem, options)
                self.into.counted[place] = found
            return self.into.counted[place]

        if size_option(ARMS[arm]) is None:
            return self._add(base, note=f"trains {count(base.arm_config):,} weights")
        for target in suite.trained_weights:
            found = fitted(count, ARMS[arm], base.arm_config, target)
            if abs(found.trained - target) > NEAR * target:
                self._skip(entry, arm, f"cannot train about {target:,} weights: the nearest is {found.trained:,}")
            else:
                note = f"trains {found.trained:,} weights for {target:,}"
                self._add(base.model_copy(update={"arm_config": dict(found.options)}), note=note)
        return None

    def _key(self, entry: _Entry, arm: str, tasks: Sequence[str]) -> Key:
        suite, problem = self.into.suite, self.problem
        return Key(
            dataset=problem.name,
            split=problem.dataset.split,
            old_tasks=list(problem.old),
            new_tasks=list(problem.new),
            tasks=list(tasks),
            method=entry.method,
            config=entry.config,
            arm=arm,
            stage=0 if tasks and set(tasks) <= set(problem.old) else 1,
            budget=suite.budget_for(problem.name),
            selection=SELECTION_RULES[suite.selection],
            seed=self.seed,
            arm_config=ARMS[arm].resolve(suite.arm_config_on(problem.name, entry.method, arm)),
            track=suite.track,
            search_passes=passes(suite, problem.name, entry.method, arm),
        )

    def _reference(self, entry: _Entry, arm: str, tasks: list[str]) -> Key:
        """A run that knows no old and new: where problems differ in nothing else it is one for all of them.

        A single-task model of an old task sees no label of a new one, so all shares of those labels share it.
        """
        key = self._key(entry, arm, tasks)
        if self.problem.shared:
            everything = [task.name for task in self.problem.dataset.tasks if task.name in self.problem.tasks]
            ordered = tasks if arm == SCRATCH else everything
            return key.model_copy(
                update={"old_tasks": everything, "new_tasks": [], "tasks": ordered, "stage": int(arm == JOINT)}
            )
        if arm == SCRATCH and tasks[0] in self.problem.old:
            return key.model_copy(update={"dataset": without_share(key.dataset)[0]})
        return key

    def _add(self, key: Key, reference: bool = False, note: str = "") -> None:
        self.into.runs.append(Run(key, parent_key(key), reference, note))

    def _skip(self, entry: _Entry, arm: str, reason: str) -> None:
        skip = Skip(self.problem.name, entry.method, arm, reason)
        if skip not in self.into.skips:  # the same at every seed
            self.into.skips.append(skip)


def _dataset(name: str) -> Dataset:
    from datasets_registry import find

    return find(name)


def _entries(suite: Suite, dataset: str) -> list[_Entry]:
    """The suite's methods and variants with their resolved configs on a dataset, each once."""
    entries = [_Entry(method, _config(suite, method, dataset)) for method in suite.methods]
    for name, variant in suite.variants.items():
        values = dict(variant)
        method = values.pop("method", None)
        if not isinstance(method, str):
            raise UsageError(f"variant '{name}' must name its method: method = \"...\"")
        if method == REFERENCE_METHOD:
            base = dataset.partition("@")[0]
            raise UsageError(
                f"variant '{name}': tables measure gains from {method}, so it has one config on a dataset. Give it in "
                f"[config.{method}] or [dataset_config.{base}.{method}]."
            )
        entries.append(_Entry(method, _config(suite, method, dataset, values)))
    return entries


def _config(suite: Suite, method: str, dataset: str, extra: dict[str, object] | None = None) -> dict[str, object]:
    """From the weakest to the strongest: defaults, the method's preset on the dataset, the suite's values on the
    dataset (a config file's, say), the suite's and the command line's for the method, the variant's."""
    return _resolved(method, dataset, suite.config_on(dataset, method), suite.config.get(method, {}), extra or {})


def _resolved(method: str, dataset: str, *layers: Mapping[str, object]) -> dict[str, object]:
    config = resolve_config(METHODS.get(method).Config, method, _preset(method, dataset), *layers)
    described = _dataset(without_share(dataset)[0])
    if all(feature.kind != "sequence" for feature in described.features):
        config.pop("sequence_pooling", None)  # it changes nothing there, and must not make it another run
    return with_funnel(config, method, described)


def own_config(method: str, dataset: str) -> dict[str, object] | None:
    """A method's config on a dataset as it is, its preset there over its defaults; None where either is not known here
    or one does not fit the other."""
    try:
        return _resolved(method, dataset)
    except UsageError:
        return None


def _preset(method: str, dataset: str) -> Mapping[str, object]:
    return METHODS.get(method).info.presets.get(dataset.partition("@")[0], {})


def _check_dataset_config(suite: Suite) -> None:
    """Every name and value of the suite's tables by dataset, used or not: a table under a misspelt name would change
    nothing."""
    for dataset, table in suite.dataset_config.items():
        for method, values in table.items():
            with _placed(suite, f"dataset_config.{dataset}.{method}"):
                _dataset(dataset)
                resolve_config(METHODS.get(method).Config, method, _preset(method, dataset), values)
    for dataset, by_method in suite.dataset_arm_config.items():
        for method, by_arm in by_method.items():
            for arm, options in by_arm.items():
                with _placed(suite, f"dataset_arm_config.{dataset}.{method}.{arm}"):
                    _dataset(dataset)
                    METHODS.get(method)
                    if arm not in ARMS:
                        raise unknown_name("arm", arm, ARMS)
                    ARMS[arm].resolve(options)


@contextmanager
def _placed(suite: Suite, table: str) -> Iterator[None]:
    """Puts the place of a table before what is wrong in it."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{suite.config_file or f'suite {suite.name}'}: [{table}]: {error}") from error
