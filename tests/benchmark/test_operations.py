"""Operations and stored numbers, against counts by hand."""

import pytest
import torch
from torch import nn

from benchmark.training.operations import NotCounted, flops_per_row, stored_numbers
from benchmark.training.protocol import execute
from methods.base import Batch, MultiTaskModel
from methods.layers import Tower
from tests.benchmark.fakes import FakeData
from tests.benchmark.test_protocol import CPU, key
from tests.methods.toys import SCHEMA

WIDTH = 2 + 3 * 4  # two numeric columns, three features of four dimensions
BODY = 2 * (WIDTH * 256 + 256 * 128)
TOWER = 2 * (128 * 64 + 64 * 32 + 32)
TOWER_WEIGHTS = (128 + 1) * 64 + (64 + 1) * 32 + 33


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The record part of a run, stage 0 first where the arm needs it, one epoch each."""
    kept = {}

    def run(arm, method="shared_bottom", options=None, config=None):
        def wanted(arm, options=None):
            made = key(arm, method=method, config=config, epochs=1)
            return made.model_copy(update={"arm_config": options or {}})

        path = None
        if arm not in ("stage0", "joint"):
            if method not in kept:
                outcome = execute(wanted("stage0"), FakeData(), CPU)
                kept[method] = tmp_path_factory.mktemp(method) / "weights.pt"
                torch.save(outcome.weights, kept[method])
            path = kept[method]
        return execute(wanted(arm, options), FakeData(), CPU, stage0=path)

    return run


def test_a_row_of_shared_bottom_costs_its_layers(run):
    stage0, frozen = run("stage0"), run("frozen")
    assert stage0.flops.forward == stage0.serving.flops == BODY + 2 * TOWER
    assert (stage0.serving.tasks, stage0.serving.weights_added, stage0.serving.flops_added) == (2, None, None)
    assert frozen.flops.forward == frozen.serving.flops == BODY + 3 * TOWER
    assert frozen.flops.forward_new == TOWER
    # backward: by the weights and by the inputs, but not by the inputs of what is frozen
    assert frozen.flops.training_step_new == 3 * TOWER - 2 * 128 * 64
    assert frozen.serving.flops_added == TOWER and frozen.serving.weights_added == TOWER_WEIGHTS
    assert frozen.serving.weights == frozen.params.total


@pytest.mark.parametrize("arm, part, weights", [
    ("bias_only", 0, 256 + 128),
    ("ia3", 0, 256 + 128),
    ("film", 0, 2 * (256 + 128)),
    ("soft_prompt", 0, WIDTH),
    ("prefix", 2 * 2 * 8 * WIDTH, 2 * 8 * WIDTH),
    ("table_delta", 2 * 3 * 4, 7 + 11 + 5 + 4),
    ("lora", 2 * 8 * (WIDTH + 256 + 256 + 128), 8 * (WIDTH + 256 + 256 + 128)),
    ("adapter", 2 * 2 * 16 * (256 + 128), 2 * 16 * (256 + 128) + 16 * 2 + 256 + 128),
])  # fmt: skip
def test_an_adapted_backbone_is_run_twice_at_serving_and_once_in_training(run, arm, part, weights):
    outcome, frozen = run(arm), run("frozen")
    assert outcome.flops.forward == 2 * (BODY + 3 * TOWER) + part
    assert outcome.serving.flops_added == outcome.flops.forward - (BODY + 2 * TOWER)
    assert outcome.serving.weights_added == TOWER_WEIGHTS + weights
    # the pass that is trained, and its way back at least through the shared layers that carry a gradient to a part
    assert BODY + 3 * TOWER + part < outcome.flops.training_step < 3 * (BODY + 3 * TOWER + part)
    assert outcome.flops.training_step > frozen.flops.training_step


def test_the_counts_that_were_recorded_without_the_second_pass(run):
    assert run("bias_only").flops.forward == 268_672
    assert run("lora", "mmoe").flops.forward == 591_384


def test_arms_that_read_a_backbone_from_outside_run_it_once(run):
    probe, side = run("linear_probe"), run("side", options={"width": 32})
    assert probe.flops.forward == BODY + 2 * TOWER + 2 * 128 and probe.flops.forward_new == 2 * 128
    added = 2 * (WIDTH * 32 + 32 * 128) + 2 * (128 * 32 + 32)
    assert side.flops.forward == BODY + 2 * TOWER + added and side.serving.flops_added == added


def test_maml_stores_a_network_for_every_task(run):
    """Its own weights, which the new task gets, and an adapted copy for each of the two old ones."""
    network = (7 + 11 + 5) * 4 + (WIDTH + 1) * 256 + (256 + 1) * 128 + TOWER_WEIGHTS
    outcome = run("finetune", "maml")
    assert outcome.params.total == network and outcome.serving.weights == 3 * network
    assert outcome.serving.flops == 3 * (BODY + TOWER)


def test_balancing_by_gradients_costs_a_backward_pass_for_every_task(run):
    plain, balanced = run("joint"), run("joint", config={"balancing": "mgda"})
    assert plain.flops.forward == balanced.flops.forward
    extra = balanced.flops.training_step - plain.flops.training_step
    assert 2 * 2 * BODY < extra < 1.1 * 2 * 2 * BODY  # two more ways back through the body; products of gradients


class Attentive(MultiTaskModel):
    """Attention over the columns, as torch's own module and as its function."""

    def __init__(self, schema, tasks):
        super().__init__(schema, tasks)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.tower = Tower(16, ())

    def forward(self, batch):
        x = torch.zeros(len(batch), 5, 16)
        read, _ = self.attention(x, x, x, need_weights=False)
        read = nn.functional.scaled_dot_product_attention(read, read, read)
        return {"a": self.tower(read.mean(1)) + read[:, 0] @ torch.zeros(16)}


def test_attention_and_products_with_vectors_are_counted_with_and_without_gradients():
    model = Attentive(SCHEMA, []).eval()
    batch = Batch(torch.zeros(8, 3, dtype=torch.int32), torch.zeros(8, 2))
    projections, products = 2 * 5 * 16 * (3 * 16 + 16), 2 * 2 * 5 * 5 * 16
    by_hand = projections + 2 * products + 2 * 16 + 2 * 16
    with torch.no_grad():
        assert flops_per_row(lambda: model(batch), 8) == by_hand
    assert flops_per_row(lambda: model(batch), 8) == by_hand
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_cannot_be_counted_says_why(run, monkeypatch):
    with pytest.raises(NotCounted, match="FLOPs are not counted: ZeroDivisionError"):
        flops_per_row(lambda: 1 / 0, 1)
    monkeypatch.setattr("torch.utils.flop_counter.FlopCounterMode.get_total_flops", lambda self: 1 / 0, raising=True)
    monkeypatch.setattr("torch.utils.flop_counter.FlopCounterMode.__enter__", lambda self: 1 / 0)
    outcome = run("frozen")
    assert outcome.flops is None and outcome.serving is None
    assert outcome.warnings == ["FLOPs are not counted: ZeroDivisionError: division by zero"]


def test_rows_that_the_encoder_reserves_are_not_counted_as_stored():
    class Tables(MultiTaskModel):
        def __init__(self):
            super().__init__(SCHEMA, [])
            self.table = nn.Embedding(SCHEMA.embedding_rows, 4)
            self.register_buffer("kept", torch.zeros(SCHEMA.embedding_rows, 4))
            self.register_buffer("made", torch.zeros(7), persistent=False)

    assert stored_numbers(Tables()) == 2 * 4 * (20 + 30 + 9 - 2)
