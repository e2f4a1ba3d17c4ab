"""A fine-tuned copy beside the old model: the old tasks are served by one, the new task by the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from benchmark.core.errors import UsageError
from datasets_registry.schema import Task
from methods.base import MultiTaskModel
from methods.batch import Batch, Progress, Rows


class FineTunedCopy(MultiTaskModel):
    """``kept``, the stage-0 model as it was, predicts the old tasks; ``copy``, which has added the new ones and is
    trained, predicts those. The old tasks lose exactly nothing; parameters and a pass at serving time count twice."""

    def __init__(self, kept: MultiTaskModel, copy: MultiTaskModel, new: Sequence[Task]) -> None:
        if isinstance(kept, FineTunedCopy):
            raise UsageError(
                "the arm 'finetune_copy' adds one set of new tasks: a copy for each task of a chain is no chain. "
                "Leave it out of --arms for chains."
            )
        super().__init__(kept.schema, kept.tasks, kept.config)
        self.info = kept.info  # type: ignore[misc]
        self.tasks = (*kept.tasks, *new)
        self.kept, self.copy = kept, copy
        self.training_step = copy.training_step
        for parameter in kept.parameters():
            parameter.requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        tuned = self.copy(batch)
        if batch.labels:  # in training only the copy learns
            return tuned
        with torch.no_grad():
            old = self.kept(batch)
        old_names = {task.name for task in self.kept.tasks}
        return {name: old[name] for name in old_names} | {n: v for n, v in tuned.items() if n not in old_names}

    def loss(self, batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        return self.copy.loss(batch, outputs, progress)

    def start_training(self, rows: Rows, generator: torch.Generator) -> None:
        self.copy.start_training(rows, generator)

    def end_epoch(self, epoch: int, rows: Rows) -> None:
        self.copy.end_epoch(epoch, rows)

    def training_state(self) -> dict[str, Tensor]:
        return self.copy.training_state()

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        self.copy.load_training_state(state)

    def warnings(self, kept_epoch: int) -> list[str]:
        return self.copy.warnings(kept_epoch)

    def weight_decay(self) -> list[tuple[Tensor, float]]:
        return self.copy.weight_decay()

    def parameter_roles(self) -> dict[str, list[nn.Parameter]]:
        """The whole copy is there for the new task."""
        return self.kept.parameter_roles() | {f"task:{self.new_tasks[0]}": list(self.copy.parameters())}
