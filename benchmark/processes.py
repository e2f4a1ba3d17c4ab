"""The server process from which runs are forked. Imports nothing heavy, so the server can start first and load what
runs need while the command line is still reading its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from multiprocessing.context import BaseContext


def context() -> BaseContext:
    """Processes forked from a clean server where the system can fork, fresh ones elsewhere.

    Never a fork of this process: it may hold threads and locks.
    """
    found = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    with contextlib.suppress(AttributeError):
        found.set_forkserver_preload(["benchmark.preload"])
    return found


def start_server() -> None:
    """Let the server begin to load; returns at once."""
    if hasattr(os, "fork"):
        context()
        from multiprocessing.forkserver import ensure_running

        ensure_running()
