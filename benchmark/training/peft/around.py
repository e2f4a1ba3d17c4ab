"""A model around a frozen one: what all parameter-efficient arms share, and where their parts may go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.errors import UsageError
from datasets_registry.schema import Schema, Task
from methods.base import MultiTaskModel
from methods.batch import Batch, Progress
from methods.layers import FeatureEmbedding


class Around(MultiTaskModel):
    """A model around another one: schema, tasks, hooks and the backbone's parameter roles are passed through.

    ``backbone`` may be such a model itself (a second new task comes to one that took in a first); ``innermost`` is
    the method's own.
    """

    def __init__(self, backbone: MultiTaskModel, new: Sequence[Task]) -> None:
        old = [task for task in backbone.tasks if task not in new]
        super().__init__(backbone.schema, old, backbone.config)
        self.tasks = (*old, *new)
        self.info = backbone.info  # type: ignore[misc]
        self.backbone = backbone
        self.l2 = 0.0

    @property
    def old_tasks(self) -> tuple[str, ...]:
        """Names of the tasks that the backbone knew before."""
        return tuple(task.name for task in self.tasks if task.name not in self.new_tasks)

    @property
    def innermost(self) -> MultiTaskModel:
        """The method's model, without anything around it."""
        return self.backbone.innermost if isinstance(self.backbone, Around) else self.backbone

    def add_task(self, task: Task) -> Sequence[nn.Module | nn.Parameter]:
        added = self.backbone.add_task(task)
        self.backbone.tasks = (*self.backbone.tasks, task)
        return added

    def weight_decay(self) -> list[tuple[Tensor, float]]:
        """The backbone's, and ``l2`` for every matrix among the added parts."""
        inside = {id(parameter) for parameter in self.backbone.parameters()}
        added = [p for p in self.parameters() if id(p) not in inside and p.dim() > 1] if self.l2 else []
        return [*self.backbone.weight_decay(), *((parameter, self.l2) for parameter in added)]

    def parameter_roles(self) -> dict[str, list[nn.Parameter]]:
        roles = self.backbone.parameter_roles()
        known = {id(parameter) for members in roles.values() for parameter in members}
        added = [parameter for parameter in self.parameters() if id(parameter) not in known]
        role = f"task:{self.new_tasks[0]}"
        return roles | {role: roles.get(role, []) + added}


class AdaptedBackbone(Around):
    """A frozen backbone with a small trained part behind every module of a kind that the new task reads.

    A part maps what enters the module (dense input [B, in], or the batch) and its output [B, out] to a new output
    [B, out], and starts as the identity. It works while the new task is predicted and is passed by while others are.
    ``places`` gives the modules of a model by path that may take a part, ``make`` the part of one.
    """

    def __init__(
        self,
        backbone: MultiTaskModel,
        new: Sequence[Task],
        places: Callable[[MultiTaskModel], Mapping[str, Any]],
        make: Callable[[Any], nn.Module],
    ) -> None:
        super().__init__(backbone, new)
        modules = read_by(self.innermost, places(self.innermost), self.new_tasks)
        self.parts = nn.ModuleDict({path.replace(".", "/"): make(module) for path, module in modules.items()})
        self._active = False
        for path, module in modules.items():
            module.register_forward_hook(self._hook(self.parts[path.replace(".", "/")]))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        if not batch.labels:  # prediction: in training only the new tasks are asked for
            outputs = {name: logits for name, logits in self.backbone(batch).items() if name in self.old_tasks}
        self._active = True
        try:
            adapted = self.innermost(batch)
        finally:
            self._active = False
        return outputs | {name: value for name, value in adapted.items() if name not in self.old_tasks}

    def loss(self, batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        return self.innermost.loss(batch, outputs, progress)

    def _hook(self, part: nn.Module) -> Callable[[nn.Module, tuple[Any], Tensor], Tensor | None]:
        return lambda _, inputs, output: part(inputs[0], output) if self._active else None


def shared_layers(backbone: MultiTaskModel) -> dict[str, nn.Linear]:
    """Plain linear layers, by path, that belong to no single task. Raises UsageError if there are none."""
    shared = _members(backbone, "shared")
    layers = {
        path: module
        for path, module in backbone.named_modules()
        # a subclass with a forward of its own (a softmax gate, say) gives no linear output that could be added to
        if isinstance(module, nn.Linear)
        and type(module).forward is nn.Linear.forward
        and all(id(parameter) in shared for parameter in module.parameters())
    }
    return _some(layers, backbone, "linear layer")


def embeddings(backbone: MultiTaskModel) -> dict[str, FeatureEmbedding]:
    """The modules, by path, that turn batches into dense input and belong to no single task. Raises UsageError."""
    shared = _members(backbone, "embedding") | _members(backbone, "shared")  # attention over sequences is the latter
    found = {
        path: module
        for path, module in backbone.named_modules()
        if isinstance(module, FeatureEmbedding) and all(id(parameter) in shared for parameter in module.parameters())
    }
    return _some(found, backbone, "methods.layers.FeatureEmbedding")


def read_by(backbone: MultiTaskModel, modules: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, Any]:
    """Those of the modules whose output the logits of ``tasks`` depend on. Raises UsageError if there are none."""
    nudges: dict[str, Tensor] = {}

    def hook(path: str) -> Callable[[nn.Module, tuple[Any], Tensor], Tensor]:
        def nudge(_: nn.Module, inputs: tuple[Any], output: Tensor) -> Tensor:
            nudges.setdefault(path, torch.zeros(output.shape[-1], device=output.device, requires_grad=True))
            return output + nudges[path]

        return nudge

    handles = [module.register_forward_hook(hook(path)) for path, module in modules.items()]
    with torch.enable_grad():
        try:
            outputs = backbone.eval()(blank(backbone.schema, next(backbone.parameters()).device))
        finally:
            for handle in handles:
                handle.remove()
        logits = sum(outputs[name].sum() for name in tasks)
        gradients = torch.autograd.grad(logits, list(nudges.values()), allow_unused=True)
    reached = {path for path, gradient in zip(nudges, gradients, strict=True) if gradient is not None}
    kind = "linear layer" if any(isinstance(module, nn.Linear) for module in modules.values()) else "embedding"
    return _some({path: module for path, module in modules.items() if path in reached}, backbone, kind)


def blank(schema: Schema, device: torch.device) -> Batch:
    """Two rows of code 0 and value 0, to see which parts of a model are connected."""
    shapes = {sequence.name: (2, sequence.length) for sequence in schema.sequences}
    return Batch(
        torch.zeros((2, schema.columns), dtype=torch.int32, device=device),
        torch.zeros((2, len(schema.numeric)), device=device),
        sequences={name: torch.zeros(shape, dtype=torch.int32, device=device) for name, shape in shapes.items()},
    )


def _members(backbone: MultiTaskModel, role: str) -> set[int]:
    return {id(parameter) for parameter in backbone.parameter_roles().get(role, [])}


def _some(modules: dict[str, Any], backbone: MultiTaskModel, kind: str) -> dict[str, Any]:
    if not modules:
        raise UsageError(
            f"{backbone.info.name} has no {kind} that old and new tasks share, so there is nothing to adapt; "
            "it can say so with register_method(..., without=(...))."
        )
    return modules
