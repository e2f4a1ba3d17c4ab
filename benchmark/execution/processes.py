"""Processes of runs: the server from which they are forked, and the supervisor that each of them works under.

Imports nothing heavy, so the server can start first and load what runs need while the command line is still reading
its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
END = signal.SIGQUIT
"""Tells a supervisor to kill its run, and all that the run has started, at once."""
LOOK_SECONDS = 0.2
PREEMPT = (signal.SIGTERM, signal.SIGUSR1)
GRACE_SECONDS = 25.0
"""How long a run that was asked to end may take to keep its checkpoint: batch systems kill after 30."""
LONGEST_TEMPORARY = 60
"""Bytes of a directory's name that leave room for a socket's: its whole path may have 107."""
LOG_BYTES, LOG_KEPT = 64 << 20, 1 << 20
"""A log that grows beyond the first is cut down to its last so many bytes."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def context() -> BaseContext:
    """Processes forked from a clean server where the system can fork, fresh ones elsewhere.

    Never a fork of this process: it may hold threads and locks. The server begins to load what runs need at once.
    """
    if not hasattr(os, "fork"):
        return multiprocessing.get_context("spawn")
    from multiprocessing.forkserver import ensure_running

    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["benchmark.execution.preload"])
    # Before Python 3.13 the server does not take over sys.path: from another directory it could not import the
    # package, would say nothing, and every run would import torch for itself.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([before] if before else [])])
    try:
        with _short_temporary_directory():
            ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return found


@contextlib.contextmanager
def _short_temporary_directory() -> Iterator[None]:
    """The server's socket lies in the temporary directory, and a socket's path is short."""
    before = tempfile.gettempdir()
    if len(os.fsencode(before)) > LONGEST_TEMPORARY:
        tempfile.tempdir = next(
            (place for place in ("/tmp", "/var/tmp", "/dev/shm") if os.access(place, os.W_OK)), before
        )
    try:
        yield
    finally:
        tempfile.tempdir = before


def supervise(work: Callable[[], int], log: Path) -> NoReturn:
    """Do ``work`` in a fork of this process; end as it ends (exit code or signal), once all it started is gone.

    This process stays behind to do what the worker cannot be trusted with. It passes SIGINT, SIGTERM and SIGUSR1 on to
    the worker's process group (after the last two it waits `GRACE_SECONDS`, then kills), keeps ``log`` from filling the
    disk, and kills whatever the worker has forked, whatever sessions that made: when the worker ends, on `END`, and
    when the benchmark itself was killed (on Linux, where orphans come to their supervisor; elsewhere only the worker's
    process group is reached).
    """
    os.setsid()  # Ctrl-C at the terminal reaches the command line alone
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, END)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    for number in (signal.SIGINT, *PREEMPT, END, signal.SIGCHLD):
        signal.signal(number, note)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    worker = os.fork()
    if worker == 0:
        _work(work)
    status = _wait(worker, received, ended, log)
    _end_all(worker)
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if os.WTERMSIG(status) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


def _work(work: Callable[[], int]) -> NoReturn:
    """The worker: a process group of its own, signals as a program expects them, no clean-up that could hang."""
    supervisor = os.getppid()
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (*PREEMPT, END, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == supervisor:
            code = work()
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(worker: int, received: list[int], ended: int, log: Path) -> int:
    """The worker's exit status, as os.waitpid gives it."""
    parent = multiprocessing.parent_process()
    sentinel = [parent.sentinel] if parent is not None else []
    grace: tuple[float, int] | None = None
    """When a worker that was asked to end is killed, and by which signal it was asked."""
    while True:
        ready, _, _ = select.select([ended, *sentinel], [], [], LOOK_SECONDS)
        if ended in ready:
            os.read(ended, 4096)
        numbers = [received.pop() for _ in range(len(received))]
        orphaned = any(fd in ready for fd in sentinel)
        if orphaned:
            sentinel = []
        if END in numbers or (orphaned and grace is None):
            _signal_group(worker, signal.SIGKILL)
        for number in (signal.SIGINT, *PREEMPT):
            if number in numbers:
                _signal_group(worker, number)
                if number in PREEMPT and grace is None:
                    grace = time.monotonic() + GRACE_SECONDS, number
        late = grace is not None and time.monotonic() > grace[0]
        if late:
            _signal_group(worker, signal.SIGKILL)
        _cut(log)
        while (gone := os.waitpid(-1, os.WNOHANG))[0]:  # orphans of the worker are ours to bury
            if gone[0] == worker:
                return grace[1] if late and grace is not None else gone[1]


def _signal_group(worker: int, number: int) -> None:
    for send in (os.killpg, os.kill):  # the worker itself, too: it may not have its own group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(worker, number)
            if number != signal.SIGKILL:
                return


def _end_all(worker: int) -> None:
    """Kill everything that came from the worker, for at most some seconds: a fork bomb may be faster than we are."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    until = time.monotonic() + 5.0
    with contextlib.suppress(ChildProcessError):  # raised once there is no child left
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                import psutil

                for process in psutil.Process().children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                time.sleep(0.01)


def _cut(log: Path) -> None:
    """Keep the last part of a log that has grown too long. It is written in append mode, so it goes on at its end."""
    with contextlib.suppress(OSError):
        if log.stat().st_size <= LOG_BYTES:
            return
        with open(log, "r+b") as file:
            file.seek(-LOG_KEPT, os.SEEK_END)
            tail = file.read(LOG_KEPT)
            file.truncate(0)
            file.seek(0)
            file.write(f"[a log of more than {LOG_BYTES >> 20} MiB was cut here]\n".encode() + tail)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value)
