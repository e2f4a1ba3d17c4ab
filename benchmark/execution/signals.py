"""Signals while a plan is carried out: noted, and answered between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType

STOP = (signal.SIGINT,)
PREEMPT = (signal.SIGTERM, signal.SIGUSR1)
"""What a batch system sends before it takes a machine away (Slurm: SIGTERM, or SIGUSR1 with ``--signal=USR1@60``)."""


class Asked(BaseException):
    """A signal asked this program to end. Not an Exception: nobody is meant to go on after it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def preempted(self) -> bool:
        return self.number in PREEMPT


class Signals:
    """Within a ``with``, signals that ask for an end are noted, also a second one: what is left has to be tidied up.

    Outside the main thread, where signals cannot be handled, everything stays as it is.
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (*STOP, *PREEMPT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raises Asked once a signal has come."""
        if self._first is not None:
            raise Asked(self._first)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._first = self._first or number
