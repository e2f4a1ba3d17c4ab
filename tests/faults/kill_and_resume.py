"""Kill a sweep at random moments, go on, and compare with an undisturbed one.

    python -m tests.faults.kill_and_resume --kills 100

Two runners can share the tree (``--runners 2``): one of them is killed in turn. Prints how many kills were tried and
how many records were lost, doubled or different; exit code 0 only if none was.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.sweep.trees import TINY, without_times

ROOT = Path(__file__).resolve().parents[2]
WORDS = [sys.executable, str(ROOT / "run_all.py"), "run", *map(str, TINY), "--methods", "shared_bottom,mpt_rec"]


def start(out: Path) -> subprocess.Popen[bytes]:
    """A runner in a process group of its own."""
    return subprocess.Popen(
        [*WORDS, "--out", str(out), "--jobs", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def finish(out: Path) -> None:
    done = subprocess.run([*WORDS, "--out", str(out), "--jobs", "2"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def tables(out: Path) -> dict[str, bytes]:
    """Content of the tables that hold no times."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("tables/old_task*")) if path.suffix == ".csv"}


def torture(kills: int, seed: int, scratch: Path, runners: int = 1) -> dict[str, int]:
    """Kill ``kills`` times, then let the sweep end; counts of what was tried and what was lost."""
    draw = random.Random(seed)
    calm, tortured = scratch / "calm", scratch / "tortured"
    began = time.monotonic()
    finish(calm)
    whole = time.monotonic() - began
    tried = 0
    while tried < kills:
        crowd = [start(tortured) for _ in range(runners)]
        time.sleep(draw.uniform(0.2, 1.0) * whole)
        victim = crowd[tried % runners]
        if victim.poll() is None:
            os.kill(victim.pid, signal.SIGKILL)
            tried += 1
        else:  # it was faster: the tree is complete, begin another one
            for path in tortured.glob("runs/*/*/*/*/record.json"):
                path.unlink()
        for runner in crowd:
            if runner is not victim:
                runner.wait()
            runner.wait()
    finish(tortured)
    expected, found = without_times(calm), without_times(tortured)
    files = list(tortured.glob("runs/*/*/*/*/record.json"))
    return {
        "kills": tried,
        "records": len(expected),
        "lost": len(expected.keys() - found.keys()),
        "doubled": len(files) - len(found),
        "different": sum(found[key] != expected[key] for key in expected.keys() & found.keys()),
        "litter": len(list(tortured.glob("runs/**/lock.json"))),
        "tables different": sum(tables(tortured).get(name) != content for name, content in tables(calm).items()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--runners", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        counts = torture(given.kills, given.seed, Path(scratch), given.runners)
    print(counts)
    return int(any(counts[name] for name in ("lost", "doubled", "different", "litter", "tables different")))


if __name__ == "__main__":
    sys.exit(main())
