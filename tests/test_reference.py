"""Committed numbers can be made again: `verify` repeats short runs of the reference trees on the real files."""

import json
from pathlib import Path

import pytest

from benchmark.records.tree import read_records

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
SHARED = ROOT.parent / "shared" / "data"
SHORT = [
    ("quick", "census_income", "single_task", "scratch"),
    ("quick", "census_income", "shared_bottom", "frozen"),  # with the stage 0 that it continues
    ("each_task", "kuairand_pure@last14days", "single_task", "scratch"),
]


@pytest.mark.parametrize(("suite", "dataset", "method", "arm"), SHORT, ids=["-".join(row) for row in SHORT])
def test_a_committed_number_is_found_again(mpt, suite, dataset, method, arm):
    if not SHARED.is_dir():
        pytest.skip(f"no real files at {SHARED}")
    records, _ = read_records(REFERENCE / suite)
    found = [r for r in records if (r.key.dataset, r.key.method, r.key.arm) == (dataset, method, arm)]
    run = min(found, key=lambda record: (record.seconds.total, record.run_id))
    result = mpt("verify", run.run_id, "--data-dir", SHARED, "--out", REFERENCE / suite)
    assert result.code == 0 and ("equal" in result.text or "within tolerance" in result.text), result.text


@pytest.mark.parametrize("name", ["each_task", "equal_size"])
def test_the_page_on_studies_counts_the_runs_that_are_fitted_to_the_data(mpt, name):
    if not SHARED.is_dir():
        pytest.skip(f"no real files at {SHARED}")
    page = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}`")]
    planned = mpt("run", "--suite", name, "--dry-run", "--json", "--data-dir", SHARED)
    assert len(json.loads(planned.text[planned.text.index("{") :])["runs"]) == int(row.split("|")[3])
