"""A worker's own process: what all runs on it share."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmark.execution import processes
from benchmark.execution.children import Child
from benchmark.execution.places import Places, caches

ALLOCATOR = "MALLOC_TRIM_THRESHOLD_"
"""Set by distributed for its own processes; it costs runs time, and a run on one machine has none of it."""


class Site:
    """This worker's process: where runs are, which of them go on, which drivers want theirs to end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.variables: Mapping[str, str | None] | None = None
        self.places = Places(["cpu"])
        self.at_once = 1
        """Runs at once on this machine, those of its other workers among them."""
        self._fitted: tuple[object, ...] = ()
        self.children: dict[str, list[Child]] = {}
        self.preempted: set[str] = set()

    def context(self) -> Any:
        """The server that runs are forked from; loads torch with the driver's numeric environment."""
        with self.lock:
            os.environ.pop(ALLOCATOR, None)
            return processes.context()

    def share(self, devices: Sequence[str], threads: int, others: int, at_once: int) -> None:
        """Take our part of a machine on which workers before us have ``others`` runs at once, and all ``at_once``."""
        self.at_once = at_once
        fitted = tuple(devices), threads, others
        if fitted != self._fitted:
            self.places, self._fitted = Places(devices, caches(), threads, others), fitted

    @contextlib.contextmanager
    def working(self, topic: str, child: Child) -> Iterator[None]:
        with self.lock:
            self.children.setdefault(topic, []).append(child)
        try:
            yield
        finally:
            with self.lock:
                self.children[topic].remove(child)


SITE = Site()
