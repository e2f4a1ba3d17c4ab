"""Result trees of several machines into one: every run once, and whatever contradicts itself kept aside and named."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.core.errors import UsageError
from benchmark.core.files import copy_atomically, write_atomically
from benchmark.execution.locks import Lock
from benchmark.records.record import DamagedRecord, Record, read_record, run_directory, write_record
from benchmark.records.tree import check_tree, read_records, refuse_links, unpack

ASIDE = "conflicts"
"""Where, in the merged tree, the records lie that contradict each other."""
LAST = "record.json"
"""Copied after a run's other files: a run that has it is whole."""
STATED = ("flops", "serving", "train_rows", "by_task_epoch")
"""Counts and scores that records of earlier versions lack."""
NOT_COPIED = ("lock.json", "progress.pt")


@dataclass
class Merged:
    """What came of it: runs copied, runs that were there with the same bits, sentences on conflicts and on records
    that cannot be read."""

    copied: int = 0
    equal: int = 0
    conflicts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def merge(trees: Sequence[Path], out: Path) -> Merged:
    """Join the runs of ``trees`` to those under ``out``, which may be empty or have runs of its own.

    Two records of a run with equal bits (times, machines and commands aside) are one: the first stays. Where bits
    differ no record stays in the run's place: all go to ``conflicts/<run id>/``, with the tree they came from. A record
    with numbers wins over one without. Raises UsageError for a directory that is no result tree.
    """
    for tree in trees:
        check_tree(tree)
        if tree.resolve() == out.resolve():
            raise UsageError(f"{tree} is the tree to merge into; name the others.")
    if out.is_dir():
        refuse_links(out)
    merged = Merged(problems=unpack(out))
    for tree in trees:
        records, problems = read_records(tree)
        merged.problems += problems
        for record in records:
            _take(record, tree, out, merged)
    return merged


def bits(record: Record) -> dict[str, object]:
    """What of a record has to be equal in two runs of the same bits."""
    curve = [epoch.model_dump(exclude={"train_seconds", "validate_seconds"}) for epoch in record.curve]
    fields = record.model_dump(include={"key", "status", "scores", "selection", "params", "invariants"})
    return fields | {"curve": curve, "weights": record.weights_fingerprint}


def _alike(one: Record, other: Record) -> bool:
    """Whether two records of a run say the same, as far as both state it: older ones state less."""
    first, second = (record.model_dump(include=set(STATED)) for record in (one, other))
    return bits(one) == bits(other) and all(
        first[name] == second[name] for name in STATED if None not in (first.get(name), second.get(name))
    )


def _take(record: Record, tree: Path, out: Path, merged: Merged) -> None:
    source, target = run_directory(tree, record.key), run_directory(out, record.key)
    lock = Lock.acquire(target)
    if lock is None:
        merged.problems.append(f"{target}: a sweep is at this run; merge again when it is done.")
        return
    with lock:
        if (aside := out / ASIDE / record.run_id).is_dir():
            _set_aside(source, aside, tree, merged, record)
            return
        there = _read(target, merged)
        if there is None or (there.status != "ok" and record.status == "ok"):
            _copy(source, target, record)
            merged.copied += 1
        elif record.status != "ok" or _alike(there, record):
            merged.equal += 1
        else:
            _set_aside(target, aside, out, None, there)
            _set_aside(source, aside, tree, merged, record, _other_bits(there, record))
            shutil.rmtree(target)


def _other_bits(there: Record, record: Record) -> str:
    """What to do where two results differ because the machines' bits do."""
    kinds = [found.provenance.bits_kind for found in (there, record) if found.provenance]
    if len(set(kinds)) < 2:
        return ""
    one, other = (kind or "unknown" for kind in kinds)
    return f". They are of kinds of machines whose bits may differ ({one}; {other}): run each seed on one kind"


def _read(directory: Path, merged: Merged) -> Record | None:
    if not (directory / LAST).exists():
        return None
    try:
        return read_record(directory / LAST)
    except DamagedRecord as error:
        merged.problems.append(f"{error}; replaced")
        return None


def _copy(source: Path, target: Path, record: Record) -> None:
    """A run's files, the record last, each whole or not there. Links are not followed.

    The record is written anew where it has no file of its own, or a damaged one: it is from the tree's packed file.
    """
    files = sorted(source.iterdir()) if source.is_dir() else []
    names = [p.name for p in files if p.is_file() and not p.is_symlink() and p.name[0] != "."]
    for left in target.glob(".*.*"):  # of a merge that was killed; the lock is ours
        left.unlink(missing_ok=True)
    for name in [n for n in names if n != LAST and n not in NOT_COPIED]:
        copy_atomically(source / name, target / name)
    if LAST in names and _is_whole(source / LAST):
        copy_atomically(source / LAST, target / LAST)
    else:
        write_record(target, record)


def _is_whole(path: Path) -> bool:
    try:
        read_record(path)
    except DamagedRecord:
        return False
    return True


def _set_aside(source: Path, aside: Path, tree: Path, merged: Merged | None, record: Record, remedy: str = "") -> None:
    """Keep one of several results of a run, with where it came from."""
    if any(_alike(read_record(path), record) for path in aside.glob(f"*/{LAST}")):
        return
    place = aside / f"{len(list(aside.glob('*'))) + 1}-{tree.resolve().name or 'tree'}-{time.time_ns():x}"
    _copy(source, place, record)
    write_atomically(place / "from.txt", f"{source.resolve()}\n")
    if merged is not None:
        key = record.key
        merged.conflicts.append(
            f"{record.run_id} {key.dataset}/{key.method}/{key.arm}/seed {key.seed}: results differ; both are under "
            f"{aside}, none counts{remedy}"
        )
