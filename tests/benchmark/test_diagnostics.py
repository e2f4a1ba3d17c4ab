"""What a method says of its training reaches the record, `show`, the footers and a figure."""

import math

import pytest
import torch

from benchmark import report
from benchmark.cli.trees import describe_record
from benchmark.records.record import read_record, write_record
from benchmark.report.figures.diagnostics import MOST_LINES, diagnostics
from benchmark.training.diagnostics import Sample, diagnose
from benchmark.training.protocol import execute
from datasets_registry.schema import Task
from methods.base import MultiTaskModel
from tests.benchmark.fakes import FakeData
from tests.benchmark.test_protocol import CPU, key
from tests.report import made

SMALL = {"embedding_dim": 2, "hidden": (8,), "tower": (4,)}


def test_mpt_rec_in_one_epoch_warns_and_in_four_it_does_not():
    short = execute(key(method="mpt_rec", config=SMALL, epochs=1, patience=1), FakeData(), CPU)
    assert any("adversary did not act" in warning for warning in short.warnings)
    assert short.flops is not None  # counted after training, as a step of a budget of one epoch
    long = execute(key(method="mpt_rec", config=SMALL, learning_rate=3e-3), FakeData(), CPU)
    kept = long.selection.epoch
    assert any("adversary did not act" in warning for warning in long.warnings) == (kept <= 2)
    rows = long.diagnostics["environment_rows"]["after epoch 4"]
    assert sum(rows.values()) == long.train_rows and set(rows) == {"a", "b"}
    assert 0 <= long.diagnostics["discriminator_balanced_accuracy"] <= 1
    assert execute(key(), FakeData(), CPU).diagnostics == {}


class Talkative(MultiTaskModel):
    said: object = None

    def diagnostics(self, rows):
        return {"said": self.said, "rows": len(rows), "index": [batch.index.tolist() for batch in rows.batches(2)]}


class Rows:
    def __len__(self):
        return 10

    def gather(self, index):
        return type("Batch", (), {"index": index})


def test_diagnostics_become_plain_numbers_of_a_sample_of_rows():
    model = Talkative(None, [Task("a")])
    model.said = {"mean": torch.tensor([1.0, math.nan]), "n": torch.tensor(3)}
    assert diagnose(model, Rows())["said"] == {"mean": [1.0, None], "n": 3}
    assert next(Sample(Rows(), CPU, 4).batches(3)).index.tolist() == [0, 3, 6]
    assert diagnose(model, Rows())["rows"] == 10
    model.said = {"deep": object()}
    with pytest.raises(TypeError, match=r"said\.deep"):
        diagnose(model, Rows())


@pytest.fixture
def tree(tmp_path):
    inside = {"environment_rows": {f"after epoch {e}": {"income": 9, "marital": 1 + e} for e in range(2, 22, 2)},
              "accuracy": 0.5, "note": "no number"}  # fmt: skip
    records = made.study({"shared_bottom": 0.940, "mpt_rec": 0.946})
    for place, record in enumerate(records):
        if record.key.method == "mpt_rec" and record.key.arm == "stage0":
            records[place] = record.model_copy(update={"diagnostics": inside, "warnings": ["It did not act."]})
    made.write(tmp_path, records)
    return tmp_path, records


def test_warnings_stand_under_the_tables_with_the_number_of_runs(tree):
    out, _ = tree
    tables = report.report(out, {}).tables
    footers = ["\n".join(table.footer) for table in tables if table.name.startswith("new_task")]
    assert footers and all("Warning of 3 runs: It did not act." in footer for footer in footers)


def test_diagnostics_are_drawn_and_shown(tree):
    out, records = tree
    (group,) = report.report(out, {}).groups
    (plot,) = diagnostics(group, "census")
    assert plot.name == "diagnostics-mpt_rec-census"
    lines = {(row["panel"], row["line"]): row for row in plot.rows}
    assert lines["environment_rows", "after epoch 2, marital"]["mean"] == 3
    assert lines["numbers", "accuracy"]["n"] == 3
    assert ("numbers", "note") not in lines
    from matplotlib.figure import Figure

    figure = Figure()
    plot.draw(figure, plot.rows)
    assert max(len(axes.patches) for axes in figure.axes) < MOST_LINES < len(plot.rows)
    record = next(record for record in records if record.diagnostics)
    text = describe_record(record)
    assert "environment_rows: after epoch 2 income 9; marital 3" in text
    path = write_record(out, record)
    assert read_record(path).diagnostics == record.diagnostics
