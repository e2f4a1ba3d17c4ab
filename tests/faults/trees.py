"""What the fault campaigns have in common: how a sweep is started, and what was lost in the end."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.sweep.trees import TINY, without_times

ROOT = Path(__file__).resolve().parents[2]
MPT = [sys.executable, "-m", "tests.faults.driver"]
SMALL = ["run", "--no-figures", *map(str, TINY), "--methods", "shared_bottom", "--jobs", "2"]
"""Seven runs; `SWEEP` has eleven, MPT-Rec's among them."""
SWEEP = ["run", "--no-figures", *map(str, TINY), "--methods", "shared_bottom,mpt_rec", "--jobs", "2"]


@dataclass
class Counts:
    """Faults by name: how many were tried, how many survived; ``lost`` says what was not as it had to be."""

    name: str
    tried: int = 0
    survived: int = 0
    lost: list[str] = field(default_factory=list)

    def add(self, what: str, *wrong: str | None) -> None:
        """One fault; each of ``wrong`` is a sentence, or None where all is well."""
        found = [sentence for sentence in wrong if sentence]
        self.tried += 1
        self.survived += not found
        self.lost += [f"{what}: {sentence}" for sentence in found]

    def __str__(self) -> str:
        head = f"{self.name}: {self.tried} faults tried, {self.survived} survived, {self.tried - self.survived} lost"
        return "\n".join([head, *(f"  {line}" for line in self.lost)])


def mpt(*words: object, timeout: float = 600, **options: object) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, to its end."""
    return subprocess.run(
        [*MPT, *map(str, words)], capture_output=True, text=True, timeout=timeout, cwd=ROOT, **options
    )  # type: ignore[call-overload]


def start(*words: object) -> subprocess.Popen[bytes]:
    """The command line in a process group of its own, to be killed."""
    return subprocess.Popen(
        [*MPT, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=ROOT,
    )


def tables(out: Path) -> dict[str, bytes]:
    """The tables whose numbers do not depend on time, by name, without their line on commit and hash of the records
    (records hold times)."""
    found = {}
    for path in sorted(out.glob("tables/old_task*")):
        if path.suffix in (".csv", ".md", ".tex"):
            lines = path.read_bytes().splitlines()
            found[path.name] = b"\n".join(line for line in lines if b"records, hash" not in line)
    return found


def differences(calm: Path, tortured: Path) -> list[str]:
    """What a tree that went through faults lacks, has twice or has otherwise than an undisturbed one."""
    expected, found = without_times(calm), without_times(tortured)
    files = list(tortured.glob("runs/*/*/*/*/record.json"))
    wrong = [f"record {key} is lost" for key in expected.keys() - found.keys()]
    wrong += [f"record {key} came from nowhere" for key in found.keys() - expected.keys()]
    wrong += [f"record {key} differs" for key in expected.keys() & found.keys() if expected[key] != found[key]]
    if len(files) != len(found):
        wrong.append(f"{len(files) - len(found)} records are there twice")
    litter = [p for p in tortured.glob("runs/**/*") if p.name == "lock.json" or p.name.startswith(".")]
    wrong += [f"{path.relative_to(tortured)} is left over" for path in litter]
    there = tables(tortured)
    if not there:
        wrong.append("no tables")
    wrong += [f"table {name} differs" for name, content in tables(calm).items() if there.get(name) != content]
    return wrong


def processes_of(out: Path) -> list[int]:
    """Processes that have the tree in their command line or hold a file of it open."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            holds = str(out) in " ".join(process.cmdline()) or any(
                file.path.startswith(str(out)) for file in process.open_files()
            )
        except psutil.Error:
            continue
        if holds and process.pid != os.getpid():
            found.append(process.pid)
    return found
