"""The engine that a command line asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmark.cli.options import Request
from benchmark.core.errors import UsageError

if TYPE_CHECKING:
    from benchmark.execution.engine import Engine


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

    engine = DaskEngine(request.scheduler, request.workers or 1, jobs, request.one_kind, request.jobs_per_gpu or 1)
    try:
        yield engine
    finally:
        engine.close()
