"""What every dataset has to fulfil, checked on the real thing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.errors import BenchmarkError, DataUnavailable
from datasets_registry.pipeline import find, prepare, validate
from datasets_registry.schema_file import load_file

if TYPE_CHECKING:
    from datasets_registry.base import Dataset
    from datasets_registry.encoding.store import EncodedDataset

OPEN_SECONDS = 1.0
SAMPLE = 1_000_000  # rows of each split that are looked at


@dataclass(frozen=True)
class Finding:
    """One check: ``ok``, or what is wrong and why it matters. ``warning`` findings do not fail a dataset."""

    check: str
    ok: bool
    message: str = ""
    warning: bool = False


def check_dataset(
    target: str | Path | Dataset, *, data_dir: str | Path | None = None, cache_dir: str | Path | None = None
) -> list[Finding]:
    """Run the kit on a registered name, a file (.py or .toml, all its datasets) or a `Dataset` instance.

    Encodes in a temporary directory, twice and with different chunk sizes. Raises DataUnavailable if there is no data.
    """
    datasets: list[Dataset]
    if isinstance(target, str | Path) and Path(target).suffix in (".py", ".toml"):
        datasets = [find(name) for name in load_file(target)]
    else:
        datasets = [find(str(target)) if isinstance(target, str | Path) else target]
    findings: list[Finding] = []
    for dataset in datasets:
        with tempfile.TemporaryDirectory(prefix="mptbench-check-") as scratch:
            findings += _run(dataset, data_dir, cache_dir, Path(scratch))
    return findings


def _run(
    dataset: Dataset, data_dir: str | Path | None, cache_dir: str | Path | None, scratch: Path
) -> Iterator[Finding]:
    yield from _declared(dataset)
    name: str | Dataset = dataset
    raw = cache_dir
    try:
        if dataset.manifest is not None:  # verified raw files once, arrays twice
            from datasets_registry.pipeline import fetch

            fetch(dataset, data_dir=data_dir, cache_dir=raw)
            first = prepare(name, data_dir=data_dir, cache_dir=_beside(scratch / "a", raw), chunk_rows=1009)
            second = prepare(name, data_dir=data_dir, cache_dir=_beside(scratch / "b", raw))
        else:
            first, second = (prepare(name, cache_dir=scratch / k, chunk_rows=n) for k, n in (("a", 1009), ("b", None)))
    except DataUnavailable:
        raise
    except BenchmarkError as error:
        yield Finding("prepares", False, str(error))
        return
    except Exception as error:
        from benchmark.core.registry import where

        yield Finding("prepares", False, where(error))
        return
    yield Finding("prepares", True)
    same = first.fingerprint == second.fingerprint
    yield Finding(
        "chunks", same, "" if same else "the arrays change with the chunk size: read must keep one fixed order"
    )
    started = time.perf_counter()
    prepare(name, data_dir=data_dir, cache_dir=_beside(scratch / "b", raw))
    seconds = time.perf_counter() - started
    slow = f"opening the encoded arrays took {seconds:.2f} s, at most {OPEN_SECONDS} s is fine"
    yield Finding("opens at once", seconds < OPEN_SECONDS, slow if seconds >= OPEN_SECONDS else "")
    yield from _arrays(second)
    from datasets_registry.encoding import history

    ahead = history.warnings(second.meta.get("look_ahead", {}), second.dataset.allow_leaks)
    yield Finding("histories", not ahead, " ".join(ahead))
    for warning in second.warnings:
        yield Finding("data", False, warning, warning=True)
    problems = (
        validate(dataset, data_dir=data_dir, cache_dir=cache_dir) if dataset.manifest or dataset.local_files() else []
    )
    yield Finding("raw rows", not problems, " ".join(problems[:3]))


def _beside(directory: Path, raw: str | Path | None) -> Path:
    """A cache whose raw files are those of the real cache."""
    from datasets_registry.raw.paths import cache_root

    directory.mkdir(parents=True, exist_ok=True)
    shared = cache_root(raw) / "raw"
    if shared.is_dir() and not (directory / "raw").exists():
        (directory / "raw").symlink_to(shared.resolve())
    return directory


def _declared(dataset: Dataset) -> Iterator[Finding]:
    for field in ("title", "licence", "citation", "home_page"):
        given = bool(getattr(dataset, field))
        yield Finding(field, given, "" if given else f"'{field}' is empty; a data card needs it", warning=True)
    yield Finding("old tasks", bool(dataset.old_tasks), "" if dataset.old_tasks else "no old task: nothing for stage 0")
    known = dataset.split in dataset.splits
    yield Finding("split", known, "" if known else f"the default split '{dataset.split}' is not among splits")


def _arrays(data: EncodedDataset) -> Iterator[Finding]:
    import numpy as np

    bad: list[str] = []
    for tasks in (data.old_tasks, (*data.old_tasks, *data.new_tasks)):
        schema = data.schema(tasks)
        highs = np.repeat([o + f.size for o, f in zip(schema.offsets, schema.categorical, strict=True)],
                          [f.length for f in schema.categorical])  # fmt: skip
        lows = np.repeat(schema.offsets, [f.length for f in schema.categorical])
        for which in ("train", "valid", "test"):
            split = data.split(which, schema)
            head = slice(0, SAMPLE)
            codes = split.categorical(head)
            if codes.size and ((codes < lows).any() or (codes >= highs).any()):
                bad.append(f"{which}: a code lies outside its feature's rows")
            if not np.isfinite(split.numeric(head)).all():
                bad.append(f"{which}: a numeric input is not finite")
    for name, task in data.tasks.items():
        for which in ("train", "valid", "test"):
            labels = data.labels(which, name)[:SAMPLE]
            if not task.partial and np.isnan(labels).any():
                bad.append(f"{which}: task '{name}' has undefined labels and is not partial")
            if task.kind == "binary" and not np.isin(labels[~np.isnan(labels)], (0, 1)).all():
                bad.append(f"{which}: task '{name}' has a label other than 0 and 1")
    yield Finding("arrays", not bad, "; ".join(bad))
