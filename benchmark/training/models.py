"""Models of runs: built with weights from named streams, continued from stage 0, checked before training."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmark.core.seeding import stream_seed
from benchmark.records.record import Key
from benchmark.spec.arms import ARMS, Arm
from benchmark.training.peft import adapt
from benchmark.training.peft.copies import FineTunedCopy
from benchmark.training.rows import DataRows
from benchmark.training.untouched import left_alone
from datasets_registry.schema import Schema, Task
from methods import METHODS
from methods.base import MultiTaskModel

if TYPE_CHECKING:
    from datasets_registry.encoding.store import EncodedDataset


def build_model(
    method: str, config: Mapping[str, Any], schema: Schema, tasks: Sequence[Task], words: tuple[str | int, ...]
) -> tuple[MultiTaskModel, list[str]]:
    """A fresh model with weights drawn from the streams that ``words`` (dataset, method, seed) name, and warnings."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed("init", *words))
        model = make_model(method, config, schema, tasks)
    return model, initialise(model, words)


def make_model(method: str, config: Mapping[str, Any], schema: Schema, tasks: Sequence[Task]) -> MultiTaskModel:
    """A method's model as its constructor leaves it."""
    model_class = METHODS.get(method)
    return model_class(schema, list(tasks), model_class.Config(**config))


def take_in(
    model: MultiTaskModel,
    arm: Arm,
    new: Sequence[Task],
    options: Mapping[str, float],
    words: tuple[str | int, ...],
    earlier: Sequence[str] = (),
) -> tuple[MultiTaskModel, list[nn.Parameter], list[str]]:
    """Let a model take in new tasks as ``arm`` says: the model, what is trained, and warnings.

    ``earlier`` names the new tasks that it has taken in before, in a chain.
    """
    words = (*words, *earlier)
    kept = model
    if arm.copies:
        model = copy.deepcopy(kept)
    known = _modules(model)
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed("init", *words, "new tasks"))
        trained = arm.take_in(model, [] if arm.own_head else new)
        warnings = [] if arm.own_head else initialise(model, words, known)
        if arm.adaptation:
            known = _modules(model)
            model = adapt(arm.adaptation, model, new, options, arm.option("l2", options))
            initialise(model, words, known)
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return FineTunedCopy(kept, model, new) if arm.copies else model, trained, warnings


def _modules(model: nn.Module) -> frozenset[int]:
    return frozenset(id(module) for module in model.modules())


def initialise(model: nn.Module, words: tuple[str | int, ...], known: frozenset[int] = frozenset()) -> list[str]:
    """Draw the weights of every module whose id is not in ``known``, each from the stream named after its path.

    Modules come before what contains them, so a model's own ``reset_parameters`` has the last word. Returns a warning
    for every parameter whose spread this changed: its constructor set it in a way that ``reset_parameters`` does not.
    """
    spread = {name: _spread(parameter) for name, parameter in model.named_parameters()}
    with torch.random.fork_rng():
        for path, module in reversed(list(model.named_modules())):
            if id(module) not in known and callable(getattr(module, "reset_parameters", None)):
                torch.manual_seed(stream_seed("init", *words, path))
                module.reset_parameters()
    return [
        f"initial values of '{name}' set in a constructor were replaced; move them to reset_parameters()"
        for name, parameter in model.named_parameters()
        if parameter.numel() >= 64 and not 0.5 <= (_spread(parameter) + 1e-6) / (spread[name] + 1e-6) <= 2.0
    ]


def _spread(parameter: Tensor) -> float:
    return float(parameter.detach().float().square().mean().sqrt())


def start(
    key: Key, config: Mapping[str, Any], data: EncodedDataset, schema: Schema, stage0: Path | None, device: torch.device
) -> tuple[MultiTaskModel, list[str]]:
    """The model that a run begins with, on its device, and warnings: a fresh one of its tasks, or one that is continued
    as the run before it left it, without the tasks that this run takes in."""
    words = (key.dataset, key.method, key.seed)
    if not ARMS[key.arm].from_stage0:
        model, warnings = build_model(key.method, config, schema, [data.tasks[name] for name in key.tasks], words)
        return model.to(device), warnings
    assert stage0 is not None
    model, _ = build_model(key.method, config, schema, [data.tasks[name] for name in key.old_tasks], words)
    for place, name in enumerate(key.chain[:-1]):
        model, _, _ = _take_in(model, key, [data.tasks[name]], place)
    model.load_state_dict(torch.load(stage0, map_location="cpu", weights_only=True))
    return model.to(device), []


def go_on(
    model: MultiTaskModel, key: Key, data: EncodedDataset, device: torch.device
) -> tuple[MultiTaskModel, list[nn.Parameter], list[str]]:
    """A model of `start` with what the run takes in, what is trained of it, and warnings."""
    if not ARMS[key.arm].from_stage0:
        return model, list(model.parameters()), []
    new = [data.tasks[name] for name in key.chain[-1:] or key.new_tasks]
    model, trained, warnings = _take_in(model.to("cpu"), key, new, max(len(key.chain) - 1, 0))
    return model.to(device), trained, warnings


def _take_in(
    model: MultiTaskModel, key: Key, new: Sequence[Task], place: int
) -> tuple[MultiTaskModel, list[nn.Parameter], list[str]]:
    """What comes after the first ``place`` tasks of a chain, taken in by the run's arm."""
    arm, words = ARMS[key.arm], (key.dataset, key.method, key.seed)
    return take_in(model, arm, new, arm.resolve(key.arm_config), words, key.chain[:place])


def check_outputs(model: MultiTaskModel, rows: DataRows) -> None:
    """Say at once, and in the interface's words, when ``forward`` does not return what it has to."""
    model.eval()
    with torch.inference_mode():
        batch = rows.gather(slice(0, 2))
        with left_alone(batch, model):
            outputs = model(batch)
    if not isinstance(outputs, Mapping):
        raise TypeError(f"forward must return a dict of task name to logits, not {type(outputs).__name__}")
    for task in model.tasks:
        if task.name not in outputs:
            raise KeyError(f"forward must return logits for every task; '{task.name}' is missing")
        if outputs[task.name].shape != (len(batch),):
            raise ValueError(
                f"forward must return logits of shape [B] = ({len(batch)},) for task '{task.name}', "
                f"not {tuple(outputs[task.name].shape)}"
            )
