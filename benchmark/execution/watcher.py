"""What the executor tells while it works."""

from __future__ import annotations

from benchmark.planning.plan import Run
from benchmark.records.record import Record


class Watcher:
    """What the executor tells while it works; the command line shows it. Every method may be left out."""

    def started(self, run: Run) -> None: ...

    def epoch(self, run: Run, epoch: int, epochs: int) -> None: ...

    def step(self, run: Run, what: str, done: int, total: int) -> None:
        """Of an epoch, of the frozen part's outputs or of predictions: told twice a second at most."""

    def ended(self, run: Run, record: Record, kept: bool) -> None: ...

    def cluster(self, text: str) -> None: ...
