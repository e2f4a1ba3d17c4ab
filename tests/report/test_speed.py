"""How long a rebuild takes: measured, not judged (goal: 2,000 records in under 20 s, pictures included)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark import report
from tests.report import made
from tests.report.conftest import TITLES


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 datasets, 10 methods, 4 stages or arms, 10 seeds, and the single-task runs: 2,150 records."""
    records = []
    for place in range(5):
        methods = {f"method_{i}": 0.92 + 0.001 * ((i + place) % 10) for i in range(10)}
        records += made.study(methods, seeds=range(10), dataset=f"dataset_{place}")
    assert len(records) == 2150
    return made.write(tmp_path_factory.mktemp("large"), records)


def test_rebuilding_2150_records(benchmark, large: Path) -> None:
    def fresh() -> None:
        for folder in ("tables", "figures"):
            shutil.rmtree(large / folder, ignore_errors=True)

    written = benchmark.pedantic(report.build, (large, TITLES), setup=fresh, rounds=1)
    assert len(written) > 100


def test_rebuilding_2150_records_again(benchmark, large: Path) -> None:
    report.build(large, TITLES)
    assert benchmark.pedantic(report.build, (large, TITLES), rounds=1)


def test_tables_alone(benchmark, large: Path) -> None:
    assert benchmark.pedantic(lambda: report.report(large, TITLES).files(), rounds=1)
