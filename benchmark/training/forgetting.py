"""Fine-tuning that fights forgetting: what is added to the loss while a stage-0 model learns a new task.

Each way gives the rows to train on and the loss of a batch. All are prepared from the stage-0 weights, so a run that is
resumed prepares the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.core.seeding import torch_stream
from benchmark.training.learner import Loss
from benchmark.training.rows import DataRows
from methods.base import MultiTaskModel
from methods.batch import Batch, Progress, row_losses

FISHER_ROWS = 1024
"""Rows per gradient of the Fisher information: larger batches are faster and vary more."""
PREDICT_ROWS = 4096


@dataclass(frozen=True)
class Setting:
    """What a run has at hand: the model with stage-0 weights that has taken in the new task, the training rows with
    the new task's labels, a maker of the same rows with these and further labels, all tasks' own labels, the words
    of the run's random streams, and a way to train what is the new task's own alone for a number of epochs."""

    model: MultiTaskModel
    rows: DataRows
    with_labels: Callable[[Mapping[str, NDArray[np.float32]]], DataRows]
    labels: Mapping[str, NDArray[np.float32]]
    old_tasks: tuple[str, ...]
    words: tuple[str | int, ...]
    all_rows: DataRows | None = None
    warm_up: Callable[[int], object] = lambda epochs: None

    @property
    def everything(self) -> DataRows:
        """All training rows, for what concerns the old tasks; ``rows`` are fewer where the new labels are scarce."""
        return self.all_rows or self.rows


def continual(kind: str, setting: Setting, options: Mapping[str, float]) -> tuple[DataRows, Loss]:
    """Rows to train on and the loss of a batch."""
    # Each kind has options of its own names.
    return {"ewc": elastic, "lwf": distillation, "replay": replay}[kind](setting, **options)  # type: ignore[operator]


def elastic(setting: Setting, strength: float) -> tuple[DataRows, Loss]:
    """Elastic weight consolidation (Kirkpatrick et al., 2017, equation 3): adds strength/2 sum_i F_i (w_i - w*_i)^2.

    F is the diagonal of the Fisher information of the old tasks at the stage-0 weights w*, per row and summed over
    the tasks. What the new task brought in has no w* and is free. With strength 1 the term is the old tasks' likelihood
    in its second-order (Laplace) form, each row of theirs weighing as much as a row of the new task.
    """
    model = setting.model
    fisher = fisher_information(setting)
    anchors = {name: p.detach().clone() for name, p in model.named_parameters() if name in fisher}

    def loss(batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        terms = model.loss(batch, outputs, progress)
        moved = [
            (fisher[name] * (parameter - anchors[name]).square()).sum()
            for name, parameter in model.named_parameters()
            if name in fisher
        ]
        return terms | {"ewc": strength / 2 * torch.stack(moved).sum()}

    return setting.rows, loss


def fisher_information(setting: Setting) -> dict[str, Tensor]:
    """Mean over rows of the squared gradient of the old tasks' log-likelihood, by parameter, zero ones left out.

    Labels are drawn from the model itself. They make the gradients of different rows independent with mean zero, so
    the square of a whole batch's summed gradient estimates the sum of the squares without bias, and no pass per row
    is needed. (True Fisher information, not the "empirical" one with observed labels.)
    """
    model, rows = setting.model, setting.everything
    tasks = [task for task in model.tasks if task.name in setting.old_tasks]
    parameters = dict(model.named_parameters())
    sums: dict[str, Tensor] = {}
    generator = torch_stream("fisher", *setting.words)
    model.eval()
    for batch in rows.batches(FISHER_ROWS):
        outputs = model(batch.unlabelled())
        losses = [
            row_losses(task, outputs[task.name], _drawn(task.kind, outputs[task.name], generator)) for task in tasks
        ]
        gradients = torch.autograd.grad(torch.stack(losses).sum(), list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                square = gradient.square()
                sums[name] = square if name not in sums else sums[name].add_(square)
    return {name: total / len(rows) for name, total in sums.items()}


def distillation(setting: Setting, strength: float, warm_up: float = 0) -> tuple[DataRows, Loss]:
    """Learning without forgetting (Li and Hoiem, 2016): the old tasks go on learning what the stage-0 model says.

    As in the paper's procedure the new task's own parameters are trained alone first, for ``warm_up`` epochs (the
    paper: until they converge), and everything together after that. The stage-0 model's probabilities on the training
    rows stand in for the old tasks' labels, and ``strength`` weighs the cross-entropy to them. The paper softens a
    softmax over many classes with temperature 2; a binary task's probability is soft already, so there is no
    temperature here. Regression tasks copy the stage-0 values.
    """
    model = setting.model
    targets = soft_targets(model, setting.rows, setting.old_tasks)
    rows = setting.with_labels(targets)
    setting.warm_up(int(warm_up))

    def loss(batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        terms = model.loss(batch, outputs, progress)
        return {name: strength * term if name in targets else term for name, term in terms.items()}

    return rows, loss


def soft_targets(model: MultiTaskModel, rows: DataRows, tasks: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """What a model predicts for ``tasks`` on rows in file order, float32 [N] each: probabilities, or the values of a
    regression."""
    kinds = {task.name: task.kind for task in model.tasks}
    targets: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tasks}
    model.eval()
    with torch.inference_mode():
        for batch in rows.batches(PREDICT_ROWS):
            outputs = model(batch.unlabelled())
            for name, parts in targets.items():
                value = outputs[name] if kinds[name] == "regression" else torch.sigmoid(outputs[name])
                parts.append(value.float().cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in targets.items()}


def replay(setting: Setting, share: float, strength: float) -> tuple[DataRows, Loss]:
    """Experience replay (Rolnick et al., 2019): a memory of ``share`` of the training rows keeps its old labels.

    Every step sees as many rows drawn from the memory as new ones, and their old tasks' loss times ``strength`` joins.
    """
    model = setting.model
    rows = setting.everything
    size = max(1, min(len(rows), round(share * len(rows))))
    generator = torch_stream("memory", *setting.words)
    kept = torch.randperm(len(rows), generator=generator)[:size].sort().values
    old = rows.with_labels({name: setting.labels[name] for name in setting.old_tasks})
    device = next(model.parameters()).device
    memory = old.gather(kept.to(device))

    def loss(batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        terms = model.loss(batch, outputs, progress)
        at = torch.randint(size, (len(batch),)).to(device)  # the trainer's stream: one seed per epoch
        seen = memory.take(at)
        replayed = model.loss(seen, model(seen), progress)
        return terms | {f"replay/{name}": strength * term for name, term in replayed.items()}

    return setting.rows, loss


def _drawn(kind: str, outputs: Tensor, generator: torch.Generator) -> Tensor:
    """Labels [B] drawn from what the model predicts; its squared error is a normal likelihood of variance 1/2."""
    values = outputs.detach().cpu()
    if kind == "regression":
        return (values + torch.randn(values.shape, generator=generator) * 0.5**0.5).to(outputs.device)
    return torch.bernoulli(torch.sigmoid(values), generator=generator).to(outputs.device)
