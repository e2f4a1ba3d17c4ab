"""The records of a result tree: one file per run, or one packed file of all.

A run writes ``runs/<dataset>/<method>/<arm>/<id>/record.json``. A finished tree can be packed, to be committed, sent or
archived: ``runs/records.jsonl.xz`` has one record a line in the order of their places, and is about a fifth as large,
since runs that share a frozen model share most of what they say. Readers take both; a run that is in both is its own
file. Whoever writes to a packed tree unpacks it first.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmark.core.errors import BenchmarkError, UsageError, visible
from benchmark.core.files import linked, write_atomically
from benchmark.records.record import RECORD_FILE, DamagedRecord, Record, laid_out, parsed, read_record, run_directory

PACKED = "records.jsonl.xz"
MOST_DAMAGED = 20
"""So many damaged records of a packed file are named: a small file from elsewhere may unpack to any number."""
LONGEST_LINE = 1 << 26
"""No record is as long: what one line of a small file from elsewhere unpacks to stays bounded."""


def check_tree(tree: Path) -> None:
    """Raises UsageError for a directory that is no result tree, or has links inside."""
    if not (tree / "runs").is_dir():
        raise UsageError(f"{tree} is no result tree: it has no directory 'runs'.")
    refuse_links(tree)


def refuse_links(tree: Path) -> None:
    """Raises UsageError where a result tree has a symbolic link inside: files elsewhere would be read or replaced."""
    if (link := linked(tree)) is not None:
        raise UsageError(
            f"{link} is a symbolic link. A result tree holds its own files: replace the link by what it points to, or "
            "remove it."
        )


def read_records(out: Path) -> tuple[list[Record], list[str]]:
    """All records of a result tree in a fixed order, and what is wrong with those that cannot be read."""
    problems: list[str] = []
    packed, files = _packed(out, problems), _files(out, problems)
    found = {directory: record for directory, (record, _) in packed.items()} | files
    records = [found[directory] for directory in sorted(found)]
    copies = copied_seeds(records)
    problems += [sentence for _, sentence in sorted(copies.items())]
    return [record for record in records if record.run_id not in copies], problems


def pack(out: Path) -> int:
    """Put all records of a tree into one file in place of one file each; their number.

    What else a run has left stays where it is. Raises BenchmarkError, with nothing changed, where a record is damaged
    or a run is under way.
    """
    problems: list[str] = []
    packed, files = _packed(out, problems), _files(out, problems)
    if problems:
        raise BenchmarkError(f"{problems[0]}. Nothing was packed. The command that ran it mends it.")
    if locks := sorted((out / "runs").glob("*/*/*/*/lock.json")):
        raise BenchmarkError(
            f"{locks[0]}: a run is under way here, or was killed. Nothing was packed. Start its command again and let "
            "it end, or remove the file if nothing runs."
        )
    lines = {directory: line for directory, (_, line) in packed.items()}
    for directory in files:  # as it was written, with fields that this program may not know
        lines[directory] = json.dumps(json.loads((directory / RECORD_FILE).read_bytes()), ensure_ascii=False).encode()
    if not files:
        return len(lines)
    text = b"".join(lines[directory] + b"\n" for directory in sorted(lines))
    path = out / "runs" / PACKED
    write_atomically(path, lzma.compress(text))
    if lzma.decompress(path.read_bytes()) != text:  # a bad disk; what it was made of goes next
        raise BenchmarkError(f"{path}: does not say what was written. The records are still files of their own.")
    for directory in files:
        (directory / RECORD_FILE).unlink()
        with contextlib.suppress(OSError):  # it holds something else
            for folder in (directory, *directory.parents[:3]):
                folder.rmdir()
    return len(lines)


def unpack(out: Path) -> list[str]:
    """Put the records of a packed tree back into their places; what is wrong with those that cannot be read.

    A record that is in its place already stays. A file of packed records that is damaged is set aside, else it goes.
    """
    path = out / "runs" / PACKED
    if not path.is_file():
        return []
    refuse_links(out)
    problems: list[str] = []
    for directory, (_, line) in _packed(out, problems).items():
        if not (directory / RECORD_FILE).exists():
            write_atomically(directory / RECORD_FILE, laid_out(json.loads(line)) + "\n")
    with contextlib.suppress(FileNotFoundError):  # another runner may have done the same
        if problems:
            path.rename(path.with_name(f"records.damaged-{time.time_ns()}.jsonl.xz"))
        else:
            path.unlink()
    return problems


def packed_records(out: Path) -> dict[str, Record]:
    """The readable records of a tree's packed file, by run id."""
    return {record.run_id: record for record, _ in _packed(out, []).values()}


def _files(out: Path, problems: list[str]) -> dict[Path, Record]:
    """The records that are files of their own, by their directories."""
    found = {}
    for path in sorted((out / "runs").glob(f"*/*/*/*/{RECORD_FILE}")):
        try:
            record = read_record(path)
            if path.parent != run_directory(out, record.key):  # a copy would count twice
                raise DamagedRecord(f"{path}: the record of {run_directory(out, record.key)} in another run's place")
            found[path.parent] = record
        except DamagedRecord as error:
            problems.append(visible(str(error)))
    return found


def _packed(out: Path, problems: list[str]) -> dict[Path, tuple[Record, bytes]]:
    """The records of the packed file and their lines, by the directories of their runs."""
    found: dict[Path, tuple[Record, bytes]] = {}
    damaged = 0
    try:
        for place, line in _lines(out / "runs" / PACKED):
            try:
                record = parsed(line, place)
                directory = run_directory(out, record.key)
                if directory not in found and _is_place(directory, out):
                    found[directory] = record, line
                else:
                    raise DamagedRecord(
                        f"{place}: the record of {directory}, which is there twice or is no run's place"
                    )
            except DamagedRecord as error:
                problems.append(visible(str(error)))
                damaged += 1
            if damaged == MOST_DAMAGED:
                raise DamagedRecord(f"{place}: the {damaged}th damaged record; the rest of the file is not read")
    except DamagedRecord as error:
        problems.append(visible(str(error)))
    return found


def _is_place(directory: Path, out: Path) -> bool:
    """Whether a directory, made of names from a file, is one that a run of this tree can have."""
    try:
        parts = directory.relative_to(out / "runs").parts
    except ValueError:
        return False
    return len(parts) == 4 and ".." not in parts


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """The lines of a packed file, each with words for its place. Raises DamagedRecord where the file ends early."""
    try:
        if path.exists() and not path.is_file():
            raise DamagedRecord(f"{path}: not a regular file")
        with lzma.open(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
                if not line.endswith(b"\n"):
                    raise DamagedRecord(f"{path}: line {number} is cut off or too long; the rest is not read")
                yield f"{path}: line {number}", line[:-1]
    except FileNotFoundError:
        return  # not packed, or another runner has just unpacked it
    except (lzma.LZMAError, EOFError, OSError) as error:
        raise DamagedRecord(f"{path}: not a whole file of packed records: {error}") from error


def read_trees(trees: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """The records of several result trees, each run once, and what is wrong with those that cannot be read."""
    found: dict[str, Record] = {}
    problems = []
    for tree in trees:
        records, damaged = read_records(tree)
        found |= {record.run_id: record for record in records if record.run_id not in found}
        problems += damaged
    return list(found.values()), problems


def copied_seeds(records: Sequence[Record]) -> dict[str, str]:
    """Runs that differ in nothing but their seeds and yet have the same weights, by id, with a sentence for each.

    Weights of two seeds are never equal: one is the other under another name, and a spread of 0 would follow from it.
    """
    places = defaultdict(list)
    for record in records:
        if record.status == "ok" and record.weights_fingerprint and (record.params is None or record.params.trainable):
            but_seed = record.key.model_dump_json(exclude={"seed"})
            places[but_seed, record.weights_fingerprint].append(record)
    found = {}
    for same in places.values():
        seeds = sorted({record.key.seed for record in same})
        for record in same if len(seeds) > 1 else ():
            key = record.key
            found[record.run_id] = (
                f"{key.dataset}/{key.method}/{key.arm}: the runs of seeds {', '.join(map(str, seeds))} have the same "
                f"weights, so they are copies of one run; {record.run_id} is left out. Run the seeds again with "
                "--mode fresh."
            )
    return found
