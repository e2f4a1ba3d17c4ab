"""Switches of released code: one difference each, paired by seed, and what choosing by test rows would have gained."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import report
from benchmark.records.record import Record
from tests.report import made
from tests.report.conftest import TITLES

OLD = ["income", "marital"]
ENCODERS = "census@two_task+separate_encoders"


def run(seed: int, width: int, test: float, validation: float, dataset: str = "census@two_task") -> Record:
    scores = dict.fromkeys(OLD, test + 0.001 * seed)
    found = made.record("mpt_rec", "stage0", seed, scores, dataset=dataset, new=[], config={"width": width})
    assert found.selection is not None
    return found.model_copy(update={"selection": found.selection.model_copy(update={"score": validation})})


def rows(tmp_path: Path, records: list[Record]) -> dict[str, list[tuple[str, float | None]]]:
    out = made.write(tmp_path, records)
    variants = {"wide": {"method": "mpt_rec", "width": 8}, "wider": {"method": "mpt_rec", "width": 16}}
    tables = [t for t in report.report(out, TITLES, variants=variants).tables if t.name.startswith("released-")]
    found: dict[str, list[tuple[str, float | None]]] = {}
    for table in tables:
        for row in table.rows:
            cells = row.cells
            found.setdefault(cells["switch"].text or "", []).append(
                (cells["task"].text or "", cells["difference"].value)
            )
    return found


def test_each_switch_stands_with_its_difference_and_choosing_by_test_rows_is_one_of_them(tmp_path: Path) -> None:
    records = []
    for seed in range(3):
        records.append(run(seed, 4, 0.90, validation=0.95))
        records.append(run(seed, 8, 0.92, validation=0.94))  # better on test rows, worse on validation rows
        records.append(run(seed, 4, 0.89, validation=0.95, dataset=ENCODERS))
    found = rows(tmp_path, records)
    assert [name.split(":")[0] for name in found] == [
        "encoders fitted on the test file, too",
        "config",
        "config chosen by test score",
    ]
    encoders, config, chosen = found.values()
    assert encoders == [(task, pytest.approx(-0.01)) for task in OLD]
    assert config == chosen == [(task, pytest.approx(0.02)) for task in OLD]


def test_without_the_released_encoders_there_is_no_such_table(tmp_path: Path) -> None:
    assert rows(tmp_path, [run(seed, width, 0.9, 0.95) for seed in range(3) for width in (4, 8)]) == {}


def test_a_config_that_lacks_a_seed_is_not_chosen_there(tmp_path: Path) -> None:
    records = [run(0, 4, 0.90, 0.95), run(0, 8, 0.92, 0.94), run(1, 4, 0.90, 0.95), run(0, 4, 0.9, 0.9, ENCODERS)]
    found = rows(tmp_path, records)["config chosen by test score"]
    assert found == [(task, pytest.approx(0.02)) for task in OLD], "seed 0 alone has both configs"
