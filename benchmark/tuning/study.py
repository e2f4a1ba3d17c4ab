"""Tuning: every method gets the same number of trials, judged on validation rows alone.

A trial is the runs of one config: ordinary runs with ordinary records, in a tree of their own (``<out>/trials``), whose
keys say that they never see test rows. Nothing else is stored. The sampler is seeded by names, so the same command
asks for the same configs: what has a record is read, what has none is run, and a search that was stopped goes on where
it stopped, or further when it is given more trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UsageError
from benchmark.core.seeding import stream_seed
from benchmark.execution.executor import Options, execute_plan
from benchmark.execution.watcher import Watcher
from benchmark.planning.plan import REFERENCE_METHOD, Plan, Run, Skip, make_plan
from benchmark.planning.suite import Suite
from benchmark.records.record import Key, Record, run_directory, run_id, write_record
from benchmark.spec.arms import JOINT, SCRATCH, STAGE0
from benchmark.tuning.space import search_space, split_values
from methods import METHODS

if TYPE_CHECKING:
    import optuna

TRIALS = "trials"
ROUND = 4
"""Trials that are asked for before the first of them answers: a constant, so that what is tried does not depend on how
many runs go on at once."""
STARTUP_TRIALS = 8
"""Trials that are drawn before the sampler, a tree-structured Parzen estimator, has enough to learn from."""


@dataclass(frozen=True)
class TrialRun(Run):
    """A run that belongs to a trial."""

    trial: int = 0

    @property
    def label(self) -> str:
        return f"{super().label}/trial {self.trial}"


@dataclass
class Trial:
    """One config. ``values`` are what it changes, nothing in trial 0; ``runs`` is empty if the method rejects it.

    ``score`` is the mean of its runs' selection scores (over arms and seeds), or None with a ``reason``.
    """

    number: int
    values: Mapping[str, Any]
    runs: list[TrialRun]
    asked: optuna.trial.Trial = field(repr=False)
    score: float | None = None
    reason: str | None = None


class Study:
    """The search for the config of one method on one dataset, the only ones in ``suite``.

    Values that the suite sets for the method are not searched. Trial 0 is the config as it is without tuning. Raises
    UsageError for a search space that cannot be.
    """

    def __init__(self, suite: Suite, budgeted: int) -> None:
        (self.dataset,), (self.method,) = suite.datasets, suite.methods
        self.budgeted = budgeted
        self.trials: list[Trial] = []
        self.suite = suite
        self._set = suite.config.get(self.method, {})
        self.default_runs = self._runs({}, 0)
        key = self.default_runs[0].key
        options = {run.key.arm: run.key.arm_config for run in self.default_runs if run.key.arm_config}
        given = [f"{arm}.{name}" for arm, values in suite.arm_config.items() for name in values]
        fixed = [*self._set, *given]
        self.space = search_space(self.method, key.config, key.budget["learning_rate"], fixed, options)

    @property
    def arms(self) -> list[str]:
        """The arms that a trial runs."""
        return list(dict.fromkeys(run.key.arm for run in self.default_runs))

    @property
    def finished(self) -> bool:
        return len(self.trials) == self.budgeted

    @property
    def failed(self) -> int:
        return sum(trial.score is None for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The trial with the highest score; ties go to the earlier one."""
        scored = [trial for trial in self.trials if trial.score is not None]
        return max(scored, key=lambda trial: (trial.score, -trial.number), default=None)

    def ask(self) -> list[Trial]:
        """The next round of trials; none when all are spent."""
        spent = len(self.trials)
        return [self._ask(number) for number in range(spent, min(spent + ROUND, self.budgeted))]

    def tell(self, trials: Iterable[Trial], records: Mapping[str, Record]) -> None:
        """Judge trials by the records of their runs, by run id."""
        from optuna.trial import TrialState

        for trial in trials:
            if trial.runs:
                trial.score, trial.reason = _judge(trial.runs, records)
            state = TrialState.FAIL if trial.score is None else TrialState.COMPLETE
            self._search.tell(trial.asked, trial.score, state)
            self.trials.append(trial)

    def rejection(self, trial: Trial) -> Record:
        """The record of a trial whose config the method does not take."""
        key = self.default_runs[0].key
        key = key.model_copy(update={"config": {**key.config, **split_values(trial.values)[0]}})
        return Record(run_id=run_id(key), key=key, status="failed", reason=trial.reason)

    def _ask(self, number: int) -> Trial:
        asked = self._search.ask(self.space.distributions())
        values = self.space.values(asked.params) if number else {}
        try:
            return Trial(number, values, self._runs(values, number), asked)
        except UsageError as error:
            return Trial(number, values, [], asked, reason=str(error))

    @cached_property
    def _search(self) -> optuna.Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = stream_seed("tune", self.dataset, self.method) % 2**32  # all that numpy's older generators take
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        search = optuna.create_study(sampler=sampler, direction="maximize")
        search.enqueue_trial(self.space.default_parameters())
        return search

    def _runs(self, values: Mapping[str, Any], number: int) -> list[TrialRun]:
        """The runs of a config, without those that a plan adds for the tables."""
        own, arms = split_values(values)
        options = {
            arm: {**self.suite.arm_config.get(arm, {}), **arms.get(arm, {})} for arm in {*self.suite.arm_config, *arms}
        }
        changes = {"config": {self.method: {**self._set, **own}}, "arm_config": options}
        plan = make_plan(self.suite.model_copy(update=changes))
        runs = [
            TrialRun(on_validation(run.key), run.parent and on_validation(run.parent), trial=number)
            for run in plan.runs
            if run.key.method == self.method and run.reference == _shares_nothing(self.method)
        ]
        continued = {run_id(run.parent) for run in runs if run.parent is not None}
        return [run for run in runs if run.key.arm != STAGE0 or run.id in continued]


def studies(
    suite: Suite, trials: int, arms: Collection[str] = (), unavailable: Mapping[str, str] | None = None
) -> tuple[list[Study], list[Skip]]:
    """A study for every dataset and method of a suite, and what cannot be tuned with the reason.

    Without ``arms`` a trial is joint training on all tasks, or the first arm of a method that does not have it. The
    suite's tables by dataset do not count: they may be what an earlier search found.
    """
    found, skips = [], []
    for dataset in suite.datasets:
        for method in suite.methods:
            chosen = tuple(arms) or _usual_arms(method)
            narrowed: dict[str, Any] = {"datasets": (dataset,), "methods": (method,), "arms": chosen, "variants": {}}
            narrowed |= {"dataset_config": {}, "dataset_arm_config": {}, "config_file": None}
            narrowed |= {"search": {}, "track": "published"}
            one = suite.model_copy(update=narrowed)
            unsupported = [skip for skip in make_plan(one).skips if skip.method == method]
            if unavailable and dataset in unavailable:
                skips.append(Skip(dataset, method, chosen[0] if chosen else "", unavailable[dataset]))
            elif chosen and len(unsupported) == len(chosen):
                skips += unsupported
            else:
                found.append(Study(one, trials))
    return found, skips


def search(
    found: Sequence[Study],
    options: Options,
    watcher: Watcher,
    warn: Callable[[str], None],
    stale: Callable[[Record], bool],
    finished: Callable[[Study], None],
) -> bool:
    """Run the trials of all studies; ``finished`` is called with each one whose trials are spent.

    Studies are taken in groups that are large enough to keep ``options.jobs`` runs going. Returns False if it was
    interrupted, or if records are missing that the mode does not allow to make.
    """
    options = replace(options, out=options.out / TRIALS)
    at_once = max(1, 2 * options.jobs // ROUND)
    for first in range(0, len(found), at_once):
        group = found[first : first + at_once]
        while asked := [(study, trials) for study in group if (trials := study.ask())]:
            runs = {run.id: run for _, trials in asked for trial in trials for run in trial.runs}
            # every study has the suite's limits and threads
            summary = execute_plan(Plan(group[0].suite, list(runs.values())), options, watcher, warn, stale)
            records = {record.run_id: record for record in summary.records}
            if summary.interrupted or len(records) < len(runs):
                return False
            for study, trials in asked:
                _keep_rejections(study, trials, options.out, watcher)
                study.tell(trials, records)
                _drop_weights(trials, options.out)
        for study in group:
            finished(study)
    return True


def _usual_arms(method: str) -> tuple[str, ...]:
    """Joint training where a method has it; single-task models are planned without an arm being asked for."""
    supported = METHODS.get(method).info.arms
    return () if _shares_nothing(method) else (JOINT if JOINT in supported else supported[0],)


def _shares_nothing(method: str) -> bool:
    """Whether a method is one model for each task, whose runs every plan adds by itself."""
    return method == REFERENCE_METHOD or METHODS.get(method).info.arms == (SCRATCH,)


def on_validation(key: Key) -> Key:
    """The key of a run that never sees test rows."""
    return key.model_copy(update={"scored": "validation"})


def _judge(runs: Sequence[TrialRun], records: Mapping[str, Record]) -> tuple[float | None, str | None]:
    """The score of a trial, or the reason why it has none."""
    scores = []
    for run in runs:
        record = records[run.id]
        if record.status != "ok":
            return None, f"{run.key.arm}, seed {run.key.seed}: {record.status}: {record.reason}"
        if record.selection is None or record.selection.score is None:
            return None, f"{run.key.arm}, seed {run.key.seed}: no task has a validation score"
        scores.append(record.selection.score)
    return math.fsum(scores) / len(scores), None


def _keep_rejections(study: Study, trials: Iterable[Trial], out: Path, watcher: Watcher) -> None:
    for trial in trials:
        if not trial.runs:
            record = study.rejection(trial)
            kept = (run_directory(out, record.key) / "record.json").is_file()
            write_record(run_directory(out, record.key), record)
            watcher.ended(TrialRun(record.key, trial=trial.number), record, kept)


def _drop_weights(trials: Iterable[Trial], out: Path) -> None:
    """Stage-0 weights are as large as the model and nobody continues those of a trial that is over."""
    for trial in trials:
        for run in trial.runs:
            (run.directory(out) / "weights.pt").unlink(missing_ok=True)
