"""Why a number is missing: the codes, with their meaning for readers."""

CODES = {
    "n/a": "does not apply",
    "OOM": "out of memory",
    "T/O": "hit the time limit",
    "failed": "the run failed",
    "skipped": "declared skip",
    "interrupted": "stopped before its end",
    "missing": "no such run yet",
    "one-class": "test rows of one class only, metric undefined",
    "undefined": "metric undefined",
    "no rows": "the noise of the test rows is not in every record",
    "few": "too few datasets for a claim",
    "mixed": "runs from different machine kinds, not comparable",
    "machine": "other machine kind, not comparable",
    "not found": "value not known from the publication",
}
"""Every code that a cell may hold, with its meaning for the footer. Order: the first one wins where seeds differ."""

STATUS_CODES = {"oom": "OOM", "timeout": "T/O", "failed": "failed", "skipped": "skipped", "interrupted": "interrupted"}
