"""Errors that a user caused or can mend. The command line prints their text without a traceback.

Every message says what is wrong (with file, line, column or cell), why, and what to type next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchmarkError(Exception):
    """Something the user can mend; the command line ends with exit code 1."""

    exit_code = 1


class UsageError(BenchmarkError):
    """The request itself is wrong (unknown name, bad option); nothing was run; exit code 2."""

    exit_code = 2


class DataError(BenchmarkError):
    """A file's content is not what it has to be. The message names file, line and column where they are known."""


class DataUnavailable(BenchmarkError):
    """No source could provide the data. Planning turns this into a skip with the reason."""


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UsageError:
    """The error for a name that does not exist: names it, suggests the nearest, says how to list all."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    suggestion = f" Did you mean '{nearest[0]}'?" if nearest else f" Known: {', '.join(known) or 'none'}."
    return UsageError(f"Unknown {kind} '{name}'.{suggestion}{' ' + hint if hint else ''}")


def visible(text: str, length: int | None = None) -> str:
    """Control and direction characters as escapes: what a method, a file or a record says cannot steer a terminal."""
    return "".join(c if c.isprintable() or c in "\t\n" else repr(c)[1:-1] for c in text[:length])
