"""What a batch system does to a sweep: it asks, it kills, it stops a machine for a while."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from benchmark.execution import locks
from benchmark.execution.job import TAKEN_OVER
from benchmark.records.tree import read_records
from tests.sweep.trees import HERE, TINY, without_times

ROOT = HERE.parents[1]
PATIENT = [
    "run_all.py", "run", "--no-figures", *map(str, TINY), "--method-file", str(HERE / "faulty.py"), "--methods", "slow",
    "--arms", "joint", "--set", "budget.epochs=6", "--set", "budget.patience=6", "--jobs", "4",
]  # fmt: skip
"""A method that takes half a second an epoch; checkpoints are kept every 30 s, so without being asked for none."""


def until(condition, seconds=240.0):
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    assert found, "it did not come"
    return found


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    out = tmp_path_factory.mktemp("calm") / "tree"
    subprocess.run([sys.executable, *PATIENT, "--out", str(out)], cwd=ROOT, check=True, capture_output=True)
    return out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_preempted_sweep_frees_its_locks_at_once_and_goes_on_in_its_checkpoint(mpt, calm, tmp_path, number):
    out = tmp_path / "out"
    runner = subprocess.Popen(
        [sys.executable, *PATIENT, "--out", str(out)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    log = until(lambda: next(out.glob("runs/tiny/slow/joint/*/log.txt"), None))
    until(lambda: "epoch 2" in log.read_text())
    began = time.monotonic()
    runner.send_signal(number)
    said = runner.communicate()[0].decode()
    assert runner.returncode == 130 and "Interrupted" in said
    assert time.monotonic() - began < 45  # the grace for a checkpoint, and a busy machine
    assert not list(out.glob("runs/**/lock.json")) and not (out / "tables").exists()
    assert list(out.glob("runs/tiny/slow/joint/*/progress.pt"))
    if number == signal.SIGTERM:
        again = subprocess.run([sys.executable, *PATIENT, "--out", str(out)], cwd=ROOT, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert without_times(out) == without_times(calm)
        assert "epoch 1" not in log.read_text(), "it began again instead of going on"


def test_a_second_interruption_leaves_no_lock_either(mpt, tmp_path):
    out = tmp_path / "out"
    runner = subprocess.Popen([sys.executable, *PATIENT, "--out", str(out)], cwd=ROOT, stderr=subprocess.PIPE)
    until(lambda: list(out.glob("runs/tiny/slow/joint/*/log.txt")))
    for _ in range(5):
        runner.send_signal(signal.SIGINT)
        time.sleep(0.02)
    runner.communicate()
    assert runner.returncode == 130
    assert not list(out.glob("runs/**/lock.json"))


def test_a_runner_that_was_taken_for_dead_leaves_the_record_to_the_other(mpt, calm, tmp_path):
    out = tmp_path / "out"
    runner = subprocess.Popen([sys.executable, *PATIENT, "--out", str(out)], cwd=ROOT, stderr=subprocess.PIPE)
    log = until(lambda: next(out.glob("runs/tiny/slow/joint/*/log.txt"), None))
    until(lambda: "epoch 2" in log.read_text())
    lock = log.with_name("lock.json")
    lock.write_text(json.dumps({"where": locks._where(), "pid": os.getpid(), "started": locks._started(os.getpid()),
                                "token": "another's"}))  # fmt: skip
    time.sleep(5)
    assert not log.with_name("record.json").exists(), "it wrote although the run is another's by now"
    lock.unlink()  # the other one is gone, without a record
    stderr = runner.communicate()[1].decode()
    assert runner.returncode == 0 and "taken it over" in stderr
    assert without_times(out) == without_times(calm)
    assert TAKEN_OVER not in (0, 1, 130)


def test_a_kill_without_evidence_is_not_called_a_lack_of_memory(mpt, tmp_path):
    words = ("--method-file", HERE / "faulty.py", "--methods", "kills_supervisor", "--arms", "joint")
    assert mpt("run", *TINY, *words, "--out", tmp_path / "out").code == 1
    record = next(r for r in read_records(tmp_path / "out")[0] if r.key.method == "kills_supervisor")
    assert record.status == "failed" and record.reason == "killed (SIGKILL), cause unknown"


def test_nothing_is_written_through_links_and_a_long_temporary_directory_does_no_harm(mpt, calm, tmp_path):
    long = tmp_path / ("t" * 130)
    long.mkdir()
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    out = tmp_path / "out"
    shutil.copytree(calm, out)
    words = [sys.executable, *PATIENT, "--out", str(out)]
    environment = {**os.environ, "TMPDIR": str(long)}
    victim = next(out.glob("runs/tiny/single_task/scratch/*"))
    (victim / "record.json").unlink()
    (victim / "log.txt").unlink()
    (victim / "log.txt").symlink_to(precious)
    second = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert precious.read_text() == "mine" and not (victim / "log.txt").is_symlink()
    victim.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "record.json").unlink()
    (tmp_path / "elsewhere" / ".hidden.x").write_text("")
    victim.symlink_to(tmp_path / "elsewhere")
    third = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert third.returncode == 1 and "is a link" in third.stderr
    assert (tmp_path / "elsewhere" / ".hidden.x").exists()
