"""What will be run: a suite spread out into runs with their dependencies, references added, impossible cells named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.errors import UsageError, unknown_name
from benchmark.planning.configs import resolve_config
from benchmark.planning.suite import Suite
from benchmark.records.record import Key, run_directory, run_id
from benchmark.spec.arms import ARMS, JOINT, SCRATCH, STAGE0
from benchmark.spec.budget import SELECTION_RULE
from methods import METHODS

if TYPE_CHECKING:
    from datasets_registry.base import Dataset

REFERENCE_METHOD = "single_task"


@dataclass(frozen=True)
class Run:
    """One planned run. ``parent`` is the stage-0 run it continues; ``reference`` tells that the plan added it."""

    key: Key
    parent: Key | None = None
    reference: bool = False

    @property
    def id(self) -> str:
        return run_id(self.key)

    @property
    def label(self) -> str:
        """What progress and messages call it."""
        task = f":{self.key.tasks[0]}" if self.key.arm == SCRATCH else ""
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
    """Runs in an order in which parents come first, and the skips."""

    suite: Suite
    runs: list[Run] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)


@dataclass(frozen=True)
class _Entry:
    """A method with its config on one dataset."""

    method: str
    config: dict[str, object]


def make_plan(suite: Suite, unavailable: dict[str, str] | None = None) -> Plan:
    """Spread a suite out. ``unavailable`` maps datasets that cannot be had to the reason.

    Reference runs join by themselves: single-task models of every task, and joint retraining of every method that
    takes in the new task in another way. Raises UsageError for unknown names before anything is planned.
    """
    for arm in suite.arms:
        if arm not in ARMS:
            raise unknown_name("arm", arm, ARMS)
        if arm in (STAGE0, SCRATCH):
            raise UsageError(f"'{arm}' is no arm to ask for: its runs are added to every plan by themselves.")
    _check_dataset_config(suite)
    plan = Plan(suite)
    for name in suite.datasets:
        dataset = _dataset(name)
        entries = _entries(suite, name)
        if unavailable and name in unavailable:
            plan.skips += [Skip(name, entry.method, arm, unavailable[name]) for entry in entries for arm in suite.arms]
            continue
        for seed in suite.seeds:
            _plan_seed(plan, dataset, name, entries, seed)
    return plan


def _plan_seed(plan: Plan, dataset: Dataset, name: str, entries: Sequence[_Entry], seed: int) -> None:
    suite = plan.suite
    old, new = partition(dataset, suite.new_tasks)
    reference = _Entry(REFERENCE_METHOD, _config(suite, REFERENCE_METHOD, name))

    def key(entry: _Entry, arm: str, tasks: list[str]) -> Key:
        return Key(
            dataset=name,
            split=dataset.split,
            old_tasks=old,
            new_tasks=new,
            tasks=tasks,
            method=entry.method,
            config=entry.config,
            arm=arm,
            stage=0 if tasks and set(tasks) <= set(old) else 1,
            budget=suite.budget_for(name),
            selection=SELECTION_RULE,
            seed=seed,
            arm_config=ARMS[arm].resolve(suite.arm_config.get(arm, {})),
        )

    for task in [*old, *new]:
        plan.runs.append(Run(key(reference, SCRATCH, [task]), reference=True))
    for entry in entries:
        info = METHODS.get(entry.method).info
        if entry.method == REFERENCE_METHOD:
            continue
        stage0 = Run(key(entry, STAGE0, old))
        plan.runs.append(stage0)
        wanted = [arm for arm in suite.arms if ARMS[arm].supported_by(info.arms, info.without)]
        if seed == suite.seeds[0]:
            for arm in suite.arms:
                if arm not in wanted:
                    plan.skips.append(Skip(name, entry.method, arm, f"{entry.method} does not support the arm '{arm}'"))
        if wanted and JOINT not in wanted and JOINT in info.arms:
            plan.runs.append(Run(key(entry, JOINT, [*old, *new]), reference=True))
        for arm in wanted:
            parent = stage0.key if ARMS[arm].from_stage0 else None
            plan.runs.append(Run(key(entry, arm, ARMS[arm].tasks(old, new)), parent))


def partition(dataset: Dataset, new_tasks: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Old and new tasks: the dataset's default, or every default task that is not named new. Raises UsageError."""
    if new_tasks is None:
        return list(dataset.old_tasks), list(dataset.new_tasks)
    known = {task.name for task in dataset.tasks}
    for task in new_tasks:
        if task not in known:
            raise unknown_name(f"task of {dataset.name}", task, known)
    old = [task for task in dataset.old_tasks if task not in new_tasks]
    if not old:
        raise UsageError(f"--new-task: {dataset.name} has no old task left.")
    return old, list(new_tasks)


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
        entries.append(_Entry(method, _config(suite, method, dataset, values)))
    return entries


def _config(suite: Suite, method: str, dataset: str, extra: dict[str, object] | None = None) -> dict[str, object]:
    """From the weakest to the strongest: defaults, the method's preset on the dataset, the suite's values on the
    dataset (a config file's, say), the suite's and the command line's for the method, the variant's."""
    model = METHODS.get(method)
    layers = suite.config_on(dataset, method), suite.config.get(method, {}), extra or {}
    return resolve_config(model.Config, method, _preset(method, dataset), *layers)


def _preset(method: str, dataset: str) -> Mapping[str, object]:
    return METHODS.get(method).info.presets.get(dataset.partition("@")[0], {})


def _check_dataset_config(suite: Suite) -> None:
    """Every name and value of ``dataset_config``, used or not: a table under a misspelt name would change nothing."""
    for dataset, table in suite.dataset_config.items():
        for method, values in table.items():
            try:
                _dataset(dataset)
                resolve_config(METHODS.get(method).Config, method, _preset(method, dataset), values)
            except UsageError as error:
                place = f"{suite.config_file or f'suite {suite.name}'}: [dataset_config.{dataset}.{method}]"
                raise UsageError(f"{place}: {error}") from error
