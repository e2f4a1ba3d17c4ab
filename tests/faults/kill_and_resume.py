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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.trees import SMALL, Counts, differences, mpt, processes_of, start

KILLS_PER_TREE = 6


def torture(kills: int, seed: int, scratch: Path, runners: int = 1, say: Callable[[str], None] = print) -> Counts:
    """Kill ``kills`` times, over as many trees as it takes, and compare each finished tree with an undisturbed one."""
    draw = random.Random(seed)
    counts = Counts(f"kill -9 of {'a runner' if runners == 1 else f'one of {runners} runners'}")
    calm = scratch / "calm"
    first = start(*SMALL, "--out", calm)
    under_way(calm, first)
    began = time.monotonic()
    assert first.wait() == 0
    working = time.monotonic() - began
    tree = 0
    while counts.tried < kills:
        tree += 1
        tortured = scratch / f"tortured{tree}"
        landed = 0
        while landed < min(KILLS_PER_TREE, kills - counts.tried):
            crowd = [start(*SMALL, "--out", tortured) for _ in range(runners)]
            under_way(tortured, *crowd)
            victims = draw.sample(crowd, draw.randint(1, runners))
            for victim in victims:
                time.sleep(draw.uniform(0.0, working / KILLS_PER_TREE))
                if victim.poll() is None:
                    os.kill(victim.pid, signal.SIGKILL)
                    landed += 1
            for runner in crowd:
                runner.wait()
            if not any(runner.returncode == -signal.SIGKILL for runner in crowd):
                break  # all were faster than we
        done = mpt(*SMALL, "--out", tortured)
        wrong = differences(calm, tortured) if done.returncode == 0 else [done.stderr[-500:]]
        if left := processes_of(tortured):
            wrong.append(f"processes live on: {left}")
        for _ in range(landed):
            counts.add(f"tree {tree}", *wrong)
        say(f"tree {tree}: {landed} kills; {counts.tried} in all, {counts.tried - counts.survived} lost")
    return counts


def under_way(out: Path, *sweeps: subprocess.Popen[bytes]) -> None:
    """Wait until a run has been started, or there is none to wait for: kills of a program that only loads tell less."""
    while not any(out.glob("runs/*/*/*/*/lock.json")) and any(sweep.poll() is None for sweep in sweeps):
        time.sleep(0.02)


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
