"""Downloads over HTTP: resumed, atomic, with progress, and quick to give up on a dead host. Standard library only."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

Report = Callable[[str, int, "int | None"], None]

CONNECT_SECONDS = 5.0  # name resolution and connection together: a dead host costs this much, once
STALL_SECONDS = 20.0  # no byte for this long: the transfer counts as broken
HEADER_SECONDS = 60.0  # until all headers are there, however they drip
SLOW_SECONDS, SLOW_BYTES = 60.0, 64 << 10  # a transfer slower than a kilobyte a second counts as broken
KEPT_FREE = 256 << 20  # bytes of the disk that a body without a stated length does not get
ATTEMPTS = 3
BLOCK = 1 << 18
HEADERS = {"User-Agent": "mpt-bench", "Accept-Encoding": "identity"}


class DownloadError(Exception):
    """The address could not be fetched; the message says why."""


_dead: dict[tuple[str, int], str] = {}


def download(url: str, target: Path, report: Report | None = None, limit: int | None = None) -> Path:
    """Fetch ``url`` into ``target``; an earlier ``target.part`` is continued if the server can.

    ``limit``: refuse more than so many bytes. The file appears under its name only when all its bytes are there.
    Raises DownloadError; a broken transfer is tried ATTEMPTS times, and what arrived stays for the next call.
    """
    _probe(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    part, _ = _parts(target)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(url, target, report, limit)
            part.replace(target)
            discard(target)
            return target
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the part is longer than the file, so it is not a part of this file
                discard(target)
                if attempt < ATTEMPTS:
                    continue
            raise DownloadError(f"the server answered {error.code} {error.reason}") from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(error, OSError) and error.errno == 28:
                raise DownloadError(f"no space left in {part.parent}") from error
            if attempt == ATTEMPTS:
                kept = part.stat().st_size if part.exists() else 0
                raise DownloadError(f"{reason} after {ATTEMPTS} attempts; {kept:,} bytes kept for a retry") from error
            time.sleep(0.2 * attempt)
    raise AssertionError


def offered(url: str) -> int | None:
    """Bytes that the server says the file has, without fetching it; None where it does not say or cannot be asked."""
    try:
        _probe(url)
        with _open(urllib.request.Request(url, headers=HEADERS, method="HEAD")) as answer:
            length = answer.headers.get("Content-Length") or ""
    except (DownloadError, OSError, HTTPException, ValueError):
        return None
    return int(length) if _is_number(length) else None


def _probe(url: str) -> None:
    """Raise DownloadError within CONNECT_SECONDS if the host cannot be reached; remembered for this process.

    Name resolution has no time limit of its own, hence the thread.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DownloadError(f"not an address of http or https: {url}")
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname):
        return  # the proxy connects, not this machine
    place = (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
    if place not in _dead:
        outcome: list[str] = []

        def connect() -> None:
            try:
                socket.create_connection(place, timeout=CONNECT_SECONDS).close()
                outcome.append("")
            except OSError as error:
                outcome.append(str(error))

        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        thread.join(CONNECT_SECONDS + 0.5)
        reason = outcome[0] if outcome else f"no answer within {CONNECT_SECONDS:.0f} s"
        if not reason:
            return
        _dead[place] = reason
    raise DownloadError(f"{place[0]} cannot be reached ({_dead[place]})")


def discard(target: Path) -> None:
    """Remove what has arrived of a file that is no longer wanted."""
    for path in _parts(target):
        path.unlink(missing_ok=True)


def arrived(target: Path) -> int:
    """Bytes of a download that was begun."""
    part, _ = _parts(target)
    return part.stat().st_size if part.is_file() else 0


def _parts(target: Path) -> tuple[Path, Path]:
    """The growing file, and what the server said of the whole one."""
    part = target.with_name(target.name + ".part")
    return part, part.with_name(part.name + ".about")


def _transfer(url: str, target: Path, report: Report | None, limit: int | None) -> None:
    part, about = _parts(target)
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers=HEADERS)
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _open(request) as answer:
        length = answer.headers.get("Content-Length") or ""
        resumed = have > 0 and _goes_on(answer, have, about)
        if not have and answer.status == 206:
            raise OSError("the server sent a part of the file, which nobody asked for")
        if have and answer.status == 206 and not resumed:
            discard(target)
            raise OSError("the server goes on with another file than the one that was begun; from the beginning")
        if not resumed:
            have = 0
        total = have + int(length) if _is_number(length) else None
        if limit is not None and (total or 0) > limit:
            discard(target)
            raise DownloadError(f"the server offers {total:,} bytes where at most {limit:,} are expected")
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - have > free:
            raise DownloadError(f"{total - have:,} bytes are to come and {part.parent} has {free:,} free")
        about.write_text(_whole(answer, total))
        pace = _Pace()
        with open(part, "ab" if resumed else "wb") as file:
            while block := answer.read1(BLOCK):
                have += len(block)
                if limit is not None and have > limit:
                    file.close()
                    discard(target)
                    raise DownloadError(f"more than the expected {limit:,} bytes came")
                if total is None and shutil.disk_usage(part.parent).free < KEPT_FREE:
                    file.close()
                    discard(target)
                    raise DownloadError(f"no end after {have:,} bytes, and {part.parent} is nearly full")
                file.write(block)
                pace.add(len(block))
                if report:
                    report(f"download {url.rsplit('/', 1)[-1]}", have, total)
        if total is not None and have < total:
            raise OSError(f"connection closed at {have:,} of {total:,} bytes")


def _open(request: urllib.request.Request) -> Any:
    """The server's answer, its headers read. Raises OSError if they are not there within HEADER_SECONDS.

    Each byte of a header may take as long as a stall may; the thread is for the sum of them.
    """
    outcome: list[Any] = []

    def ask() -> None:
        try:
            outcome.append(urllib.request.urlopen(request, timeout=STALL_SECONDS))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HEADER_SECONDS)
    if not outcome:
        raise OSError(f"no answer's headers within {HEADER_SECONDS:g} s")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _goes_on(answer: Any, have: int, about: Path) -> bool:
    """Whether the answer is the rest, from byte ``have`` on, of the file that was begun."""
    found = re.fullmatch(rf"bytes {have}-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", ""))
    length = answer.headers.get("Content-Length") or ""
    if answer.status != 206 or found is None or not _is_number(length):
        return False
    total = have + int(length)
    if int(found[1]) != total - 1 or found[2] not in ("*", str(total)):
        return False
    return not about.is_file() or about.read_text() == _whole(answer, total)


def _is_number(length: str) -> bool:
    """Whether a header states a size: a superscript two is a digit, too, and Python reads no endless number."""
    return re.fullmatch(r"[0-9]{1,18}", length) is not None


def _whole(answer: Any, total: int | None) -> str:
    """What tells the whole file from another version of it."""
    return f"{total} {answer.headers.get('ETag', '')}"


class _Pace:
    """Gives up a transfer that lives on single bytes: SLOW_BYTES have to come in each SLOW_SECONDS."""

    def __init__(self) -> None:
        self.since, self.bytes = time.monotonic(), 0

    def add(self, n: int) -> None:
        """Some bytes have come. Raises OSError if they were too few for too long."""
        self.bytes += n
        passed = time.monotonic() - self.since
        if passed < SLOW_SECONDS:
            return
        if self.bytes < SLOW_BYTES:
            raise OSError(f"only {self.bytes:,} bytes came in {passed:.0f} s")
        self.since, self.bytes = time.monotonic(), 0
