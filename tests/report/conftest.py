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
    """Two methods with predictions of the new task on 400 rows that are easy or hard for both alike."""
    records = made.study({"shared_bottom": 0.940, "mpt_rec": 0.946})
    out = made.write(tmp_path, records)
    generator = np.random.default_rng(0)
    labels = (generator.random(400) < 0.3).astype(np.float32)
    common = 1.5 * labels + generator.normal(size=400)
    own = {name: generator.normal(size=400) for name in ("single_task", "shared_bottom", "mpt_rec")}
    for record in records:
        if "education" in record.scores and record.status == "ok":
            logits = common + 0.02 * own[record.key.method] + 0.01 * generator.normal(size=400)
            path = run_directory(out, record.key) / "predictions.npz"
            np.savez(path, logits_education=logits.astype(np.float32), labels_education=labels)
    yield out
