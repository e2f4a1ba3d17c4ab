"""Result trees that several tests look at; built once, copied by who changes something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark import report
from benchmark.records.record import run_directory
from tests.report import made

TITLES = {"single_task": "SingleTask", "shared_bottom": "Shared-Bottom", "mpt_rec": "MPT-Rec"}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, three seeds, tables and figures written."""
    out = made.write(tmp_path_factory.mktemp("built"), made.study({"shared_bottom": 0.940, "mpt_rec": 0.946}))
    report.build(out, TITLES)
    return out


@pytest.fixture
def predicted(tmp_path: Path) -> Iterator[Path]:
    """Two methods with predictions of the new task: 400 rows, the same for all, MPT-Rec's clearly better."""
    records = made.study({"shared_bottom": 0.940, "mpt_rec": 0.946})
    out = made.write(tmp_path, records)
    generator = np.random.default_rng(0)
    labels = (generator.random(400) < 0.3).astype(np.float32)
    for record in records:
        if "education" in record.scores and record.status == "ok":
            signal = 2.0 if record.key.method == "mpt_rec" else 0.5
            logits = (signal * labels + generator.normal(size=400)).astype(np.float32)
            path = run_directory(out, record.key) / "predictions.npz"
            np.savez(path, logits_education=logits, labels_education=labels)
    yield out
