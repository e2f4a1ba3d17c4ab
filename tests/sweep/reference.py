"""Writes the two small records that continuous integration runs again: ``python -m tests.sweep.reference``.

Needed after a change that is meant to change numbers; the difference of the records then shows by how much.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmark.records.record import read_record, run_directory, write_record
from tests.sweep.trees import HERE, TINY

KEPT = (("mpt_rec", "frozen"), ("shared_bottom", "joint"))


def main() -> None:
    root = HERE.parents[1]
    words = [str(word.relative_to(root)) if isinstance(word, Path) else word for word in TINY]
    target = HERE / "reference"
    with tempfile.TemporaryDirectory() as scratch:
        command = ["run_all.py", "run", *words, "--methods", "shared_bottom,mpt_rec", "--arms", "joint,frozen"]
        subprocess.run([sys.executable, *command, "--out", scratch], cwd=root, check=True)
        shutil.rmtree(target, ignore_errors=True)
        for method, arm in KEPT:
            (path,) = Path(scratch).glob(f"runs/tiny/{method}/{arm}/*/record.json")
            record = read_record(path)
            assert record.provenance is not None
            record.provenance.command = f"python -m {__spec__.name}"
            write_record(run_directory(target, record.key), record)
    print(*sorted(target.rglob("record.json")), sep="\n")


if __name__ == "__main__":
    main()
