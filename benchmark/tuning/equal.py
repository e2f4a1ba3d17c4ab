"""The search of the track "equal": every method and arm gets the same space and the same passes over the rows.

The space is what all have: learning rate, L2 of the embedding tables, L2 of the dense layers, dropout. One Latin
hypercube gives the configs, the same for every method and arm of a dataset, and the config without tuning stands beside
them. They are narrowed by successive halving (Jamieson and Talwalkar, AISTATS 2016), judged on validation rows by the
new tasks. Stage 0 and joint training share the values that joint training finds; an arm that continues stage 0 then
finds its own learning rate and penalties, its size being fixed. Values hold for all problems of a dataset.

A trial is ordinary runs with ordinary records, as in `benchmark.tuning.study`: what has a record is read, what has none
is run, and a search that was stopped goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from benchmark.core.errors import UsageError
from benchmark.core.seeding import stream_seed
from benchmark.planning.plan import REFERENCE_METHOD, Run, make_plan
from benchmark.planning.suite import SearchBudget, Searched, Suite
from benchmark.planning.tracks import fits_itself, untuned
from benchmark.records.record import Record, run_id
from benchmark.spec.arms import ARMS, JOINT, SCRATCH
from benchmark.tuning.space import DIGITS, described
from benchmark.tuning.study import TrialRun, on_validation
from methods import METHODS
from methods.base import Among, Between, Search

SPACE: Mapping[str, Search] = {
    "learning_rate": Between(3e-4, 1e-2, log=True),
    "l2_embedding": Between(1e-6, 1e-2, log=True),
    "l2_dnn": Between(1e-7, 1e-3, log=True),
    "dropout": Among((0.0, 0.1, 0.3)),
}
"""The same for every method and arm, as far as a method has them; an arm that continues stage 0 keeps its dropout."""


SEARCH = "search"
"""Folder of a result tree that holds the trials."""
EXPECTED = 1 / 3
"""Share of its epochs that a run is taken to need before patience ends it, where the cost of a search is planned: on
Census-Income runs that may train for 60 epochs took 17 on average."""


@dataclass(frozen=True)
class Entry:
    """What has a search of its own: a method by the arm that its config is judged by, or an arm of it after stage 0."""

    dataset: str
    method: str
    arm: str

    @property
    def after_stage0(self) -> bool:
        return ARMS[self.arm].reads_stage0


@dataclass
class Trial:
    """One config: what it changes (nothing in trial 0), and its score after each round that it took part in."""

    number: int
    values: Mapping[str, Any]
    scores: list[float | None] = field(default_factory=list)
    passes: float = 0.0
    reason: str | None = None


def entries(suite: Suite, dataset: str) -> tuple[list[Entry], list[Entry]]:
    """The searches that a suite needs on a dataset: first those of methods, then those of arms after stage 0."""
    methods = dict.fromkeys([REFERENCE_METHOD, *suite.methods])
    methods |= dict.fromkeys(str(variant["method"]) for variant in suite.variants.values())
    first, then = [], []
    for method in methods:
        info = METHODS.get(method).info
        if fits_itself(method):
            continue
        arms = [arm for arm in suite.arms if ARMS[arm].supported_by(info.arms, info.without)]
        if method == REFERENCE_METHOD:
            first.append(Entry(dataset, method, SCRATCH))
        elif JOINT in info.arms and arms:
            first.append(Entry(dataset, method, JOINT))
            then += [Entry(dataset, method, arm) for arm in arms if ARMS[arm].reads_stage0]
    return first, then


def planned_passes(suite: Suite, served: Sequence[Run]) -> tuple[float, float]:
    """Passes over the rows that the search takes, and those of the runs that it serves.

    Training stops by patience, so a run is taken to need `EXPECTED` of the epochs that it is allowed.
    """
    spent = 0.0
    for dataset in suite.datasets:
        first, then = entries(suite, dataset)
        spent += suite.search_budget.passes * len(first + then)
        spent += len({entry.method for entry in then}) * suite.budget_for(dataset)["epochs"] * EXPECTED  # their stage 0
    trained = [run.key for run in served if not fits_itself(run.key.method)]
    return spent, sum(ARMS[key.arm].budget(key.budget).epochs * EXPECTED for key in trained)


class Halving:
    """The search for one entry. ``ask`` gives the runs of the next round, ``tell`` takes their records."""

    def __init__(self, suite: Suite, entry: Entry, name: str) -> None:
        """``name``: the dataset that is searched, a sample of the entry's where that has many rows."""
        self.entry, self.suite = entry, suite
        self._name = name
        self._round = 0
        base = self._runs({}, suite.budget_for(name))[0].key
        defaults = {**base.config, **base.arm_config}
        defaults.setdefault("learning_rate", base.budget["learning_rate"])
        self.dimensions = {
            n: s for n, s in SPACE.items() if n in defaults and not (entry.after_stage0 and n == "dropout")
        }
        self.base = base
        configs = suite.search_budget.rounds[0][0]
        drawn = points(entry.dataset, suite.search_budget.seed, configs - 1)
        self.trials = [Trial(0, {}), *(Trial(n, self._values(point)) for n, point in enumerate(drawn, 1))]
        self._alive = list(self.trials)

    def ask(self) -> dict[int, list[TrialRun]]:
        """The runs of the next round by trial; empty when the search is over."""
        rounds = self.suite.search_budget.rounds
        if self._round == len(rounds):
            return {}
        _, epochs = rounds[self._round]
        budget = {**self.suite.budget_for(self._name), "epochs": epochs, "patience": epochs}
        budget = {name: value for name, value in budget.items() if not name.startswith("new_task_")}
        return {trial.number: self._runs(trial.values, budget, trial.number) for trial in self._alive}

    def tell(self, asked: Mapping[int, Sequence[TrialRun]], records: Mapping[str, Record]) -> None:
        """Judge a round and let the best go on; the config without tuning always does."""
        for trial in self._alive:
            found = [records[run.id] for run in asked[trial.number]]
            trial.passes += sum(len(record.curve) for record in found) / len(found)
            scores = [judged(record) for record in found]
            bad = next((record for record in found if record.status != "ok"), None)
            known = [score for score in scores if score is not None]
            trial.scores.append(fmean(known) if len(known) == len(scores) and bad is None else None)
            if trial.scores[-1] is None:
                trial.reason = f"{bad.status}: {bad.reason}" if bad else "no new task has a validation score"
        self._round += 1
        if self._round < len(self.suite.search_budget.rounds):
            number = self.suite.search_budget.rounds[self._round][0]
            default, *drawn = self._alive
            self._alive = [default, *sorted(drawn, key=_standing)[: number - 1]]

    @property
    def best(self) -> Trial:
        """The best of the last round; ties, and a search in which all failed, go to the config without tuning."""
        return min(self._alive, key=_standing)

    def searched(self) -> Searched | None:
        """What the search took and brought; None where no config has a score."""
        default, best = self.trials[0].scores[-1], self.best.scores[-1]
        if best is None:
            return None
        return Searched(
            trials=len(self.trials),
            failed=sum(trial.reason is not None for trial in self.trials),
            arms=(self.entry.arm,),
            seeds=self.suite.seeds[:1],
            dimensions={name: described(search) for name, search in self.dimensions.items()},
            default=default,
            best=best,
            trial=self.best.number,
            options=dict(self.best.values) if self.entry.after_stage0 else {},
            passes=self.suite.search_budget.passes,
        )

    def _values(self, point: Sequence[float]) -> dict[str, Any]:
        """A point of the unit cube as config values; every entry reads the same coordinates."""
        coordinates = dict(zip(SPACE, point, strict=True))
        values = {name: _value(search, coordinates[name]) for name, search in self.dimensions.items()}
        if "dropout" in values and isinstance(self.base.config["dropout"], list):
            widths = self.base.config.get("hidden") or self.base.config["dropout"]
            values["dropout"] = [values["dropout"]] * len(widths) if values["dropout"] else []
        if "l2_dnn" in values and "l2" in ARMS[self.entry.arm].later_options:
            values["l2"] = values["l2_dnn"]  # of the matrices that the arm adds
        return values

    def _runs(self, values: Mapping[str, Any], budget: Mapping[str, Any], number: int = 0) -> list[TrialRun]:
        entry, suite = self.entry, self.suite
        changes: dict[str, Any] = {
            "datasets": (self._name,), "methods": (entry.method,), "variants": {}, "seeds": suite.seeds[:1],
            "track": "published", "label_shares": (), "chain": {}, "trained_weights": (),
            "arms": (JOINT,) if entry.arm == SCRATCH else (entry.arm,),
            "new_tasks": None if suite.new_tasks == "each" else suite.new_tasks,
        }  # fmt: skip
        # The values of the dataset, by its own name: a sample has another.
        config = {**suite.config_on(entry.dataset, entry.method), **suite.config.get(entry.method, {})}
        options = suite.arm_config_on(entry.dataset, entry.method, entry.arm)
        own, of_arm = ({}, values) if entry.after_stage0 else (values, {})
        changes["config"] = {**suite.config, entry.method: {**config, **own}}
        changes["arm_config"] = {**suite.arm_config, entry.arm: {**options, **of_arm}} if entry.after_stage0 else {}
        plan = make_plan(suite.model_copy(update=changes))
        mine = [run for run in plan.runs if run.key.method == entry.method and run.key.arm == entry.arm]
        if entry.arm == SCRATCH:
            new = {task for run in mine for task in run.key.new_tasks}
            mine = [run for run in mine if run.key.tasks[0] in new]
        # Stage 0 of a trial trains as long as that of the suite: only what follows it is cut short.
        return [
            TrialRun(
                on_validation(run.key).model_copy(update={"budget": dict(budget)}),
                run.parent and on_validation(run.parent),
                trial=number,
            )
            for run in mine
        ]


def points(dataset: str, seed: int, number: int) -> list[list[float]]:
    """Points [number][dimensions] of the unit cube, spread evenly in every coordinate; the same for every entry."""
    from scipy.stats import qmc

    if not number:
        return []
    generator = np.random.default_rng(stream_seed("equal search", dataset, seed))
    return qmc.LatinHypercube(len(SPACE), rng=generator).random(number).tolist()


def judged(record: Record) -> float | None:
    """The validation score of a trial's run: the mean over its new tasks at the kept epoch, of a run without new tasks
    over all that it trains."""
    if record.status != "ok" or record.selection is None:
        return None
    kept = next((epoch for epoch in record.curve if epoch.epoch == record.selection.epoch), None)
    if kept is None:
        return None
    wanted = [task for task in record.key.new_tasks if task in kept.validation] or list(kept.validation)
    scores = [kept.validation[task].get("auc", kept.validation[task].get("r2")) for task in wanted]
    known = [score for score in scores if score is not None]
    return fmean(known) if known and len(known) == len(scores) else None


def rounds(searches: Sequence[Halving], run: Callable[[list[Run]], Mapping[str, Record] | None]) -> bool:
    """Carry out searches side by side; ``run`` gives the records by run id, or None if it was stopped."""
    while asked := [(search, runs) for search in searches if (runs := search.ask())]:
        trials = [trial for _, by_trial in asked for runs in by_trial.values() for trial in runs]
        before = {run_id(trial.parent): Run(trial.parent) for trial in trials if trial.parent is not None}
        records = run([*before.values(), *trials])
        if records is None:
            return False
        for search, by_trial in asked:
            search.tell(by_trial, records)
    return True


def with_found(suite: Suite, searches: Sequence[Halving]) -> Suite:
    """The suite with the values that searches found and what they took."""
    config, arm_config = _copied(suite.dataset_config), _copied(suite.dataset_arm_config)
    search, arm_search = _copied(suite.search), _copied(suite.arm_search)
    for one in searches:
        entry, searched = one.entry, one.searched()
        if searched is None:
            continue
        if entry.after_stage0:
            own = arm_config.setdefault(entry.dataset, {}).setdefault(entry.method, {})
            own[entry.arm] = {**own.get(entry.arm, {}), **one.best.values}
            arm_search.setdefault(entry.dataset, {}).setdefault(entry.method, {})[entry.arm] = searched
        else:
            inherited = suite.config_on(entry.dataset, entry.method)
            config.setdefault(entry.dataset, {})[entry.method] = {**inherited, **one.best.values}
            search.setdefault(entry.dataset, {})[entry.method] = searched
    changes = {"dataset_config": config, "dataset_arm_config": arm_config, "search": search, "arm_search": arm_search}
    return suite.model_copy(update=changes)


def _copied(tables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) if isinstance(value, Mapping) else value for name, value in tables.items()}


def _standing(trial: Trial) -> tuple[float, int]:
    score = trial.scores[-1] if trial.scores else None
    return -score if score is not None else math.inf, trial.number


def _value(search: Search, coordinate: float) -> Any:
    if isinstance(search, Among):
        return search.choices[min(int(coordinate * len(search.choices)), len(search.choices) - 1)]
    low, high = math.log(search.low), math.log(search.high)
    return float(f"{math.exp(low + coordinate * (high - low)):.{DIGITS}g}")


def sample_name(dataset: str, rows: int, budget: SearchBudget) -> str:
    """The dataset to search on: itself, or a sample of its rows where it has more than the budget's."""
    if rows <= budget.rows:
        return dataset
    return f"{dataset}{'+' if '@' in dataset else '@'}{math.floor(1000 * 100 * budget.rows / rows) / 1000:g}pct"


def cost_in_fact(trials: Iterable[Record], served: Iterable[Record]) -> str:
    """A sentence on what the search took, by the epochs that trials and runs were trained for."""
    taken, all_runs = (
        sum(len(record.curve) for record in records if not fits_itself(record.key.method))
        for records in (trials, served)
    )
    share = f"{taken / max(all_runs, 1):.0%}"
    return f"The search took {taken:,} passes over the rows, {share} of the {all_runs:,} of the runs."


def cost(suite: Suite, served: Sequence[Run]) -> str:
    """A sentence on what the search costs. Raises UsageError where that is more than the suite allows."""
    spent, all_runs = planned_passes(suite, served)
    budget = suite.search_budget
    said = (
        f"The search takes about {spent:,.0f} passes over the rows ({budget.passes} for each method and arm), "
        f"{spent / max(all_runs, 1):.0%} of the {all_runs:,.0f} of the {len(served)} runs that it serves, if a run "
        "stops at a third of its epochs"
    )
    if spent > budget.share * all_runs:
        raise UsageError(
            f"{said}; the suite allows {budget.share:.0%} (search_budget.share). Give it smaller rounds, or more seeds."
        )
    return f"{said}."


def describe(suite: Suite) -> list[dict[str, Any]]:
    """What the search would try, a row for each method and arm."""

    def row(entry: Entry) -> dict[str, Any]:
        search = Halving(suite, entry, entry.dataset)
        return {
            "dataset": entry.dataset,
            "method": entry.method,
            "arm": entry.arm,
            "configs": len(search.trials),
            "passes": suite.search_budget.passes,
            "searched": ", ".join(search.dimensions),
        }

    return [row(entry) for name in suite.datasets for part in entries(untuned(suite), name) for entry in part]
