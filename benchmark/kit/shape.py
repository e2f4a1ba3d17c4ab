"""Checks of what a method is: shapes of its logits, roles of its parameters, what is saved of it."""

from __future__ import annotations

import copy
import io

import torch

from benchmark.kit.bench import (
    FITS_ITSELF,
    SCHEMA,
    Failed,
    SyntheticRows,
    build,
    grow,
    predict,
    toy_tasks,
    trained_model,
)
from datasets_registry.schema import CategoricalFeature, Schema
from methods.base import MultiTaskModel


def builds_for_any_schema(model: type[MultiTaskModel]) -> str | None:
    schemas = {
        "no categorical feature": Schema((), ("age",)),
        "no numeric feature": Schema((CategoricalFeature("user", 7),), ()),
        "a multi-valued feature": SCHEMA,
    }
    for what, schema in schemas.items():
        for names in ("a", "abcde"):
            tasks = toy_tasks(names)
            built = build(model, tasks, schema)
            try:
                outputs = predict(built, SyntheticRows(tasks, 5, schema).gather(slice(0, 5)))
            except Exception as error:
                raise Failed(f"with {what} and {len(names)} task(s): {type(error).__name__}: {error}") from error
            if missing := {task.name for task in tasks} - outputs.keys():
                raise Failed(f"with {what} and {len(names)} task(s): no logits for {', '.join(sorted(missing))}")
    return None


def logits_are_finite_and_one_per_row(model: type[MultiTaskModel]) -> str | None:
    built = build(model, toy_tasks())
    for size in (17, 1):
        for name, logits in predict(built, SyntheticRows(toy_tasks()).gather(slice(0, size))).items():
            if name not in ("a", "b"):
                continue
            if logits.shape != (size,):
                raise Failed(
                    f"task '{name}': expected shape ({size},) for a batch of {size}, got {tuple(logits.shape)}"
                )
            if logits.dtype != torch.float32:
                raise Failed(f"task '{name}': the outputs are {logits.dtype}, not torch.float32")
            if not logits.isfinite().all():
                raise Failed(f"task '{name}': {int((~logits.isfinite()).sum())} of {size} logits are not finite")
    return None


def every_parameter_has_one_role(model: type[MultiTaskModel]) -> str | None:
    built = build(model, toy_tasks())
    if model.info.arms != ("scratch",) and set(model.info.arms) - {"joint"}:
        grow(built)
    before = {name for name, _ in built.named_parameters()}
    predict(built, SyntheticRows(toy_tasks(), 5).gather(slice(0, 5)))
    counted = [id(parameter) for members in built.parameter_roles().values() for parameter in members]
    own = {id(parameter): name for name, parameter in built.named_parameters()}
    if late := [name for name in own.values() if name not in before]:
        raise Failed(f"'{late[0]}' is made by forward: no optimizer would know of it")
    if twice := {own.get(identity, "?") for identity in counted if counted.count(identity) > 1}:
        raise Failed(f"under two roles: {', '.join(sorted(twice))}")
    if missing := [name for identity, name in own.items() if identity not in counted]:
        raise Failed(f"under no role: {', '.join(sorted(missing))}")
    known = {"embedding", "shared", *(f"task:{task.name}" for task in built.tasks)}
    if unknown := set(built.parameter_roles()) - known:
        raise Failed(f"unknown roles {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    return None


def survives_save_and_load(model: type[MultiTaskModel]) -> str | None:
    built = trained_model(model)
    file = io.BytesIO()
    torch.save(built.state_dict(), file)
    file.seek(0)
    other = build(model, toy_tasks(), seed=1)
    other.load_state_dict(torch.load(file, weights_only=True))
    batch = SyntheticRows(toy_tasks()).gather(slice(0, 50))
    one, two = predict(built, batch), predict(other, batch)
    if any(not torch.equal(one[name], two[name]) for name in ("a", "b")):
        raise Failed("a model that loaded another's state_dict predicts differently")
    return None


def same_on_a_gpu(model: type[MultiTaskModel]) -> str | None:
    if not torch.cuda.is_available():
        return "no GPU here"
    built = trained_model(model)
    batch = SyntheticRows(toy_tasks()).gather(slice(0, 50))
    one = predict(built, batch)
    there = batch.to("cuda")
    two = predict(built.cuda(), there)
    for name in ("a", "b"):
        if not torch.allclose(one[name], two[name].cpu(), atol=1e-2):
            raise Failed(f"task '{name}': logits on the GPU differ from those on the CPU")
    return None


def a_copy_stands_alone(model: type[MultiTaskModel]) -> str | None:
    """A deep copy predicts the same, whatever becomes of the model that it was made of."""
    if model.fit is not None:
        return FITS_ITSELF
    built = build(model, toy_tasks())
    batch = SyntheticRows(toy_tasks(), 40).gather(slice(0, 40))
    before, twin = predict(built, batch), copy.deepcopy(built)
    with torch.no_grad():
        for tensor in built.state_dict().values():
            tensor.zero_()
    after = predict(twin, batch)
    if any(not torch.equal(before[name], after[name]) for name in ("a", "b")):
        raise Failed("a copy of the model changes with the model: it keeps a function or a tensor of the old one")
    return None
