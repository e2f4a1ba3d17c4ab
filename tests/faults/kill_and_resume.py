"""Kill a sweep at random moments, go on, and compare with an undisturbed one.

    python -m tests.faults.kill_and_resume --kills 100
    python -m tests.faults.kill_and_resume --kills 100 --runners 2

With two runners on one tree they are killed in turn, and the other one goes on. Exit code 0 only if nothing was lost.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.trees import SWEEP, Counts, differences, mpt, processes_of, start


def torture(kills: int, seed: int, scratch: Path, runners: int = 1) -> Counts:
    """Kill ``kills`` times, over as many sweeps as it takes, and compare each finished tree with an undisturbed one."""
    draw = random.Random(seed)
    counts = Counts(f"kill -9 of {'a runner' if runners == 1 else f'one of {runners} runners'}")
    calm = scratch / "calm"
    began = time.monotonic()
    assert mpt(*SWEEP, "--out", calm).returncode == 0
    whole = time.monotonic() - began
    trees = 0
    while counts.tried < kills:
        tortured = scratch / f"tortured{trees}"
        trees += 1
        in_this_tree = 0
        while counts.tried + in_this_tree < kills and in_this_tree < 8:
            crowd = [start(*SWEEP, "--out", tortured) for _ in range(runners)]
            time.sleep(draw.uniform(0.15, 0.9) * whole)
            victim = crowd[in_this_tree % runners]
            if victim.poll() is not None:  # it was faster
                break
            os.kill(victim.pid, signal.SIGKILL)
            in_this_tree += 1
            if runners > 1:
                time.sleep(draw.uniform(0.0, 0.5) * whole)
            for runner in crowd:
                if runner is not victim and runner.poll() is None and draw.random() < 0.5:
                    os.kill(runner.pid, signal.SIGKILL)
                    in_this_tree += 1
                runner.wait()
        for runner in crowd:
            runner.wait()
        done = mpt(*SWEEP, "--out", tortured)
        wrong = differences(calm, tortured) if done.returncode == 0 else [done.stderr[-500:]]
        if left := processes_of(tortured):
            wrong.append(f"processes live on: {left}")
        for _ in range(in_this_tree):
            counts.add(f"tree {trees}", *wrong)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--runners", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        counts = torture(given.kills, given.seed, Path(scratch), given.runners)
    print(counts)
    return int(bool(counts.lost))


if __name__ == "__main__":
    sys.exit(main())
