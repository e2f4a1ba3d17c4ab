"""Arms: how a method takes in a new task, and the runs that are measured beside them.

An arm says from where a run starts, which tasks it trains and which parameters move. The trainer is the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # planning reads arms without torch
    from torch import nn

    from datasets_registry.schema import Task
    from methods.base import MultiTaskModel


@dataclass(frozen=True)
class Arm:
    """One way of training.

    ``stage`` 0 knows the old tasks only. ``from_stage0`` continues the stage-0 model of the same method and seed.
    ``trains`` is "old", "all", "new" or "one" (a single-task model of one task). ``frozen`` keeps everything but
    what the method added for the new task.
    """

    name: str
    title: str
    stage: int
    trains: str
    from_stage0: bool = False
    frozen: bool = False

    def tasks(self, old: Sequence[str], new: Sequence[str]) -> list[str]:
        """Names of the tasks whose labels are trained (for "one", the plan names the task)."""
        return {"old": [*old], "all": [*old, *new], "new": [*new]}[self.trains]

    def take_in(self, model: MultiTaskModel, new: Sequence[Task]) -> list[nn.Parameter]:
        """Let a stage-0 model take in the new tasks, set what is trainable, and return those parameters."""
        from torch import nn

        added: list[nn.Parameter] = []
        for task in new:
            for part in model.add_task(task):
                added += [part] if isinstance(part, nn.Parameter) else list(part.parameters())
            model.tasks = (*model.tasks, task)
        if not self.frozen:
            return list(model.parameters())
        trained = {id(parameter) for parameter in added}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        return [parameter for parameter in model.parameters() if id(parameter) in trained]


STAGE0 = "stage0"
SCRATCH = "scratch"
JOINT = "joint"

ARMS = {
    arm.name: arm
    for arm in (
        Arm(STAGE0, "old tasks", stage=0, trains="old"),
        Arm(JOINT, "joint retraining", stage=1, trains="all"),
        Arm("frozen", "frozen backbone", stage=1, trains="new", from_stage0=True, frozen=True),
        Arm("finetune", "fine-tuning", stage=1, trains="new", from_stage0=True),
        Arm(SCRATCH, "single task from scratch", stage=1, trains="one"),
    )
}
