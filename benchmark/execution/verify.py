"""Runs a recorded run again, from its record alone, and says whether the numbers are the same."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmark.core.errors import BenchmarkError, unknown_name
from benchmark.execution.executor import Options, execute_plan
from benchmark.execution.watcher import Watcher
from benchmark.planning.plan import Plan, Run
from benchmark.planning.suite import Suite
from benchmark.records.agreement import Verdict, compare
from benchmark.records.lineage import ancestors
from benchmark.records.record import Record
from benchmark.spec.arms import ARMS


def verify(record: Record, options: Options, seeds: Sequence[Record] = ()) -> Verdict:
    """Repeat ``record``'s run (and all that it continues, back to stage 0) in a temporary tree and compare.

    ``seeds`` are the records of the same run with every seed, see `compare`. ``options.out`` is ignored. Raises
    BenchmarkError if there is nothing to compare with or the new run fails.
    """
    if record.status != "ok" or record.provenance is None:
        raise BenchmarkError(f"{record.run_id} ended with status '{record.status}': there are no numbers to verify.")
    if record.key.arm not in ARMS:  # of a tree that a later version has written, say
        raise unknown_name("arm", record.key.arm, ARMS)
    line = [*ancestors(record.key), record.key]
    runs = [Run(key, parent) for key, parent in zip(line, [None, *line])]
    suite = Suite(
        name="verify", title="", datasets=(record.key.dataset,), methods=(), threads=record.provenance.threads
    )
    with tempfile.TemporaryDirectory(prefix="mptbench-verify-") as scratch:
        options.out, options.mode, options.jobs = Path(scratch), "fresh", 1
        summary = execute_plan(Plan(suite, runs), options, Watcher(), warn=lambda _: None)
    if summary.interrupted:
        raise KeyboardInterrupt
    again = summary.records[-1]
    if again.status != "ok":
        raise BenchmarkError(f"running it again ended with status '{again.status}': {again.reason}")
    return compare(record, again, seeds)
