"""A Dask cluster to work with: the one at an address, or one of this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from typing import TYPE_CHECKING, Any

import psutil

from benchmark.core.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 15.0


def local_cluster(workers: int, jobs: int) -> Any:
    """Workers of this machine, under nannies that start them again when they die."""
    dask, distributed = _library()
    # Workers start processes of their own, which daemonic ones may not.
    # Nobody looks at the profile of a process that waits for them, and it takes a sample every 10 ms.
    dask.config.set(
        {
            "distributed.worker.daemon": False,
            "distributed.nanny.pre-spawn-environ": {},
            "distributed.worker.profile.enabled": False,
        }
    )
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=-(-jobs // workers),
        memory_limit=psutil.virtual_memory().total // workers,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    )


def connect(address: str) -> Client:
    _, distributed = _library()
    try:
        return distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"No Dask scheduler answers at {address} ({error}). 'dask scheduler' starts one and prints its address; "
            "docs/cluster.md has recipes."
        ) from error


def dashboard_of(client: Client) -> str | None:
    """Address of the scheduler's dashboard; None where it has none or lacks what draws it."""
    with contextlib.suppress(Exception):  # it has no such service, lacks bokeh, or answers no questions of this kind
        return str(client.dashboard_link) if client.run_on_scheduler(importlib.util.find_spec, "bokeh") else None
    return None


def _library() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise UsageError(
            f"--engine dask needs Dask ({error}): pip install 'mpt-bench[cluster]', or pip install distributed."
        ) from error
    return dask, distributed
