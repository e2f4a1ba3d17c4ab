"""Which run continues which: the descent of a model from stage 0 over the tasks that it took in.

A run's key says it all, so nothing has to be looked up: planning orders runs by it, a sweep finds the weights to
continue, and a verification knows what to repeat first.
"""

from __future__ import annotations

from benchmark.records.record import Key
from benchmark.spec.arms import ARMS, STAGE0
from benchmark.spec.labels import without_share


def parent_key(key: Key) -> Key | None:
    """The run whose weights ``key`` continues; None for a model that starts afresh.

    In a chain that is the stage before, by the same arm; for the first new task it is stage 0. Stage 0 sees no label of
    a new task, so all shares of the new task's labels continue the same one.
    """
    arm = ARMS[key.arm]
    if not arm.reads_stage0:
        return None
    if len(key.chain) > 1 and arm.from_stage0:
        tasks = arm.tasks(key.old_tasks, key.chain[:-1]) if arm.trains == "all" else [key.chain[-2]]
        return key.model_copy(update={"chain": key.chain[:-1], "tasks": tasks, "stage": key.stage - 1})
    return stage0_key(key)


def stage0_key(key: Key) -> Key:
    """Stage 0 of the same method, configuration and seed."""
    return key.model_copy(
        update={
            "dataset": without_share(key.dataset)[0],
            "arm": STAGE0,
            "arm_config": {},
            "chain": [],
            "stage": 0,
            "tasks": list(key.old_tasks),
        }
    )


def ancestors(key: Key) -> list[Key]:
    """All runs that ``key`` descends from, the oldest first."""
    found: list[Key] = []
    while (parent := parent_key(key)) is not None:
        found.insert(0, parent)
        key = parent
    return found


def keeps_weights(key: Key) -> bool:
    """Whether another run may continue this one, so that its weights are kept beside its record."""
    return key.arm == STAGE0 or (ARMS[key.arm].from_stage0 and 0 < len(key.chain) < len(key.new_tasks))


def known_before(key: Key) -> list[str]:
    """The tasks that a run's model knew before it took in what the run trains."""
    return [*key.old_tasks, *key.chain[:-1]]
