"""Arms that read a frozen backbone from outside: nothing in it changes, so all that it computes is cached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.errors import UsageError
from benchmark.training.peft.around import Around, blank
from datasets_registry.schema import Task
from methods.base import MultiTaskModel
from methods.batch import Batch
from methods.layers import MLP, FeatureEmbedding, Tower


class _Beside(Around):
    """Predicts the new tasks from what a pass of the method's model leaves behind.

    ``representation`` [B, r] is what enters the towers of the tasks of stage 0, side by side; a tensor that several
    towers share counts once. ``inputs`` [B, d] are the dense inputs that the embeddings give, in the same way.
    """

    def __init__(self, backbone: MultiTaskModel, new: Sequence[Task]) -> None:
        super().__init__(backbone, new)
        first = [task.name for task in self.innermost.tasks if task.name not in self.innermost.new_tasks]
        self._towers = [_tower(self.innermost, name) for name in first]
        self._embeddings = [module for module in self.innermost.modules() if isinstance(module, FeatureEmbedding)]

    def predict_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits [B] of the new tasks from ``representation`` and, where ``reads_inputs``, ``inputs``."""
        raise NotImplementedError

    reads_inputs = False

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        with self._watched() as seen:
            outputs = self.backbone(batch)
        return {name: outputs[name] for name in self.old_tasks} | self.predict_new(self._features(seen))

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        with self._watched() as seen, torch.no_grad():
            self.innermost.eval()(batch)
        return self._features(seen)

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.predict_new(features)

    def widths(self) -> dict[str, int]:
        """Widths of the features."""
        device = next(self.innermost.parameters()).device
        features = self.frozen_features(blank(self.schema, device))
        return {name: part.shape[1] for name, part in features.items()}

    def _features(self, seen: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        wanted = ("representation", "inputs") if self.reads_inputs else ("representation",)
        return {name: _side_by_side(seen[name]) for name in wanted}

    @contextmanager
    def _watched(self) -> Iterator[dict[str, list[Tensor]]]:
        """Collects what enters the towers and leaves the embeddings while the method's model runs."""
        seen: dict[str, list[Tensor]] = {"representation": [], "inputs": []}

        def keep(name: str) -> Callable[..., None]:
            return lambda _, inputs, *output: seen[name].append(output[0] if output else inputs[0])

        handles: list[Any] = [tower.register_forward_pre_hook(keep("representation")) for tower in self._towers]
        if self.reads_inputs:
            handles += [embedding.register_forward_hook(keep("inputs")) for embedding in self._embeddings]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()


class LinearProbe(_Beside):
    """One linear layer per new task on the representation that the old tasks' towers read. Logits [B]."""

    def __init__(self, backbone: MultiTaskModel, new: Sequence[Task]) -> None:
        super().__init__(backbone, new)
        width = self.widths()["representation"]
        self.probes = nn.ModuleDict({task.name: nn.Linear(width, 1) for task in new})

    def predict_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: probe(features["representation"]).squeeze(-1) for name, probe in self.probes.items()}


class SideNetwork(_Beside):
    """Side-tuning (Zhang et al., 2020, equation 1): R(x) = a B(x) + (1 - a) S(x), then a tower on R.

    B is the frozen representation [B, r] that the old tasks' towers read, S a small network on the dense input (one
    hidden layer of ``width``), a = sigmoid of a trained number that starts at 0. The tower has one hidden layer of
    ``width`` too.
    """

    reads_inputs = True

    def __init__(self, backbone: MultiTaskModel, new: Sequence[Task], width: int) -> None:
        super().__init__(backbone, new)
        if not self._embeddings:
            raise UsageError(
                f"{backbone.info.name} has no methods.layers.FeatureEmbedding whose output a side network could read; "
                "it can say so with register_method(..., without=(...))."
            )
        sizes = self.widths()
        self.sides = nn.ModuleDict({task.name: _Side(sizes["inputs"], sizes["representation"], width) for task in new})

    def predict_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: side(features["inputs"], features["representation"]) for name, side in self.sides.items()}


class _Side(nn.Module):
    def __init__(self, inputs: int, representation: int, width: int) -> None:
        super().__init__()
        self.network = nn.Sequential(MLP(inputs, (width,)), nn.Linear(width, representation))
        self.share = nn.Parameter(torch.zeros(()))
        self.tower = Tower(representation, (width,))

    def forward(self, z: Tensor, base: Tensor) -> Tensor:
        return self.tower(torch.lerp(self.network(z), base, torch.sigmoid(self.share)))


def _tower(backbone: MultiTaskModel, task: str) -> nn.Module:
    """The module that turns the representation of an old task into its logit."""
    own = {id(parameter) for parameter in backbone.parameter_roles().get(f"task:{task}", [])}
    mine = [
        module
        for module in backbone.modules()
        if (held := list(module.parameters())) and all(id(parameter) in own for parameter in held)
    ]
    towers = [module for module in mine if isinstance(module, Tower)]
    heads = [module for module in mine if isinstance(module, nn.Linear) and module.out_features == 1]
    if not towers and not heads:
        raise UsageError(
            f"{backbone.info.name} has no tower of the old task '{task}' (methods.layers.Tower, or a linear layer with "
            "one output) in a ModuleDict under the task's name, so there is no representation to probe."
        )
    return (towers or heads)[-1]


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """[B, w] from tensors [B, w_i], each distinct one once."""
    distinct = {part.data_ptr(): part for part in parts}
    return torch.cat(list(distinct.values()), dim=1)
