"""The engine of one machine: every run in a process of its own, so many at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from benchmark.execution import processes
from benchmark.execution.children import Child, collect, end_child, lost_from_outside, poll, send, start_child
from benchmark.execution.engine import Ended, Engine, Options, Warn
from benchmark.execution.job import Job
from benchmark.execution.places import Place, Places, caches
from benchmark.execution.watcher import Watcher
from benchmark.planning.plan import Plan, Run
from benchmark.records.record import Record


class LocalEngine(Engine):
    """``jobs`` runs at once on this machine, spread over its devices and caches."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._children: list[Child] = []
        self._places = Places(["cpu"])
        self._taken: dict[str, Place] = {}
        self._watcher = Watcher()

    def begin(
        self,
        plan: Plan,
        options: Options,
        kept: Mapping[str, Record],
        watcher: Watcher,
        warn: Warn,
        check: Callable[[], None],
    ) -> None:
        self._watcher = watcher
        self._places = Places(options.device.split(","), caches(), plan.suite.threads)

    def room(self) -> bool:
        return len(self._children) < self._jobs

    def start(self, run: Run, job: Job) -> None:
        place = self._places.take()
        try:
            child = start_child(processes.context(), run, replace(job, device=place.device, cores=place.cores))
        except BaseException:
            self._places.give(place)
            raise
        self._children.append(child)
        self._taken[run.id] = place
        self._watcher.started(run)

    def wait(self) -> list[Ended]:
        ended = poll(self._children, self._watcher.epoch, self._watcher.step)
        for child in ended:
            self._children.remove(child)
            child.process.join()
            self._places.give(self._taken.pop(child.run.id))
        return [Ended(child.run, lambda child=child: collect(child), lost_from_outside(child)) for child in ended]  # type: ignore[misc]

    def preempt(self, seconds: float) -> None:
        for child in self._children:
            send(child.process, signal.SIGTERM)
        until = time.monotonic() + seconds
        while (alive := [c for c in self._children if c.process.is_alive()]) and time.monotonic() < until:
            poll(alive, self._watcher.epoch)

    def stop(self) -> None:
        for child in self._children:
            send(child.process, processes.END)
        for child in self._children:
            end_child(child.process)
            self._places.give(self._taken.pop(child.run.id))
        self._children.clear()
