"""Files of a finished result tree, spoilt in every way: truncated, bits flipped, empty, foreign, old, copied.

    python -m tests.faults.files --faults 2000

A spoilt record must be reported or read as exactly what was written; status, tables and figures must come out
whatever lies in the tree; and a sweep must put everything right again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmark import report
from benchmark.cli.trees import status_of
from benchmark.records.tree import read_records
from tests.faults.trees import SWEEP, Counts, differences, mpt

LOOKED_AT = ("record.json", "predictions.npz", "attention.npz", "weights.pt", "curve.csv", "log.txt")


def truncate(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size + 1)])


def flip_bits(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 1, 2, 8, 64))):
        if content:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def overwrite(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        first = draw.randrange(len(content))
        last = min(len(content), first + draw.randrange(1, 4096))
        content[first:last] = draw.randbytes(last - first) if draw.random() < 0.5 else bytes(last - first)
    path.write_bytes(content)


def replace(path: Path, draw: random.Random) -> None:
    foreign = ("", "null", "[]", "{}", '"text"', "1e999", "[" * 100_000, '{"schema_version": 1}', "\ufeff{}", "NaN")
    path.write_text(draw.choice(foreign))


def age(path: Path, draw: random.Random) -> None:
    """Another schema version, or a number that JSON knows and a record does not."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return truncate(path, draw)
    content["schema_version"] = draw.choice((0, 2, -1, "1", None, 1.5, True))
    path.write_text(json.dumps(content))


def retype(path: Path, draw: random.Random) -> None:
    """A number changed by hand."""
    text = path.read_bytes().decode("utf-8", "replace")
    places = [i for i, c in enumerate(text) if c.isdigit()]
    if places:
        at = draw.choice(places)
        text = text[:at] + str((int(text[at]) + draw.randrange(1, 10)) % 10) + text[at + 1 :]
    path.write_text(text)


def copy(path: Path, draw: random.Random) -> None:
    """The file of another run in this one's place."""
    others = [other for other in sorted(path.parents[3].glob(f"*/*/*/{path.name}")) if other != path]
    if others:
        shutil.copy(draw.choice(others), path)


def make_directory(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


WAYS: tuple[Callable[[Path, random.Random], None], ...] = (
    truncate, flip_bits, overwrite, replace, age, retype, copy, make_directory,
)  # fmt: skip


def spoil(faults: int, seed: int, scratch: Path, sweeps: int) -> Counts:
    """``faults`` single files spoilt and looked at, and ``sweeps`` trees with many spoilt files mended by a sweep."""
    draw = random.Random(seed)
    counts = Counts("spoilt files")
    calm, out = scratch / "calm", scratch / "out"
    assert mpt(*SWEEP, "--out", calm).returncode == 0
    known = {record.run_id: record for record in read_records(calm)[0]}
    shutil.copytree(calm / "runs", out / "runs")
    files = sorted(path for path in out.glob("runs/*/*/*/*/*") if path.name in LOOKED_AT)
    weights = [4 if path.name == "record.json" else 1 for path in files]
    for _ in range(faults):
        path, way = draw.choices(files, weights)[0], draw.choice(WAYS)
        before = path.read_bytes()
        way(path, draw)
        what = f"{way.__name__} {path.relative_to(out)}"
        try:
            counts.add(what, *_looked_at(out, known, path if path.name == "record.json" else None))
        except Exception as error:
            counts.add(what, f"{type(error).__name__}: {error}")
        if path.is_dir():
            path.rmdir()
        path.write_bytes(before)
    for number in range(sweeps):
        tree = scratch / f"tree{number}"
        shutil.copytree(calm, tree)
        spoilt = [tree / path.relative_to(out) for path in draw.sample(files, 6)]
        for path in spoilt:
            draw.choice(WAYS[:-1])(path, draw)
        done = mpt(*SWEEP, "--out", tree)
        wrong = differences(calm, tree) if done.returncode == 0 and "Traceback" not in done.stderr else [done.stderr]
        # Predictions, curves and logs belong to no table here; a run whose record is good is not done again for them.
        counts.add(f"sweep over {[str(path.relative_to(tree)) for path in spoilt]}", *wrong)
        shutil.rmtree(tree)
    return counts


def _looked_at(out: Path, known: dict, record: Path | None) -> list[str]:
    records, problems = read_records(out)
    wrong = [f"record {r.run_id} is counted with other content" for r in records if known.get(r.run_id) != r]
    if len({r.run_id for r in records}) != len(records):
        wrong.append("a record is counted twice")
    if record is not None and len(records) < len(known) and not any(str(record) in problem for problem in problems):
        wrong.append("it is missing and nobody says so")
    if record is None and (problems or len(records) != len(known)):
        wrong.append("a file that is no record cost a record")
    status = status_of(out)
    if status["damaged"] != problems:
        wrong.append("status does not report it")
    made = report.report(out, {})
    if not made.files():
        wrong.append("no tables")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--sweeps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        counts = spoil(given.faults, given.seed, Path(scratch), given.sweeps)
    print(counts)
    return int(bool(counts.lost))


if __name__ == "__main__":
    sys.exit(main())
