"""Instruments: parameter counts, memory, time. (Operations are counted in `benchmark.training.operations`.)"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from benchmark.records.record import Key, Parameters, Seconds
from benchmark.spec.arms import Arm
from methods.base import MultiTaskModel
from methods.tables import OwnEmbedding


def count_parameters(
    model: MultiTaskModel, trained: Collection[nn.Parameter], paper_trainable: int | None = None
) -> Parameters:
    """Parameters by role, all and trained ones, the embedding rows that the encoder reserves counted apart."""
    trained_ids = {id(parameter) for parameter in trained}
    roles, trained_roles, reserved = {}, {}, 0
    for role, members in model.parameter_roles().items():
        sizes = {id(parameter): _own_size(parameter, model) for parameter in members}
        reserved += sum(parameter.numel() for parameter in members) - sum(sizes.values())
        roles[role] = sum(sizes.values())
        trained_roles[role] = sum(size for identity, size in sizes.items() if identity in trained_ids)
    return Parameters(
        total=sum(roles.values()),
        trainable=sum(trained_roles.values()),
        by_role=dict(sorted(roles.items())),
        trainable_by_role={role: count for role, count in sorted(trained_roles.items()) if count},
        reserved=reserved,
        paper_trainable=paper_trainable,
    )


def _own_size(parameter: nn.Parameter, model: MultiTaskModel) -> int:
    """Size without reserved embedding rows. A table of the schema is recognised by its number of rows."""
    schema = model.schema
    is_table = parameter.dim() == 2 and any(
        isinstance(module, nn.Embedding)
        and module.weight is parameter
        and module.num_embeddings == schema.table_rows
        and not isinstance(module, OwnEmbedding)
        for module in model.modules()
    )
    own = {id(module.weight): module.reserved for module in model.modules() if isinstance(module, OwnEmbedding)}
    reserved = schema.table_reserved if is_table else own.get(id(parameter), 0)
    return parameter.numel() - reserved * (parameter.shape[1] if reserved else 0)


def peak_memory_bytes() -> int:
    """Largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_gpu_memory_bytes(device: torch.device) -> int | None:
    """Largest memory allocated on the GPU so far, or None on CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def weights_fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """Hash over all weights by name: equal if and only if the weights are bit-equal."""
    import hashlib

    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def paper_count(model: MultiTaskModel, arm: Arm, key: Key, trained: Sequence[nn.Parameter]) -> int | None:
    """Trained parameters for the new task as the MPT-Rec paper counted them (see MethodInfo.paper_counts)."""
    if arm.name != "frozen":
        return None
    if model.info.paper_counts == "old_task_parameters":
        roles = model.parameter_roles()
        return sum(parameter.numel() for name in key.old_tasks for parameter in roles.get(f"task:{name}", []))
    return count_parameters(model, trained).trainable


class Clock:
    """Seconds by phase, and the processor's seconds since it was started.

    The latter are those of this process: ``resumed`` says that another one has done a part, so nobody knows the whole.
    """

    def __init__(self, resumed: bool = False, **start: float) -> None:
        self._phases = dict.fromkeys(("load", "build", "cache", "train", "validate", "predict"), 0.0) | start
        self._cpu_started = None if resumed else time.process_time()

    def __call__(self, phase: str) -> Any:
        @contextmanager
        def measure() -> Iterator[None]:
            started = time.perf_counter()
            yield
            self._phases[phase] += time.perf_counter() - started

        return measure()

    def add(self, **seconds: float) -> None:
        for phase, value in seconds.items():
            self._phases[phase] += value

    def seconds(self, to_best_epoch: float) -> Seconds:
        """The measured phases; ``to_best_epoch`` is handed in, training and validation up to the kept epoch."""
        cpu = None if self._cpu_started is None else time.process_time() - self._cpu_started
        return Seconds(**self._phases, total=sum(self._phases.values()), to_best_epoch=to_best_epoch, cpu=cpu)
