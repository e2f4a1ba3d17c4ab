"""Checks of rows: a row's logits depend on that row alone, whatever it comes with."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from benchmark.kit.bench import (
    FITS_ITSELF,
    SCHEMA,
    TOLERANCE,
    Failed,
    SyntheticRows,
    predict,
    toy_tasks,
    trained_model,
)
from benchmark.training.rows import PREDICT_ROWS
from methods.base import MultiTaskModel
from methods.batch import Batch


def row_order_and_batch_size_do_not_change_predictions(model: type[MultiTaskModel]) -> str | None:
    built = trained_model(model)
    rows = SyntheticRows(toy_tasks(), PREDICT_ROWS)
    whole = {name: logits[:60] for name, logits in predict(built, rows.gather(slice(0, PREDICT_ROWS))).items()}
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    for name in ("a", "b"):
        parts = torch.cat([predict(built, rows.gather(part))[name] for part in order.split(7)])
        if not torch.allclose(parts, whole[name][order], atol=TOLERANCE):
            worst = float((parts - whole[name][order]).abs().max())
            raise Failed(f"task '{name}': logits move by up to {worst:.2g} with the order and number of rows")
    return None


def no_peeking_across_rows(model: type[MultiTaskModel]) -> str | None:
    built = trained_model(model)
    rows = SyntheticRows(toy_tasks(), 40)
    before = predict(built, rows.gather(slice(0, 40)))
    rows.categorical[1:], rows.numeric[1:] = rows.categorical[1:].flip(0), rows.numeric[1:] + 5.0
    after = predict(built, rows.gather(slice(0, 40)))
    for name in ("a", "b"):
        if not torch.allclose(before[name][0], after[name][0], atol=TOLERANCE):
            raise Failed(f"task '{name}': the first row's logit changes when the other rows do")
    return None


def every_input_is_read(model: type[MultiTaskModel]) -> str | None:
    """Another value of any feature or number, in every row, moves a logit."""
    if model.fit is not None:
        return FITS_ITSELF
    built = trained_model(model)
    batch = SyntheticRows(toy_tasks(), 40).gather(slice(0, 40))
    before = predict(built, batch)
    columns = iter(range(SCHEMA.columns))
    others: dict[str, Batch] = {}
    for feature, offset in zip(SCHEMA.categorical, SCHEMA.offsets, strict=True):
        codes = batch.categorical.clone()
        for column in [next(columns) for _ in range(feature.length)]:
            codes[:, column] = (codes[:, column] - offset + 1) % feature.size + offset
        others[feature.name] = dataclasses.replace(batch, categorical=codes)
    for column, name in enumerate(SCHEMA.numeric):
        numeric = batch.numeric.clone()
        numeric[:, column] += 1.0
        others[name] = dataclasses.replace(batch, numeric=numeric)
    for name, other in others.items():
        after = predict(built, other)
        if all(torch.equal(before[task], after[task]) for task in ("a", "b")):
            raise Failed(f"no logit changes with the feature '{name}'")
    return None


def training_and_prediction_are_one_path(model: type[MultiTaskModel]) -> str | None:
    """Without dropout and batch statistics the logits of a batch are the same in training and at prediction."""
    built = trained_model(model)
    batch = SyntheticRows(toy_tasks(), 40).gather(slice(0, 40))
    predicted = predict(built, batch)

    def trained(rows: Batch, seed: int) -> dict[str, Tensor]:
        built.train()
        for module in built.modules():
            if isinstance(module, _DropoutNd | _BatchNorm):
                module.eval()
        buffers = {name: buffer.clone() for name, buffer in built.named_buffers()}
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            outputs = dict(built(rows))
        for name, buffer in built.named_buffers():
            buffer.copy_(buffers[name])
        built.eval()
        return outputs

    once, again, alone = trained(batch, 0), trained(batch, 1), trained(batch.take(slice(0, 20)), 0)
    for name in ("a", "b"):
        if name not in once:
            continue
        if not torch.equal(once[name], again[name]):
            return "the method draws random numbers of its own in training: not compared"
        if not torch.allclose(once[name][:20], alone[name], atol=TOLERANCE):
            return "the method reads batch statistics of its own in training: not compared"
        if not torch.allclose(once[name], predicted[name], atol=TOLERANCE):
            worst = float((once[name] - predicted[name]).abs().max())
            raise Failed(
                f"task '{name}': logits in training and at prediction differ by up to {worst:.2g}, without dropout and "
                "batch statistics"
            )
    return None
