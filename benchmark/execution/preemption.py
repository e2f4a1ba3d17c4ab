"""A run that is asked to end: it trains its epoch to the end, keeps its checkpoint and goes.

It has `GRACE_SECONDS` for that, a little less than batch systems grant and than its supervisor waits before it kills.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

from benchmark.execution.job import PREEMPTED

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
ONE_SECONDS = 3.0
"""A signal that comes again so soon is the same one: sent to every process, and passed on by the supervisor."""

GRACE_SECONDS = 20.0

_asked: float | None = None


class Preempted(BaseException):
    """Not an Exception: no method is meant to go on after it."""


def listen() -> None:
    """From now on SIGTERM and SIGUSR1 ask for a checkpoint; a second one, later, ends the process at once."""
    for number in SIGNALS:
        signal.signal(number, _note)


def asked() -> bool:
    """Whether this run has been asked to end."""
    return _asked is not None


def check() -> None:
    """Raises Preempted if this run has been asked to end. Called where a checkpoint has just been kept."""
    if asked():
        raise Preempted


def _note(number: int, _: FrameType | None) -> None:
    global _asked
    now = time.monotonic()
    if _asked is None:
        _asked = now
        late = threading.Timer(GRACE_SECONDS, os._exit, (PREEMPTED,))
        late.daemon = True
        late.start()
    elif now - _asked > ONE_SECONDS:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
