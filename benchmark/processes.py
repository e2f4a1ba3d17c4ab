"""The server process from which runs are forked. Imports nothing heavy, so the server can start first and load what
runs need while the command line is still reading its own."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import BaseContext
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def context() -> BaseContext:
    """Processes forked from a clean server where the system can fork, fresh ones elsewhere.

    Never a fork of this process: it may hold threads and locks. The server begins to load what runs need at once.
    """
    if not hasattr(os, "fork"):
        return multiprocessing.get_context("spawn")
    from multiprocessing.forkserver import ensure_running

    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["benchmark.preload"])
    # Before Python 3.13 the server does not take over sys.path: from another directory it could not import the
    # package, would say nothing, and every run would import torch for itself.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([before] if before else [])])
    try:
        ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return found
