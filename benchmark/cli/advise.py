"""The command advise: some minutes of runs on data of one's own, and the answer that they support."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from benchmark.cli.options import Names, data_option, plugin_files
from benchmark.execution import processes

BACKBONES = ("shared_bottom", "mpt_rec", "mmoe", "ple")


@click.command()
@click.option("--dataset", required=True, help="A dataset's name, or a schema file (.toml) or dataset file of yours.")
@click.option("--new-task", help="The task that is to be taken in. Default: the dataset's.")
@click.option("--minutes", type=click.FloatRange(min=0.1), default=30.0, show_default=True, help="Time to spend.")
@click.option("--methods", type=Names(lambda: BACKBONES), default=BACKBONES, help="Comma-separated backbones to try.")
@click.option("--out", type=click.Path(path_type=Path), help="Result tree. Default: results/advice-<dataset>-<task>.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--jobs", type=click.IntRange(1), help="Runs at once. Default: one per core on CPU, 1 on a GPU.")
@data_option
@plugin_files
def advise(
    dataset: str,
    new_task: str | None,
    minutes: float,
    methods: tuple[str, ...],
    out: Path | None,
    device: str,
    jobs: int | None,
    data_dir: Path | None,
    **files: tuple[Path, ...],
) -> int:
    """Advise how to take a new task in: minutes of runs, then an answer.

    One seed of many ways first, then more seeds of those that validation rows favour, until the time is over. Ctrl-C
    ends it early; either way you get the answer that the runs so far support, and the same command goes on from there.
    """
    started = time.monotonic()
    processes.context()
    from benchmark.cli.advice import Advisor

    advisor = Advisor.of(dataset, new_task, methods, out, device, jobs, data_dir, **files)
    with deadline(60 * minutes - (time.monotonic() - started)) as late, suppress(KeyboardInterrupt):
        advisor.work(60 * minutes, started)
    advisor.say("The time is over." if late() else "Ended.")
    return advisor.conclude()


@contextmanager
def deadline(seconds: float) -> Iterator[Callable[[], bool]]:
    """Ctrl-C by itself after ``seconds``; gives a function that tells whether the time was over.

    A script's background job is born with Ctrl-C ignored; meanwhile it is heard, or the time would never be over.
    """
    over = threading.Event()
    deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN and threading.current_thread() is threading.main_thread()
    if deaf:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def strike() -> None:
        over.set()
        _thread.interrupt_main()

    timer = threading.Timer(max(0.0, seconds), strike)
    timer.daemon = True
    timer.start()
    try:
        yield over.is_set
    finally:
        timer.cancel()
        if deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
