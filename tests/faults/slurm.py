"""The Slurm recipe of docs/cluster.md on a one-node Slurm of this machine: a worker array, a preempted job.

    python -m tests.faults.slurm        # as root, with Debian's slurm-wlm and munge installed

A sweep by `sbatch`-ed Dask workers has to leave the records of an undisturbed one; a sweep in a job of its own that
Slurm signals, that requeues itself and is started again has to end with them, too. Not among the tests: it needs root.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.cluster import SWEEP, Cluster, sweep
from tests.faults.trees import MPT, ROOT, Counts, differences, mpt
from tests.sweep.trees import HERE, TINY, without_times

CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmctldPort=26817
SlurmdPort=26818
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=1,requeue_delay=0
MinJobAge=300
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SwitchType=switch/none
MpiDefault=none
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""
WORKER = """\
#!/bin/bash
#SBATCH --job-name=mpt-worker --array=1-2 --cpus-per-task=1 --time=00:30:00
#SBATCH --requeue --signal=B:TERM@60
cd {root}
export MPTBENCH_CACHE={cache}
exec {python} -m dask worker {address} --nthreads $SLURM_CPUS_PER_TASK \\
  --name $SLURM_ARRAY_TASK_ID --no-nanny --local-directory {place} --no-dashboard --death-timeout 600
"""
SWEEP_JOB = """\
#!/bin/bash
#SBATCH --requeue --signal=USR1@60 --open-mode=append
cd {root}
srun --mpi=none {command}
code=$?
[ $code -ne 130 ] || scontrol requeue $SLURM_JOB_ID
exit $code
"""
PATIENCE_SECONDS = 1200.0
SLOW = [*MPT, "run", *map(str, TINY), "--method-file", str(HERE / "faulty.py"), "--methods", "slow", "--arms", "joint",
        "--set", "budget.epochs=12", "--set", "budget.patience=12", "--jobs", "2"]  # fmt: skip


@contextlib.contextmanager
def slurm(place: Path) -> Iterator[dict[str, str]]:
    """A controller and a node; the environment in which its commands work."""
    place.mkdir()
    (place / "state").mkdir()
    (place / "spool").mkdir()
    host = socket.gethostname().partition(".")[0]
    configuration = place / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=host, place=place, cores=os.cpu_count()))
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    log = open(place / "daemons.log", "ab")
    daemons = [
        subprocess.Popen([daemon, "-D", "-f", configuration, *more], env=environment, stdout=log, stderr=log)
        for daemon, *more in (("slurmctld", "-i"), ("slurmd", "-N", host))
    ]
    try:
        until = time.monotonic() + 90
        while "idle" not in _said(["sinfo", "-h", "-o", "%T"], environment):
            if time.monotonic() > until:
                raise TimeoutError((place / "daemons.log").read_text()[-2000:])
            time.sleep(0.5)
        yield environment
    finally:
        _said(["scancel", "--user=root", "--full"], environment)
        time.sleep(2)
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(60)


def _said(words: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(words, env=environment, capture_output=True, text=True).stdout


def submit(script: str, place: Path, environment: dict[str, str]) -> str:
    """The job's number."""
    file = place / f"job-{time.time_ns()}.sh"
    file.write_text(script)
    words = ["sbatch", f"--output={place}/job-%j.log", "--open-mode=append", str(file)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    found = re.search(r"batch job (\d+)", done.stdout)
    if found is None:
        raise RuntimeError(done.stderr)
    return found[1]


def array_of_workers(scratch: Path, environment: dict[str, str], calm: Path) -> list[str]:
    made = Cluster(Path(tempfile.mkdtemp(dir=scratch)))
    made.start_scheduler()
    try:
        cache = os.environ.get("MPTBENCH_CACHE", str(scratch / "cache"))
        script = WORKER.format(root=ROOT, python=sys.executable, address=made.address, place=scratch, cache=cache)
        job = submit(script, scratch, environment)
        out = scratch / "array"
        driver = sweep(made.address, out)
        while driver.poll() is None and len(list(out.glob("runs/*/*/*/*/record.json"))) < 3:
            time.sleep(0.1)
        _said(["scontrol", "requeue", f"{job}_1"], environment)  # as a preemption does: SIGTERM, then back to the queue
        said = driver.communicate(timeout=PATIENCE_SECONDS)[1]
        _said(["scancel", job], environment)
        return differences(calm, out) if driver.returncode == 0 else [f"exit {driver.returncode}: {said[-600:]}"]
    finally:
        made.stop()


def preempted_job(scratch: Path, environment: dict[str, str]) -> list[str]:
    """A sweep in a job of its own: Slurm sends SIGUSR1 as it does before a job's time is up, the sweep keeps its
    checkpoints and ends, the job requeues itself and goes on."""
    calm, out = scratch / "calm-slow", scratch / "preempted"
    subprocess.run([*SLOW, "--out", calm], cwd=ROOT, check=True, capture_output=True)
    command = f"{' '.join(SLOW)} --out {out}"
    job = submit(SWEEP_JOB.format(root=ROOT, command=command), scratch, environment)
    log = _until(lambda: next(out.glob("runs/tiny/slow/joint/*/log.txt"), None))
    _until(lambda: "epoch 3" in log.read_text())
    _said(["scancel", "--signal=USR1", job], environment)
    _until(lambda: _state(job, environment) == "PENDING")
    wrong = [f"{lock} is left" for lock in out.glob("runs/**/lock.json")]
    wrong += [] if list(out.glob("runs/tiny/slow/joint/*/progress.pt")) else ["no checkpoint was kept"]
    time.sleep(5)  # in the second in which it was ended its node would not take it again
    _said(["scontrol", "update", f"JobId={job}", "StartTime=now"], environment)  # Slurm would wait two minutes
    _until(lambda: _state(job, environment) == "COMPLETED")
    wrong += ["it began again instead of going on"] * ("epoch 1\n" in log.read_text())
    return wrong + ["records differ"] * (without_times(out) != without_times(calm))


def _state(job: str, environment: dict[str, str]) -> str:
    return _said(["scontrol", "show", "job", job], environment).partition("JobState=")[2].partition(" ")[0]


def _until(condition, seconds=PATIENCE_SECONDS):  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError("it did not come")
        time.sleep(0.05)
    return found


def main() -> int:
    if os.geteuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch"))):
        print("needs root and slurm-wlm (apt-get install slurm-wlm)")
        return 2
    counts = Counts("Slurm on one node")
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        calm = scratch / "calm"
        assert mpt(*SWEEP, "--jobs", 2, "--out", calm).returncode == 0
        with slurm(scratch / "slurm") as environment:
            counts.add("an array of workers, one of them requeued", *array_of_workers(scratch, environment, calm))
            print(counts, flush=True)
            counts.add("a job that is signalled and requeued", *preempted_job(scratch, environment))
    print(counts)
    return int(bool(counts.lost))


if __name__ == "__main__":
    sys.exit(main())
