"""Records as one flat table for other programs: a row per run and task, every number in full."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.analysis.measures import machine_kind
from benchmark.core.errors import UsageError
from benchmark.core.files import write_atomically
from benchmark.records.record import Record
from benchmark.report.writers import spreadsheet_safe

METRICS = (
    *("auc", "pr_auc", "log_loss", "normalised_entropy", "calibration_error", "r2", "rmse", "mae", "spearman"),
    *("gauc", "uauc", "ndcg@10", "hr@10", "mrr"),
)
"""Metrics that lead, in this order; others that a record has follow by name."""
ENDINGS = (".csv", ".parquet")


def rows(records: Iterable[Record], stale: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """One row per run and task, in the order of the records; all rows have the same columns.

    Tasks are those that the run scored; of a run without scores those that it was to train. ``role`` is the task's
    part in the run's partition ("old" or "new"), ``trained`` whether the run trained it. Configurations are JSON.
    A number that does not exist is None.
    """
    known = list(records)
    found = {name for record in known for scores in record.scores.values() for name in scores.metrics}
    metrics = [name for name in METRICS if name in found] + sorted(found - set(METRICS))
    return [_row(record, task, metrics, stale or {}) for record in known for task in record.scores or record.key.tasks]


def _row(record: Record, task: str, metrics: Sequence[str], stale: Mapping[str, str]) -> dict[str, Any]:
    key, scores = record.key, record.scores.get(task)
    params, flops, seconds, kept, origin = (
        record.params,
        record.flops,
        record.seconds,
        record.selection,
        record.provenance,
    )
    return {
        "run_id": record.run_id,
        "dataset": key.dataset,
        "split": key.split,
        "method": key.method,
        "arm": key.arm,
        "stage": key.stage,
        "seed": key.seed,
        "task": task,
        "role": "old" if task in key.old_tasks else "new",
        "trained": task in key.tasks,
        "status": record.status,
        "reason": record.reason,
        "stale": stale.get(record.run_id),
        **{name: scores.metrics.get(name) if scores else None for name in metrics},
        "n": scores.n if scores else None,
        "positives": scores.positives if scores else None,
        "auc_standard_error": scores.auc_standard_error if scores else None,
        "parameters": params.total if params else None,
        "trained_parameters": params.trainable if params else None,
        "flops_forward": flops.forward if flops else None,
        "flops_training_step": flops.training_step if flops else None,
        "flops_training_step_new": flops.training_step_new if flops else None,
        "seconds": seconds.total if seconds else None,
        "seconds_train": seconds.train if seconds else None,
        "seconds_to_best_epoch": seconds.to_best_epoch if seconds else None,
        "rows_per_second": record.rows_per_second,
        "peak_memory_bytes": record.peak_memory_bytes,
        "kept_epoch": kept.epoch if kept else None,
        "epochs_run": kept.epochs_run if kept else None,
        "parent": record.parent,
        "scored": key.scored,
        "selection": key.selection,
        "old_tasks": ",".join(key.old_tasks),
        "new_tasks": ",".join(key.new_tasks),
        "config": _json(key.config),
        "arm_config": _json(key.arm_config),
        "budget": _json(key.budget),
        "machine": machine_kind(record) if origin else None,
        "commit": origin.commit if origin else None,
        "code_fingerprint": origin.code_fingerprint if origin else None,
        "data_fingerprint": origin.data_fingerprint if origin else None,
    }


def export(path: Path, table: Sequence[Mapping[str, Any]]) -> Path:
    """Write the rows as CSV or Parquet, by the file's ending. Raises UsageError for another one."""
    if path.suffix not in ENDINGS:
        raise UsageError(f"--export {path}: the name has to end in {' or '.join(ENDINGS)}.")
    if path.suffix == ".csv":
        stream = io.StringIO()
        names = list(table[0]) if table else []
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writerow({name: spreadsheet_safe(name) for name in names})
        writer.writerows(table)
        write_atomically(path, stream.getvalue())
        return path
    import pyarrow
    import pyarrow.parquet

    stored = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in table]), stored)
    write_atomically(path, stored.getvalue().to_pybytes())
    return path


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
