"""Parameter-efficient ways of taking in a new task on any frozen backbone.

The new task is predicted with small trained parts added to the backbone, the old tasks without them: their
predictions do not change by a bit. What this costs at serving time, a second pass through the backbone for the
new task, is in the operation counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmark.core.errors import UsageError
from datasets_registry.schema import Task
from methods.base import MultiTaskModel
from methods.batch import Batch, Progress
from methods.layers import Tower


def adapt(kind: str, backbone: MultiTaskModel, new: Sequence[Task], options: Mapping[str, float]) -> MultiTaskModel:
    """``backbone``, which is frozen and (but for "linear_probe") has taken in the new tasks, with what ``kind`` adds.

    Raises UsageError if the backbone has nothing that ``kind`` could be added to.
    """
    if kind == "linear_probe":
        return LinearProbe(backbone, new)
    make: Callable[[nn.Linear], nn.Module] = {
        "adapter": lambda layer: Bottleneck(layer.out_features, int(options["width"])),
        "lora": lambda layer: LowRank(layer, int(options["rank"]), float(options["alpha"])),
        "bias_only": lambda layer: Shift(layer.out_features),
    }[kind]
    return AdaptedBackbone(backbone, new, make)


class _Around(MultiTaskModel):
    """A model around another one: schema, tasks, hooks and the backbone's parameter roles are passed through."""

    def __init__(self, backbone: MultiTaskModel, new: Sequence[Task]) -> None:
        old = [task for task in backbone.tasks if task not in new]
        super().__init__(backbone.schema, old, backbone.config)
        self.tasks = (*old, *new)
        self.info = backbone.info  # type: ignore[misc]
        self.backbone = backbone

    @property
    def old_tasks(self) -> tuple[str, ...]:
        """Names of the tasks that the backbone was trained on."""
        return tuple(task.name for task in self.tasks if task.name not in self.new_tasks)

    def weight_decay(self) -> list[tuple[nn.Parameter, float]]:
        return self.backbone.weight_decay()

    def parameter_roles(self) -> dict[str, list[nn.Parameter]]:
        roles = self.backbone.parameter_roles()
        known = {id(parameter) for members in roles.values() for parameter in members}
        added = [parameter for parameter in self.parameters() if id(parameter) not in known]
        role = f"task:{self.new_tasks[0]}"
        return roles | {role: roles.get(role, []) + added}


class LinearProbe(_Around):
    """One linear layer per new task on the representation that the old tasks' towers read.

    The representation [B, r] is what enters the old tasks' towers, side by side; a tensor that several towers share
    counts once. Logits [B].
    """

    def __init__(self, backbone: MultiTaskModel, new: Sequence[Task]) -> None:
        super().__init__(backbone, new)
        self._towers = [_tower(backbone, name) for name in self.old_tasks]
        width = self._representation(_blank(backbone)).shape[1]
        self.probes = nn.ModuleDict({task.name: nn.Linear(width, 1) for task in new})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        with self._captured() as inputs:
            outputs = self.backbone(batch)
        old = {name: outputs[name] for name in self.old_tasks}
        return old | self._probe(_side_by_side(inputs))

    def frozen_features(self, batch: Batch) -> dict[str, Tensor]:
        return {"representation": self._representation(batch)}

    def forward_new(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._probe(features["representation"])

    def _probe(self, representation: Tensor) -> dict[str, Tensor]:
        return {name: probe(representation).squeeze(-1) for name, probe in self.probes.items()}

    def _representation(self, batch: Batch) -> Tensor:
        with self._captured() as inputs, torch.no_grad():
            self.backbone.eval()(batch)
        return _side_by_side(inputs)

    @contextmanager
    def _captured(self) -> Iterator[list[Tensor]]:
        """Collects what enters the towers while the backbone runs."""
        inputs: list[Tensor] = []
        handles = [tower.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for tower in self._towers]
        try:
            yield inputs
        finally:
            for handle in handles:
                handle.remove()


class AdaptedBackbone(_Around):
    """A frozen backbone with a small trained part behind every linear layer that the old and the new task share.

    A part maps the layer's input [B, in] and output [B, out] to a new output [B, out], and starts as the identity. It
    works while the new task is predicted and is passed by while the old ones are.
    """

    def __init__(self, backbone: MultiTaskModel, new: Sequence[Task], make: Callable[[nn.Linear], nn.Module]) -> None:
        super().__init__(backbone, new)
        layers = _shared_layers(backbone, self.new_tasks)
        if not layers:
            raise UsageError(
                f"{backbone.info.name} has no linear layer that old and new tasks share, so there is nothing to adapt; "
                "it can say so with register_method(..., without=(...))."
            )
        self.parts = nn.ModuleDict({path.replace(".", "/"): make(layer) for path, layer in layers.items()})
        self._active = False
        for path, layer in layers.items():
            layer.register_forward_hook(self._hook(self.parts[path.replace(".", "/")]))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        if not batch.labels:  # prediction: in training only the new tasks are asked for
            outputs = {name: logits for name, logits in self.backbone(batch).items() if name in self.old_tasks}
        self._active = True
        try:
            adapted = self.backbone(batch)
        finally:
            self._active = False
        return outputs | {name: value for name, value in adapted.items() if name not in self.old_tasks}

    def loss(self, batch: Batch, outputs: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        return self.backbone.loss(batch, outputs, progress)

    def _hook(self, part: nn.Module) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor | None]:
        return lambda _, inputs, output: part(inputs[0], output) if self._active else None


class LowRank(nn.Module):
    """y + alpha / rank * B A x with A [rank, in], B [out, rank]; B starts at zero (Hu et al., section 4.1)."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.scale * self.up(self.down(x))


class Bottleneck(nn.Module):
    """y + U relu(D y), width ``width`` in between; U and its bias start at zero (Houlsby et al., section 2.1)."""

    def __init__(self, out: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(out, width)
        self.up = nn.Linear(width, out)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.up(torch.relu(self.down(y)))


class Shift(nn.Module):
    """y + b: the new task's own biases, starting from the old ones (Ben Zaken et al.)."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.bias


def _shared_layers(backbone: MultiTaskModel, new: Sequence[str]) -> dict[str, nn.Linear]:
    """Plain linear layers, by path, that belong to no single task and that a new task's logits depend on."""
    roles = backbone.parameter_roles()
    shared = {id(parameter) for parameter in roles.get("shared", [])}
    layers = {
        path: module
        for path, module in backbone.named_modules()
        # a subclass with a forward of its own (a softmax gate, say) gives no linear output that could be added to
        if isinstance(module, nn.Linear)
        and type(module).forward is nn.Linear.forward
        and all(id(parameter) in shared for parameter in module.parameters())
    }
    if not layers:
        return {}
    weights = [layer.weight for layer in layers.values()]
    for weight in weights:
        weight.requires_grad_(True)
    outputs = backbone.eval()(_blank(backbone))
    gradients = torch.autograd.grad(sum(outputs[name].sum() for name in new), weights, allow_unused=True)
    for weight in weights:
        weight.requires_grad_(False)
    return {path: layer for (path, layer), gradient in zip(layers.items(), gradients) if gradient is not None}


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


def _side_by_side(inputs: Sequence[Tensor]) -> Tensor:
    """[B, r] from the towers' inputs, each distinct tensor once."""
    distinct = {part.data_ptr(): part for part in inputs}
    return torch.cat(list(distinct.values()), dim=1)


def _blank(backbone: MultiTaskModel) -> Batch:
    """Two rows of code 0 and value 0, to see which parts of a model are connected."""
    schema, device = backbone.schema, next(backbone.parameters()).device
    return Batch(
        torch.zeros((2, schema.columns), dtype=torch.int32, device=device),
        torch.zeros((2, len(schema.numeric)), device=device),
    )
