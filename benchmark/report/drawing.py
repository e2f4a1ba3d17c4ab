"""Draw many figures at once: each worker is a fresh Python that gets its share of the plots.

Plain processes and not multiprocessing, which would import the caller's main module again and fork its threads.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.report.plot import Plot

WORTH_A_PROCESS = 6
"""Fewer figures than this per worker are drawn faster than the drawing library is imported again."""


def draw(plots: Sequence[Plot], directory: Path, workers: int | None = None) -> list[Path]:
    """Write all figures below ``directory``; returns their files in the order of ``plots``."""
    workers = min(workers or os.cpu_count() or 1, len(plots) // WORTH_A_PROCESS, 8)
    if workers < 2:
        return [path for plot in plots for path in plot.write(directory)]
    shares = [list(plots)[place::workers] for place in range(workers)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", "from benchmark.report.drawing import main; main()"]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) for _ in shares[1:]
    ]
    for process, share in zip(running, shares[1:], strict=True):
        assert process.stdin is not None
        process.stdin.write(pickle.dumps((share, directory)))
        process.stdin.close()
    found = {plot.name: plot.write(directory) for plot in shares[0]}
    for process in running:
        assert process.stdout is not None
        answer = process.stdout.read()
        if process.wait() != 0:
            raise RuntimeError("a worker failed to draw its figures; its message is above")
        found |= pickle.loads(answer)
    return [path for plot in plots for path in found[plot.name]]


def main() -> None:
    """A worker: plots come in, the names of the files go out."""
    plots, directory = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(pickle.dumps({plot.name: plot.write(directory) for plot in plots}))
