"""Long work says how far it is to whoever listens in this process; nobody has to.

Passes over rows and epochs tell; the process of a run listens and hands it on to the command line. What is told changes
no number.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Listener = Callable[[str, int, int], None]

SECONDS = 0.5
"""A listener hears at most one thing in so many seconds: work tells with every batch."""

_listener: Listener | None = None
_heard = 0.0


def listen(listener: Listener | None) -> None:
    """From now on ``listener(what, done, total)`` is called, instead of any before; None: nobody listens."""
    global _listener, _heard
    _listener, _heard = listener, time.monotonic()


def tell(what: str, done: int, total: int) -> None:
    """``done`` of ``total`` parts of ``what`` are over."""
    global _heard
    if _listener is not None and (now := time.monotonic()) - _heard >= SECONDS:
        _heard = now
        _listener(what, done, total)
