"""Parameter-efficient strategies for adding a task to any frozen backbone.

The new task is predicted with small trained parts added to the backbone, the old tasks without them: their
predictions do not change by a bit. What this costs at serving time, a second pass through the backbone for the
new task, is in the operation counts. Each way is a module of its own kind: `layers` (parts behind linear layers),
`inputs` (parts behind the embeddings), `towers` (parts beside a backbone that is not touched at all).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from benchmark.training.peft.around import AdaptedBackbone, Around, embeddings, shared_layers
from benchmark.training.peft.inputs import Prefix, Prompt, TableDelta
from benchmark.training.peft.layers import Bottleneck, FeatureWise, LowRank, Scale, Shift
from benchmark.training.peft.towers import LinearProbe, SideNetwork
from datasets_registry.schema import Schema, Task
from methods.base import MultiTaskModel

__all__ = ["adapt"]

Options = Mapping[str, float]

PARTS: dict[str, tuple[Callable[..., dict[str, Any]], Callable[[Any, Options, Schema], nn.Module]]] = {
    "adapter": (shared_layers, lambda layer, o, _: Bottleneck(layer.out_features, int(o["width"]))),
    "lora": (shared_layers, lambda layer, o, _: LowRank(layer, int(o["rank"]), float(o["alpha"]))),
    "bias_only": (shared_layers, lambda layer, o, _: Shift(layer.out_features)),
    "ia3": (shared_layers, lambda layer, o, _: Scale(layer.out_features)),
    "film": (shared_layers, lambda layer, o, _: FeatureWise(layer.out_features)),
    "soft_prompt": (embeddings, lambda embed, o, _: Prompt(embed.width)),
    "prefix": (embeddings, lambda embed, o, _: Prefix(embed.width, int(o["length"]))),
    "table_delta": (embeddings, lambda embed, o, schema: TableDelta(schema, embed, int(o["rank"]))),
}
"""By arm: which modules of the backbone it adapts, and the part that it puts behind each."""


def adapt(kind: str, backbone: MultiTaskModel, new: Sequence[Task], options: Options, l2: float = 0.0) -> Around:
    """``backbone``, which is frozen and (but for arms with a head of their own) has added the new tasks, with what
    ``kind`` adds. ``l2`` is the coefficient of the L2 penalty on the matrices of the added parts.

    Raises UsageError if the backbone has nothing that ``kind`` could be added to.
    """
    adapted = _adapted(kind, backbone, new, options)
    adapted.l2 = l2
    return adapted


def _adapted(kind: str, backbone: MultiTaskModel, new: Sequence[Task], options: Options) -> Around:
    if kind == "linear_probe":
        return LinearProbe(backbone, new)
    if kind == "side":
        return SideNetwork(backbone, new, int(options["width"]))
    places, make = PARTS[kind]
    return AdaptedBackbone(backbone, new, places, lambda module: make(module, options, backbone.schema))
