"""The workers of a cluster as the driver knows them: looked at, admitted or refused, missed when gone."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.execution.cluster import fitness
from benchmark.execution.cluster.fitness import Facts, Share, Wanted
from benchmark.execution.engine import Warn
from benchmark.execution.watcher import Watcher
from benchmark.records.record import Provenance

if TYPE_CHECKING:
    from distributed import Client

LOOK_SECONDS = 2.0
"""How often new workers are looked for."""
LOOKS = 2
"""How often a worker is asked what it is before it is refused."""
PATIENCE_SECONDS = 20.0
"""How long a plan waits for a worker that fits while all that are there have been refused."""
SILENT_SECONDS = 60.0
"""How long a sweep without any worker says nothing about it."""
ROLL_CALL_SECONDS = 20.0
"""How long a plan waits at least for the others once enough workers fit: one that fetches data first joins later."""
GO_ON = "What was done is kept; start the same command again to go on."


class Roster:
    """The workers that fit a plan. A thread looks for new ones and tells ``news``; `hear` takes that up."""

    def __init__(
        self,
        client: Client,
        address: str,
        wanted: Wanted,
        watcher: Watcher,
        warn: Warn,
        one_kind: bool,
        made_here: bool,
    ) -> None:
        self._client, self._address, self._wanted = client, address, wanted
        self._watcher, self._warn, self._one_kind, self._made_here = watcher, warn, one_kind, made_here
        self._news: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="mpt-bench-admit")
        self._end = threading.Event()
        self.facts: dict[str, Facts] = {}
        self._looked: set[str] = set()
        self._silent: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._complete = False
        self._empty_since = time.monotonic()

    def start(self) -> None:
        """Begin to look for workers."""
        threading.Thread(target=self._look_for_workers, daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def wait_for(self, number: int, check: Callable[[], None]) -> None:
        """Until so many workers fit, and all that are there have said what they are or taken as long again for it.

        Raises BenchmarkError when none of those that are there fits.
        """
        began = told = time.monotonic()
        waited, patience = 0.0, None
        while (missing := len(self.facts) < number) or self._unheard() > 0:
            if not missing:
                patience = patience or waited + max(waited, ROLL_CALL_SECONDS)
                if waited > patience:
                    break
            check()
            self.hear(0.2)
            waited = time.monotonic() - began
            if self._refused and len(self._refused) == len(self._looked) and waited > PATIENCE_SECONDS:
                reasons = "; ".join(f"{address}: {why}" for address, why in sorted(self._refused.items()))
                raise BenchmarkError(f"No worker of this cluster can do these runs. {reasons}")
            if time.monotonic() - told > SILENT_SECONDS:
                told = time.monotonic()
                self._warn(f"Waiting for a worker at {self._address} since {waited:.0f} s.")
        self._complete = True

    def _unheard(self) -> int:
        """How many workers have been asked what they are and have not answered yet."""
        return len(self._looked) - len(self.facts) - len(self._refused)

    def hear(self, seconds: float = 0.0) -> None:
        """Take up what the thread has seen, for at most so long. Raises BenchmarkError when nobody is left."""
        hearers: dict[str, Callable[..., None]] = {
            "came": self._admit,
            "unfit": self._refuse,
            "present": self._present,
        }
        with contextlib.suppress(queue.Empty):
            news = self._news.get(timeout=seconds) if seconds else self._news.get_nowait()
            while True:
                hearers[news[0]](*news[1:])
                news = self._news.get_nowait()
        if self.facts or not self._complete:
            self._empty_since = time.monotonic()
        elif time.monotonic() - self._empty_since > SILENT_SECONDS:
            if self._made_here:
                raise BenchmarkError(f"All workers were lost and did not come back. {GO_ON}")
            self._empty_since = time.monotonic()
            self._warn("There is no worker that can do these runs; waiting for one.")

    def check_kinds(self, recorded: Iterable[Provenance]) -> None:
        """Say that machines of several kinds take part, those of ``recorded`` runs among them. Raises UsageError where
        one kind was asked for."""
        recorded = list(recorded)
        kinds = {origin.machine for origin in recorded} | {facts.kind for facts in self.facts.values()}
        if len(kinds) < 2:
            return
        text = "; ".join(sorted(kinds))
        if self._one_kind:
            raise UsageError(
                f"Runs of this suite would come from {len(kinds)} kinds of machines ({text}), and --one-kind was asked "
                "for. Take workers of one kind, or leave --one-kind out."
            )
        bits = {origin.bits_kind for origin in recorded} | {facts.bits for facts in self.facts.values()}
        self._warn(f"Runs of this suite come from {len(kinds)} kinds of machines ({text}): {_mixture(bits)}")

    def __str__(self) -> str:
        count, at_once = len(self.facts), sum(facts.cores for facts in self.facts.values()) // self._wanted.threads
        hosts = len({facts.host for facts in self.facts.values()})
        return f"{count} worker{'s' * (count != 1)} on {hosts} host{'s' * (hosts != 1)}, {at_once} runs at once"

    def _look_for_workers(self) -> None:
        """In a thread of its own: a cluster that is slow to answer must not hold up the sweep's heartbeats."""
        while not self._end.is_set():
            with contextlib.suppress(Exception):
                # Not scheduler_info: the client overwrites what that returns, now and then by one without workers.
                addresses = set(self._client.nthreads())
                for address in addresses - self._looked:
                    self._looked.add(address)
                    threading.Thread(target=self._look_at, args=(address,), daemon=True).start()
                self._looked &= addresses
                self._news.put(("present", addresses))
            self._end.wait(LOOK_SECONDS if self._complete else 0.2)

    def _look_at(self, address: str) -> None:
        try:
            found = self._client.run(fitness.look, self._wanted, workers=[address], on_error="return").get(address)
        except Exception as error:
            found = error
        if isinstance(found, Facts):
            self._news.put(("came", address, found))
            return
        self._silent[address] += 1
        if self._silent[address] < LOOKS:  # it is gone again, most likely; if it is not it is looked at once more
            self._looked.discard(address)
            return
        reason = f"it cannot load this program ({type(found).__name__}: {found}); install the same commit there"
        self._news.put(("unfit", address, reason))

    def _admit(self, address: str, facts: Facts) -> None:
        kinds = {known.kind for known in self.facts.values()}
        bits = {known.bits for known in self.facts.values()} | {facts.bits}
        if facts.refused is None and self._complete and kinds and facts.kind not in kinds:
            if self._one_kind:
                facts.refused = f"it is a machine of another kind ({facts.kind}), and --one-kind was asked for"
            else:
                self._warn(f"Worker {address} is a machine of another kind ({facts.kind}): {_mixture(bits)}")
        able = [name for name in self._wanted.datasets if name not in facts.lacks]
        if facts.refused is None and not able:
            facts.refused = "; ".join(facts.lacks.values())
        if facts.refused is not None:
            self._refuse(address, facts.refused)
            return
        for name, reason in facts.lacks.items():
            self._warn(f"Worker {address} ({facts.host}) gets no runs on {name}: {reason}")
        self.facts[address] = facts
        self._share_out(facts.machine)
        if self._complete:
            self._watcher.cluster(f"{self._address}: {self}")

    def _share_out(self, machine: str) -> None:
        """Tell the workers of a machine which part of it is theirs, and let the scheduler know what they can take."""
        here = {address: facts for address, facts in self.facts.items() if facts.machine == machine}
        at_once, others = sum(self._runs_of(facts) for facts in here.values()), 0
        for address, facts in here.items():
            gpus = len(facts.devices) if facts.devices[0] != "cpu" else 0
            able = [name for name in self._wanted.datasets if name not in facts.lacks]
            resources: dict[str, float] = {fitness.resource(self._wanted, name): 1e6 for name in able}
            resources |= {fitness.CORES: facts.cores, fitness.MEMORY: facts.memory_bytes, fitness.GPUS: gpus}
            share = Share(facts.devices, self._wanted.threads, others, at_once)
            self._pool.submit(self._client.run, fitness.admit, share, resources, workers=[address], on_error="ignore")
            others += self._runs_of(facts)

    def _runs_of(self, facts: Facts) -> int:
        return max(1, facts.cores // self._wanted.threads)

    def _refuse(self, address: str, reason: str) -> None:
        self._refused[address] = reason
        self._warn(f"Worker {address} gets no runs: {reason}")

    def _present(self, addresses: set[str]) -> None:
        for gone in self.facts.keys() - addresses:
            facts = self.facts.pop(gone)
            self._warn(f"Worker {gone} ({facts.host}) is gone; its runs are done elsewhere.")
            self._share_out(facts.machine)
        self._refused = {address: why for address, why in self._refused.items() if address in addresses}


def _mixture(bits: set[str | None]) -> str:
    """What of machines of several kinds can be compared, by the kinds that decide their bits."""
    if len(bits) == 1 and None not in bits:
        return "their seconds cannot be compared; their bits can, for their kernels are the same."
    return "neither their seconds nor their bits can be compared."
