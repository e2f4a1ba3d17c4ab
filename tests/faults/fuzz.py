"""Hostile files for every reader: each is read cleanly, or refused with an error that names the file.

    python -m tests.faults.fuzz --inputs 100000

Inputs are valid files with pieces cut out, doubled, swapped and overwritten, and files of nothing but noise. Exit code
0 only if no reader raised anything else; an input that takes minutes ends the script with a traceback.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import lzma
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from benchmark.analysis.groups import read_arrays
from benchmark.core.errors import BenchmarkError
from benchmark.planning.plan import make_plan
from benchmark.planning.suite import SUITES, load_suite
from benchmark.records.record import read_record
from benchmark.records.tree import PACKED, read_records
from datasets_registry.encoding import ali_ccp_text, delimited
from datasets_registry.schema_file import read_schema
from tests.datasets_registry import ali_ccp_files
from tests.datasets_registry.test_own import HEADER, SCHEMA, rows

HANG_SECONDS = 120
WORDS = [
    "", "0", "1", "-1", "1e999", "NaN", "nan", "inf", "null", "true", "[]", "{}", '""', "''", ",", ";", "\t", "\n",
    "\r\n", "\0", "=", "[", "]", "[[", "{", "}", "#", '"', "'", "\\", "../../x", "a/b", "CON", "x" * 300, "\ufeff",
    "9" * 40, "0x10", "1979-05-27", "\x01", "\x02", "\x03", "\u202e", "é", "name", "files", "tasks",
]  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """How a kind of file is read, and valid ones to begin with. ``named``: an error has to name the file."""

    read: Callable[[Path], object]
    file: str
    valid: tuple[bytes, ...]
    named: bool = True


def readers(scratch: Path) -> dict[str, Reader]:
    (scratch / "shop.csv").write_text("\n".join([HEADER, *rows(8)]) + "\n")
    (scratch / "shop.toml").write_text(SCHEMA)
    own = read_schema(scratch / "shop.toml")
    hub = f'name = "h"\nhub = "a/b"\nrevision = "{"0" * 40}"\nfiles = {{ train = "train", test = "test" }}\n'
    hub += 'categorical = ["a"]\nold_tasks = ["b"]\n'
    raw = ali_ccp_files.write(scratch / "ali", rows=6, common_rows=3, pool=3)
    skeleton, common = raw / "sample_skeleton_train.csv", raw / "common_features_train.csv"
    keys = ali_ccp_text.read_common(common, ["121", "122"])
    archive = io.BytesIO()
    np.savez_compressed(archive, weights=np.ones((3, 2), np.float32), tasks=np.array(["a", "b"]))
    record = next(Path(__file__).resolve().parents[2].glob("results/reference/*/runs/*/mpt_rec/frozen/*/record.json"))
    line = json.dumps(json.loads(record.read_bytes())).encode() + b"\n"
    (scratch / "runs").mkdir()

    def read_packed(path: Path) -> None:
        problems = read_records(path.parents[1])[1]
        if problems:
            raise BenchmarkError(problems[0])

    def read_lines(path: Path) -> None:
        (scratch / "runs" / PACKED).write_bytes(lzma.compress(path.read_bytes()))
        read_packed(scratch / "runs" / PACKED)

    def read_csv(path: Path) -> None:
        list(own.read({"all": path}, 4))

    def check_csv(path: Path) -> None:
        list(delimited.check(path, own.layout()))

    def read_skeleton(path: Path) -> None:
        list(ali_ccp_text.read_joined(path, common, keys, ["205", "206"], 4))

    def check_skeleton(path: Path) -> None:
        list(ali_ccp_text.check(path, skeleton=True))

    csv = ((scratch / "shop.csv").read_bytes(),)
    suites = tuple(path.read_bytes() for path in sorted(SUITES.glob("*.toml")))
    return {
        "schema file": Reader(read_schema, "own.toml", (SCHEMA.encode(), hub.encode())),
        "suite file": Reader(lambda path: load_suite(str(path)), "own_suite.toml", suites),
        "suite file, planned": Reader(lambda path: make_plan(load_suite(str(path))), "own_suite.toml", suites, False),
        "run record": Reader(read_record, "record.json", (record.read_bytes(),)),
        "packed records": Reader(read_packed, f"runs/{PACKED}", (lzma.compress(line),)),
        "lines of packed records": Reader(read_lines, "records.jsonl", (line,)),
        "CSV": Reader(read_csv, "own.csv", csv),
        "CSV, validated": Reader(check_csv, "own.csv", csv),
        "Ali-CCP skeleton": Reader(read_skeleton, "skeleton.csv", (skeleton.read_bytes(),)),
        "Ali-CCP skeleton, validated": Reader(check_skeleton, "skeleton.csv", (skeleton.read_bytes(),)),
        "Ali-CCP common features": Reader(
            lambda path: ali_ccp_text.read_common(path, ["121", "122"]), "common.csv", (common.read_bytes(),)
        ),
        "arrays beside a record": Reader(read_arrays, "attention.npz", (archive.getvalue(),)),
    }


WAYS = ("cut", "insert", "overwrite", "repeat", "value", "line")


def hostile(valid: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Files: mostly ``valid`` ones after some changes, some of nothing but noise. For hypothesis, which finds the
    smallest one that is wrong."""
    piece = st.one_of(st.sampled_from(WORDS).map(str.encode), st.binary(max_size=8), st.text(max_size=8).map(_encoded))
    place = st.integers(0, 999).map(lambda part: part / 1000)
    change = st.tuples(st.sampled_from(WAYS), place, place, piece)
    changed = st.builds(_changed, st.sampled_from(valid), st.lists(change, min_size=1, max_size=5))
    return st.one_of(changed, changed, changed, st.binary(max_size=200), st.text(max_size=200).map(_encoded))


def drawn(valid: tuple[bytes, ...], draw: random.Random) -> bytes:
    """The same kinds of files, a hundred times as many a second."""
    if draw.random() < 0.1:
        return draw.randbytes(draw.randrange(200))
    changes = [
        (
            draw.choice(WAYS),
            draw.random(),
            draw.random(),
            draw.choice(WORDS).encode() if draw.random() < 0.7 else draw.randbytes(draw.randrange(1, 9)),
        )
        for _ in range(draw.choice((1, 1, 2, 3, 5)))
    ]
    return _changed(draw.choice(valid), changes)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _changed(content: bytes, changes: list[tuple[str, float, float, bytes]]) -> bytes:
    for how, start, length, piece in changes:
        first = int(start * len(content))
        last = first + int(length * min(len(content) - first, 40)) + 1
        if how == "cut":
            content = content[:first] + content[last:]
        elif how == "insert":
            content = content[:first] + piece + content[first:]
        elif how == "overwrite":
            content = content[:first] + piece + content[first + len(piece) :]
        elif how == "repeat":
            content = content[:last] + content[first:last] + content[last:]
        elif how == "line":  # a whole line away or twice
            lines = content.splitlines(keepends=True) or [b""]
            at = int(start * len(lines))
            lines[at : at + 1] = [] if length < 0.5 else [lines[at]] * 2
            content = b"".join(lines)
        else:  # what stands behind a "=", ":" or ","
            ends = [i for i, c in enumerate(content) if c in b"=:,"] or [0]
            at = ends[int(start * len(ends))] + 1
            stop = min((i for i in (content.find(e, at) for e in (b"\n", b",")) if i >= 0), default=len(content))
            content = content[:at] + piece + content[stop:]
    return content


def attempt(reader: Reader, path: Path, content: bytes) -> bool:
    """Whether the file was read; False if it was refused. Raises what no reader may raise."""
    path.write_bytes(content)
    try:
        reader.read(path)
    except BenchmarkError as error:
        assert not reader.named or path.name in str(error), f"does not name the file: {error}"
        return False
    return True


def fuzz(reader: Reader, scratch: Path, inputs: int, seed: int) -> tuple[int, list[str]]:
    """Try ``inputs`` files on one reader: how many were read, and what else than refusals came of the others."""
    draw, path = random.Random(seed), scratch / reader.file
    read, lost = 0, []
    for _ in range(inputs):
        content = drawn(reader.valid, draw)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        try:
            read += attempt(reader, path, content)
        except Exception as error:
            lost.append(f"{type(error).__name__}: {error}; input {content!r}")
    faulthandler.cancel_dump_traceback_later()
    return read, lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="per reader")
    parser.add_argument("--readers", help="comma-separated names; default: all")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        known = readers(Path(folder))
        for name in chosen.readers.split(",") if chosen.readers else known:
            began = time.monotonic()
            read, lost = fuzz(known[name], Path(folder), chosen.inputs, chosen.seed)
            total += len(lost)
            refused = chosen.inputs - read - len(lost)
            seconds = f"{time.monotonic() - began:.0f} s"
            print(f"{name}: {chosen.inputs:,} inputs, {read:,} read, {refused:,} refused, {len(lost)} lost, {seconds}")
            for line in sorted(lost, key=len)[:5]:
                print(f"  {line}", flush=True)
    return int(bool(total))


if __name__ == "__main__":
    sys.exit(main())
