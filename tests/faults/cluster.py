"""Faults of a cluster: what dies, stops or does not fit, while a sweep runs on workers of this machine.

    python -m tests.faults.cluster --workers 2 --rounds 1

After each fault the same command is given until it ends; then records and tables have to be those of an undisturbed
sweep of one machine, times aside, and nothing may be left running.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults.trees import MPT, ROOT, Counts, differences, mpt, processes_of
from tests.sweep.trees import HERE, TINY

SWEEP = ["run", *map(str, TINY), "--methods", "shared_bottom,mpt_rec", "--set", "budget.epochs=4"]
"""Eleven runs."""
TRIES = 4
"""How often the command may have to be given."""


@dataclass
class Cluster:
    """A scheduler and workers of this machine, each under its nanny, with their own caches or a common one."""

    directory: Path
    port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start_scheduler(self) -> None:
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        words = ["dask", "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.processes["scheduler"] = self._start("scheduler", words)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.1)
        raise TimeoutError("the scheduler does not answer")

    def start_worker(self, name: str, *more: str, cwd: Path = ROOT, **environment: str) -> None:
        words = ["dask", "worker", self.address, "--name", name, "--nthreads", "1", "--no-dashboard", "--host",
                 "127.0.0.1", "--local-directory", str(self.directory / name), *more]  # fmt: skip
        variables = {"DASK_DISTRIBUTED__WORKER__DAEMON": "False", "PYTHONPATH": str(cwd), **environment}
        self.processes[name] = self._start(name, words, cwd=cwd, env={**os.environ, **variables})

    def _start(self, name: str, words: list[str], **options: object) -> subprocess.Popen[bytes]:
        log = open(self.directory / f"{name}.log", "ab")
        return subprocess.Popen(
            [sys.executable, "-m", *words], stdout=log, stderr=log, start_new_session=True,
            **{"cwd": ROOT, **options},
        )  # type: ignore[call-overload]  # fmt: skip

    def worker_of(self, name: str) -> psutil.Process:
        """The worker's own process, below its nanny."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(self.processes[name].pid).children():
                    if "spawn_main" in " ".join(process.cmdline()):
                        return process
            time.sleep(0.05)
        raise TimeoutError(f"{name} has no worker")

    def stop(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(psutil.Error):
                parent = psutil.Process(process.pid)
                for child in [*parent.children(recursive=True), parent]:
                    with contextlib.suppress(psutil.Error):
                        child.send_signal(signal.SIGCONT)
                        child.kill()
            process.wait()
        self.processes.clear()


@contextlib.contextmanager
def cluster(scratch: Path, workers: int, **environment: str) -> Iterator[Cluster]:
    directory = Path(tempfile.mkdtemp(dir=scratch, prefix="cluster-"))
    made = Cluster(directory)
    made.start_scheduler()
    try:
        for number in range(workers):
            made.start_worker(f"w{number}", **environment)
        yield made
    finally:
        made.stop()


def sweep(address: str, out: Path, *more: object) -> subprocess.Popen[str]:
    words = [*MPT, *SWEEP, "--engine", "dask", "--scheduler", address, "--out", out, *more]
    return subprocess.Popen(
        [str(word) for word in words], cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def under_way(out: Path, driver: subprocess.Popen[str], records: int) -> None:
    """Until so many runs have left a record, or the driver has ended."""
    while driver.poll() is None and len(list(out.glob("runs/*/*/*/*/record.json"))) < records:
        time.sleep(0.02)


Fault = Callable[[Cluster, subprocess.Popen[str], random.Random], None]


def kill_worker(made: Cluster, driver: subprocess.Popen[str], draw: random.Random) -> None:
    made.worker_of("w0").kill()


def kill_nanny(made: Cluster, driver: subprocess.Popen[str], draw: random.Random) -> None:
    made.processes["w0"].kill()


def kill_driver(made: Cluster, driver: subprocess.Popen[str], draw: random.Random) -> None:
    """The scheduler goes on to work; the next driver meets it."""
    driver.kill()


def interrupt_driver(made: Cluster, driver: subprocess.Popen[str], draw: random.Random) -> None:
    os.kill(driver.pid, signal.SIGINT)


def preempt_driver(made: Cluster, driver: subprocess.Popen[str], draw: random.Random) -> None:
    os.kill(driver.pid, signal.SIGTERM)


def kill_scheduler(made: Cluster, driver: subprocess.Popen[str], draw: random.Random) -> None:
    """Its workers end with it; a new one at the same place gets new ones."""
    made.processes["scheduler"].kill()
    driver.wait(120)
    made.stop()
    made.start_scheduler()
    for name in ("w0", "w1"):
        made.start_worker(name)


def stop_worker(made: Cluster, driver: subprocess.Popen[str], draw: random.Random, seconds: float = 90) -> None:
    """Stopped as by a machine that sleeps, and back."""
    worker = made.worker_of("w0")
    worker.suspend()
    time.sleep(seconds)
    with contextlib.suppress(psutil.Error):
        worker.resume()


def stop_driver(made: Cluster, driver: subprocess.Popen[str], draw: random.Random, seconds: float = 90) -> None:
    os.kill(driver.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(driver.pid, signal.SIGCONT)


def kill_run(made: Cluster, driver: subprocess.Popen[str], draw: random.Random) -> None:
    """A run's supervisor gets what a batch system sends: the run is done again."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for name in ("w0", "w1"):
            with contextlib.suppress(psutil.Error, TimeoutError):
                for process in made.worker_of(name).children(recursive=True):
                    if "forkserver" in " ".join(process.cmdline()) and process.children():
                        for supervisor in process.children():
                            if supervisor.children():
                                supervisor.send_signal(signal.SIGTERM)
                                return
        time.sleep(0.02)


FAULTS: dict[str, Fault] = {
    "kill -9 of a worker": kill_worker,
    "kill -9 of a nanny": kill_nanny,
    "kill -9 of the driver": kill_driver,
    "Ctrl-C": interrupt_driver,
    "SIGTERM to the driver": preempt_driver,
    "kill -9 of the scheduler": kill_scheduler,
    "SIGSTOP of a worker for 90 s": stop_worker,
    "SIGSTOP of the driver for 90 s": stop_driver,
    "SIGTERM to a run": kill_run,
}


def disturb(name: str, workers: int, scratch: Path, calm: Path, draw: random.Random) -> list[str]:
    """One fault in the middle of a sweep, and the command again until it ends; what is wrong then."""
    out = Path(tempfile.mkdtemp(dir=scratch, prefix="tree-")) / "out"
    with cluster(scratch, workers) as made:
        driver = sweep(made.address, out)
        under_way(out, driver, draw.randint(0, 6))
        if driver.poll() is not None:
            return [f"it ended before the fault: {driver.communicate()[1][-400:]}"]
        FAULTS[name](made, driver, draw)
        said = driver.communicate(timeout=400)[1]
        code, tries = driver.returncode, 1
        while code != 0 and tries < TRIES:
            tries += 1
            driver = sweep(made.address, out)
            said, code = driver.communicate(timeout=400)[1], driver.returncode
        if code != 0:
            return [f"exit code {code} after {tries} tries: {said[-500:]}"]
        wrong = differences(calm, out)
        wrong += ["Traceback: " + said[-300:]] * ("Traceback" in said)
        busy = [p for name in made.processes if name != "scheduler" for p in _runs_of(made, name)]
        wrong += [f"a run goes on: {busy}"] * bool(busy)
    if left := processes_of(out):
        wrong.append(f"processes live on: {left}")
    shutil.rmtree(out.parent, ignore_errors=True)
    return wrong


def _runs_of(made: Cluster, name: str) -> list[int]:
    """Supervised runs below a worker."""
    with contextlib.suppress(psutil.Error):
        servers = [p for p in psutil.Process(made.processes[name].pid).children(recursive=True)
                   if "forkserver" in " ".join(p.cmdline())]  # fmt: skip
        return [child.pid for server in servers for child in server.children(recursive=True) if child.children()]
    return []


def preempted_worker(scratch: Path) -> list[str]:
    """A batch system takes a worker's machine away while it is at a run: the next worker with the same cache goes on in
    the checkpoint."""
    slow = ["run", *map(str, TINY), "--method-file", HERE / "faulty.py", "--methods", "slow", "--arms", "joint",
            "--set", "budget.epochs=12", "--set", "budget.patience=12"]  # fmt: skip
    calm, out, cache = scratch / "calm-slow", scratch / "preempted", scratch / "cache"
    assert mpt(*slow, "--jobs", 2, "--out", calm).returncode == 0
    with cluster(scratch, 0) as made:
        made.start_worker("w0", "--no-nanny", MPTBENCH_CACHE=str(cache))
        driver = subprocess.Popen(
            [*MPT, *map(str, slow), "--engine", "dask", "--scheduler", made.address, "--out", str(out)],
            cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        while driver.poll() is None and not any(
            "epoch 4" in log.read_text() for log in cache.glob("workshop/*/runs/tiny/slow/joint/*/log.txt")
        ):
            time.sleep(0.05)
        made.processes["w0"].terminate()
        wrong = ["the worker did not end"] * (made.processes["w0"].wait(60) not in (0, -signal.SIGTERM))
        wrong += ["no checkpoint was kept"] * (not list(cache.glob("workshop/*/runs/tiny/slow/joint/*/progress.pt")))
        made.start_worker("w1", "--no-nanny", MPTBENCH_CACHE=str(cache))
        said = driver.communicate(timeout=400)[1]
    if driver.returncode != 0:
        return [*wrong, f"exit code {driver.returncode}: {said[-500:]}"]
    log = next(out.glob("runs/tiny/slow/joint/*/log.txt")).read_text()
    return [*wrong, *differences(calm, out), *["it began again"] * ("epoch 1\n" in log)]


OTHER_KIND = "import os\nos.cpu_count = lambda: 64\n"
"""As sitecustomize it makes a worker one of a larger machine."""


def misfits(scratch: Path, calm: Path, counts: Counts) -> None:
    """Workers that do not fit, beside one that does: each is refused in a sentence, and the others do the work."""
    other = scratch / "other-version"
    for package in ("benchmark", "datasets_registry", "methods"):
        shutil.copytree(ROOT / package, other / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", other / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    with open(other / "benchmark" / "training" / "metrics.py", "a", encoding="utf-8") as file:
        file.write("\nELSEWHERE = True\n")
    (scratch / "larger").mkdir()
    (scratch / "larger" / "sitecustomize.py").write_text(OTHER_KIND, encoding="utf-8")
    larger = {"PYTHONPATH": f"{scratch / 'larger'}{os.pathsep}{ROOT}"}
    cases: dict[str, tuple[dict[str, object], str]] = {
        "a worker of another code version": ({"cwd": other}, "its program is another one"),
        "a worker without the program": ({"cwd": scratch, "PYTHONPATH": "/"}, "cannot load this program"),
        "a daemonic worker": ({"DASK_DISTRIBUTED__WORKER__DAEMON": "True"}, "daemonic"),
        "a worker with a cache of its own and no data": ({"MPTBENCH_CACHE": str(scratch / "empty-cache")}, ""),
        "a worker that cannot have the data": ({"MPTBENCH_CACHE": "/dev/null/cache"}, "it has no tiny"),
    }
    for what, (options, sentence) in cases.items():
        out = scratch / re.sub(r"\W+", "-", what)
        with cluster(scratch, 1) as made:
            made.start_worker("misfit", **options)  # type: ignore[arg-type]
            driver = sweep(made.address, out)
            said = driver.communicate(timeout=400)[1]
            wrong = (
                differences(calm, out) if driver.returncode == 0 else [f"exit code {driver.returncode}: {said[-500:]}"]
            )
            wrong += [f"'{sentence}' was not said: {said[-300:]}"] * (sentence not in said)
        counts.add(what, *wrong)
    counts.add("machines of two kinds, --one-kind", *_two_kinds(scratch, larger))
    counts.add("a late worker of another kind, --one-kind", *_late_kind(scratch, calm, larger))


def _two_kinds(scratch: Path, larger: dict[str, str]) -> list[str]:
    """Refused before a run is started."""
    out = scratch / "two-kinds"
    with cluster(scratch, 1) as made:
        made.start_worker("larger", "--memory-limit", "4GiB", **larger)
        _until_present(made, 2)
        driver = sweep(made.address, out, "--one-kind")
        said = driver.communicate(timeout=400)[1]
    wrong = [] if driver.returncode == 2 and "2 kinds of machines" in said else [f"{driver.returncode}: {said[-500:]}"]
    return wrong + ["runs were started"] * bool(list(out.glob("runs/*/*/*/*")))


def _late_kind(scratch: Path, calm: Path, larger: dict[str, str]) -> list[str]:
    """Refused; the sweep goes on with the workers that it has."""
    out = scratch / "late-kind"
    with cluster(scratch, 1) as made:
        driver = sweep(made.address, out, "--one-kind")
        under_way(out, driver, 1)
        made.start_worker("larger", "--memory-limit", "4GiB", **larger)
        said = driver.communicate(timeout=400)[1]
    wrong = differences(calm, out) if driver.returncode == 0 else [f"exit code {driver.returncode}: {said[-500:]}"]
    return wrong + [f"it was not said: {said[-300:]}"] * ("a machine of another kind" not in said)


def _until_present(made: Cluster, workers: int) -> None:
    from distributed import Client

    with Client(made.address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=120)


def many(workers: int, runs: int) -> Counts:
    """A sweep of many tiny runs, each of an instant: five of a seed."""
    words = ["run", *map(str, TINY), "--method-file", HERE / "faulty.py", "--methods", "healthy", "--arms", "joint",
             "--set", "budget.epochs=1", "--set", "budget.patience=1", "--seeds", f"0-{-(-runs // 5) - 1}"]  # fmt: skip
    counts = Counts(f"{runs} tiny runs on {workers} workers")
    with tempfile.TemporaryDirectory() as directory:
        calm, out = Path(directory) / "calm", Path(directory) / "out"
        done = mpt(*words, "--engine", "dask", "--workers", workers, "--out", out, timeout=36_000)
        assert mpt(*words, "--jobs", 2, "--out", calm, timeout=36_000).returncode == 0
        wrong = differences(calm, out) + [f"exit code {done.returncode}: {done.stderr[-500:]}"] * (done.returncode != 0)
        counts.add("many runs", *wrong)
    return counts


def campaign(workers: int, rounds: int, seed: int, only: str, say: Callable[[str], None] = print) -> Counts:
    draw = random.Random(seed)
    counts = Counts(f"a cluster of {workers} workers")
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        calm = scratch / "calm"
        assert mpt(*SWEEP, "--jobs", 2, "--out", calm).returncode == 0
        for _ in range(rounds):
            for name in (name for name in FAULTS if only in name):
                counts.add(name, *disturb(name, workers, scratch, calm, draw))
                say(f"{name}: {counts.tried} tried, {counts.tried - counts.survived} lost")
        if not only:
            misfits(scratch, calm, counts)
            counts.add("SIGTERM to a worker at a long run", *preempted_worker(scratch))
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="Faults whose name contains this.", default="")
    parser.add_argument("--runs", type=int, help="Instead of faults: a sweep of so many tiny runs.")
    given = parser.parse_args()
    if given.runs:
        counts = many(given.workers, given.runs)
        print(counts)
        return int(bool(counts.lost))
    counts = campaign(
        given.workers, given.rounds, given.seed, given.only, lambda text: print(text, flush=True)
    )  # fmt: skip
    print(counts)
    return int(bool(counts.lost))


if __name__ == "__main__":
    sys.exit(main())
