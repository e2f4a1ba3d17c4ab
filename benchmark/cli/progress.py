"""What a user sees while runs go on: one live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from benchmark.core import steps
from benchmark.core.errors import visible
from benchmark.execution.watcher import Watcher
from benchmark.spec.budget import Budget
from datasets_registry import prepare

if TYPE_CHECKING:
    from benchmark.planning.plan import Run
    from benchmark.records.record import Record
    from datasets_registry.encoding.store import EncodedDataset


QUIET_SECONDS = 30.0
ENOUGH = 0.1
"""So much of one run has to be over before the time left is estimated."""


class ProgressDisplay(Watcher):
    """Done, failed, left and the time left, which is estimated from what was done so far: runs, and parts of runs.

    It is drawn when there is something new and by no thread of its own, whose drawing could cross a printed line.
    """

    def __init__(self, console: Console, runs: int, jobs: int) -> None:
        self._console = console
        self._runs, self._jobs = runs, jobs
        self._done = self._failed = self._new = 0
        self._started = time.monotonic()
        self._rows: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}
        self._epochs: dict[str, tuple[int, int]] = {}
        self._passes = _Passes()
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._all = self._live.add_task("all runs", total=runs, text="")

    def __enter__(self) -> ProgressDisplay:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def cluster(self, text: str) -> None:
        self._live.console.print(f"Cluster {text}", markup=False, highlight=False, soft_wrap=True)

    def started(self, run: Run) -> None:
        self._shares[run.id] = 0.0
        self._epochs.pop(run.id, None)
        if run.id in self._rows:  # done again: its first worker was lost
            self._live.update(self._rows[run.id], completed=0, total=None, text="starting again")
            return
        self._rows[run.id] = self._live.add_task(escape(run.label), total=None, text="starting")

    def epoch(self, run: Run, epoch: int, epochs: int) -> None:
        self._epochs[run.id] = epoch, epochs
        self._show(run, epoch / max(epochs, 1), f"epoch {epoch}/{epochs}")

    def step(self, run: Run, what: str, done: int, total: int) -> None:
        epoch, epochs = self._epochs.get(run.id, (0, 0))
        share = done / max(total, 1)
        if what == "epoch":
            epochs = epochs or Budget.of(run.key.budget, run.parent is not None).epochs
            self._show(run, (epoch + share) / max(epochs, epoch + 1), f"epoch {epoch}/{epochs}, next {share:.0%}")
        else:
            self._show(run, None, f"{what} {share:.0%}{self._passes.left(run.id + what, done, total)}")

    def _show(self, run: Run, share: float | None, text: str) -> None:
        """Draw how far a run is; None: no further than it was."""
        if run.id not in self._rows:
            return
        if share is not None:
            self._shares[run.id] = min(1.0, share)
        self._live.update(self._rows[run.id], completed=self._shares[run.id], total=1.0, text=text)
        self._live.update(self._all, text=self._text(), refresh=True)

    def ended(self, run: Run, record: Record, kept: bool) -> None:
        if run.id in self._rows:
            self._live.remove_task(self._rows.pop(run.id))
        self._shares.pop(run.id, None)
        self._done += 1
        self._new += not kept
        self._failed += record.status not in ("ok", "skipped")
        self._live.update(self._all, completed=self._done, text=self._text())
        if kept:
            return
        if record.status == "ok":
            seconds = f"{record.seconds.total:.1f} s" if record.seconds else ""
            line = f"ok      {escape(run.label)}  {seconds}"
        else:
            line = f"[red]{record.status:<7}[/red] {escape(run.label)}: {escape(visible(record.reason or ''))}"
        counter = (
            f"[dim][{self._done}/{self._runs}][/dim] "
            if self._console.is_terminal
            else f"\\[{self._done}/{self._runs}] "
        )
        self._live.console.print(counter + line, highlight=False, soft_wrap=True)

    def _text(self) -> str:
        left = self._runs - self._done
        text = f"{self._done} done, {self._failed} failed, {left} left"
        worked = self._new + sum(self._shares.values())
        if left and worked >= ENOUGH:
            seconds = (
                (time.monotonic() - self._started) / worked * (self._runs - self._done - sum(self._shares.values()))
            )
            text += f", about {duration(seconds)} to go"
        return text


class _Passes:
    """When things that are done part by part began, and how much of each was there already (a resumed download)."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[float, int]] = {}

    def left(self, what: str, done: int, total: int | None) -> str:
        """ ", 2 min left" as soon as that can be told, else nothing."""
        started, first = self._began.setdefault(what, (time.monotonic(), done))
        passed = time.monotonic() - started
        return (
            f", {duration(passed * (total - done) / (done - first))} left"
            if total and passed > 1 and done > first
            else ""
        )


@contextmanager
def working(console: Console, what: str) -> Iterator[None]:
    """A line says that ``what`` goes on, and of its parts how far they are, as long as the block lasts."""
    passes = _Passes()
    with console.status(what) as spinner:

        def report(part: str, done: int, total: int) -> None:
            spinner.update(escape(f"{what}: {part} {done / max(total, 1):.0%}{passes.left(part, done, total)}"))

        steps.listen(report)
        try:
            yield
        finally:
            steps.listen(None)


def prepare_with_progress(
    name: str, data_dir: Path | None, console: Console, *, verify: bool = False
) -> EncodedDataset:
    """Fetch and encode a dataset, or open what is there, while a line says what is going on and for how long still.

    Where there is no terminal a new line says it, no more often than every QUIET_SECONDS.
    """
    passes, last = _Passes(), [time.monotonic()]
    with console.status(f"{name}: preparing data") as spinner:

        def report(what: str, done: int, total: int | None) -> None:
            if what.startswith("note: "):
                console.print(escape(f"{name}: {what.removeprefix('note: ')}"), highlight=False)
                return
            share = f" {done / total:.0%}" if total else f" {done:,}"
            text = escape(f"{name}: {what}{share}{passes.left(what, done, total)}")
            spinner.update(text)
            if not console.is_terminal and time.monotonic() - last[0] > QUIET_SECONDS:
                last[0] = time.monotonic()
                console.print(text, highlight=False)

        return prepare(name, data_dir=data_dir, report=report, verify=verify)


def duration(seconds: float) -> str:
    """``95`` as ``2 min``: coarse on purpose, it is an estimate."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
