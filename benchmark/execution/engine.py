"""What carries out jobs. The executor decides what is run, holds the locks and keeps the books; an engine runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.execution.job import Job
from benchmark.execution.watcher import Watcher
from benchmark.planning.plan import Plan, Run
from benchmark.records.record import Record

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """A run that an engine is done with.

    ``lost`` says what ended it if that was neither its method nor this program: it may be started again. ``collect``
    puts the run's files and its record into the result tree and returns the record (of a run without one, a record
    that says why); it may raise OutputLost.
    """

    run: Run
    collect: Callable[[], Record]
    lost: str | None = None


class Engine:
    """Carries out jobs, each in a process of its own. Everything but `start` and `wait` may be left out."""

    before_parents = False
    """Whether a run is handed over before the run that it continues has ended: the engine then sees to the order."""

    def begin(
        self,
        plan: Plan,
        options: Options,
        kept: Mapping[str, Record],
        watcher: Watcher,
        warn: Warn,
        check: Callable[[], None],
    ) -> None:
        """A plan is about to be carried out; ``kept`` holds the records that are there already, by run id.

        Whoever waits here calls ``check`` now and then, which raises Asked once the user wants an end. Raises
        BenchmarkError where the plan cannot be carried out.
        """

    def room(self) -> bool:
        """Whether another run can be taken now."""
        return True

    def start(self, run: Run, job: Job) -> None:
        """Take a run. Raises OSError or EOFError when no process could be started for it."""
        raise NotImplementedError

    def wait(self) -> list[Ended]:
        """Wait a moment (at most half a second), pass progress on to the watcher; the runs that have ended."""
        raise NotImplementedError

    def withdraw(self, run: Run) -> None:
        """Forget a run that was taken before its parent had ended, and now need not be done."""

    def preempt(self, seconds: float) -> None:
        """Let runs keep their checkpoints and end, for at most so long."""

    def stop(self) -> None:
        """Leave no process of this plan behind."""

    def close(self) -> None:
        """No further plan will come."""


@dataclass
class Options:
    """How a plan is executed: what the executor goes by, and engines with it."""

    out: Path
    mode: str = "fill"
    jobs: int = 1
    device: str = "auto"
    data_dir: Path | None = None
    command: str = ""
    method_files: tuple[Path, ...] = ()
    dataset_files: tuple[Path, ...] = ()
    fail_fast: bool = False
    debug: bool = False
    engine: Engine | None = None
    """What carries the runs out; None: ``jobs`` at once on this machine."""


def weights_of(run: Run, out: Path) -> Path | None:
    """Where the weights lie that ``run`` continues; None for a run that begins afresh."""
    return Run(run.parent).directory(out) / "weights.pt" if run.parent else None
