"""Sparse Sharing: every task trains a subnetwork of one shared bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmark.core.errors import UsageError
from methods.base import Batch, Progress, Schema, Task, mean_loss, register_method
from methods.masks import MaskConfig, MaskedSharedBottom


@register_method(
    "sparse_sharing",
    title="SparseSharing",
    paper="Sun et al., Learning Sparse Sharing Architectures for Multiple Tasks, AAAI 2020",
    arms=("joint",),
    kinds=("binary", "regression"),
)
class SparseSharing(MaskedSharedBottom):
    """Subnetworks by iterative magnitude pruning, trained together: shared weights learn from all that use them.

    After a joint warm-up, each task prunes the bottom alone, round after round, always from the warm-up's weights
    (algorithm 1 of the paper); of its masks with more than 40 % pruned it takes the best on validation rows. The main
    training starts afresh, as in the MPT-Rec comparison; the paper goes on from the warm-up. Shapes: see
    MaskedSharedBottom.

    ``update="together"``: one Adam step per batch from the sum of the tasks' masked gradients. Every weight moves by
    its own tasks' gradients alone, once per batch, and one in no mask never moves. ``"in_turn"``: one step per task and
    batch, as released; a weight outside of a task's mask then drifts in that task's step by the momentum that other
    tasks left. Deviation: the released warm-up on Ali-CCP drops units out, this one does not. The search
    (1 + tasks x rounds trainings) counts as training time.
    """

    @dataclass(frozen=True)
    class Config(MaskConfig):
        update: str = "together"

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.update not in ("together", "in_turn"):
                raise UsageError(f"sparse_sharing.update must be together or in_turn, not {self.update!r}")

    def __init__(self, schema: Schema, tasks: Sequence[Task], config: Config) -> None:
        super().__init__(schema, tasks, config)
        self.training_step = self._in_turn if config.update == "in_turn" else None

    def _in_turn(self, batch: Batch, progress: Progress, optimizer: Any) -> dict[str, Tensor]:
        terms = {}
        for task in self.tasks:
            optimizer.zero_grad(set_to_none=True)
            logits = self.predict(task.name, self.embed(batch), self.masks[task.name].layers())
            terms[task.name] = mean_loss(task, logits, batch.labels[task.name])
            terms[task.name].backward()
            optimizer.step()
        return {name: term.detach() for name, term in terms.items()}
