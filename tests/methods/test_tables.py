"""Embeddings of a feature's own size or from elsewhere: looked up, counted, and in every place that shares them."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmark.training.meters import count_parameters
from benchmark.training.models import build_model
from benchmark.training.operations import stored_numbers
from datasets_registry.schema import CategoricalFeature, Schema, SequenceFeature, Task
from methods import METHODS
from methods.batch import random_inputs
from methods.layers import FeatureEmbedding

PLAIN = Schema(
    (CategoricalFeature("user", 7, 2), CategoricalFeature("item", 9, 2), CategoricalFeature("tags", 6, 2, 3)),
    ("age",),
    (SequenceFeature("history", 9, 4, 2, shares="item"), SequenceFeature("words", 5, 3, 2)),
)


def with_item(**changes):
    user, item, tags = PLAIN.categorical
    return dataclasses.replace(PLAIN, categorical=(user, dataclasses.replace(item, **changes), tags))


@pytest.fixture
def vectors(tmp_path):
    table = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    np.save(tmp_path / "item.npy", table)
    return str(tmp_path / "item.npy"), torch.from_numpy(table)


@pytest.mark.parametrize("pool", ["mean", "target"])
def test_a_feature_of_its_own_size_is_projected_wherever_it_is_looked_up(pool):
    schema = with_item(dim=5).pooled(pool)
    assert schema.width(3) == PLAIN.width(3) and schema.offsets == PLAIN.offsets
    assert schema.embedding_rows == 27 and schema.table_rows == 18
    embed, batch = FeatureEmbedding(schema, 3), random_inputs(PLAIN, 8, torch.Generator().manual_seed(1))
    # the same numbers in one plain table: every row of the stack, the item's by way of its projection
    whole = FeatureEmbedding(PLAIN.pooled(pool), 3)
    own = embed.own[0]
    with torch.no_grad():
        common, projected = embed.table.weight, own.project(own.table.weight)
        whole.table.weight.copy_(torch.cat([common[:7], projected, common[7:]]))
        whole.pools.load_state_dict(embed.pools.state_dict())
    assert torch.allclose(embed(batch), whole(batch), atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_vectors_are_where_training_starts_and_frozen_ones_where_it_ends(vectors, frozen):
    path, table = vectors
    schema = with_item(dim=5, vectors=path, frozen=frozen)
    config = dataclasses.asdict(METHODS.get("shared_bottom").Config())
    model, warnings = build_model("shared_bottom", config, schema, [Task("a")], ("x", "shared_bottom", 0))
    assert not warnings and torch.equal(model.embed.own[0].table.weight, table)
    logits = model(random_inputs(schema, 16, torch.Generator().manual_seed(1)))["a"]
    logits.sum().backward()
    gradient = model.embed.own[0].table.weight.grad
    assert (gradient is None) if frozen else bool(gradient.abs().sum() > 0)
    counted = count_parameters(model, list(model.parameters()))
    dim = config["embedding_dim"]
    own = 0 if frozen else (9 - 2) * 5
    assert counted.by_role["embedding"] == (18 - 6) * dim + own
    stored = sum(part.numel() for part in model.state_dict().values())
    assert stored_numbers(model) == stored - 6 * dim - 2 * 5


@pytest.mark.parametrize("method", ["stem", "mpt_rec", "pepnet", "maml"])
def test_methods_with_tables_of_all_kinds_take_it(vectors, method):
    schema = with_item(dim=5, vectors=vectors[0])
    config = dataclasses.asdict(METHODS.get(method).Config())
    model, _ = build_model(method, config, schema, [Task("a"), Task("b")], ("x", method, 0))
    logits = model.eval()(random_inputs(schema, 6, torch.Generator().manual_seed(1)))
    assert set(logits) >= {"a", "b"} and all(torch.isfinite(logits[name]).all() for name in "ab")
