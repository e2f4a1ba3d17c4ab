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
SCHEMES = ("tcp", "tls", "ws", "wss", "ucx", "inproc")


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
    scheme = address.partition("://")[0] if "://" in address else SCHEMES[0]
    if scheme not in SCHEMES:
        raise UsageError(f"--scheduler {address}: no address of a scheduler. They begin with {', '.join(SCHEMES)}.")
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"No Dask scheduler answers at {address} ({error}). 'python -m dask scheduler' starts one and prints its "
            "address; docs/cluster.md has recipes."
        ) from error
    _check_program(client, address)
    return client


def _check_program(client: Client, address: str) -> None:
    """Raises UsageError for a scheduler that cannot import this program: it has to unpack every order."""
    try:
        there = client.run_on_scheduler(importlib.util.find_spec, "benchmark")
    except Exception:  # it finds the name and cannot send what it found
        return
    if there is None:
        client.close()
        raise UsageError(
            f"The Dask scheduler at {address} cannot import this program, so no run could be sent. Start it in the "
            "checkout with 'python -m dask scheduler' (the command 'dask' does not look there), or install the package."
        )


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
