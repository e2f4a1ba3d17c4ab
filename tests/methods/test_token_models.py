"""Models on tokens get a number from every strategy: layers see [B, tokens, width], a new task is a new token."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from benchmark.kit.check_method import check
from benchmark.spec.arms import ARMS, SCRATCH, STAGE0
from benchmark.training.protocol import execute
from benchmark.training.rows import checked_features
from methods import METHODS
from methods.base import MultiTaskModel, register_method
from tests.benchmark.fakes import FakeData
from tests.benchmark.test_protocol import CPU, key

DIM = 8


def declare():
    """A transformer over one token per feature and one per task; each task is read off its own token."""

    @register_method("field_tokens", title="Field tokens", paper="a test")
    class FieldTokens(MultiTaskModel):
        @dataclass(frozen=True)
        class Config:
            dim: int = DIM

        def __init__(self, schema, tasks, config):
            super().__init__(schema, tasks, config)
            self.table = nn.Embedding(schema.embedding_rows, config.dim)
            self.numbers = nn.Linear(len(schema.numeric), config.dim)
            self.mix = nn.Linear(config.dim, config.dim)
            self.block = nn.TransformerEncoderLayer(config.dim, 2, 16, dropout=0.0, batch_first=True)
            self.tokens = nn.ParameterDict({t.name: nn.Parameter(torch.randn(config.dim)) for t in tasks})
            self.heads = nn.ModuleDict({t.name: nn.Linear(config.dim, 1) for t in tasks})

        def fields(self, batch):
            numbers = self.numbers(batch.numeric)[:, None]
            return self.mix(torch.cat([numbers, self.table(batch.categorical.long())], 1)).relu()

        def read(self, fields, name):  # a pass per task: no task's token is seen by another's
            token = self.tokens[name].expand(len(fields), 1, -1)
            return self.heads[name](self.block(torch.cat([token, fields], 1))[:, 0]).squeeze(-1)

        def forward(self, batch):
            fields = self.fields(batch)
            return {name: self.read(fields, name) for name in self.heads}

        def add_task(self, task):
            self.tokens[task.name] = nn.Parameter(torch.randn(self.config.dim))
            self.heads[task.name] = nn.Linear(self.config.dim, 1)
            return [self.tokens[task.name], self.heads[task.name]]

        def frozen_features(self, batch):
            return {"fields": self.fields(batch)}

        def forward_new(self, features):
            return {name: self.read(features["fields"], name) for name in self.new_tasks}

    return FieldTokens


@pytest.fixture
def stage0(tmp_path):
    declare()
    outcome = execute(key(method="field_tokens", epochs=1), FakeData(), CPU)
    torch.save(outcome.weights, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


READS_AN_EMBEDDING = ("soft_prompt", "prefix", "table_delta", "side")
"""These put parts behind methods.layers.FeatureEmbedding, which this model does not use: a declared skip."""


def test_every_strategy_gives_a_token_model_a_number(stage0):
    arms = [arm for arm in ARMS.values() if arm.name not in (STAGE0, SCRATCH, *READS_AN_EMBEDDING)]
    assert len(arms) > 12
    for arm in arms:
        outcome = execute(key(arm.name, "field_tokens", epochs=1), FakeData(), CPU, stage0=stage0)
        assert outcome.scores["c"].metrics["auc"] is not None, arm.name
        assert not [line for line in outcome.warnings if "not counted" in line], (arm.name, outcome.warnings)
        if arm.frozen:
            assert outcome.invariants["old_tasks_unchanged"], arm.name


def test_operations_of_attention_are_those_counted_by_hand(stage0):
    """Per task a block on t = 1 + fields tokens: four projections, scores, their product with values, two layers."""
    fields, tasks, hidden = 4, 2, 16  # three features and one token of numbers
    tokens = 1 + fields
    block = 2 * (4 * tokens * DIM * DIM + 2 * tokens * tokens * DIM + 2 * tokens * DIM * hidden)
    shared = 2 * (2 * DIM + fields * DIM * DIM)  # the numbers' projection, and the mixing layer
    outcome = execute(key(method="field_tokens", epochs=1), FakeData(), CPU)
    assert outcome.flops.forward == pytest.approx(shared + tasks * (block + 2 * DIM))


def test_the_kit_accepts_it():
    failed = [f"{c.name}: {c.reason}" for c in check(declare()) if c.passed is False]
    elsewhere = ("parts of the harness", "another process")  # declared skips; a file that only this test declares
    assert not [line for line in failed if not line.startswith(elsewhere)], failed
    assert METHODS.get("field_tokens")


def test_features_of_another_form_are_refused_where_they_are_returned():
    with pytest.raises(TypeError, match="m: frozen_features must return a dict"):
        checked_features(torch.zeros(4, 3), "m", 4)
    with pytest.raises(ValueError, match="first dimension has to be the batch"):
        checked_features({"h": torch.zeros(3, 4)}, "m", 4)
    assert checked_features(None, "m", 4) is None and list(checked_features({"h": torch.zeros(4)}, "m", 4)) == ["h"]
