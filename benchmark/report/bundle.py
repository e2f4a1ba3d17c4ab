"""Somebody else's results: a folder with a method file, a description and records, checked before it joins anything."""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import DataError
from benchmark.core.files import read_regular
from benchmark.records.record import Record
from benchmark.records.reference import reference_trees
from benchmark.records.tree import read_records, refuse_links
from benchmark.report import writers
from benchmark.report.build import Report

DESCRIPTION = "bundle.toml"
KEYS = {"method": str, "file": str, "suite": str, "contact": str, "paper": str, "licence": str}
LONGEST_NAME = 255
"""Bytes that a file's name may have."""
NEEDED = ("method", "file", "suite")


@dataclass(frozen=True)
class Bundle:
    """``hash`` is over the method file, the description and every record: it names what was checked."""

    method: str
    file: Path
    suite: str
    records: tuple[Record, ...]
    damaged: tuple[str, ...]
    hash: str

    def problems(self, known: set[str]) -> list[str]:
        """What is wrong before anything is run. ``known``: the methods after the file was loaded."""
        found = list(self.damaged)
        own = [record for record in self.records if record.key.method == self.method]
        if self.method not in known:
            found.append(f"{self.file.name} registers no method '{self.method}'.")
        if not own:
            found.append(f"no record of the method '{self.method}'.")
        others = sorted({r.key.method for r in self.records} - {self.method, "single_task"})
        if others:
            found.append(f"records of other methods: {', '.join(others)}. A bundle is about one method.")
        found += [f"{r.run_id} ended as {r.status}: {r.reason}" for r in self.records if r.status != "ok"]
        seeds = {record.key.seed for record in own}
        for arm in sorted({record.key.arm for record in own}):
            lacking = sorted(seeds - {record.key.seed for record in own if record.key.arm == arm})
            if lacking:
                found.append(f"arm {arm} lacks the seeds {', '.join(map(str, lacking))}: every arm needs all of them.")
        return found


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle. Raises DataError naming file and key."""
    path = folder / DESCRIPTION
    try:
        content = tomllib.loads(read_regular(path).decode())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. docs/submit.md says what a bundle holds.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not valid TOML: {error}") from error
    for key, value in content.items():
        if key not in KEYS or not isinstance(value, KEYS[key]):
            raise DataError(f"{path}: '{key}' is no text under a known key. Known: {', '.join(KEYS)}.")
    for key in NEEDED:
        if not content.get(key):
            raise DataError(f"{path}: the key '{key}' is missing.")
    if not content["file"].isprintable() or len(content["file"].encode()) > LONGEST_NAME:
        raise DataError(f"{path}: file = {content['file']!r} is no name of a file.")
    if content["suite"] not in reference_trees():
        raise DataError(
            f"{path}: suite = {content['suite']!r} has no reference results. With them: {', '.join(reference_trees())}."
        )
    refuse_links(folder)
    file = folder / content["file"]
    if file.resolve().parent != folder.resolve() or file.suffix != ".py" or not file.is_file():
        raise DataError(f"{path}: file = '{content['file']}' has to be a Python file in the bundle itself.")
    records, damaged = read_records(folder)
    digest = hashlib.blake2b(digest_size=8)
    for part in (path.read_bytes(), file.read_bytes(), *(r.model_dump_json().encode() for r in records)):
        digest.update(hashlib.blake2b(part).digest())
    return Bundle(content["method"], file, content["suite"], tuple(records), tuple(damaged), digest.hexdigest())


FIRST_ARMS = ("stage0", "scratch", "joint")
"""Arms that are drawn last: the claims of a bundle are about what adds the new task."""


def drawn(bundle: Bundle, count: int, seed: str) -> list[Record]:
    """``count`` of the bundle's records to run again, drawn by the checker's own ``seed``: the method's records of the
    arms that add the new task first, each arm once before any twice; then the others, the reference's too."""

    def place(record: Record) -> bytes:
        return hashlib.blake2b(f"{seed} {record.run_id}".encode()).digest()

    shuffled = sorted(bundle.records, key=place)
    turns: Counter[tuple[str, str]] = Counter()
    order = []
    for record in shuffled:
        last = record.key.arm in FIRST_ARMS or record.key.method != bundle.method
        order.append((last, turns[record.key.method, record.key.arm], place(record), record))
        turns[record.key.method, record.key.arm] += 1
    return [record for *_, record in sorted(order, key=lambda entry: entry[:3])][:count]


def row(made: Report, method: str, titles: Mapping[str, str]) -> list[str]:
    """The lines of the tables of new tasks that the method would have among the reference results."""
    label = titles.get(method, method)
    lines: list[str] = []
    for table in made.tables:
        if table.name.startswith("new_task"):
            text = writers.markdown(table).splitlines()
            head = next(i for i, line in enumerate(text) if line.startswith("|"))
            lines += ["", *text[head : head + 2], *(line for line in text if line.startswith(f"| {label}"))]
    return lines
