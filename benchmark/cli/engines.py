"""The command line's choice of an engine: options, and the engine that they ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from benchmark.core.errors import UsageError

if TYPE_CHECKING:
    from benchmark.cli.options import Request
    from benchmark.execution.engine import Engine

Function = TypeVar("Function", bound=Callable[..., Any])
ENGINES = ("local", "dask")

OPTIONS = (
    click.option(
        "--jobs-per-gpu", type=click.IntRange(1), default=1, show_default=True, help="Runs at once on every GPU."
    ),
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="local",
        show_default=True,
        help="What carries the runs out: this machine, or a Dask cluster (docs/cluster.md).",
    ),
    click.option("--scheduler", metavar="ADDRESS", help="With --engine dask: a cluster's scheduler, tcp://host:8786."),
    click.option(
        "--workers", type=click.IntRange(1), help="With --engine dask: make a cluster of so many workers here."
    ),
    click.option("--one-kind", is_flag=True, help="With --engine dask: refuse machines of different kinds."),
)


def engine_options(function: Function) -> Function:
    """Options that say what carries the runs out."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


def check(request: Request) -> None:
    """Raises UsageError where options of an engine contradict each other."""
    if request.engine == "local":
        for option, given in (
            ("--scheduler", request.scheduler), ("--workers", request.workers), ("--one-kind", request.one_kind)
        ):  # fmt: skip
            if given:
                raise UsageError(f"{option} is for a cluster: add --engine dask.")
    elif request.scheduler and request.workers:
        raise UsageError("--scheduler names a cluster that is there, --workers makes one: give one of the two.")
    elif not (request.scheduler or request.workers):
        raise UsageError("--engine dask needs --scheduler tcp://host:8786 (a cluster that is there) or --workers N.")


@contextlib.contextmanager
def opened(request: Request, jobs: int) -> Iterator[Engine | None]:
    """The engine that was asked for; None stands for this machine."""
    if request.engine == "local":
        yield None
        return
    from benchmark.execution.cluster.engine import DaskEngine

    engine = DaskEngine(request.scheduler, request.workers or 1, jobs, request.one_kind, request.jobs_per_gpu)
    try:
        yield engine
    finally:
        engine.close()
