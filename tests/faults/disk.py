"""Faults of the disk and of the clock, on a small file system of our own.

    python -m tests.faults.disk

The disk is filled, made read-only and given a limit on file sizes while a sweep is at it; the result tree is renamed
under it; files and locks get times in the past and the future. Needs Linux with user namespaces (``unshare``) to mount
a file system in memory; without them the faults that need it are said not to have been tried.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.trees import SMALL as SWEEP
from tests.faults.trees import Counts, differences, mpt, processes_of

INSIDE = "MPTBENCH_FAULTS_INSIDE"
DISK_MIB = 160
FILE_LIMIT = 100 << 10


def records_in(out: Path) -> int:
    return len(list(out.glob("runs/*/*/*/*/record.json")))


@contextmanager
def under_way(out: Path, records: int) -> Iterator[subprocess.Popen[str]]:
    """A sweep that has written so many records."""
    sweep = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.driver", *SWEEP, "--out", str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while records_in(out) < records and sweep.poll() is None:
        time.sleep(0.02)
    try:
        yield sweep
    finally:
        if sweep.poll() is None:
            sweep.kill()
        sweep.wait()


def stopped_well(sweep: subprocess.Popen[str], words: str, out: Path) -> list[str]:
    """It must have ended by itself, with exit code 1, these words, no traceback and no process left."""
    try:
        _, text = sweep.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        return ["the sweep goes on"]
    wrong = []
    if sweep.returncode != 1:
        wrong.append(f"exit code {sweep.returncode}")
    if words not in text or "Traceback" in text:
        wrong.append(f"said: {text[-400:]}")
    if left := processes_of(out):
        wrong.append(f"processes live on: {left}")
    return wrong


def goes_on(calm: Path, out: Path) -> list[str]:
    """The same command again must end with what an undisturbed sweep ends with."""
    done = mpt(*SWEEP, "--out", out)
    return differences(calm, out) if done.returncode == 0 else [f"cannot go on: {done.stderr[-400:]}"]


def full_disk(disk: Path, calm: Path, counts: Counts) -> None:
    for records in (0, 2, 4, 6):
        out, filler = disk / f"full{records}", disk / "filler"
        with under_way(out, records) as sweep:
            fill(filler)
            wrong = stopped_well(sweep, "same command again", out) if records < 6 or sweep.poll() is None else []
        damaged = json.loads(mpt("status", "--out", out, "--json").stdout)["damaged"] if records else []
        filler.unlink()
        counts.add(f"disk full after {records} records", *wrong, *damaged, *goes_on(calm, out))
        shutil.rmtree(out)


def fill(filler: Path) -> None:
    with open(filler, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def file_limit(disk: Path, calm: Path, counts: Counts) -> None:
    out = disk / "limited"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))

    done = mpt(*SWEEP, "--out", out, preexec_fn=limit)
    wrong = [] if done.returncode == 1 and "File too large" in done.stderr else [done.stderr[-400:]]
    counts.add("limit on the size of files", *wrong, *goes_on(calm, out))
    shutil.rmtree(out)


def read_only(disk: Path, calm: Path, counts: Counts) -> None:
    out = disk / "frozen"
    shutil.copytree(calm, out)
    victim = next(out.glob("runs/*/shared_bottom/frozen/*/record.json"))
    victim.unlink()
    remount(disk, "ro")
    try:
        run = mpt(*SWEEP, "--out", out)
        looks = [mpt(*words, "--out", out) for words in (("status",), ("tables", "--check"), ("tables",))]
        reads = mpt(*SWEEP, "--mode", "only-read", "--out", out)
    finally:
        remount(disk, "rw")
    counts.add(
        "read-only result tree",
        f"run said: {run.stderr[-300:]}" if run.returncode != 2 or "Cannot write" not in run.stderr else None,
        *(f"traceback: {done.stderr[-300:]}" for done in (*looks, reads) if "Traceback" in done.stderr),
        "status does not work" if looks[0].returncode != 0 else None,
        *goes_on(calm, out),
    )
    shutil.rmtree(out)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def renamed(disk: Path, calm: Path, counts: Counts) -> None:
    for records in (1, 5):
        out, moved = disk / f"here{records}", disk / f"there{records}"
        with under_way(out, records) as sweep:
            out.rename(moved)
            wrong = stopped_well(sweep, "", disk)
        counts.add(f"tree renamed after {records} records", *wrong, *goes_on(calm, moved))


def times(disk: Path, calm: Path, counts: Counts) -> None:
    """Files from the future and the past, and locks of the dead with such times."""
    ten_years = 10 * 365 * 86400
    for what, shift in (("future", ten_years), ("past", -ten_years)):
        out = disk / what
        shutil.copytree(calm, out)
        for victim in list(out.glob("runs/*/shared_bottom/f*/*/record.json")):
            victim.unlink()
            own = {"where": own_place(), "pid": 2**22 + 5, "started": "1", "token": "x"}
            (victim.parent / "lock.json").write_text(json.dumps(own))
        for path in out.rglob("*"):
            os.utime(path, (time.time() + shift, time.time() + shift))
        counts.add(f"files and locks from the {what}", *goes_on(calm, out))
        shutil.rmtree(out)


def own_place() -> str:
    from benchmark.execution.locks import _where

    return _where()


FAULTS: tuple[Callable[[Path, Path, Counts], None], ...] = (
    full_disk,
    file_limit,
    read_only,
    renamed,
    times,
)
MOUNTED = (full_disk, read_only)


def spoil(scratch: Path) -> Counts:
    """All faults, one after the other; runs in a namespace of its own where it may."""
    counts = Counts("disk and clock")
    disk, calm = scratch / "disk", scratch / "calm"
    disk.mkdir()
    own = os.environ.get(INSIDE) == "1"
    if own:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)], check=True)
    assert mpt(*SWEEP, "--out", calm).returncode == 0
    for fault in FAULTS:
        if fault in MOUNTED and not own:
            counts.name += f" (not tried here: {fault.__name__})"
        else:
            fault(disk, calm, counts)
    if own:
        subprocess.run(["umount", "-l", str(disk)], check=False)
    return counts


def main() -> int:
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if INSIDE not in os.environ:
        able = subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0
        command = [sys.executable, "-m", "tests.faults.disk"]
        return subprocess.run(
            [*(unshare if able else []), *command], env={**os.environ, INSIDE: "1" if able else "0"}, check=False
        ).returncode
    with tempfile.TemporaryDirectory() as scratch:
        counts = spoil(Path(scratch))
    print(counts)
    return int(bool(counts.lost))


if __name__ == "__main__":
    sys.exit(main())
