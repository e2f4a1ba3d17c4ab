"""What a user sees while runs go on: one live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from benchmark.core.errors import visible
from benchmark.execution.watcher import Watcher
from datasets_registry import prepare

if TYPE_CHECKING:
    from benchmark.planning.plan import Run
    from benchmark.records.record import Record
    from datasets_registry.encoding.store import EncodedDataset


class ProgressDisplay(Watcher):
    """Done, failed, left and the time left, which is estimated from what the finished runs took."""

    def __init__(self, console: Console, runs: int, jobs: int) -> None:
        self._console = console
        self._runs, self._jobs = runs, jobs
        self._done = self._failed = self._new = 0
        self._started = time.monotonic()
        self._rows: dict[str, TaskID] = {}
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
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
        if run.id in self._rows:  # done again: its first worker was lost
            self._live.update(self._rows[run.id], completed=0, total=None, text="starting again")
            return
        self._rows[run.id] = self._live.add_task(escape(run.label), total=None, text="starting")

    def epoch(self, run: Run, epoch: int, epochs: int) -> None:
        if run.id in self._rows:
            self._live.update(self._rows[run.id], completed=epoch, total=epochs, text=f"epoch {epoch}/{epochs}")

    def ended(self, run: Run, record: Record, kept: bool) -> None:
        if run.id in self._rows:
            self._live.remove_task(self._rows.pop(run.id))
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
        if self._new and left:
            seconds = (time.monotonic() - self._started) / self._new * left
            text += f", about {duration(seconds)} to go"
        return text


def prepare_with_progress(
    name: str, data_dir: Path | None, console: Console, *, verify: bool = False
) -> EncodedDataset:
    """Fetch and encode a dataset, or open what is there, while a line says what is going on and for how long still."""
    began: dict[str, tuple[float, int]] = {}
    with console.status(f"{name}: preparing data") as spinner:

        def report(what: str, done: int, total: int | None) -> None:
            if what.startswith("note: "):
                console.print(escape(f"{name}: {what.removeprefix('note: ')}"), highlight=False)
                return
            started, first = began.setdefault(what, (time.monotonic(), done))  # a resumed download begins above 0
            share = f" {done / total:.0%}" if total else f" {done:,}"
            passed = time.monotonic() - started
            if total and passed > 1 and done > first:
                share += f", {duration(passed * (total - done) / (done - first))} left"
            spinner.update(escape(f"{name}: {what}{share}"))

        return prepare(name, data_dir=data_dir, report=report, verify=verify)


def duration(seconds: float) -> str:
    """``95`` as ``2 min``: coarse on purpose, it is an estimate."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
