"""Draw many figures at once: each worker is a fresh Python that gets its share of the plots.

Plain processes and not multiprocessing, which would import the caller's main module again and fork its threads.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmark.core.steps import tell
from benchmark.report.figures.plot import Plot

WORTH_A_PROCESS = 6
"""Fewer figures than this per worker are drawn faster than the drawing library is imported again."""


def draw(plots: Sequence[Plot], directory: Path, workers: int | None = None) -> list[Path]:
    """Write all figures below ``directory``; returns their files in the order of ``plots``."""
    workers = min(workers or os.cpu_count() or 1, len(plots) // WORTH_A_PROCESS, 8)
    if workers < 2:
        return [path for files in _drawn(plots, directory).values() for path in files]
    shares = [list(plots)[place::workers] for place in range(workers)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # -P: the current directory must not shadow the package that this process runs from.
    command = [sys.executable, "-P", "-c", "from benchmark.report.figures.drawing import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for place, share in enumerate(shares[1:]):
            job = Path(folder) / str(place)
            job.write_bytes(pickle.dumps((share, directory.absolute())))
            running.append(subprocess.Popen([*command, str(job)], env=environment))
        try:
            found = _drawn(shares[0], directory)
        finally:
            failed = [process.wait() for process in running]  # all of them: none may outlive the folder
        if any(failed):
            raise RuntimeError("a worker failed to draw its figures; its message is above")
    return [path for plot in plots for path in found.get(plot.name) or plot.files(directory)]


def _drawn(plots: Sequence[Plot], directory: Path) -> dict[str, list[Path]]:
    """Draws in this process, telling how far it is; files by a figure's name."""
    found = {}
    for place, plot in enumerate(plots):
        tell("figures", place, len(plots))
        found[plot.name] = plot.write(directory)
    return found


def main() -> None:
    """A worker: draws the plots in the file that it is given."""
    plots, directory = pickle.loads(Path(sys.argv[1]).read_bytes())
    for plot in plots:
        plot.write(directory)
