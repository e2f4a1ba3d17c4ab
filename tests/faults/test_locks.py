"""Who holds a run: decided without comparing clocks, and never by a process that is gone."""

import json
import os
import subprocess
import sys
import time

import pytest

from benchmark.execution import locks
from benchmark.execution.locks import Lock

ELSEWHERE = {"where": "another host", "pid": 1, "started": "1", "token": "theirs"}


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(locks, "DEAD_AFTER_SECONDS", 0.3)


def put(directory, owner, shift=0.0):
    path = directory / "lock.json"
    path.write_text(owner if isinstance(owner, str) else json.dumps(owner))
    os.utime(path, (time.time() + shift, time.time() + shift))
    return path


def test_one_holder_at_a_time(tmp_path):
    first = Lock.acquire(tmp_path)
    assert first is not None and Lock.acquire(tmp_path) is None
    first.release()
    with Lock.acquire(tmp_path):
        assert Lock.acquire(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shift", [-1e9, 0.0, 1e9], ids=["past", "now", "future"])
@pytest.mark.parametrize("owner", [ELSEWHERE, "", "{", "[]", "null"], ids=["host", "empty", "half", "list", "null"])
def test_a_holder_that_cannot_be_seen_is_dead_once_its_heartbeat_stands_still_whatever_the_clocks_say(
    tmp_path, shift, owner
):
    put(tmp_path, owner, shift)
    assert Lock.acquire(tmp_path) is None
    time.sleep(0.2)
    put(tmp_path, owner, shift - 5)  # a heartbeat, by a clock that has been set back
    assert Lock.acquire(tmp_path) is None
    time.sleep(0.2)
    assert Lock.acquire(tmp_path) is None
    time.sleep(0.15)
    taken = Lock.acquire(tmp_path)
    assert taken is not None
    taken.release()
    assert list(tmp_path.iterdir()) == []


def test_on_this_host_a_lock_lives_as_long_as_its_process_and_a_zombie_is_dead(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import pathlib, time; from benchmark.execution.locks import Lock; "
         f"Lock.acquire(pathlib.Path({str(tmp_path)!r})); print(flush=True); time.sleep(600)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    holder.stdout.readline()
    time.sleep(0.4)
    assert Lock.acquire(tmp_path) is None  # no heartbeat for long, but it is there
    holder.kill()
    until = time.monotonic() + 5
    while (taken := Lock.acquire(tmp_path)) is None and time.monotonic() < until:
        time.sleep(0.01)
    assert taken is not None  # nobody has waited for the process: it is a zombie now
    holder.wait()
    holder.stdout.close()
    taken.release()


def test_a_number_that_another_process_has_now_is_not_the_holder(tmp_path):
    owner = {"where": locks._where(), "pid": os.getpid(), "started": "1", "token": "x"}
    put(tmp_path, owner)
    assert Lock.acquire(tmp_path) is not None


def test_a_lock_that_was_taken_over_is_not_released_by_its_old_holder(tmp_path):
    old = Lock.acquire(tmp_path)
    put(tmp_path, ELSEWHERE)
    old.release()
    assert (tmp_path / "lock.json").exists()
