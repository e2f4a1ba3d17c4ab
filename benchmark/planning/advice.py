"""What to try, and in which order, when somebody with a new task has some minutes: first one seed of many ways, then
more seeds of the few that validation rows favour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.planning.plan import Plan, make_plan
from benchmark.planning.suite import Suite
from benchmark.records.record import Record
from benchmark.spec.arms import ARMS, JOINT, SCRATCH, STAGE0
from benchmark.spec.budget import BudgetTable

SCREENING = 0.4
"""Share of the time that goes into one seed of many ways; the rest goes into seeds of few."""
FINALISTS = 3
MOST_SEEDS = 10
TITLE = "Which way to take in a new task"

LADDER = (
    ("shared_bottom", ("frozen", "finetune", "joint")),
    ("mpt_rec", ("frozen",)),
    ("mmoe", ("frozen", "finetune")),
    ("ple", ("frozen", "finetune")),
    ("shared_bottom", ("adapter", "lora")),
    ("mmoe", ("adapter", "joint")),
    ("ple", ("joint",)),
    ("mpt_rec", ("finetune", "joint")),
)
"""Methods and arms from the most promising on: the cheapest backbone with every kind of way first, so that an answer
exists early; then backbones that keep tasks apart; then what costs more."""


@dataclass(frozen=True)
class Way:
    """A method and how it takes in the new task."""

    method: str
    arm: str


def suite_for(dataset: str, new_tasks: Sequence[str] | None, rows: int, methods: Sequence[str]) -> Suite:
    """The suite that all steps are parts of. Its budget depends on the number of training rows alone, so that minutes
    spent later add to the same records."""
    batch = 256 if rows < 50_000 else 1024 if rows < 1_000_000 else 4096
    return Suite(
        name="advice",
        title=TITLE,
        datasets=(dataset,),
        methods=tuple(methods),
        new_tasks=tuple(new_tasks) if new_tasks else None,
        budget=BudgetTable(batch_size=batch, learning_rate=1e-3, epochs=8, patience=2),
    )


def screening(suite: Suite) -> list[Plan]:
    """One seed of each rung of the ladder, of the suite's methods, and of methods that are not on it."""
    rungs = [rung for rung in LADDER if rung[0] in suite.methods]
    rungs += [(name, ("frozen", "finetune")) for name in suite.methods if name not in {rung[0] for rung in rungs}]
    return [step(suite, [Way(method, arm) for arm in arms], seed=0) for method, arms in rungs]


def step(suite: Suite, ways: Sequence[Way], seed: int) -> Plan:
    """The runs of some ways at one seed: the new tasks' single-task models, each stage 0 once, and the ways."""
    chosen = suite.model_copy(
        update={
            "methods": tuple(dict.fromkeys(way.method for way in ways)),
            "arms": tuple(dict.fromkeys(way.arm for way in ways)),
            "seeds": (seed,),
        }
    )
    plan = make_plan(chosen)
    wanted = {(way.method, way.arm) for way in ways}
    continued = {way.method for way in ways if ARMS[way.arm].from_stage0}

    def belongs(method: str, arm: str, tasks: Sequence[str], new: Sequence[str]) -> bool:
        if arm == SCRATCH:
            return tasks[0] in new
        return method in continued or (method, JOINT) in wanted if arm == STAGE0 else (method, arm) in wanted

    plan.runs = [r for r in plan.runs if belongs(r.key.method, r.key.arm, r.key.tasks, r.key.new_tasks)]
    return plan


def finalists(records: Sequence[Record], task: str) -> list[Way]:
    """The ways with the best validation score of the new task so far: `FINALISTS` of them, among which one that leaves
    the old tasks alone, and joint retraining of the best one's method beside them. Test rows have no say."""
    scores = validation_scores(records, task)
    ranked = sorted(scores, key=lambda way: (-_mean(scores[way]), way.method, way.arm))
    chosen = ranked[:FINALISTS]
    if chosen and not any(ARMS[way.arm].frozen for way in chosen):
        chosen += [way for way in ranked if ARMS[way.arm].frozen][:1]
    if chosen:
        joint = Way(chosen[0].method, JOINT)
        chosen += [joint] if joint not in chosen else []
    return chosen


def validation_scores(records: Sequence[Record], task: str) -> Mapping[Way, list[float]]:
    """Validation score of ``task`` at the kept epoch, by way."""
    found: dict[Way, list[float]] = {}
    for record in records:
        if record.status != "ok" or record.selection is None or record.key.arm in (STAGE0, SCRATCH):
            continue
        kept = next((epoch for epoch in record.curve if epoch.epoch == record.selection.epoch), None)
        values = [v for v in (kept.validation.get(task, {}) if kept else {}).values() if v is not None]
        if values:
            found.setdefault(Way(record.key.method, record.key.arm), []).append(values[0])
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
