"""The tables of the tests, the comparison with another tree, and the published numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmark import report
from benchmark.records.record import read_record, run_directory, run_id, write_record
from benchmark.report import published, stats
from benchmark.report.arrays import cliques
from benchmark.report.comparisons import against_reference, degradations, not_worse_than_best
from benchmark.report.cost import fronts
from benchmark.report.groups import Options, Sample, group_records
from benchmark.report.model import Cell
from tests.report import made
from tests.report.conftest import TITLES


def group(out: Path, **options: object):
    from benchmark.records.record import read_records

    return group_records(read_records(out)[0], TITLES, Options(roots=(out,), **options))[0]


def test_a_claim_needs_seeds_and_test_rows(predicted: Path) -> None:
    found = {(c.variant.method, c.arm): c for c in against_reference(group(predicted))}
    item = found["shared_bottom", "frozen"]
    assert item.p == pytest.approx(stats.t_test(list(item.sample.values.values())))
    assert item.p_holm < 0.05 and item.p_rows_holm < 0.05
    assert item.verdict("better", "worse") == "worse"
    assert found["single_task", "frozen"].rows is not None  # stands against each arm
    # Over seeds nothing changes, but on the test rows the two are now the same model: no claim.
    for seed in range(3):
        source, target = (
            min(path.parent for path in predicted.glob(f"runs/census/{method}/frozen/*/record.json")
                if f'"seed": {seed}' in path.read_text())
            for method in ("mpt_rec", "shared_bottom")
        )  # fmt: skip
        shutil.copy(source / "predictions.npz", target / "predictions.npz")
    found = {(c.variant.method, c.arm): c for c in against_reference(group(predicted))}
    item = found["shared_bottom", "frozen"]
    assert item.p_holm < 0.05 and item.rows == stats.AucDifference(0.0, 0.0, 1.0)
    assert item.verdict("better", "worse") == "undecided"


def test_other_test_rows_are_never_compared(predicted: Path) -> None:
    path = min(predicted.glob("runs/census/shared_bottom/frozen/*/predictions.npz"))
    arrays = dict(np.load(path))
    arrays["labels_education"] = arrays["labels_education"][::-1]
    np.savez(path, **arrays)
    found = {(c.variant.method, c.arm): c for c in against_reference(group(predicted))}
    assert found["shared_bottom", "frozen"].rows is None
    assert found["shared_bottom", "joint"].rows is not None


def test_a_truncated_predictions_file_counts_as_absent(predicted: Path) -> None:
    path = min(predicted.glob("runs/census/shared_bottom/frozen/*/predictions.npz"))
    path.write_bytes(path.read_bytes()[:200])
    found = {(c.variant.method, c.arm): c for c in against_reference(group(predicted))}
    assert found["shared_bottom", "frozen"].rows is None


def test_verdicts_of_no_degradation(tmp_path: Path) -> None:
    records = []
    generator = np.random.default_rng(0)
    for seed in range(8):
        base = 0.9 + 0.01 * seed
        for name, loss in (("same", 0.0), ("near", 0.0001), ("worse", 0.02), ("better", -0.02), ("noisy", 0.003)):
            noise = {"same": 0.0, "noisy": 0.01}.get(name, 0.0002) * generator.normal()
            records.append(made.record(name, "stage0", seed, {"income": base}, old=["income"]))
            after = {"income": base - loss + noise, "education": 0.8}
            records.append(made.record(name, "joint", seed, after, old=["income"]))
    found = {
        c.variant.method: c.verdict("degraded", "improved") for c in degradations(group(made.write(tmp_path, records)))
    }
    assert found == {
        "same": "unchanged",
        "near": "equivalent",
        "worse": "degraded (seeds only)",
        "better": "improved (seeds only)",
        "noisy": "undecided",
    }


def test_the_margin_decides_about_equivalence(tmp_path: Path) -> None:
    records = []
    for seed in range(6):
        records.append(made.record("m", "stage0", seed, {"income": 0.9}, old=["income"]))
        after = {"income": 0.9 - 0.003 - 0.0002 * seed, "education": 0.8}
        records.append(made.record("m", "joint", seed, after, old=["income"]))
    out = made.write(tmp_path, records)
    assert degradations(group(out))[0].verdict("degraded", "improved").startswith("degraded")
    assert degradations(group(out, margin=0.01))[0].verdict("degraded", "improved") == "equivalent"


def test_what_is_not_parted_from_the_best() -> None:
    best = Sample({0: 0.90, 1: 0.91, 2: 0.92})
    near = Sample({0: 0.89, 1: 0.92, 2: 0.91})
    far = Sample({0: 0.80, 1: 0.81, 2: 0.82})
    lucky = Sample({0: 0.99})
    assert not_worse_than_best([best, near, far, lucky]) == {1}
    assert not_worse_than_best([lucky, Sample({0: 0.5})]) == set()  # one seed: no test, no claim of likeness
    assert not_worse_than_best([]) == set()


def test_pareto_fronts_by_hand() -> None:
    rows = [(0.0, 0.5), (0.1, 0.6), (0.2, 0.6), (0.0, 0.5), (None, 0.9)]
    cells = [{"a": Cell(a) if a is not None else Cell(code="OOM"), "b": Cell(b)} for a, b in rows]
    found = fronts(cells, {"a": -1, "b": 1})
    assert [c.text or c.code for c in found] == ["front", "front", "dominated by 1", "front", "n/a"]


def test_cliques_by_hand() -> None:
    assert cliques([1.0, 1.4, 2.2, 3.9], 1.0) == [(0, 1), (1, 2)]
    assert cliques([1.0, 1.1, 1.2], 1.0) == [(0, 2)]
    assert cliques([1.0, 3.0], 1.0) == []


# ---- compare -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A new method on another machine, on the data of the reference."""
    records = [r for r in made.study({"my_method": 0.96}) if r.key.method == "my_method"]
    for record in records:
        record.provenance.cpu = "My CPU"
    return made.write(tmp_path / "mine", records)


def test_compare_puts_the_new_method_beside_the_reference(built: Path, mine: Path) -> None:
    found = report.compare(mine, built, TITLES)
    assert found.problems == ()
    table = next(t for t in found.tables if t.name.startswith("new_task"))
    rows = {(r.cells["method"].text, r.cells["arm"].text): r.cells for r in table.rows}
    own, theirs = rows["my_method (yours)", "frozen"], rows["Shared-Bottom", "frozen"]
    assert own["seconds"].value == 20 and theirs["seconds"].code == "machine"
    assert own["gain"].value is not None  # over the reference tree's single-task runs
    paired = next(t for t in found.tables if t.name.startswith("paired"))
    assert "my_method (yours)" in paired.caption
    assert "torch" not in "".join(t.name for t in found.tables)


def test_compare_says_what_has_no_counterpart(built: Path, mine: Path) -> None:
    records = made.study({"my_method": 0.96}, dataset="elsewhere")
    other = made.study({"my_method": 0.96})
    for record in other:
        record.key.budget = {"epochs": 1}
        record.run_id = run_id(record.key)
    shutil.rmtree(mine / "runs")
    found = report.compare(made.write(mine, records + other), built, TITLES)
    assert found.tables == ()
    assert sorted(found.problems) == [
        "census: the reference records differ in budget (batch_size): none in yours, 256 there. "
        "Run yours with --set budget.batch_size=256 --set budget.epochs=30 --set budget.patience=5.",
        "elsewhere: no reference records of this dataset. The reference has census. "
        "Run yours on census (--datasets census).",
    ]


def test_compare_refuses_other_data_under_the_same_name(built: Path, mine: Path) -> None:
    for path in mine.glob("runs/*/*/*/*/record.json"):
        record = read_record(path)
        record.provenance.data_fingerprint = "e"
        write_record(path.parent, record)
    assert "differ in data: e in yours, d there" in report.compare(mine, built, TITLES).problems[0]


# ---- published numbers -------------------------------------------------------------------------------------------


def test_every_published_number_can_be_read_and_has_a_source() -> None:
    count = 0
    for block in published._content()["block"]:
        assert block["source"] in ("P*", "R", "R!")
        assert block["source"] != "R!" or block.get("doubt"), "a suspect number says why"
        for values in block["methods"].values():
            assert len(values) == len(block["tasks"])
            for text in values:
                published.parse(text)
                count += 1
    assert count > 150


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.9517", (0.9517, 0.00005, None)),
        ("0.9448 +- 0.0016", (0.9448, 0.00005, 0.0016)),
        ("-0.0036", (-0.0036, 0.00005, None)),
        ("21K", (21_000, 500, None)),
        ("9.3", (9.3, 0.05, None)),
        ("27063", (27_063, 0.5, None)),
    ],
)
def test_printed_numbers_carry_their_rounding(text: str, expected: tuple) -> None:
    found = published.parse(text)
    assert (found.value, found.rounding, found.deviation) == pytest.approx(expected)


def test_verdicts_on_published_numbers() -> None:
    auc, count = published.parse("0.8626"), published.parse("21K")
    assert published.verdict("auc", auc, Cell(0.8600, 0.0030)) == "reached"
    assert published.verdict("auc", auc, Cell(0.8600, 0.0020)) == "not reached"
    assert published.verdict("auc", auc, Cell(0.86256)) == "reached"
    assert published.verdict("paper_trained", count, Cell(20_738.0)) == "reached"
    assert published.verdict("paper_trained", count, Cell(10_369.0)) == "not reached"


def census(**changes: object) -> list:
    records = made.study({"shared_bottom": 0.94, "mpt_rec": 0.9426}, dataset="census_income")
    for record in records:
        for name, value in changes.items():
            setattr(record.key, name, value)
        record.run_id = run_id(record.key)
    return records


def judged(out: Path, records: list) -> dict[tuple[str, ...], str]:
    found = report.report(made.write(out, records), TITLES)
    table = next(t for t in found.tables if t.name.startswith("published"))
    keys = ("title", "source", "method", "task", "quantity")
    return {tuple(r.cells[k].text for k in keys): r.cells["verdict"].text for r in table.rows}


def test_published_numbers_are_judged_only_under_their_conditions(tmp_path: Path) -> None:
    auc = ("Table 5", "P*", "MPT-Rec", "education", "AUC")
    table3 = ("Table 3", "P*", "MPT-Rec", "income", "AUC")
    found = judged(tmp_path / "a", census())
    assert found[auc] == "reached"
    assert found["Table 5", "P*", "Shared-Bottom", "education", "parameters, paper's count"] == "not reached"
    assert found[table3] == "not comparable: there education is an input feature"
    assert found["Table 5", "P*", "maml", "education", "AUC"] == "not comparable: no such run here"
    found = judged(tmp_path / "b", census(budget={"epochs": 3, "batch_size": 1024}))
    assert found[auc] == "not comparable: epochs 30 there, 3 here"
    found = judged(tmp_path / "c", census(dataset="census_income@5pct"))
    assert found[auc] == "not comparable: other rows (there all, here 5pct)"


def test_predictions_are_found_in_either_tree(predicted: Path, tmp_path: Path) -> None:
    records = [r for r in made.study({"my_method": 0.96}) if r.key.method == "my_method"]
    mine = made.write(tmp_path / "mine", records)
    source = dict(np.load(min(predicted.glob("runs/census/mpt_rec/frozen/*/predictions.npz"))))
    for record in records:
        if record.key.arm == "frozen":
            np.savez(run_directory(mine, record.key) / "predictions.npz", **source)
    found = report.compare(mine, predicted, TITLES)
    table = next(t for t in found.tables if t.name.startswith("paired"))
    rows = {(r.cells["method"].text, r.cells["arm"].text): r.cells["rows_error"] for r in table.rows}
    assert rows["Shared-Bottom", "frozen"].value is not None
    assert rows["Shared-Bottom", "joint"].code == "no file"
