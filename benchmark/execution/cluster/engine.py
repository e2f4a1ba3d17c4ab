"""The engine of many machines: runs are tasks of a Dask cluster.

The order of runs, their transport, lost workers and bounded retries are the engine's own; so is the graph in which the
arms of a stage depend on it. Here stand only the plan's translation into tasks, the look at every worker before it gets
a run, and the way back from parcels to records.
"""

from __future__ import annotations

import contextlib
import queue
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import BenchmarkError
from benchmark.execution.cluster import fitness
from benchmark.execution.cluster import worker as there
from benchmark.execution.cluster.connection import connect, dashboard_of, local_cluster
from benchmark.execution.cluster.fitness import Facts, Shipped, Wanted
from benchmark.execution.cluster.roster import GO_ON, Roster
from benchmark.execution.cluster.worker import Order, Parcel, RunLost
from benchmark.execution.engine import Ended, Engine, Warn
from benchmark.execution.job import Job, OutputLost
from benchmark.execution.watcher import Watcher
from benchmark.planning.plan import Plan, Run
from benchmark.records import provenance as environment
from benchmark.records.record import Record, run_id, write_record

if TYPE_CHECKING:
    from distributed import Future

    from benchmark.execution.executor import Options

RETRIES = 2
"""How often the engine does a run again that was lost by no fault of its method."""
STOP_SECONDS = 10.0
"""How long workers may take to end the runs of a plan that was stopped."""


class DaskEngine(Engine):
    """Carries out plans on a Dask cluster: the one at ``scheduler``, or one of ``workers`` processes made here, which
    do ``jobs`` runs at once together. Raises UsageError if there is no such cluster.

    ``one_kind`` refuses machines of a kind other than the first one's; else a mixture is only told.
    """

    before_parents = True

    def __init__(
        self,
        scheduler: str | None = None,
        workers: int = 2,
        jobs: int = 2,
        one_kind: bool = False,
        jobs_per_gpu: int = 1,
    ) -> None:
        self._one_kind, self._jobs_per_gpu = one_kind, jobs_per_gpu
        self._expected = workers if scheduler is None else 1
        self._cluster = local_cluster(workers, jobs) if scheduler is None else None
        self._address = str(self._cluster.scheduler_address if self._cluster else scheduler)
        self._client = connect(self._address)
        self._news: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="mpt-bench-fetch")
        self._roster: Roster | None = None
        self._reset()

    def _reset(self) -> None:
        self._topic = f"mpt-bench-{uuid.uuid4().hex}"
        self._orders: dict[str, Order] = {}
        self._futures: dict[str, Future] = {}
        self._given: dict[str, Future] = {}
        self._again: list[Run] = []
        self._starts: Counter[str] = Counter()
        self._running: dict[str, str] = {}
        self._needs: dict[str, dict[str, float]] = {}

    def begin(
        self,
        plan: Plan,
        options: Options,
        kept: Mapping[str, Record],
        watcher: Watcher,
        warn: Warn,
        check: Callable[[], None],
    ) -> None:
        self._reset()
        datasets = dict.fromkeys(run.key.dataset for run in plan.runs if run.id not in kept)
        self._wanted = _wanted(list(datasets), plan, options, self._jobs_per_gpu)
        self._watcher = watcher
        self._client.subscribe_topic(self._topic, lambda event: self._news.put(("event", *event[1])))
        made_here = self._cluster is not None
        self._roster = roster = Roster(
            self._client, self._address, self._wanted, watcher, warn, self._one_kind, made_here
        )

        def wait() -> None:
            check()
            self._check_cluster()

        roster.start()
        roster.wait_for(self._expected, wait)
        roster.check_kinds(record.provenance for record in kept.values() if record.provenance)
        for run in plan.runs:
            if run.id not in kept:
                self._needs[run.id] = self._resources(run, plan, options, list(roster.facts.values()))
        dashboard = dashboard_of(self._client)
        watcher.cluster(f"{self._address}: {roster}" + (f", dashboard {dashboard}" if dashboard else ""))

    def start(self, run: Run, job: Job) -> None:
        self._orders[run.id] = Order(
            run, job, self._topic, self._wanted.method_files, self._wanted.dataset_files, uuid.uuid4().hex
        )
        self._submit(run)

    def wait(self) -> list[Ended]:
        again, self._again = self._again, []
        for run in again:
            self._submit_again(run)
        self._check_cluster()
        if self._roster is not None:
            self._roster.hear()
        ended = []
        with contextlib.suppress(queue.Empty):
            news = self._news.get(timeout=0.5)
            while True:
                if (found := self._heard(*news)) is not None:
                    ended.append(found)
                news = self._news.get_nowait()
        return ended

    def withdraw(self, run: Run) -> None:
        self._forget(run.id)

    def preempt(self, seconds: float) -> None:
        topic = self._topic
        self._pool.submit(self._client.run, there.preempt, topic, on_error="ignore")
        self._wait_until_still(seconds)

    def stop(self) -> None:
        if self._roster is not None:
            self._roster.stop()
        futures = [*self._futures.values(), *self._given.values()]
        self._orders.clear()
        if futures and self._client.status == "running":
            with contextlib.suppress(Exception):  # the cluster may be going down: then nothing runs there, either
                self._client.cancel(futures, force=True)
                self._wait_until_still(STOP_SECONDS)
        self._futures.clear()
        self._given.clear()
        with contextlib.suppress(Exception):
            self._client.unsubscribe_topic(self._topic)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._client.close(timeout=5)
        if self._cluster is not None:
            with contextlib.suppress(Exception):
                self._cluster.close(timeout=10)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, run: Run) -> None:
        order = self._orders[run.id]
        future = self._client.submit(
            there.carry_out,
            order,
            self._parent(run, order.job),
            key=f"{run.key.method} {run.key.arm} {run.key.dataset}-{run.id}-{uuid.uuid4().hex}",
            resources=self._needs[run.id],
            retries=RETRIES,
            pure=False,
        )
        self._futures[run.id] = future
        future.add_done_callback(lambda future: self._fetch(run, future))

    def _parent(self, run: Run, job: Job) -> Future | None:
        """What the engine has to have before it begins: the run that this one continues, or the weights that it left
        earlier, as a task so that they can be had again when the worker that holds them is lost."""
        if run.parent is None:
            return None
        parent = run_id(run.parent)
        if parent in self._futures:
            return self._futures[parent]
        if parent not in self._given:
            assert job.stage0 is not None
            parcel = Parcel(parent, "ok", {"weights.pt": job.stage0.read_bytes()})
            self._given[parent] = self._client.submit(
                _itself, parcel, key=f"weights-{parent}-{uuid.uuid4().hex}", pure=False
            )
        return self._given[parent]

    def _fetch(self, run: Run, future: Future) -> None:
        """A task is over: get what it left, in a thread of our own, for a worker may take its time to answer."""

        def fetch() -> None:
            try:
                self._news.put(("over", run, future, future.result()))
            except BaseException as error:
                self._news.put(("over", run, future, error))

        with contextlib.suppress(RuntimeError):  # closed in the meantime
            self._pool.submit(fetch)

    def _heard(self, what: str, *news: Any) -> Ended | None:
        if what == "event":
            self._told(*news)
            return None
        run, future, left = news
        if self._futures.get(run.id) is not future:  # withdrawn, or done again since
            return None
        if isinstance(left, Parcel):
            job = self._orders[run.id].job
            return Ended(run, lambda: self._deliver(run, job, left))
        return self._failed(run, left)

    def _told(self, identity: str, what: str, *news: Any) -> None:
        order = self._orders.get(identity)
        if what == "over":
            self._running.pop(identity, None)
        elif order is not None and what == "started":
            self._starts[identity] += 1
            self._running[identity] = news[1]
            self._watcher.started(order.run)
        elif order is not None and what == "epoch":
            self._watcher.epoch(order.run, *news)
        elif order is not None and what == "step":
            self._watcher.step(order.run, *news)

    def _deliver(self, run: Run, job: Job, parcel: Parcel) -> Record:
        """A parcel's files, and last its record, in the result tree. The same parcel twice does no harm."""
        record = there.unpack(parcel, job.directory)
        if record.provenance is not None:
            attempts = self._starts[run.id]
            record.provenance.worker, record.provenance.host = parcel.worker, parcel.host
            record.provenance.attempts = attempts if attempts > 1 else None
        self._write(job, record)
        self._forget(run.id)
        return record

    def _write(self, job: Job, record: Record) -> None:
        try:
            write_record(job.directory, record)
        except OSError as error:
            raise OutputLost.at(job.directory, error) from error

    def _failed(self, run: Run, error: BaseException) -> Ended | None:
        """A task without a parcel. Its engine has tried it again; what was lost while it only waited is submitted anew,
        for Dask blames all tasks of a worker that dies."""
        from distributed import KilledWorker

        attempts, order = self._starts[run.id], self._orders[run.id]
        if isinstance(error, OutputLost):
            raise error
        if isinstance(error, CancelledError):
            raise BenchmarkError(self._gone())
        if isinstance(error, KilledWorker) and attempts <= RETRIES:
            self._again.append(run)
            return None
        if isinstance(error, RunLost) and run.parent and run_id(run.parent) in self._futures:
            self._again.append(run)  # its parent failed: it is about to be withdrawn
            return None
        if isinstance(error, KilledWorker):
            reason = f"its worker was lost, {attempts} times"
        elif isinstance(error, RunLost):
            reason = f"{error}, {attempts} times"
        else:
            reason = f"could not be carried out: {type(error).__name__}: {error}"
        record = Record(run_id=run.id, key=run.key, status="failed", reason=reason[:2000], parent=order.job.parent)

        def collect() -> Record:
            self._write(order.job, record)
            self._forget(run.id)
            return record

        return Ended(run, collect)

    def _submit_again(self, run: Run) -> None:
        """Once its parent is no longer a task that has failed: parents come back before what continues them."""
        if run.id not in self._orders:
            return
        parent = self._futures.get(run_id(run.parent)) if run.parent else None
        if parent is not None and parent.status == "error":
            self._again.append(run)
            return
        self._submit(run)

    def _forget(self, identity: str) -> None:
        """Let the cluster drop a run; what continues it keeps what it needs."""
        self._orders.pop(identity, None)
        self._running.pop(identity, None)
        future = self._futures.pop(identity, None)
        if future is not None:
            with contextlib.suppress(Exception):
                future.release()

    def _wait_until_still(self, seconds: float) -> None:
        """Until no worker is at a run of this plan any more, for at most so long."""
        until = time.monotonic() + seconds
        while self._running and time.monotonic() < until and self._client.status == "running":
            with contextlib.suppress(queue.Empty):
                what, *news = self._news.get(timeout=0.1)
                if what == "event":
                    self._told(*news)

    def _check_cluster(self) -> None:
        """Raises BenchmarkError when there is no cluster any more."""
        if self._client.status not in ("running", "connecting"):
            raise BenchmarkError(self._gone())

    def _gone(self) -> str:
        return f"The scheduler at {self._address} is gone, or has dropped our runs. {GO_ON}"

    def _resources(self, run: Run, plan: Plan, options: Options, workers: list[Facts]) -> dict[str, float]:
        """What a worker must have free for a run. One that needs more memory than any worker has gets the largest."""
        from benchmark.planning.estimate import PROCESS_BYTES, estimate

        largest = max(facts.memory_bytes for facts in workers)
        found = None
        with contextlib.suppress(Exception):  # a method's own code may raise anything; the run itself will tell
            found = estimate(run, options.data_dir)
        needs: dict[str, float] = {
            fitness.resource(self._wanted, run.key.dataset): 1,
            fitness.CORES: plan.suite.threads,
            fitness.MEMORY: min(found.memory_bytes if found else PROCESS_BYTES, largest),
        }
        if any(facts.devices[0] != "cpu" for facts in workers):
            needs[fitness.GPUS] = 1
        return needs


def _wanted(datasets: list[str], plan: Plan, options: Options, jobs_per_gpu: int) -> Wanted:
    from datasets_registry import prepare

    return Wanted(
        program=fitness.program(),
        packages=environment.versions(environment.NUMERIC_PACKAGES),
        variables=fitness.variables(),
        datasets={name: prepare(name, data_dir=options.data_dir, fetch=False).fingerprint for name in datasets},
        device=options.device,
        threads=plan.suite.threads,
        jobs_per_gpu=jobs_per_gpu,
        data_dir=options.data_dir,
        method_files=tuple(Shipped.of(Path(file)) for file in options.method_files),
        dataset_files=tuple(Shipped.of(Path(file)) for file in options.dataset_files),
    )


def _itself(parcel: Parcel) -> Parcel:
    return parcel
