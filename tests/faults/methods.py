"""Methods that go wrong in every way we could think of, each beside one that works.

    python -m tests.faults.methods

Of each fault: the status it must end with, that the healthy method's record is what it is without it, and that no
process lives on.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmark.records.tree import read_records
from tests.faults.trees import Counts, mpt, processes_of
from tests.sweep.trees import HERE, without_times

EXPECTED = {
    "raises": ("failed", "ValueError"),
    "diverges": ("failed", "epoch 2, step 1"),
    "leaves": ("failed", "SystemExit"),
    "crashes": ("failed", "SIGSEGV"),
    "wrong_shape": ("failed", "forward must return"),
    "unpicklable": ("failed", "cannot cross"),
    "hangs": ("timeout", "limit"),
    "hangs_with_daemons": ("timeout", "limit"),
    "kills_supervisor": ("failed", "SIGKILL), cause unknown"),
    "leaves_daemons": ("ok", ""),
    "leaks": ("oom", ""),
    "floods": ("ok", ""),
    "vanishes": ("failed", "without a record"),
    "forges": ("failed", "did not write"),
    "reads_test_labels": ("failed", "test labels cannot be read"),
    "predicts_nan": ("ok", ""),
    "base_exception": ("failed", "without a record"),
    "hostile_exception": ("failed", ""),
    "endless_message": ("failed", "ValueError"),
    "is_terminated": ("failed", "SIGTERM"),
    "is_terminated_once": ("ok", ""),
    "closes_files": ("ok", ""),
    "recurses": ("failed", "RecursionError"),
    "never_exits": ("ok", ""),
    "more_threads": ("failed", "setting of the whole process, threads"),
    "other_numbers": ("failed", "default type of numbers"),
}
"""What a method's run has to end with, and words of the reason."""

LOG_LIMIT = 70 << 20


def misbehave(names: Iterable[str], scratch: Path) -> Counts:
    """One sweep of a healthy method and of ``names``; beside it an undisturbed sweep of the healthy one."""
    counts = Counts("methods that go wrong")
    suite = scratch / "limited.toml"
    suite.write_text(
        'title = "limited"\ndatasets = ["tiny"]\nmethods = ["healthy"]\narms = ["joint"]\nseeds = [0]\n'
        "[budget]\nepochs = 2\nbatch_size = 128\npatience = 2\n[limits]\nseconds = 25\nmemory_gib = 3\n"
    )
    words = ["run", "--suite", suite, "--dataset-file", HERE / "tiny.py", "--method-file", HERE / "faulty.py"]
    calm, out = scratch / "calm", scratch / "out"
    assert mpt(*words, "--methods", "healthy", "--out", calm).returncode == 0
    names = list(names)
    done = mpt(*words, "--methods", ",".join(["healthy", *names]), "--jobs", 2, "--out", out)
    if "Traceback" in done.stderr:
        counts.lost.append(f"the sweep: {done.stderr[-800:]}")
    found = {record.key.method: record for record in read_records(out)[0] if record.key.arm == "joint"}
    healthy, beside = without_times(calm), without_times(out)
    changed = [run for run in healthy if healthy[run] != beside.get(run)]
    left = processes_of(out)
    for name in names:
        status, words_of_reason = EXPECTED[name]
        record = found.get(name)
        log = next(out.glob(f"runs/tiny/{name}/joint/*/log.txt"), None)
        counts.add(
            name,
            "no record" if record is None else None,
            f"status {record.status}: {record.reason}" if record and record.status != status else None,
            f"reason {record.reason!r}" if record and words_of_reason not in (record.reason or "") else None,
            f"its log has {log.stat().st_size:,} bytes" if log and log.stat().st_size > LOG_LIMIT else None,
        )
    for what, wrong in (("the healthy method", changed), ("processes live on", left)):
        if wrong:
            counts.lost.append(f"{what}: {wrong}")
    attempts = [
        record.provenance.attempts
        for record in read_records(out)[0]
        if record.key.method == "is_terminated_once" and record.provenance
    ]
    if attempts and 2 not in attempts:
        counts.lost.append("is_terminated_once: the second attempt is not in its record")
    nan = found.get("predicts_nan")
    if nan and any(value is not None for scores in nan.scores.values() for value in scores.metrics.values()):
        counts.lost.append("predicts_nan: a score was made of NaN")
    return counts


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        counts = misbehave(EXPECTED, Path(scratch))
    print(counts)
    return int(bool(counts.lost))


if __name__ == "__main__":
    sys.exit(main())
