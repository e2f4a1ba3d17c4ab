"""A small sweep, and what two equal result trees have in common."""

import json
from pathlib import Path

HERE = Path(__file__).parent

TINY = (
    "--suite", "smoke", "--dataset-file", HERE / "tiny.py", "--datasets", "tiny", "--set", "budget.epochs=2",
    "--set", "budget.batch_size=128",
)  # fmt: skip


def without_times(out):
    """All records of a tree by run id, without what may differ between two equal runs."""
    found = {}
    for path in sorted(Path(out).glob("runs/*/*/*/*/record.json")):
        record = json.loads(path.read_text())
        for key in ("seconds", "rows_per_second", "peak_memory_bytes", "checksum"):
            record.pop(key)
        for epoch in record["curve"]:
            epoch.pop("train_seconds")
            epoch.pop("validate_seconds")
        places = ("command", "started", "jobs", "times_kind", "commit", "dirty", "attempts", "worker", "host")
        for key in (*places, "kernel_milliseconds"):
            (record["provenance"] or {}).pop(key, None)
        found[record["run_id"]] = record
    return found
